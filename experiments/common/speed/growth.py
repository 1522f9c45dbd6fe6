"""How time and memory grow with the sizes of a run."""

from __future__ import annotations

import logging
import multiprocessing
import pathlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import jax
import numpy as np
import psutil

from ossgd.data import mixtures
from ossgd.results import drawing
from ossgd.running import sweeps

from .. import progress_line

if TYPE_CHECKING:
  import xarray as xr
  from matplotlib.figure import Figure


def cases(widths: Sequence[int]) -> list[dict[str, int]]:
  """Section 7's sizes with one of them changed at a time.

  Two devices split the units of one seed, or take a seed each.
  """
  usual = dict(width=4000, dim=1000, num_train=1000, num_seeds=1, devices=1)
  changes = [
    *({'width': width} for width in widths),
    {'dim': 250},
    {'dim': 4000},
    {'num_train': 250},
    {'num_train': 4000},
    {'num_seeds': 2},
    {'num_seeds': 4},
    {'devices': 2, 'num_seeds': 1},
    {'devices': 2, 'num_seeds': 2},
  ]
  return [usual | change for change in changes]


def measure(settings: dict[str, int], num_steps: int) -> dict[str, np.ndarray]:
  """Seconds a step, measured every step, and the most bytes, of a process.

  NaN where it does not fit in the memory that is free: the rest is measured.
  """
  config: Any = jax.config  # its options are attributes made at run time
  precision = config.jax_default_matmul_precision
  context = multiprocessing.get_context('spawn')
  seconds = num_bytes = np.nan
  with context.Pool(1) as pool:
    try:
      seconds, num_bytes = pool.apply(
        _measure, (settings, num_steps, precision)
      )
    except ValueError as error:
      logging.warning('m = %d is left out: %s', settings['width'], error)
  return {'seconds': np.array(seconds), 'bytes': np.array(num_bytes)}


def _measure(
  settings: dict[str, int], num_steps: int, precision: str | None
) -> tuple[float, float]:
  jax.config.update('jax_num_cpu_devices', settings['devices'])
  jax.config.update('jax_default_matmul_precision', precision)
  stopwatch = progress_line.Stopwatch()
  spec = mixtures.gaussian(
    num_classes=10, num_components=2, dim=settings['dim']
  )
  sweeps.sweep(
    spec,
    widths=(settings['width'],),
    num_seeds=settings['num_seeds'],
    num_train=settings['num_train'],
    num_steps=num_steps,
    eval_growth=0,
    engine='gram',
    mesh='auto',
  )
  parts = stopwatch.seconds()
  return (parts['train'] + parts['measure']) / num_steps, peak()


def peak() -> float:
  """Bytes of memory that this process has had at most."""
  status = pathlib.Path('/proc/self/status')
  if status.exists():
    # Not getrusage: its maximum is that of the parent, if that was larger.
    lines = status.read_text().splitlines()
    (most,) = (line.split()[1] for line in lines if line.startswith('VmHWM'))
    return 1024.0 * int(most)
  memory = psutil.Process().memory_info()
  if hasattr(memory, 'peak_wset'):  # Windows
    return float(memory.peak_wset)
  import resource  # which Windows lacks

  return float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)  # macOS


def figures(results: xr.Dataset) -> dict[str, Figure]:
  """Time per unit and memory against width."""

  per_width = results.drop_duplicates('growth').sortby('growth_width')
  wide = per_width.where(
    per_width.growth.str.contains(
      'dim = 1000, num_train = 1000, num_seeds = 1, devices = 1'
    ),
    drop=True,
  )
  figure = drawing.new_figure(7, 3)
  left, right = figure.subplots(1, 2)
  microseconds = 1e6 * wide.growth_seconds / wide.growth_width
  left.plot(wide.growth_width, microseconds, 'o-', color='black')
  left.set(xscale='log', xlabel='width m', ylabel='time per unit (µs)', ylim=0)
  right.plot(wide.growth_width, wide.growth_bytes / 1e9, 's-', color='black')
  right.set(
    xscale='log', yscale='log', xlabel='width m', ylabel='peak memory (GB)'
  )
  return {'growth': drawing.explain_empty(figure, results)}
