"""What the paper says of a sweep over widths, as claims."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ossgd.claims import INF, Claim

if TYPE_CHECKING:
  import xarray as xr


def log_slope(values: xr.DataArray, dim: str = 'width') -> np.ndarray:
  """Least-squares slope of log values in log coordinate: (seed,).

  NaN for a seed where a value is missing or not positive, and everywhere with
  fewer than two coordinates.
  """
  values = values.transpose(dim, 'seed')
  if values.sizes[dim] < 2:
    return np.full(values.sizes['seed'], np.nan)
  with np.errstate(divide='ignore', invalid='ignore'):
    y = np.log(values.values.astype(np.float64))
  y[~np.isfinite(y)] = np.nan
  x = np.log(values[dim].values.astype(np.float64))
  x = x - x.mean()
  return x @ y / (x @ x)


def rise(values: xr.DataArray, by: str) -> xr.DataArray:
  """The value at the largest coordinate less that at the smallest: (seed,)."""
  ordered = values.sortby(by)
  return ordered.isel({by: -1}) - ordered.isel({by: 0})


def training_claims(
  figure: str,
  *,
  num_patterns: int | None,
  constant: float,
  accuracy: float = 0.99,
) -> list[Claim]:
  """What Section 7 and D.1 say of a sweep over widths.

  Args:
    figure: where in the paper, such as 'Figure 1'.
    num_patterns: k l, the singular values that stand out of the update; None
      where it is not known.
    constant: c of Figure 5's line c / sqrt(m).
    accuracy: what the final test accuracy is to pass. "Quickly converges to
      100 %" is said of the synthetic data only; on MNIST D.1 desires 95 %.
  """

  def scaled_distance(ds):
    return (ds.distance_at_accuracy * np.sqrt(ds.width)).mean(
      'width', skipna=False
    )

  def spread(ds):
    steps = ds.steps_to_accuracy
    return steps.max('width', skipna=False) / steps.min('width', skipna=False)

  where = f'Section 7, {figure}'
  return [
    Claim(
      where,
      f'the network learns: accuracy above {100 * accuracy:g} %',
      'final test accuracy, lowest over widths',
      accuracy,
      INF,
      lambda ds: ds.test_accuracy.isel(step=-1).min('width', skipna=False),
    ),
    Claim(
      where,
      'wider networks get there sooner',
      'slope of log (1 - mean test accuracy over recorded steps) in log m',
      -INF,
      0.0,
      lambda ds: log_slope(1 - ds.test_accuracy.mean('step', skipna=False)),
    ),
    Claim(
      where,
      'fewer than one pattern in ten changes',
      'largest pattern difference, over widths and steps',
      -INF,
      0.1,
      lambda ds: ds.pattern_difference.max(['width', 'step'], skipna=False),
    ),
    Claim(
      where,
      'the coupling tightens with width',
      'slope of log final pattern difference in log m',
      -INF,
      0.0,
      lambda ds: log_slope(ds.pattern_difference.isel(step=-1)),
    ),
    Claim(
      where,
      'the solution stays within a tenth of the initial norm',
      'largest relative distance, over widths and steps',
      -INF,
      0.1,
      lambda ds: ds.relative_distance.max(['width', 'step'], skipna=False),
    ),
    *(_cliff_claims(where, num_patterns) if num_patterns else ()),
    Claim(
      'D.1, Figure 4',
      'the steps to the target accuracy do not depend on width',
      'steps to the target, largest / smallest over widths',
      -INF,
      2.0,
      spread,
    ),
    Claim(
      'D.1, Figure 5',
      'the relative distance at the target falls as 1/sqrt(m)',
      'slope of log relative distance at the target in log m',
      -0.55,
      -0.45,
      lambda ds: log_slope(ds.distance_at_accuracy),
    ),
    Claim(
      'D.1, Figure 5',
      f'and closely matches {constant:.3g} / sqrt(m)',
      'sqrt(m) x relative distance at the target, mean over widths',
      0.9 * constant,
      1.1 * constant,
      scaled_distance,
    ),
  ]


def cliff(spectrum: xr.DataArray, num_patterns: int) -> xr.DataArray:
  """Singular value k l over the next one; NaN where there is no next one."""
  pair = spectrum.reindex(rank=[num_patterns, num_patterns + 1])
  return pair.isel(rank=0) / pair.isel(rank=1)


def _cliff_claims(where: str, count: int) -> list[Claim]:
  return [
    Claim(
      where,
      f'the top {count} singular values of the update are much larger',
      f'value {count} / value {count + 1} of the update, lowest over widths',
      10.0,
      INF,
      lambda ds: cliff(ds.singular_values_update, count).min(
        'width', skipna=False
      ),
    ),
    Claim(
      where,
      'the final weights have no such cliff',
      f'value {count} / value {count + 1} of the weights, largest over widths',
      -INF,
      1.1,
      lambda ds: cliff(ds.singular_values_weights, count).max(
        'width', skipna=False
      ),
    ),
  ]
