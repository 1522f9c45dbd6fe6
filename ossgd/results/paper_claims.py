"""What the paper says of a sweep over widths, as claims, and of what set-up."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ossgd.results import judging
from ossgd.results.claims import Claim, about
from ossgd.results.judging import INF
from ossgd.results.statistics import (
  Proportion,
  cell_slopes,
  log_slope,
  mean_over_steps,
)

if TYPE_CHECKING:
  import xarray as xr

# The settings that the paper names; all others are ours, and free.
SECTION_3 = {
  'normalize': True,
  'init_scale': 1.0,
  'order': 'epochs',
  'optimizer': 'sgd',
  'gradient_fn': 'true_gradient',
  'activation': 'relu',
  'loss': 'cross_entropy',
  'output_law': 'gaussian',
  'start': 'iid',
  'layers': 'hidden',
}
SYNTHETIC = {
  'dataset': 'synthetic',
  'num_classes': 10,
  'num_components': 2,
  'dim': 1000,
  'center_scale': 5.0,
  'noise_scale': 1.0,
  'num_train': 1000,
}
SECTION_7 = SECTION_3 | {
  'num_steps': 400,
  'batch_size': 16,
  'lr_times_width': 10.0,
  'target': 0.98,
}
FIGURE_1 = SYNTHETIC | SECTION_7
FIGURE_2 = SECTION_3 | {
  'dataset': 'mnist',
  'num_classes': 10,
  'dim': 784,
  'num_train': 60000,
  'num_steps': 20000,
  'batch_size': 64,
  'lr_times_width': 400.0,
  'target': 0.95,
}
_FIGURES = {'Figure 1': FIGURE_1, 'Figure 2': FIGURE_2}
# Test examples that every seed draws anew, by what results call their data.
_DRAWN = 'synthetic', 'Bounded', 'Xor', 'function'
# A factor of 1.3 over widths that differ by 16: "roughly the same".
FLAT = 0.1


def but(varied: str) -> dict[str, Any]:
  """Section 7's synthetic set-up without the setting that a script varies."""
  return {name: v for name, v in FIGURE_1.items() if name != varied}


def told(config: Any) -> dict[str, Any]:
  """What a Config says of the settings that the paper names, as attributes."""
  return {
    name: int(value) if isinstance(value, bool) else value
    for name in (*FIGURE_1, 'num_test')
    if not isinstance(value := getattr(config, name, ()), tuple)
  }


def right(results: xr.Dataset, accuracy: xr.DataArray) -> Proportion:
  """Accuracies as counts of test examples; other dims are to do all at once."""
  told = judging.settings(results)
  dataset = str(told.get('dataset', 'synthetic'))
  shared = dataset.partition(' ')[0] not in _DRAWN
  return Proportion(accuracy, told.get('num_test'), shared)


def step_cells(
  reached: xr.DataArray, steps: np.ndarray
) -> tuple[xr.DataArray, xr.DataArray]:
  """The steps to a target: after the last record below it, up to this one.

  Args:
    reached: the first recorded step at the target; NaN if none is.
    steps: all recorded steps, increasing.
  """
  missing = np.isnan(reached.values)
  at = np.searchsorted(steps, np.where(missing, steps[0], reached.values))
  before = np.minimum(steps[np.maximum(at - 1, 0)] + 1.0, reached.values)
  return reached.copy(deep=False, data=before), reached


def training_claims(
  figure: str,
  *,
  num_patterns: int | None,
  constant: float,
  accuracy: float = 0.99,
) -> list[Claim]:
  """What Section 7 and D.1 say of a sweep over widths.

  Args:
    figure: where in the paper: 'Figure 1' or 'Figure 2', with its set-up.
    num_patterns: k l, the singular values that stand out of the update; None
      where it is not known.
    constant: c of Figure 5's line c / sqrt(m).
    accuracy: what the final test accuracy is to pass. "Quickly converges to
      100 %" is said of the synthetic data only; on MNIST D.1 desires 95 %.
  """
  where = f'Section 7, {figure}'
  found = [*_learning_claims(where, accuracy), *_close_claims(figure)]
  if num_patterns:
    found += _cliff_claims(where, num_patterns)
  return about(_FIGURES[figure], [*found, *_target_claims(constant)])


