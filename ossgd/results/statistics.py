"""What a sample of seeds says: intervals, exact limits, slopes, many claims.

Evidence is what a claim measures, one value a seed. Its kind is its type: plain
values are judged by their mean, `Cells` too but known up to a cell each,
`Proportion` by exact limits, `Every` by its worst case.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
  import xarray as xr

LEVEL = 0.95


class Cells(NamedTuple):
  """One value a seed, of which only an interval around it is known."""

  low: xr.DataArray | np.ndarray  # (seed,)
  high: xr.DataArray | np.ndarray


class Proportion(NamedTuple):
  """Fractions of so many trials; other dims are cases that must all do."""

  fraction: xr.DataArray  # (seed,) or (seed, ...)
  trials: int | None  # behind each fraction; None: not known


class Every(NamedTuple):
  """One value a seed, the worst in it, of a bound that is said of all."""

  values: xr.DataArray | np.ndarray  # (seed,)


class Estimate(NamedTuple):
  """A parameter beside its 95 % interval and the p-values of its sides.

  A p-value is one minus the confidence of the widest interval that still lies
  on that side, so it is at most 0.05 just where the interval below does.
  """

  value: float
  interval: tuple[float, float]
  p: Callable[[float, str], float]  # of lying on a side of x: 'greater', 'less'


def no_spread(values: np.ndarray) -> bool:
  """Whether values are equal to rounding: no interval can come of them."""
  return bool(np.ptp(values) <= 1e-9 * np.max(np.abs(values)))


def mean_interval(
  values: np.ndarray, level: float = LEVEL
) -> tuple[float, float]:
  """The interval of the mean, Student's t: (n,), finite -> low, high.

  NaN with fewer than two values, or without spread.
  """
  if values.size < 2 or no_spread(values):
    return np.nan, np.nan
  from scipy import special  # which --help need not wait for

  mean, error = _mean_and_error(values)
  tail = (1 - level) / 2
  low, high = special.stdtrit(values.size - 1, [tail, 1 - tail]) * error + mean
  return float(low), float(high)


def _mean_and_error(values: np.ndarray) -> tuple[np.floating, np.floating]:
  """The mean and its standard error: (n,).

  In SciPy's order of operations, whose `ttest_1samp` has the same bits after
  sixty times the work: it asks of every call which arrays it was given.
  """
  number = values.size
  mean = np.mean(values)
  variance = np.mean((values - mean) ** 2) * (number / (number - 1))
  return mean, np.sqrt(variance / number)


def of_mean(low: np.ndarray, high: np.ndarray) -> Estimate:
  """The mean of values that lie somewhere between: two (n,), with spread.

  The values as low as can be bound it below, as high as can be above.
  """
  return Estimate(
    float(np.mean(low) + np.mean(high)) / 2,
    (mean_interval(low)[0], mean_interval(high)[1]),
    lambda x, side: _t_tail(low if side == 'greater' else high, x, side),
  )


def of_proportions(counts: np.ndarray, trials: int) -> list[Estimate]:
  """Proportions that are to be judged together, an estimate each.

  The interval of a proportion is all that Clopper and Pearson's exact limits of
  the pooled trials or Student's t over seeds leave possible: the limits know
  nothing of seeds that differ, the t-interval nothing of rare events. Several
  intervals are simultaneous (Bonferroni), so the worst may be picked.

  Args:
    counts: (case, seed), int.
    trials: behind each count.
  """
  return [_of_proportion(one, trials, len(counts)) for one in counts]


def _of_proportion(counts: np.ndarray, trials: int, cases: int) -> Estimate:
  from scipy import stats

  level = 1 - (1 - LEVEL) / cases
  pooled, total = int(counts.sum()), counts.size * trials
  low, high = _exact_limits(pooled, total, level)
  fractions = counts / trials
  differ = not no_spread(fractions)
  if differ:
    t_low, t_high = mean_interval(fractions, level)
    low, high = max(0.0, min(low, t_low)), min(1.0, max(high, t_high))

  def tail(x, side):
    if not 0 <= x <= 1:
      return float((x > 1) == (side == 'greater'))
    p = 2 * stats.binomtest(pooled, total, x, side).pvalue
    if differ:
      p = max(p, _t_tail(fractions, x, side))
    return min(1.0, cases * float(p))

  return Estimate(pooled / total, (float(low), float(high)), tail)


@functools.lru_cache(maxsize=1024)
def _exact_limits(count: int, trials: int, level: float) -> tuple[float, float]:
  """Clopper and Pearson's, which are searched for: many runs have all right."""
  from scipy import stats

  found = stats.binomtest(count, trials).proportion_ci(level, 'exact')
  return float(found.low), float(found.high)


def _t_tail(values: np.ndarray, x: float, side: str) -> float:
  """Twice the one-sided p-value of a mean on this side of x."""
  from scipy import special

  if np.isinf(x):
    return float((x > 0) == (side == 'greater'))
  mean, error = _mean_and_error(values)
  with np.errstate(divide='ignore'):  # of numbers whose squares are none
    statistic = (mean - x) / error
  towards = -statistic if side == 'greater' else statistic
  return min(1.0, 2 * float(special.stdtr(values.size - 1, towards)))


def broken_interval(broken: int, draws: int) -> tuple[float, float]:
  """Exact 95 % limits of the probability of what so many of n draws did.

  Two-sided; one-sided where none did, 1 - 0.05^(1/n), for there is no less.
  """
  from scipy import stats

  side = 'two-sided' if broken else 'less'
  low, high = stats.binomtest(broken, draws, alternative=side).proportion_ci(
    LEVEL, 'exact'
  )
  return float(low), float(high)


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
    y = y - y[0]  # equal values have slope zero, not rounding's
  y[~np.isfinite(y)] = np.nan
  x = np.log(values[dim].values.astype(np.float64))
  x = x - x.mean()
  return x @ y / (x @ x)


def cell_slopes(
  low: xr.DataArray, high: xr.DataArray, dim: str = 'width'
) -> Cells:
  """The least and the largest `log_slope` of values between two bounds."""
  if low is high:
    slopes = log_slope(low, dim)
    return Cells(slopes, slopes)
  low, high = low.transpose(dim, 'seed'), high.transpose(dim, 'seed')
  x = np.log(low[dim].values)
  right = (x > x.mean())[:, None]
  ends = (low.values, high.values)
  return Cells(
    log_slope(low.copy(data=np.where(right, *ends)), dim),
    log_slope(low.copy(data=np.where(right, *ends[::-1])), dim),
  )


def rise(values: xr.DataArray, by: str) -> xr.DataArray:
  """The value at the largest coordinate less that at the smallest: (seed,)."""
  ordered = values.sortby(by)
  return ordered.isel({by: -1}) - ordered.isel({by: 0})


def mean_over_steps(values: xr.DataArray) -> xr.DataArray:
  """The mean over all steps, not over the recorded ones, by trapezoids."""
  return values.integrate('step') / (values.step[-1] - values.step[0])
