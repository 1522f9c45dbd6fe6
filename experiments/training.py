"""What the scripts that sweep widths share: settings, table, figures."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from experiments.options import option
from ossgd import claims, plots, sweeps


@dataclasses.dataclass(frozen=True)
class Config:
  """Settings of a sweep; the defaults are Section 7's for synthetic data."""

  widths: tuple[int, ...] = option(
    (1000, 2000, 4000, 8000, 16000),
    'm, hidden units. Our choice: the text of the paper names none.',
  )
  num_seeds: int = option(5, 'Runs per width (Section 7: 5).')
  seed: int = option(0, 'The first seed; run s is the same whatever this is.')
  num_steps: int = option(400, 'T, SGD steps (Section 7: 400; MNIST 20000).')
  batch_size: int = option(16, 'B, examples (Section 7: 16; MNIST 64).')
  lr_times_width: float = option(
    10.0, 'eta m, step size times width (Section 7: 10; MNIST 400).'
  )
  normalize: bool = option(
    True, 'Scale every input to unit norm, assumption (A2) of Section 3.'
  )
  init_scale: float = option(
    1.0,
    'Multiplies 1/sqrt(m), the standard deviation of the initial weights (A3).',
  )
  order: str = option(
    'epochs',
    'epochs: reshuffled every pass (Section 7). one_pass: T = N/B (Section '
    '3). full_batch: all examples every step (Section 5.1).',
    choices=('epochs', 'one_pass', 'full_batch'),
  )
  eval_first: int = option(50, 'Steps; up to here every step is measured.')
  eval_every: int = option(10, 'Steps between later measurements.')
  target: float = option(
    0.98, 'Test accuracy of Figures 4 and 5, in (0, 1] (D.1: 0.98; MNIST 0.95).'
  )
  seeds_at_once: int = option(
    0,
    'Seeds trained side by side. 0: one on a CPU, all on an accelerator; fewer '
    'need less memory.',
  )
  engine: str = option(
    'auto',
    'plain: optax on the hand-written gradient. auto: the fastest exact '
    'engine, which is plain.',
    choices=('auto', 'plain'),
  )


def sweep(
  config: Config, data: Any, progress: sweeps.Progress, **others: Any
) -> xr.Dataset:
  """`sweeps.sweep` with a Config's settings."""
  names = [field.name for field in dataclasses.fields(Config)]
  settings = {
    name: getattr(config, name)
    for name in names
    if name not in ('normalize', 'engine', 'seeds_at_once')
  }
  settings['seeds_at_once'] = config.seeds_at_once or None
  return sweeps.sweep(data, progress=progress, **settings, **others)


def table(results: xr.Dataset, num_patterns: int | None = None) -> str:
  """Per width, mean ± std over seeds of what Section 7 and D.1 report."""
  last = results.isel(step=-1)
  distance = results.distance_at_accuracy * np.sqrt(results.width)
  percent = f'{100 * results.target:g} %'
  columns = {
    'test accuracy': last.test_accuracy,
    'pattern difference': last.pattern_difference,
    'relative distance': last.relative_distance,
    f'steps to {percent}': results.steps_to_accuracy,
    f'sqrt(m) x distance at {percent}': distance,
  }
  if num_patterns:
    columns[f'singular value {num_patterns} / {num_patterns + 1}'] = (
      claims.cliff(results.singular_values_update, num_patterns)
    )
  rows = [
    (int(width), *(mean_std(v.sel(width=width)) for v in columns.values()))
    for width in results.width
  ]
  return claims.markdown_table(('m', *columns), rows)


def mean_std(values: xr.DataArray) -> str:
  """`mean ± std` over the seeds that have a value, and how many do not."""
  known = values.values[np.isfinite(values.values)].astype(np.float64)
  missing = values.size - known.size
  note = f' ({missing} of {values.size} without)' if missing else ''
  if not known.size:
    return note.strip(' ()')
  spread = f' ± {np.std(known, ddof=1):.2g}' if known.size > 1 else ''
  return f'{np.mean(known):.4g}{spread}{note}'


def figures(
  results: xr.Dataset, training: str, reference: float
) -> Mapping[str, Figure]:
  """The paper's three figures of a sweep over widths, by file name."""
  return {
    training: plots.training_figure(results),
    'figure4_steps': plots.steps_figure(results),
    'figure5_distance': plots.distance_figure(results, reference),
  }