def _learning_claims(where: str, accuracy: float) -> list[Claim]:
  return [
    Claim(
      where,
      f'the network learns: accuracy above {100 * accuracy:g} %',
      'final test accuracy, at every width',
      lambda ds: right(ds, ds.test_accuracy.isel(step=-1)),
      low=accuracy,
    ),
    Claim(
      where,
      'wider networks get there sooner',
      'slope of log (1 - mean test accuracy over all steps) in log m',
      lambda ds: log_slope(1 - mean_over_steps(ds.test_accuracy)),
      high=0.0,
    ),
  ]


def _close_claims(figure: str) -> list[Claim]:
  """Of Figure 2 the paper has no number: similar, though less significant."""
  where = f'Section 7, {figure}'
  high, beside = 0.1, ''
  changes = 'fewer than one pattern in ten changes'
  moves = 'the solution stays within a tenth of the initial norm'
  if figure != 'Figure 1':
    high, beside = INF, 'Figure 1: below 0.1; here "less significant"'
    changes, moves = 'how many patterns change', 'how far the solution moves'
  return [
    Claim(
      where,
      changes,
      'largest pattern difference, over widths and steps',
      lambda ds: ds.pattern_difference.max(['width', 'step'], skipna=False),
      high=high,
      beside=beside,
      needs='pattern_difference',
    ),
    Claim(
      where,
      'the coupling tightens with width',
      'slope of log final pattern difference in log m',
      lambda ds: log_slope(ds.pattern_difference.isel(step=-1)),
      high=0.0,
      needs='pattern_difference',
    ),
    Claim(
      where,
      moves,
      'largest relative distance, over widths and steps',
      lambda ds: ds.relative_distance.max(['width', 'step'], skipna=False),
      high=high,
      beside=beside,
    ),
  ]


def cliff(spectrum: xr.DataArray, num_patterns: int) -> xr.DataArray:
  """Singular value k l over the next one; NaN where there is no next one."""
  ranks, axis = spectrum.get_index('rank'), spectrum.dims.index('rank')
  first = spectrum.isel(rank=0, drop=True)
  pair = ranks.get_indexer([num_patterns, num_patterns + 1])
  ratio = np.full_like(first.values, np.nan)
  if (pair >= 0).all():
    value, following = np.moveaxis(spectrum.values.take(pair, axis), axis, 0)
    with np.errstate(divide='ignore', invalid='ignore'):
      ratio = value / following
  return first.copy(deep=False, data=ratio)


def scaled_distance(results: xr.Dataset) -> xr.DataArray:
  """sqrt(m) x distance at the target, mean over widths: (..., seed)."""
  distance = results.distance_at_accuracy
  axis = distance.dims.index('width')
  root = np.sqrt(distance.get_index('width').to_numpy())
  scaled = np.moveaxis(np.moveaxis(distance.values, axis, -1) * root, -1, axis)
  mean = scaled.mean(axis)
  return distance.isel(width=0, drop=True).copy(deep=False, data=mean)


def _cliff_claims(where: str, count: int) -> list[Claim]:
  return [
    Claim(
      where,
      f'the top {count} singular values of the update are much larger',
      f'value {count} / value {count + 1} of the update, lowest over widths',
      lambda ds: cliff(ds.singular_values_update, count).min(
        'width', skipna=False
      ),
      low=10.0,
    ),
    Claim(
      where,
      'the final weights have no such cliff',
      f'value {count} / value {count + 1} of the weights, largest over widths',
      lambda ds: cliff(ds.singular_values_weights, count).max(
        'width', skipna=False
      ),
      high=1.1,
    ),
  ]


def _target_claims(constant: float) -> list[Claim]:
  return [
    Claim(
      'D.1, Figure 4',
      'the steps to the target accuracy do not depend on width',
      'slope of log steps to the target in log m, between recorded steps',
      lambda ds: cell_slopes(*step_cells(ds.steps_to_accuracy, ds.step.values)),
      low=-FLAT,
      high=FLAT,
    ),
    Claim(
      'D.1, Figure 5',
      'the relative distance at the target falls as 1/sqrt(m)',
      'slope of log relative distance at the target in log m',
      lambda ds: log_slope(ds.distance_at_accuracy),
      low=-0.55,
      high=-0.45,
    ),
    Claim(
      'D.1, Figure 5',
      f'and closely matches {constant:.3g} / sqrt(m)',
      'sqrt(m) x relative distance at the target, mean over widths',
      scaled_distance,
      low=0.9 * constant,
      high=1.1 * constant,
    ),
  ]
