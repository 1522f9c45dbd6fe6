"""Speed: the engines beside PyTorch, plain JAX and the machine's limit.

All in one process, contenders taking turns, medians over repetitions. The fast
engine trains all of `num_steps` from w(0) to w(T), start and end included; the
time of the others grows with the steps alone, so they train the first
twentieth, and that is multiplied. Needs PyTorch, which nothing else here does:

  pip install torch && python -m experiments.benchmark
"""

from __future__ import annotations

import dataclasses
import functools
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import jax
import numpy as np

from ossgd.data import mixtures
from ossgd.paper import network
from ossgd.results import claims
from ossgd.running import sweeps

from .common import command
from .common.options import option
from .common.speed import floor, growth, rivals

if TYPE_CHECKING:
  import xarray as xr

CONTENDERS: dict[str, Callable] = {
  'fast': functools.partial(rivals.ours, name='fast'),
  'plain': functools.partial(rivals.ours, name='plain'),
  'jax loop': rivals.jax_loop,
  'torch, 1 thread': functools.partial(
    rivals.torch_script, compiled=False, threads=1
  ),
  'torch, 2 threads': functools.partial(
    rivals.torch_script, compiled=False, threads=2
  ),
  'torch.compile, 2 threads': functools.partial(
    rivals.torch_script, compiled=True, threads=2
  ),
}
OURS = ('fast', 'plain')
_SHORTER = 20  # how many times shorter the others train


@dataclasses.dataclass(frozen=True)
class Config:
  """Sizes of the work; the data are Section 7's, and MNIST's in shape."""

  widths: tuple[int, ...] = option(
    (1000, 4000, 16000), 'm, of the comparison with rivals.'
  )
  num_steps: int = option(400, 'T of one timed training.')
  repetitions: int = option(5, 'Timed trainings of each, taking turns.')
  growing_widths: tuple[int, ...] = option(
    (1000, 4000, 16000, 64000, 250000, 1000000),
    'm, of how time and memory grow; each in a process of its own.',
  )


PRESETS = {
  'quick': {
    'widths': (1000,),
    'num_steps': 40,
    'repetitions': 2,
    'growing_widths': (1000, 4000),
  }
}


def run(
  config: Config, progress: sweeps.Progress = lambda fraction, label: None
) -> xr.Dataset:
  """Times everything; seconds in dims work, contender, repetition."""
  import xarray as xr

  works = [
    (name, width)
    for name in ('synthetic, every step', 'synthetic', 'MNIST shape')
    for width in config.widths
  ]
  growing = growth.cases(config.growing_widths)
  total = len(works) + len(growing)
  parts = []
  for i, (name, width) in enumerate(works):
    progress(i / total, f'{name} m={width}')
    parts.append(compare(name, width, config))
  grown = []
  for i, settings in enumerate(growing):
    progress((len(works) + i) / total, f'growth {settings}')
    steps = config.num_steps // _SHORTER
    grown.append(growth.measure(settings, steps))
  progress(1.0, 'done')
  labels = [f'{name}, m = {width}' for name, width in works]
  results = xr.concat(parts, xr.Variable('work', labels))
  names = [
    ', '.join(f'{key} = {value}' for key, value in settings.items())
    for settings in growing
  ]
  return results.assign(
    growth_seconds=('growth', [seconds for seconds, _ in grown]),
    growth_bytes=('growth', [bytes_ for _, bytes_ in grown]),
    growth_width=('growth', [settings['width'] for settings in growing]),
  ).assign_coords(growth=names)


def case_of(name: str, width: int, num_steps: int) -> rivals.Case:
  """A piece of work by its name."""
  mnist = name.startswith('MNIST')
  spec = mixtures.gaussian(
    num_classes=10, num_components=2, dim=784 if mnist else 1000
  )
  keys = jax.random.split(jax.random.key(0), 3)
  draw = functools.partial(
    mixtures.sample,
    spec=spec,
    num_train=10000 if mnist else 1000,
    num_test=100 if mnist else 1000,
  )
  params = functools.partial(
    network.init_params, width=width, dim=spec.dim, num_classes=10
  )
  return rivals.Case(
    jax.jit(params)(keys[0]),
    jax.jit(draw)(keys[1]),
    keys[2],
    batch_size=64 if mnist else 16,
    num_steps=num_steps,
    step_size=10 / width,
    metrics=name.endswith('every step'),
  )


