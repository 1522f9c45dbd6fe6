"""Tests of verdicts: values whose intervals are known by hand."""

import warnings

import numpy as np
import scipy.stats
import xarray as xr
from absl.testing import parameterized

from ossgd.results import claims, statistics

INF = float('inf')
NAN = float('nan')


def claim(
  low=-INF, high=INF, words='words', quantity='quantity', kind=lambda v: v
):
  return claims.Claim(
    'Section 7', words, quantity, lambda ds: kind(ds.value), low=low, high=high
  )


def judge(values, low=-INF, high=INF, **others):
  ds = xr.Dataset({'value': ('seed', np.asarray(values))})
  return claims.judge(claim(low, high, **others), ds)


def right_of(trials):
  return lambda values: statistics.Proportion(values, trials)


class SeedsTest(parameterized.TestCase):
  ds = xr.Dataset({'value': (('width', 'seed'), np.arange(6.0).reshape(2, 3))})

  @parameterized.parameters(
    lambda values: values,
    lambda values: values.isel(seed=0),
    lambda values: values.values[0, :2],
    lambda values: statistics.Cells(values, values),
    lambda values: statistics.Every(values),
  )
  def test_other_values_are_no_seeds(self, kind):
    """Widths and steps would be taken for independent draws."""
    with self.assertRaisesRegex(ValueError, "'words' measured .*the 3 seeds"):
      claims.judge(claim(kind=kind), self.ds)
    found = claims.judge(claim(kind=lambda v: v.max('width')), self.ds)
    self.assertEqual(found.num_seeds, 3)

  def test_away_from_the_paper_and_without_values(self):
    """Both are said, whatever else the results are of."""
    ds = xr.Dataset({'value': ('seed', [1.0, NAN])}, attrs={'dim': 5})
    away = claim(high=2.0)._replace(setup={'dim': 9})
    found = claims.judge(away, ds)
    self.assertEqual(found.verdict, 'measured')
    self.assertRegex(found.reason, '1 of 2 seeds without .*dim 5, paper 9')


