"""Random configurations: every engine beside the definition, in float64.

  python -m tests.agreement --configurations=1000

trains that many configurations with each engine and compares all that is
recorded, the final weights and their spectra with `rounding`. A third is on
one device, a third in 64-bit mode, a third on meshes of eight devices. What
disagrees is printed with the command that repeats it.
"""

import argparse
import functools
import json
import os
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import threadpoolctl

from ossgd.data import mixtures
from ossgd.engines import measuring
from ossgd.paper.types import Dataset, Split
from ossgd.running import caching, sweeps
from tests import rounding

ENGINES = ('plain', 'blocked', 'gram')
MODES = ('device', 'x64', 'mesh')
_MODE = 'OSSGD_AGREEMENT_MODE'  # of a process that does the work
_BEGUN = ('w0', 'a', 'x', 'y', 'x_test', 'y_test')
_SCHEDULES = 25  # of every shape, which is what compilation depends on


class Shape(NamedTuple):
  """What programs are compiled for."""

  num_train: int
  num_test: int
  dim: int
  num_classes: int
  width: int
  batch_size: int
  order: str
  lr_times_width: float
  num_train_eval: int
  zero_columns: int  # -1 for a mixture, drawn anew for every seed
  seeds_at_once: int
  mesh: str


class Configuration(NamedTuple):
  """A shape and a schedule."""

  shape: Shape
  num_steps: int
  eval_every: int
  eval_growth: float
  seed: int