def compare(name: str, width: int, config: Config) -> xr.Dataset:
  """Times all contenders at one piece of work, and the machine's limit."""
  import xarray as xr

  whole = case_of(name, width, config.num_steps)
  part = whole._replace(num_steps=max(1, config.num_steps // _SHORTER))
  scale = {c: whole.num_steps / part.num_steps for c in CONTENDERS}
  scale['fast'] = 1.0
  prepared, cold, weights = {}, [], {}
  for contender, prepare in CONTENDERS.items():
    begin = time.perf_counter()
    fast = contender == 'fast'
    prepared[contender] = prepare(whole if fast else part)
    prepared[contender]()
    cold.append(time.perf_counter() - begin)
    weights[contender] = prepare(part)() if fast else prepared[contender]()
  seconds = np.zeros((len(CONTENDERS), config.repetitions))
  limit = np.zeros((2, config.repetitions))
  for repetition in range(config.repetitions):
    limit[:, repetition] = floor.machine()
    for i, (contender, train) in enumerate(prepared.items()):
      begin = time.perf_counter()
      train()
      taken = time.perf_counter() - begin
      seconds[i, repetition] = taken * scale[contender]
  moved = np.linalg.norm(weights['plain'] - whole.params.w)
  disagreement = [
    np.linalg.norm(w - weights['plain']) / moved for w in weights.values()
  ]
  flops, bytes_ = floor.unavoidable(whole)
  return xr.Dataset(
    {
      'seconds': (('contender', 'repetition'), seconds),
      'cold_seconds': ('contender', cold),
      'disagreement': ('contender', disagreement),
      'matmul_flops': ('repetition', limit[0]),
      'copy_bandwidth': ('repetition', limit[1]),
      'flops': ((), flops),
      'bytes': ((), bytes_),
    },
    coords={'contender': list(CONTENDERS)},
  )


def table(results: xr.Dataset) -> str:
  """Medians, ratios to the fast engine and to the floor; then the growth."""
  seconds = results.seconds.median('repetition')
  peak = results.matmul_flops.median('repetition')
  bandwidth = results.copy_bandwidth.median('repetition')
  floor = np.maximum(results.flops / peak, results.bytes / bandwidth)
  rows = []
  for work in results.work.values:
    own = float(seconds.sel(work=work, contender='fast'))
    for contender in results.contender.values:
      at = dict(work=work, contender=contender)
      taken = float(seconds.sel(at))
      over = f'{taken / float(floor.sel(work=work)):.1f}'
      rows.append(
        (
          work,
          contender,
          f'{taken:.2f}',
          f'{taken / own:.1f}',
          over if contender in OURS else '',
          f'{float(results.cold_seconds.sel(at)):.1f}',
          f'{float(results.disagreement.sel(at)):.1e}',
        )
      )
  header = (
    'work',
    'contender',
    'seconds',
    '/ fast',
    '/ floor',
    'first call, s',
    'difference of w - w(0)',
  )
  growing = [
    (
      name,
      f'{1e3 * float(results.growth_seconds.sel(growth=name)):.1f}',
      f'{float(results.growth_bytes.sel(growth=name)) / 1e9:.2f}',
    )
    for name in results.growth.values
  ]
  return (
    f'Matmul {float(peak.median()) / 1e9:.0f} GFLOP/s, '
    f'copy {float(bandwidth.median()) / 1e9:.0f} GB/s.\n\n'
    + claims.markdown_table(header, rows)
    + '\n'
    + claims.markdown_table(('every step measured', 'ms a step', 'GB'), growing)
  )


EXPERIMENT = command.Experiment(
  'benchmark',
  Config,
  PRESETS,
  run,
  growth.figures,
  table,
  claims=lambda ds: [],
)


main = EXPERIMENT.main

if __name__ == '__main__':
  main()