class MeanTest(parameterized.TestCase):
  @parameterized.parameters(
    # t(0.975, n - 1) from a table; std from the sum of squares by hand.
    ([1, 2, 3, 4, 5], 3, 2.5**0.5, 2.776445),
    ([0, 1], 0.5, 0.5**0.5, 12.706205),
    ([0] * 9 + [10], 1, 10**0.5, 2.262157),
  )
  def test_interval(self, values, mean, std, t):
    """mean ± t std / sqrt(n), std with n - 1 in the denominator."""
    finding = judge(values)
    half = t * std / len(values) ** 0.5
    np.testing.assert_allclose(finding.mean, mean, rtol=1e-12)
    np.testing.assert_allclose(finding.std, std, rtol=1e-12)
    np.testing.assert_allclose(
      finding.interval, (mean - half, mean + half), rtol=1e-6
    )
    self.assertEqual((finding.num_seeds, finding.num_missing), (len(values), 0))

  @parameterized.parameters(
    # The interval of 1, 2, 3, 4, 5 is 3 ± 1.963243.
    (1.036, 4.964, 'holds', ''),
    (1.037, INF, 'undecided', '1.04'),
    (1.036, INF, 'holds', ''),
    (-INF, 4.963, 'undecided', '4.96'),
    (-INF, 4.964, 'holds', ''),
    (2.9, 3.1, 'undecided', '2.9 and 3.1'),
    (4.963, INF, 'undecided', '4.96'),
    (4.964, INF, 'fails', ''),
    (-INF, 1.036, 'fails', ''),
    (4.964, 9, 'fails', ''),
    (-9, 1.036, 'fails', ''),
  )
  def test_verdict(self, low, high, verdict, crossed):
    """Inside it holds, outside it fails, across an end it is undecided."""
    finding = judge([1, 2, 3, 4, 5], low, high)
    reason = f'the interval crosses {crossed}' if crossed else ''
    self.assertEqual((finding.verdict, finding.reason), (verdict, reason))

  def test_p_value_decides_with_the_interval(self):
    """0.05 at the very place where the verdict changes."""
    values = [1, 2, 3, 4, 5]
    end = judge(values, 0).interval[0]
    for shift, verdict in ((-1e-9, 'holds'), (1e-9, 'undecided')):
      finding = judge(values, end + shift)
      self.assertEqual(finding.verdict, verdict)
      np.testing.assert_allclose(finding.p, 0.05, rtol=1e-6)
    expected = 2 * scipy.stats.t.sf(3 / (2.5 / 5) ** 0.5, 4)
    np.testing.assert_allclose(judge(values, 0).p, expected, rtol=1e-9)

  @parameterized.product(low=(0.0, 2.0), value=(1.0, 0.1))
  def test_equal_values_decide_nothing(self, low, value):
    """No spread is no certainty, whichever side of the range it is on."""
    finding = judge([value] * 5, low)
    self.assertEqual(finding.verdict, 'undecided')
    self.assertEqual(finding.reason, f'no spread: all values are {value:g}')
    np.testing.assert_array_equal(finding.interval, (NAN, NAN))

  @parameterized.product(missing=(NAN, INF, -INF), low=(0, 3))
  def test_missing_seeds_decide_nothing(self, missing, low):
    """A target never reached: the rest neither holds nor fails."""
    self.assertNotEqual(judge([1, 1.1, 0.9], low, low + 2).verdict, 'undecided')
    finding = judge([1, missing, 1.1, 0.9], low, low + 2)
    self.assertEqual(finding.verdict, 'undecided')
    self.assertEqual(finding.reason, '1 of 4 seeds without a value')
    self.assertEqual((finding.num_seeds, finding.num_missing), (4, 1))
    np.testing.assert_allclose((finding.mean, finding.std), (1, 0.1))

  @parameterized.parameters(
    ([1.0], 1.0, 'too few seeds: 1'),
    ([1.0, NAN], 1.0, '1 of 2 seeds without a value'),
    ([NAN, NAN], NAN, '2 of 2 seeds without a value'),
    ([], NAN, 'too few seeds: 0'),
  )
  def test_fewer_than_two_decide_nothing(self, values, mean, reason):
    """One seed has no spread to judge by, wherever it lies."""
    for low in (0, 5):
      with warnings.catch_warnings(action='error'):
        finding = judge(values, low, low + 2)
      self.assertEqual(finding.verdict, 'undecided')
      self.assertEqual(finding.reason, reason)
      np.testing.assert_array_equal(
        [finding.mean, finding.std, *finding.interval], [mean, NAN, NAN, NAN]
      )
      self.assertNotIn('nan', claims.report([finding]))
      self.assertNotIn('nan', claims.summary([finding]))

  def test_no_range_no_verdict(self):
    """What nothing could leave is measured beside the proof's."""
    one = claim()._replace(beside='proof: 10')
    ds = xr.Dataset({'value': ('seed', [1.0, 1.2, 1.1])})
    finding = claims.judge(one, ds)
    self.assertEqual(
      (finding.verdict, finding.reason), ('measured', 'proof: 10')
    )
    self.assertTrue(np.isfinite(finding.interval).all())


class ProportionTest(parameterized.TestCase):
  @parameterized.parameters(
    # 5000 of 5000 bound the error by 0.00074, though no seed differs.
    ([1.0] * 5, 1000, 'holds', ''),
    ([1.0] * 5, 20, 'undecided', 'the interval crosses 0.99'),
    # Its examples say nothing of other seeds.
    ([1.0], 1000, 'undecided', 'too few seeds: 1'),
    ([1.0] * 5, None, 'undecided', 'how many trials there were is not known'),
    # float32's 9799/10000 is 9799 right.
    (np.float32([0.9799, 0.9801, 0.98]), 10000, 'fails', ''),
  )
  def test_trials(self, values, trials, verdict, reason):
    """Counts decide, where there are enough and of several seeds."""
    finding = judge(values, 0.99, kind=right_of(trials))
    self.assertEqual((finding.verdict, finding.reason), (verdict, reason))
    self.assertEqual(finding.trials, trials or 0)
    mean = round(float(np.mean(values)), 4)
    np.testing.assert_allclose(finding.mean, mean, rtol=1e-12)
    if verdict == 'holds':
      limits = (0.025 ** (1 / 5000), 1)
      np.testing.assert_allclose(finding.interval, limits, rtol=1e-9)

  @parameterized.parameters(
    ([[1.0] * 5] * 3, 'holds'),
    ([[1.0] * 5, [0.97] * 5, [1.0] * 5], 'fails'),
    ([[1.0] * 5, [0.991] * 5, [1.0] * 5], 'undecided'),
    ([[1.0] * 5, [1.0, 1.0, 1.0, 1.0, NAN], [1.0] * 5], 'undecided'),
  )
  def test_every_case_is_to_do(self, values, verdict):
    """One width below is enough; it is the one that is shown."""
    ds = xr.Dataset({'value': (('width', 'seed'), np.array(values))})
    for data in (ds, ds.transpose('seed', 'width')):
      finding = claims.judge(claim(0.99, kind=right_of(1000)), data)
      self.assertEqual(finding.verdict, verdict)
      np.testing.assert_allclose(finding.mean, np.nanmin(values))


