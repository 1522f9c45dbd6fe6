"""Speed: the engines beside PyTorch, plain JAX and the machine's limit.

All in one process, contenders taking turns, medians over repetitions. The fast
engine trains all of `num_steps` from w(0) to w(T), start and end included; the
time of the others grows with the steps alone, so they train the first
twentieth, and that is multiplied. What is measured is kept: after a kill the
same command goes on. Needs PyTorch, which nothing else here does:

  pip install torch && python -m experiments.benchmark

On a machine with an accelerator, eight minutes that need nothing installed:

  python -m experiments.benchmark --device

has flags of its own: --device --help.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib.util
import itertools
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import jax
import numpy as np

from ossgd.results import claims
from ossgd.running import jobs, sweeps, watching

from .common import command, seeds
from .common.options import option
from .common.speed import device, floor, growth, rivals

if TYPE_CHECKING:
  import xarray as xr

CONTENDERS: dict[str, Callable[[rivals.Case], rivals.Contender]] = {
  'fast': lambda case: rivals.ours(case, 'fast'),
  'plain': lambda case: rivals.ours(case, 'plain'),
  'jax loop': rivals.jax_loop,
  'torch, 1 thread': lambda case: rivals.torch_script(case, threads=1),
  'torch, 2 threads': lambda case: rivals.torch_script(case, threads=2),
  'torch.compile, 2 threads': lambda case: rivals.torch_script(
    case, threads=2, compiled=True
  ),
}
_SHORTER = 20  # how many times shorter the others train
# Of what `compare` measures.
_DIMS = {
  'seconds': ('contender', 'repetition'),
  'cold_seconds': ('contender',),
  'disagreement': ('contender',),
  'matmul_flops': ('repetition',),
  'copy_bandwidth': ('repetition',),
  'flops': (),
  'bytes': (),
}


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
  """Times everything; seconds in dims work, contender, repetition.

  Raises:
    ValueError: there is no PyTorch.
  """
  import xarray as xr

  asked = any(name.startswith('torch') for name in CONTENDERS)
  if asked and importlib.util.find_spec('torch') is None:
    raise ValueError('PyTorch is one of the rivals: pip install torch')
  measures: dict[str, Callable[[], dict[str, np.ndarray]]] = {
    f'{name}, m = {width}': functools.partial(compare, name, width, config)
    for name in ('synthetic, every step', 'synthetic', 'MNIST shape')
    for width in config.widths
  }
  works = list(measures)
  growing = {
    ', '.join(f'{key} = {value}' for key, value in settings.items()): settings
    for settings in growth.cases(config.growing_widths)
  }
  steps = max(1, config.num_steps // _SHORTER)
  for label, settings in growing.items():
    measures[label] = functools.partial(growth.measure, settings, steps)
  watch = watching.watch(progress)
  job = jobs.Job(0, None, '', seeds.basis(config, run, watch))
  found = []
  for i, (label, measure) in enumerate(measures.items()):
    watch(i / len(measures), label)
    found.append(watch.once(label, job, measure))
  watch(1.0, 'done')
  together = jax.tree.map(lambda *v: np.stack(v), *found[: len(works)])
  grown = jax.tree.map(lambda *v: np.stack(v), *found[len(works) :])
  return xr.Dataset(
    {name: (('work', *_DIMS[name]), v) for name, v in together.items()}
    | {f'growth_{name}': ('growth', v) for name, v in grown.items()},
    coords={
      'work': works,
      'contender': list(CONTENDERS),
      'growth': list(growing),
      'growth_width': ('growth', [s['width'] for s in growing.values()]),
    },
  )


def compare(name: str, width: int, config: Config) -> dict[str, np.ndarray]:
  """Times all contenders at one piece of work, and the machine's limit."""
  whole = rivals.case_of(name, width, config.num_steps)
  part = whole._replace(num_steps=max(1, config.num_steps // _SHORTER))
  prepared, cold, weights = {}, [], {}
  for contender, prepare in CONTENDERS.items():
    begin = time.perf_counter()
    fast = contender == 'fast'
    prepared[contender] = prepare(whole if fast else part)
    prepared[contender]()
    cold.append(time.perf_counter() - begin)
    w = prepare(part)() if fast else prepared[contender]()
    weights[contender] = np.asarray(w)
  seconds = np.zeros((len(CONTENDERS), config.repetitions))
  limit = np.zeros((2, config.repetitions))
  for repetition in range(config.repetitions):
    limit[:, repetition] = floor.machine()
    for i, (contender, train) in enumerate(prepared.items()):
      begin = time.perf_counter()
      train()
      seconds[i, repetition] = time.perf_counter() - begin
      if contender != 'fast':
        seconds[i, repetition] *= whole.num_steps / part.num_steps
  moved = np.linalg.norm(weights['plain'] - whole.params.w)
  disagreement = [
    np.linalg.norm(w - weights['plain']) / moved for w in weights.values()
  ]
  flops, bytes_ = floor.unavoidable(whole)
  return {
    'seconds': seconds,
    'cold_seconds': np.array(cold),
    'disagreement': np.array(disagreement),
    'matmul_flops': limit[0],
    'copy_bandwidth': limit[1],
    'flops': np.array(flops),
    'bytes': np.array(bytes_),
  }


def table(results: xr.Dataset) -> str:
  """Medians, ratios to the fast engine and to the floor; then the growth."""
  seconds = results.seconds.median('repetition')
  peak = results.matmul_flops.median('repetition')
  bandwidth = results.copy_bandwidth.median('repetition')
  floor = np.maximum(results.flops / peak, results.bytes / bandwidth)
  columns = {
    'seconds': ('.2f', seconds),
    '/ fast': ('.1f', seconds / seconds.sel(contender='fast', drop=True)),
    '/ floor': ('.1f', (seconds / floor).sel(contender=['fast', 'plain'])),
    'first call, s': ('.1f', results.cold_seconds),
    'difference of w - w(0)': ('.1e', results.disagreement),
  }
  rows = []
  for work, contender in itertools.product(
    results.work.values, results.contender.values
  ):
    cells = (
      f'{values.sel(work=work, contender=contender).item():{form}}'
      if contender in values.contender
      else ''
      for form, values in columns.values()
    )
    rows.append((work, contender, *cells))
  grown = zip(
    results.growth.values,
    1e3 * results.growth_seconds.values,
    results.growth_bytes.values / 1e9,
    strict=True,
  )
  growing = [
    (name, 'did not fit', '')
    if np.isnan(milliseconds)
    else (name, f'{milliseconds:.1f}', f'{gigabytes:.2f}')
    for name, milliseconds, gigabytes in grown
  ]
  return (
    f'{_speed(seconds)}\n\nMatmul {peak.median().item() / 1e9:.0f} GFLOP/s, '
    f'copy {bandwidth.median().item() / 1e9:.0f} GB/s.\n\n'
    + claims.markdown_table(('work', 'contender', *columns), rows)
    + '\n'
    + claims.markdown_table(('every step measured', 'ms a step', 'GB'), growing)
  )


def _speed(seconds: xr.DataArray) -> str:
  """The fast engine beside the fastest rival of each kind, over widths."""
  works = [work for work in seconds.work.values if 'every step' in work]
  times = seconds.sel(work=works) / seconds.sel(work=works, contender='fast')
  found = []
  for kind, words in {'jax': 'the JAX loop', 'torch': 'PyTorch'}.items():
    of_kind = [c for c in seconds.contender.values if c.startswith(kind)]
    if of_kind:
      best = times.sel(contender=of_kind).min('contender')
      ends = best.min().item(), best.max().item()
      span = ' to '.join(dict.fromkeys(f'{end:.1f}' for end in ends))
      found.append(f'{span} times {words}')
  return f'{", ".join(found)}, every step measured.'


EXPERIMENT = command.Experiment(
  'benchmark', Config, PRESETS, run, growth.figures, table, lambda ds: []
)


def main(argv: list[str] | None = None) -> None:
  """Runs the script, or what --device asks for."""
  words = sys.argv if argv is None else argv
  if {'-device', '--device'}.intersection(words[1:]):
    device.main(words)
  else:
    EXPERIMENT.main(argv)


if __name__ == '__main__':
  main()
