"""What a sample of seeds says: intervals, exact limits, slopes, many claims.

Evidence is what a claim measures, one value a seed. Its kind is its type: plain
values are judged by their mean, `Cells` too but known up to a cell each,
`Proportion` by exact limits, `Every` by its worst case.
"""

from __future__ import annotations

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
  shared: bool = False  # whether those of all seeds are the same examples


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
  interval, tail = mean_interval(low), _t_tail(low)
  if high is low:
    return Estimate(float(np.mean(low)), interval, tail)
  tail_of_high = _t_tail(high)
  return Estimate(
    float(np.mean(low) + np.mean(high)) / 2,
    (interval[0], mean_interval(high)[1]),
    lambda x, side: (tail if side == 'greater' else tail_of_high)(x, side),
  )


def of_proportions(
  counts: np.ndarray, trials: int, *, shared: bool = False
) -> list[Estimate]:
  """Proportions that are to be judged together, an estimate each.

  The interval of a proportion is all that Clopper and Pearson's exact limits of
  the pooled trials or Student's t over seeds leave possible: the limits know
  nothing of seeds that differ, the t-interval nothing of rare events. Several
  intervals are simultaneous (Bonferroni), so the worst may be picked.

  Trials that all seeds share are counted once: five networks that are tried on
  the same examples have not seen five times as many of them.

  Args:
    counts: (case, seed), int.
    trials: behind each count.
    shared: whether they are the same for all seeds.
  """
  times = counts.shape[1] if shared else 1
  return [_of_proportion(one, trials, len(counts), times) for one in counts]


def _of_proportion(
  counts: np.ndarray, trials: int, cases: int, times: int
) -> Estimate:
  from scipy import special

  level = 1 - (1 - LEVEL) / cases
  pooled, total = counts.sum() / times, counts.size * trials / times
  low, high = _exact_limits(pooled, total, (1 - level) / 2)
  fractions = counts / trials
  of_seeds = None
  if not no_spread(fractions):
    of_seeds = _t_tail(fractions)
    t_low, t_high = mean_interval(fractions, level)
    low, high = max(0.0, min(low, t_low)), min(1.0, max(high, t_high))

  def tail(x, side):
    if not 0 <= x <= 1:
      return float((x > 1) == (side == 'greater'))
    p = 1.0  # of at least as many, or of at most as many
    if side == 'greater' and pooled:
      p = special.betainc(pooled, total - pooled + 1, x)
    elif side == 'less' and pooled < total:
      p = special.betaincc(pooled + 1, total - pooled, x)
    p *= 2
    if of_seeds:
      p = max(p, of_seeds(x, side))
    return min(1.0, cases * float(p))

  return Estimate(pooled / total, (float(low), float(high)), tail)


def _exact_limits(
  count: float, trials: float, tail: float
) -> tuple[float, float]:
  """Clopper and Pearson's, quantiles of beta distributions.

  Those of `scipy.stats.binomtest`, which searches for them and rounds at 2e-12;
  importing it takes most of a second.
  """
  from scipy import special

  low, high = 0.0, 1.0
  if count:
    low = float(special.betaincinv(count, trials - count + 1, tail))
  if count < trials:
    high = float(special.betainccinv(count + 1, trials - count, tail))
  return low, high


def _t_tail(values: np.ndarray) -> Callable[[float, str], float]:
  """Twice the one-sided p-value of a mean on a side of x."""
  from scipy import special

  mean, error = _mean_and_error(values)

  def tail(x, side):
    if np.isinf(x):
      return float((x > 0) == (side == 'greater'))
    with np.errstate(divide='ignore'):  # of numbers whose squares are none
      statistic = (mean - x) / error
    towards = -statistic if side == 'greater' else statistic
    return min(1.0, 2 * float(special.stdtr(values.size - 1, towards)))

  return tail


def broken_interval(broken: int, draws: int) -> tuple[float, float]:
  """Exact 95 % limits of the probability of what so many of n draws did.

  Two-sided; one-sided where none did, 1 - 0.05^(1/n), for there is no less.
  """
  return _exact_limits(broken, draws, (1 - LEVEL) / (2 if broken else 1))


def holm(p_values: np.ndarray) -> np.ndarray:
  """p-values that are adjusted for each other: (n,) -> (n,).

  Of the i-th smallest the largest (n - j + 1) p_(j) over j <= i, at most 1:
  deciding what is at most alpha, any is wrong with probability alpha or less.
  """
  order = np.argsort(p_values)
  scaled = p_values[order] * np.arange(p_values.size, 0, -1)
  adjusted = np.empty_like(scaled)
  adjusted[order] = np.minimum(np.maximum.accumulate(scaled), 1)
  return adjusted


def log_slope(values: xr.DataArray, dim: str = 'width') -> np.ndarray:
  """Least-squares slope of log values in log coordinate: (seed,).

  NaN for a seed where a value is missing or not positive, and everywhere with
  fewer than two coordinates.
  """
  y = values.variable.transpose(dim, 'seed').values
  return _slopes(values.get_index(dim).to_numpy(), y)


def _slopes(at: np.ndarray, values: np.ndarray) -> np.ndarray:
  """The same of arrays: (n,), (n, seed) -> (seed,)."""
  if len(at) < 2:
    return np.full(values.shape[1], np.nan)
  with np.errstate(divide='ignore', invalid='ignore'):
    y = np.log(values.astype(np.float64))
    y = y - y[0]  # equal values have slope zero, not rounding's
  y[~np.isfinite(y)] = np.nan
  x = np.log(at.astype(np.float64))
  x = x - x.mean()
  return x @ y / (x @ x)


def cell_slopes(
  low: xr.DataArray, high: xr.DataArray, dim: str = 'width'
) -> Cells:
  """The least and the largest `log_slope` of values between two bounds."""
  if low is high:
    slopes = log_slope(low, dim)
    return Cells(slopes, slopes)
  at = low.get_index(dim).to_numpy()
  x = np.log(at)
  right = (x > x.mean())[:, None]
  ends = [v.variable.transpose(dim, 'seed').values for v in (low, high)]
  return Cells(
    _slopes(at, np.where(right, *ends)),
    _slopes(at, np.where(right, *ends[::-1])),
  )


def rise(values: xr.DataArray, by: str) -> xr.DataArray:
  """The value at the largest coordinate less that at the smallest: (seed,)."""
  at = values.get_index(by).to_numpy()
  last, first = (
    values.isel({by: int(find(at))}, drop=True)
    for find in (np.argmax, np.argmin)
  )
  return last.copy(deep=False, data=last.values - first.values)


def mean_over_steps(values: xr.DataArray) -> xr.DataArray:
  """The mean over all steps, not over the recorded ones, by trapezoids."""
  steps, axis = values.get_index('step').to_numpy(), values.dims.index('step')
  area = np.trapezoid(values.values, steps, axis=axis)
  mean = area / (steps[-1] - steps[0])
  return values.isel(step=0, drop=True).copy(deep=False, data=mean)