class WorstTest(parameterized.TestCase):
  @parameterized.parameters((0, 1, 2), (1, 2, 0), (2, 0, 1))
  def test_is_shown(self, *order):
    """Also where the p-values of several are one: whichever comes first."""
    fractions = np.array(
      [[0.985, 0.999, 0.992], [0.98, 0.996, 0.987], [0.986, 1.0, 0.993]]
    )[[*order]]
    ds = xr.Dataset({'value': (('width', 'seed'), fractions)})
    found = claims.judge(claim(0.99, kind=right_of(1000)), ds)
    self.assertAlmostEqual(found.mean, fractions.mean(axis=1).min())
    self.assertEqual(found.verdict, 'undecided')


class EveryTest(parameterized.TestCase):
  @parameterized.parameters(
    # One in 20 is enough, whatever the mean.
    ([0.1] * 19 + [1.2], -INF, 1.0, 'fails', 1.2, 'broken in 1 of 20'),
    ([1.0, 0.9], 1.0, INF, 'fails', 0.9, 'broken in 1 of 2'),
    # What is not known may have broken it; what has, has.
    ([0.1, NAN], -INF, 1.0, 'undecided', 0.1, '1 of 2 seeds without a value'),
    ([NAN], -INF, 1.0, 'undecided', NAN, '1 of 1 seeds without a value'),
    ([2, NAN], -INF, 1.0, 'fails', 2, 'broken in 1 of 1'),
  )
  def test_worst_draw(self, values, low, high, verdict, worst, reason):
    """The worst draw decides, and is shown."""
    finding = judge(values, low, high, kind=statistics.Every)
    self.assertEqual((finding.verdict, finding.reason), (verdict, reason))
    np.testing.assert_array_equal(finding.mean, worst)

  @parameterized.parameters((20, 0.139108), (80, 0.036754), (1, 0.95))
  def test_none(self, draws, limit):
    """1 - 0.05^(1/n) of the initialisations may still break it.

    A bound that is met exactly is kept.
    """
    finding = judge([1.0] * draws, high=1.0, kind=statistics.Every)
    self.assertEqual(finding.verdict, 'holds in all')
    np.testing.assert_allclose(finding.interval, (0, limit), atol=1e-6)
    for text in (claims.report([finding]), claims.summary([finding])):
      self.assertIn(f'holds in all {draws}', text)
      self.assertIn(f'at most {limit:.3g} (95 %, one-sided)', text)


class NeedsTest(parameterized.TestCase):
  def test_a_variable_that_is_not_there(self):
    """Nothing is made up: no value, no verdict, and the reason."""
    one = claim(low=0.0)._replace(needs='pattern_difference')
    ds = xr.Dataset({'value': ('seed', [1.0, 2.0])})
    finding = claims.judge(one, ds)
    self.assertEqual(finding.verdict, 'measured')
    self.assertEqual(finding.reason, 'these results have no pattern_difference')
    self.assertTrue(np.isnan(finding.mean))
    ds['pattern_difference'] = 0.0
    self.assertNotEqual(claims.judge(one, ds).verdict, 'measured')
