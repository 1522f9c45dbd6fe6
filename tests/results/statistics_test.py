"""Tests of statistics: SciPy's quantiles, hand-worked cases, coverage."""

import warnings

import numpy as np
import xarray as xr
from absl.testing import parameterized
from scipy import stats
from statsmodels.stats import multitest, proportion

from ossgd.results import statistics

NAN = float('nan')
WIDTHS = np.array([250, 1000, 4000])


def t_limits(values, level=0.95):
  """mean ± t std / sqrt(n), by the quantile of Student's t."""
  half = stats.t.ppf((1 + level) / 2, len(values) - 1) * stats.sem(values)
  return np.mean(values) - half, np.mean(values) + half


def exact_limits(count, trials, level=0.95):
  """Clopper and Pearson's, by quantiles of the beta distribution."""
  tail = (1 - level) / 2
  low = stats.beta.ppf(tail, count, trials - count + 1) if count else 0.0
  high = 1.0
  if count < trials:
    high = stats.beta.ppf(1 - tail, count + 1, trials - count)
  return low, high


class IntervalTest(parameterized.TestCase):
  @parameterized.product(n=(2, 5, 20), cell=(1.0, 2**0.5))
  def test_mean(self, n, cell):
    """Student's t, and p-values that are 0.05 at its ends.

    Of values known up to a cell, the low ends bound the mean below, the high
    ones above.
    """
    low = np.random.default_rng(n).uniform(1, 9, n)
    estimate = statistics.of_mean(low, low * cell)
    ends = t_limits(low)[0], t_limits(low * cell)[1]
    np.testing.assert_allclose(estimate.interval, ends, rtol=1e-9)
    for end, side in zip(ends, ('greater', 'less'), strict=True):
      np.testing.assert_allclose(estimate.p(end, side), 0.05, rtol=1e-9)
    self.assertEqual(estimate.p(-np.inf, 'greater'), 0)
    self.assertEqual(estimate.p(-np.inf, 'less'), 1)

  @parameterized.parameters((0, 80), (80, 80), (3, 80), (77, 80), (40, 80))
  def test_exact_limits(self, count, trials):
    """Clopper and Pearson's where seeds do not differ."""
    seeds = 4 if count % 4 == 0 else 1
    (estimate,) = statistics.of_proportions(
      np.full((1, seeds), count // seeds), trials // seeds
    )
    expected = exact_limits(count, trials)
    peer = proportion.proportion_confint(count, trials, method='beta')
    for limits in (estimate.interval, peer):
      np.testing.assert_allclose(limits, expected, rtol=1e-9)
    if count:
      broken = statistics.broken_interval(count, trials)
      np.testing.assert_allclose(broken, expected, rtol=1e-9)
    for end, side in zip(expected, ('greater', 'less'), strict=True):
      if 0 < end < 1:
        np.testing.assert_allclose(estimate.p(end, side), 0.05, rtol=1e-6)
    for side, below, above in (('greater', 0, 1), ('less', 1, 0)):
      self.assertEqual(
        (estimate.p(-1, side), estimate.p(2, side)), (below, above)
      )
      for x in (0.0, 0.01, 0.5, 0.99, 1.0):
        tail = stats.binomtest(count, trials, x, side).pvalue
        np.testing.assert_allclose(
          estimate.p(x, side), min(1, 2 * tail), rtol=1e-9
        )

  def test_seeds_that_differ(self):
    """The hull of the exact limits and of Student's t over seeds."""
    counts = np.array([990, 999, 1000, 960, 1000])
    (estimate,) = statistics.of_proportions(counts[None], 1000)
    exact, t = exact_limits(counts.sum(), 5000), t_limits(counts / 1000)
    self.assertLess(t[0], exact[0])
    self.assertGreater(t[1], exact[1])
    self.assertGreater(t[1], 1)
    np.testing.assert_allclose(estimate.interval, (t[0], 1), rtol=1e-9)
    alike = np.array([980, 981, 980, 981, 980])
    (estimate,) = statistics.of_proportions(alike[None], 1000)
    exact = exact_limits(alike.sum(), 5000)
    self.assertLess(exact[0], t_limits(alike / 1000)[0])
    np.testing.assert_allclose(estimate.interval, exact, rtol=1e-9)

  def test_several_are_simultaneous(self):
    """Each of four at 98.75 %, so that the worst may be looked at."""
    counts = np.array([[50, 50], [40, 40], [50, 50], [49, 49]])
    found = statistics.of_proportions(counts, 50)
    for estimate, total in zip(found, counts.sum(axis=1), strict=True):
      expected = exact_limits(total, 100, 1 - 0.05 / 4)
      np.testing.assert_allclose(estimate.interval, expected, rtol=1e-9)
    worst = found[1]
    p = worst.p(worst.interval[0], 'greater')
    np.testing.assert_allclose(p, 0.05, rtol=1e-6)

  @parameterized.parameters(
    # Examples as good as independent, seeds that differ, and near the ceiling.
    (0.5, np.inf),
    (0.995, np.inf),
    (0.9, 50.0),
    (0.3, 20.0),
  )
  def test_coverage_of_proportions(self, p, concentration):
    """At least 95 % of the intervals hold the proportion, 400 trials."""
    rng = np.random.default_rng(0)
    hits = 0
    for _ in range(400):
      own = np.full(5, p)
      if np.isfinite(concentration):
        own = rng.beta(p * concentration, (1 - p) * concentration, 5)
      counts = rng.binomial(200, own)
      (estimate,) = statistics.of_proportions(counts[None], 200)
      low, high = estimate.interval
      hits += low <= p <= high
    # Three standard errors of 400 draws below 95 %.
    self.assertGreater(hits / 400, 0.95 - 3 * (0.05 * 0.95 / 400) ** 0.5)

  @parameterized.parameters((0.95, 0.0), (0.5, 0.02), (0.1, 0.05))
  def test_coverage_on_shared_examples(self, alike, spread):
    """Five networks on the same 200 examples, some harder for all of them."""
    rng = np.random.default_rng(0)
    hits = {True: 0, False: 0}
    p, concentration = 0.8, (1 - alike) / alike
    for _ in range(400):
      easy = rng.beta(p * concentration, (1 - p) * concentration, 200)
      own = np.clip(easy + rng.normal(0, spread, (5, 1)), 0, 1)
      counts = (rng.random((5, 200)) < own).sum(axis=1)
      for shared in hits:
        (found,) = statistics.of_proportions(counts[None], 200, shared=shared)
        hits[shared] += found.interval[0] <= p <= found.interval[1]
    self.assertGreater(hits[True] / 400, 0.95 - 3 * (0.05 * 0.95 / 400) ** 0.5)
    if alike > 0.9:  # as if they were independent
      self.assertLess(hits[False] / 400, 0.75)

  @parameterized.parameters(2, 3, 5, 20, 200)
  def test_students_t(self, number):
    """Interval and tails are those of SciPy's test, at any scale."""
    rng = np.random.default_rng(number)
    for scale in 10.0 ** np.arange(-150, 151, 30):
      values = scale * (rng.normal() + rng.normal(size=number))
      level, x = rng.uniform(0.9, 0.999), scale * rng.normal()
      tested = stats.ttest_1samp(values, 0.0).confidence_interval(level)
      found = statistics.mean_interval(values, level)
      np.testing.assert_allclose(found, tested, rtol=1e-12)
      p = statistics.of_mean(values, values).p
      for side in ('greater', 'less'):
        one = stats.ttest_1samp(values, x, alternative=side).pvalue
        np.testing.assert_allclose(p(x, side), min(1, 2 * one), rtol=1e-12)

  @parameterized.parameters(([1.0] * 5,), ([0.1 + 0.2, 0.3, 0.3],), ([0, 0],))
  def test_no_spread(self, values):
    """Equal values, to rounding, have no interval."""
    values = np.array(values, np.float64)
    with warnings.catch_warnings(action='error'):
      found = statistics.mean_interval(values)
    np.testing.assert_array_equal(found, (NAN, NAN))
    self.assertFalse(statistics.no_spread(np.array([1, 1 + 1e-6])))


def by_width(values, widths=WIDTHS) -> xr.DataArray:
  return xr.DataArray(values, {'width': widths}, ('width', 'seed'))


class HolmTest(parameterized.TestCase):
  @parameterized.parameters(1, 2, 7, 400)
  def test_peer(self, number):
    """What statsmodels adjusts, ties and ones included."""
    rng = np.random.default_rng(number)
    p_values = np.minimum(1, rng.exponential(0.2, number).round(2))
    _, expected, *_ = multitest.multipletests(p_values, method='holm')
    found = statistics.holm(p_values)
    np.testing.assert_array_equal(found, expected)


class SlopeTest(parameterized.TestCase):
  def test_power_laws(self):
    """c m^p has slope p, whatever c: each seed has its own."""
    p = np.array([-0.5, 0.0, 2.0])
    array = by_width(np.array([3.0, 0.1, 7.0]) * WIDTHS[:, None] ** p)
    renamed = statistics.log_slope(array.rename(width='sigma'), 'sigma')
    for found in (*map(statistics.log_slope, (array, array.T)), renamed):
      np.testing.assert_allclose(found, p, atol=1e-12)

  def test_equal_values(self):
    """Slope zero to the last bit, or rounding would pass for a spread."""
    values = np.random.default_rng(0).uniform(1, 9, 7) * np.ones((3, 1))
    np.testing.assert_array_equal(statistics.log_slope(by_width(values)), 0)

  def test_least_squares(self):
    """NumPy's fit of a line, on data that is on no line."""
    widths = np.array([10, 15, 100, 4000])
    values = np.random.default_rng(0).uniform(0.5, 9, (4, 3))
    expected = np.polyfit(np.log(widths), np.log(values), 1)[0]
    found = statistics.log_slope(by_width(values, widths))
    np.testing.assert_allclose(found, expected, rtol=1e-10)

  @parameterized.parameters(0.0, -1.0, NAN, np.inf)
  def test_no_logarithm(self, value):
    """The seed has no slope; the others keep theirs."""
    values = np.ones((3, 2)) / WIDTHS[:, None]
    values[2, 0] = value
    with warnings.catch_warnings(action='error'):
      slopes = statistics.log_slope(by_width(values))
    np.testing.assert_allclose(slopes, [NAN, -1], rtol=1e-12)

  def test_one_width(self):
    """A point has no slope."""
    with warnings.catch_warnings(action='error'):
      slopes = statistics.log_slope(by_width(np.ones((1, 2)), [8]))
    np.testing.assert_array_equal(slopes, [NAN, NAN])

  def test_cells_hold_every_slope(self):
    """The extreme slopes of values between two bounds, by trying corners."""
    widths = np.array([4000, 10, 15, 100])
    low = np.random.default_rng(0).uniform(1, 9, (4, 2))
    corners = np.stack(np.meshgrid(*[[1.0, 2**0.5]] * 4)).reshape(4, -1)
    slopes = [
      np.polyfit(np.log(widths), np.log(low * corner[:, None]), 1)[0]
      for corner in corners.T
    ]
    array = by_width(low, widths)
    found = statistics.cell_slopes(array, array * 2**0.5)
    np.testing.assert_allclose(found.low, np.min(slopes, axis=0))
    np.testing.assert_allclose(found.high, np.max(slopes, axis=0))

  def test_mean_over_steps(self):
    """The integral of a line, whichever steps were recorded."""
    for steps in ([0, 40], [0, 1, 2, 3, 40], list(range(41))):
      line = xr.DataArray(np.array(steps) * 0.5, {'step': steps}, 'step')
      self.assertAlmostEqual(statistics.mean_over_steps(line).item(), 10)

  def test_rise(self):
    values = xr.DataArray(
      [[5.0, 1], [0, 0], [3, 7]], {'l': [4, 2, 1]}, ('l', 'seed')
    )
    np.testing.assert_array_equal(statistics.rise(values, 'l'), [2, -6])