def random_shape(rng: random.Random, mode: str) -> Shape:
  """Sizes, order and layout."""
  num_train = rng.choice((12, rng.randint(20, 50), rng.randint(50, 90)))
  dim, width = rng.randint(3, 30), rng.choice((2, 7, rng.randint(8, 90)))
  if rng.random() < 0.2:  # more than a tile, which no tile may divide
    width = rng.choice((512, 521, 530, 1030, rng.randint(513, 1200)))
  at_once, mesh = rng.choice((1, 1, 2, 3)), 'seed:1,unit:1'
  if mode == 'mesh':
    seeds, shards = rng.choice(((1, 8), (2, 4), (4, 2), (1, 3), (2, 1)))
    mesh, at_once = f'seed:{seeds},unit:{shards}', seeds * rng.choice((1, 1, 2))
    width = shards * rng.choice((rng.randint(2, 20), 64, rng.randint(513, 600)))
    width = width if width < 2000 else shards * 131
  return Shape(
    num_train=num_train,
    num_test=rng.randint(5, 40),
    dim=dim,
    num_classes=rng.randint(2, 5),
    width=width,
    batch_size=rng.choice((1, 3, 6, 8, 12, min(num_train, 64), num_train)),
    order=rng.choice(('epochs', 'epochs', 'one_pass', 'full_batch')),
    lr_times_width=rng.choice((0.5, 2.0, 8.0)),
    num_train_eval=rng.choice((1, num_train // 2, num_train)),
    zero_columns=rng.choice((-1, -1, 0, 1, dim // 2)),
    seeds_at_once=at_once,
    mesh=mesh,
  )


def random_lengths(rng: random.Random, shape: Shape) -> tuple[int, int]:
  """Two values of T, for which programs are compiled as well."""
  batch = shape.batch_size
  if shape.order == 'full_batch':
    batch = shape.num_train
  most = min(80, max(3, 400_000 // (batch * shape.width)))
  if shape.order == 'one_pass':
    most = min(most, shape.num_train // shape.batch_size)
  return rng.randint(1, most), rng.randint(-(-most // 2), most)


def random_configuration(
  rng: random.Random, shape: Shape, lengths: tuple[int, ...]
) -> Configuration:
  """A schedule of a shape: dense, sparse or growing gaps; any seeds."""
  return Configuration(
    shape,
    num_steps=rng.choice(lengths),
    eval_every=rng.choice((1, 2, 5, rng.randint(1, 90))),
    eval_growth=rng.choice((0.0, 0.05, 0.5, 2.0)),
    seed=rng.randrange(2**31),
  )


def printed(configuration: Configuration) -> str:
  """As `parsed` reads it."""
  return json.dumps(configuration)


def parsed(text: str) -> Configuration:
  """A configuration as it is printed."""
  shape, *schedule = json.loads(text)
  return Configuration(Shape(*shape), *schedule)


def disagreements(configuration: Configuration) -> tuple[list[str], Counter]:
  """What is further from the definition than rounding leads, and counts."""
  wrong, counts = [], Counter(configurations=1)
  sweeps_by = {engine: _found(configuration, engine) for engine in ENGINES}
  for s in range(configuration.shape.seeds_at_once):
    runs_by = {
      engine: {name: one[name].values for name in (*one, 'step')}
      for engine, found in sweeps_by.items()
      for one in [found.isel(width=0, seed=s)]
    }
    problem = _problem(configuration, s, runs_by['plain'])
    expected = rounding.expected(problem, runs_by['plain']['step'])
    for engine, found in runs_by.items():
      for name in _BEGUN:
        if not np.array_equal(found[name], runs_by['plain'][name]):
          wrong.append(f'{engine}, seed {s}: {name} is not that of plain')
      apart, turned = rounding.closest(problem, expected, found)
      furthest = max(apart, key=lambda name: np.max(apart[name]))
      ratio = float(np.max(apart[furthest]))
      counts[engine] += 1
      counts['recorded steps'] += len(found['step'])
      counts['gates turned by rounding'] += turned
      name = f'{engine}: furthest, %'
      counts[name] = max(counts[name], round(100 * ratio, 1))
      if ratio > 1:
        first = int(np.argmax(np.atleast_1d(apart[furthest]) > 1))
        wrong.append(
          f'{engine}, seed {s}: {furthest} is {ratio:.3g} times as far from '
          f'the definition as rounding leads, first at index {first}'
        )
  return wrong, counts


def _found(configuration: Configuration, engine: str):
  """A sweep of one width, with all that it began from and its last weights."""
  shape = configuration.shape
  data = mixtures.gaussian(
    num_classes=shape.num_classes, num_components=2, dim=shape.dim
  )
  if shape.zero_columns >= 0:
    data = _fixed(shape)
  return sweeps.sweep(
    data,
    widths=(shape.width,),
    num_seeds=shape.seeds_at_once,
    seeds_at_once=shape.seeds_at_once,
    num_train=shape.num_train,
    num_test=shape.num_test,
    num_train_eval=shape.num_train_eval,
    batch_size=shape.batch_size,
    order=shape.order,
    lr_times_width=shape.lr_times_width,
    mesh=shape.mesh,
    num_steps=configuration.num_steps,
    eval_every=configuration.eval_every,
    eval_growth=configuration.eval_growth,
    seed=configuration.seed,
    engine=engine,
    extra=_everything,
  )


def _fixed(shape: Shape) -> Split:
  """Data of one's own, where some coordinates are zero in every example."""
  rng = np.random.default_rng(shape.dim)
  n = shape.num_train + shape.num_test
  x = rng.normal(size=(n, shape.dim))
  x[:, rng.permutation(shape.dim)[: shape.zero_columns]] = 0
  x = jnp.asarray(x / np.linalg.norm(x, axis=1, keepdims=True), jnp.float32)
  y = jnp.asarray(np.arange(n) % shape.num_classes, jnp.int32)
  cut = shape.num_train
  return Split(Dataset(x[:cut], y[:cut]), Dataset(x[cut:], y[cut:]))


def _everything(params, begun, split):
  values = begun.w, begun.a, *split.train, *split.test
  return dict(zip(_BEGUN, values, strict=True)) | {'w': params.w}


def _problem(configuration, s, found) -> rounding.Problem:
  """A seed's run, in float64."""
  shape = configuration.shape
  x = np.concatenate([found['x'], found['x_test']])
  rows = _rows(
    shape.order,
    configuration.seed + s,
    shape.num_train,
    shape.batch_size,
    configuration.num_steps,
  )
  return rounding.Problem(
    *(np.asarray(v, np.float64) for v in (found['w0'], found['a'], x)),
    np.concatenate([found['y'], found['y_test']]),
    rows,
    shape.num_train,
    shape.num_train_eval,
    shape.lr_times_width / shape.width,
  )


@functools.lru_cache(maxsize=64)
def _rows(order, seed, num_train, batch_size, num_steps) -> np.ndarray:
  """The batch of every step: whole batches of each epoch's permutation."""
  if order == 'full_batch':
    return np.tile(np.arange(num_train), (num_steps, 1))
  key, rows = measuring.seed_keys(seed).order, []
  examples = jnp.arange(num_train, dtype=jnp.int32)
  for epoch in range(-(-num_steps // (num_train // batch_size))):
    epoch_key = jax.random.fold_in(key, epoch)
    permutation = np.asarray(jax.random.permutation(epoch_key, examples))
    whole = num_train // batch_size * batch_size
    rows.append(permutation[:whole].reshape(-1, batch_size))
  return np.concatenate(rows)[:num_steps]


def forget() -> None:
  """No program of another shape, or of a patched module, is used again."""
  caching.forget()
  jax.clear_caches()


def configurations(
  seed: int, number: int, mode: str
) -> Iterator[Configuration]:
  """So many, whose shapes change now and then."""
  rng = random.Random(f'{mode} {seed}')
  for i in range(number):
    if i % _SCHEDULES == 0:
      shape = random_shape(rng, mode)
      lengths = random_lengths(rng, shape)
      forget()
    yield random_configuration(rng, shape, lengths)


def compare(some: Iterator[Configuration], mode: str) -> int:
  """Prints what disagrees, and counts; the number that do."""
  total, failed, begun = Counter(), 0, time.monotonic()
  for configuration in some:
    with threadpoolctl.threadpool_limits(1, user_api='blas'):
      wrong, counts = disagreements(configuration)
    for name, count in counts.items():
      largest = '%' in name
      total[name] = max(total[name], count) if largest else total[name] + count
    if wrong:
      failed += 1
      text = printed(configuration)
      print(
        *wrong,
        f"  python -m tests.agreement --mode={mode} --only='{text}'",
        sep='\n',
        flush=True,
      )
    if total['configurations'] % (2 * _SCHEDULES) == 0:
      _tell(mode, failed, total, begun)
  _tell(mode, failed, total, begun)
  return failed


def _tell(mode: str, failed: int, total: Counter, begun: float) -> None:
  seconds = f'{time.monotonic() - begun:.0f} s'
  print(f'{mode}: {failed} disagree;', dict(total), seconds, flush=True)


def start(mode: str, *flags: str) -> subprocess.Popen:
  """A process of its own for a mode."""
  env = os.environ | {'JAX_PLATFORMS': 'cpu', _MODE: mode}
  env['JAX_ENABLE_X64'] = str(int(mode == 'x64'))
  if mode == 'mesh':
    env['XLA_FLAGS'] = '--xla_force_host_platform_device_count=8'
  command = [sys.executable, '-m', 'tests.agreement', *flags]
  return subprocess.Popen(command, env=env)


def main() -> int:
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--configurations', type=int, default=1000)
  parser.add_argument('--seed', type=int, default=0)
  parser.add_argument('--mode', choices=MODES, help='of --only')
  parser.add_argument('--only', type=parsed, help='as it was printed')
  asked = parser.parse_args()
  mode = os.environ.get(_MODE)
  if mode is None and asked.only:
    return start(asked.mode, *sys.argv[1:]).wait()
  if mode is None:
    shares = np.diff(np.linspace(0, asked.configurations, 4).astype(int))
    flags = f'--seed={asked.seed}', '--configurations'
    workers = [
      start(mode, *flags, str(share))
      for mode, share in zip(MODES, shares, strict=True)
    ]
    return max(worker.wait() for worker in workers)
  some = configurations(asked.seed, asked.configurations, mode)
  return compare(iter([asked.only]) if asked.only else some, mode) > 0


if __name__ == '__main__':
  sys.exit(main())
