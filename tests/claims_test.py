"""Tests of ossgd.claims: verdicts by hand, and data made to obey or violate."""

import re
import warnings

import numpy as np
import xarray as xr
from absl.testing import absltest, parameterized

from ossgd import claims, paper_claims

INF = float('inf')
NAN = float('nan')
WIDTHS = np.array([250, 1000, 4000])
STEPS = np.array([0, 5, 10, 20, 40])
NUM_PATTERNS = 6
CONSTANT = 2 / 3
# The parts of the claims' words that tell them apart, in the report's order.
NAMES = (
  'the network learns',
  'get there sooner',
  'fewer than one pattern',
  'coupling tightens',
  'within a tenth',
  'singular values of the update',
  'no such cliff',
  'do not depend on width',
  'falls as 1/sqrt(m)',
  'closely matches 0.667',
)


def claim(low=-INF, high=INF, words='words', quantity='quantity'):
  return claims.Claim(
    'Section 7', words, quantity, low, high, lambda ds: ds.value
  )


def judge(values, low=-INF, high=INF, **texts):
  ds = xr.Dataset({'value': ('seed', np.asarray(values, np.float64))})
  return claims.judge(claim(low, high, **texts), ds)


def lawful() -> xr.Dataset:
  """What Section 7 and D.1 say, to the letter; every quantity different."""
  luck = np.array([0.98, 1.01, 1.0, 0.99, 1.02])[:, None]
  m = (WIDTHS / 250)[:, None, None]
  error = np.array([0.9, 0.3, 0.05, 0.01, 0.002])
  late = STEPS / STEPS[-1]
  rank = np.arange(1, 13)
  top = rank <= NUM_PATTERNS
  by_step = {
    'test_accuracy': 1 - error * luck * m**-0.2,
    'pattern_difference': 0.08 * late * luck * m**-0.3,
    'relative_distance': 0.09 * late * luck * m**-0.5,
  }
  by_rank = {
    'singular_values_update': luck * np.where(top, 9 - rank, 0.1) * m**-0.5,
    'singular_values_weights': luck * (40 - rank / 2) * m**0,
  }
  at_target = {
    'steps_to_accuracy': luck.T * [[15], [12], [10]],
    'distance_at_accuracy': luck.T * CONSTANT / WIDTHS[:, None] ** 0.5,
  }
  return xr.Dataset(
    {name: (('width', 'seed', 'step'), v) for name, v in by_step.items()}
    | {name: (('width', 'seed', 'rank'), v) for name, v in by_rank.items()}
    | {name: (('width', 'seed'), v) for name, v in at_target.items()},
    {'width': WIDTHS, 'seed': range(5), 'step': STEPS, 'rank': rank},
  )


def change(name, factor, **where):
  """A change of a dataset: some entries of a variable times a factor."""

  def apply(ds):
    ds[name].loc[where] *= factor

  return apply


def reverse(name):
  """A change of a dataset: what the widest did, the narrowest does."""

  def apply(ds):
    ds[name][:] = ds[name].values[::-1]

  return apply


def bend(*factors):
  """A change of a dataset: another power law of the distance, by width."""

  def apply(ds):
    ds['distance_at_accuracy'] *= xr.DataArray([*factors], dims='width')

  return apply


# What violates a claim, by its place in NAMES, and no other. Maxima and minima
# are violated at one width only, and before the last step.
VIOLATIONS = (
  (0, change('test_accuracy', 0.98, width=250, step=40)),
  (1, reverse('test_accuracy')),
  (2, change('pattern_difference', 5, width=1000, step=20)),
  (3, reverse('pattern_difference')),
  (4, change('relative_distance', 5, width=1000, step=20)),
  (5, change('singular_values_update', 10, width=1000, rank=7)),
  (6, change('singular_values_weights', 0.8, width=1000, rank=7)),
  (7, change('steps_to_accuracy', 2.5, width=1000)),
  (8, bend(0.8, 1, 1.2)),  # the mean of sqrt(m) x distance stays
  (8, bend(1.2, 1, 0.8)),
  (9, change('distance_at_accuracy', 1.2)),
  (9, change('distance_at_accuracy', 0.8)),
)


def verdicts(ds, **settings) -> dict[str, str]:
  """By the words of the claims, in their order."""
  settings = {'num_patterns': NUM_PATTERNS, 'constant': CONSTANT} | settings
  found = paper_claims.training_claims('Figure 1', **settings)
  return {c.words: claims.judge(c, ds).verdict for c in found}


class JudgeTest(parameterized.TestCase):
  @parameterized.parameters(
    # t(0.975, n - 1) from a table; std from the sum of squares by hand.
    ([1, 2, 3, 4, 5], 3, 2.5**0.5, 2.776445),
    ([0, 1], 0.5, 0.5**0.5, 12.706205),
    ([2, 2, 8], 4, 12**0.5, 4.302653),
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
    (1.036, 4.964, 'holds'),
    (1.037, INF, 'undecided'),
    (1.036, INF, 'holds'),
    (-INF, 4.963, 'undecided'),
    (-INF, 4.964, 'holds'),
    (2.9, 3.1, 'undecided'),
    (4.963, INF, 'undecided'),
    (4.964, INF, 'fails'),
    (-INF, 1.037, 'undecided'),
    (-INF, 1.036, 'fails'),
    (4.964, 9, 'fails'),
    (-9, 1.036, 'fails'),
  )
  def test_verdict(self, low, high, verdict):
    """Inside it holds, outside it fails, across an end it is undecided."""
    self.assertEqual(judge([1, 2, 3, 4, 5], low, high).verdict, verdict)

  @parameterized.parameters(
    (0.4999, INF, 'holds'),
    (-INF, 0.5001, 'holds'),
    (0.5, INF, 'fails'),
    (-INF, 0.5, 'fails'),
  )
  def test_ends_are_out_of_the_range(self, low, high, verdict):
    """No slope at all is not a slope below zero, nor is a tie a win."""
    self.assertEqual(judge([0.5, 0.5, 0.5], low, high).verdict, verdict)

  @parameterized.parameters(NAN, INF, -INF)
  def test_missing_seeds_never_hold(self, missing):
    """A target never reached cannot be in a claim's favour, only against."""
    finding = judge([1, missing, 1.1, 0.9], 0, 2)
    self.assertEqual(finding.verdict, 'undecided')
    self.assertEqual((finding.num_seeds, finding.num_missing), (4, 1))
    np.testing.assert_allclose(finding.mean, 1, rtol=1e-12)
    np.testing.assert_allclose(finding.std, 0.1, rtol=1e-12)
    self.assertEqual(judge([1, missing, 1.1, 0.9], 3, 4).verdict, 'fails')
    self.assertEqual(judge([1, 1, 1.1, 0.9], 0, 2).verdict, 'holds')

  @parameterized.parameters(
    ([1.0], 1.0, 0), ([1.0, NAN], 1.0, 1), ([NAN, NAN], NAN, 2), ([], NAN, 0)
  )
  def test_fewer_than_two_decide_nothing(self, values, mean, missing):
    """One seed has no spread to judge by, wherever it lies."""
    for low, high in ((0, 2), (5, 6)):
      with warnings.catch_warnings(action='error'):
        finding = judge(values, low, high)
      self.assertEqual(finding.verdict, 'undecided')
      self.assertEqual(finding.num_missing, missing)
      np.testing.assert_array_equal(finding.mean, mean)
      np.testing.assert_array_equal([finding.std, *finding.interval], NAN)


class ReportTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    self.findings = [
      judge([1, 2, 3, 4, 5], 0, words='all is well'),
      judge([1, NAN, 1], -INF, 0.5, words='||w - w(0)|| is small'),
      judge([7], 0.25, 0.75, quantity='a rather long quantity'),
    ]

  def test_table_is_well_formed(self):
    """As many unescaped bars in each line, a rule below the header."""
    text = claims.report(self.findings)
    self.assertEndsWith(text, '|\n')
    lines = text.splitlines()
    self.assertLen(lines, 2 + 3)
    self.assertLen(set(map(len, lines)), 1, 'columns line up on a terminal')
    rows = [re.split(r'(?<!\\)\|', line)[1:-1] for line in lines]
    header, rule, *rows = [[cell.strip() for cell in row] for row in rows]
    self.assertTrue(all(re.fullmatch('-+', cell) for cell in rule))
    for row in (rule, *rows):
      self.assertLen(row, len(header))
    self.assertEqual(
      dict(zip(header, rows[0], strict=True)),
      {
        'claim': 'all is well',
        'paper': 'Section 7',
        'quantity': 'quantity',
        'holds if': '> 0',
        'mean ± std': '3 ± 1.6',
        '95 % interval': '1.04 to 4.96',
        'seeds': '5',
        'verdict': '**holds**',
      },
    )
    self.assertEqual(rows[1][0], r'\|\|w - w(0)\|\| is small')
    self.assertEqual(rows[1][3], '< 0.5')
    self.assertEqual(rows[1][6], '3 (1 without)')
    self.assertEqual(rows[2][3], '0.25 to 0.75')

  def test_cells_of_a_table(self):
    """They come back as they were, bars, blanks and backslashes included."""
    rows = [['a|b', ' x y', '||'], ['\\', '', '-'], ['1 ± 2', '--', r'\|']]
    text = claims.markdown_table(['one', '', '|'], rows)
    expected = [[cell.strip() for cell in row] for row in rows]
    self.assertEqual(claims.table_cells(text), [['one', '', '|'], *expected])
    cells = claims.table_cells(claims.report(self.findings))
    self.assertEqual(cells[0], list(claims.HEADER))
    self.assertEqual(cells[1][:-1], list(claims.row(self.findings[0])[:-1]))
    self.assertLen(cells, 1 + len(self.findings))

  def test_summary(self):
    """A line a finding, the verdict first."""
    lines = claims.summary(self.findings).splitlines()
    self.assertLen(lines, 3)
    for line, finding in zip(lines, self.findings, strict=True):
      self.assertStartsWith(line.strip(), f'{finding.verdict}: ')
      self.assertIn(finding.claim.words, line)
    self.assertIn('3 ± 1.6', lines[0])
    self.assertEqual(
      [f.verdict for f in self.findings], ['holds', 'fails', 'undecided']
    )


class LogSlopeTest(parameterized.TestCase):
  def test_power_laws(self):
    """c m^p has slope p, whatever c: each seed has its own."""
    p = np.array([-0.5, 0.0, 2.0])
    values = np.array([3.0, 0.1, 7.0]) * WIDTHS[:, None] ** p
    array = xr.DataArray(values, {'width': WIDTHS}, ('width', 'seed'))
    np.testing.assert_allclose(paper_claims.log_slope(array), p, atol=1e-12)
    np.testing.assert_allclose(paper_claims.log_slope(array.T), p, atol=1e-12)
    renamed = array.rename(width='noise_scale')
    np.testing.assert_allclose(
      paper_claims.log_slope(renamed, 'noise_scale'), p, atol=1e-12
    )

  def test_least_squares(self):
    """NumPy's fit of a line, on data that is on no line."""
    rng = np.random.default_rng(0)
    widths = np.array([10, 15, 100, 4000])
    values = rng.uniform(0.5, 9, (4, 3))
    expected = np.polyfit(np.log(widths), np.log(values), 1)[0]
    array = xr.DataArray(values, {'width': widths}, ('width', 'seed'))
    np.testing.assert_allclose(
      paper_claims.log_slope(array), expected, rtol=1e-10
    )

  @parameterized.parameters(0.0, -1.0, NAN, INF)
  def test_no_logarithm(self, value):
    """The seed has no slope; the others keep theirs."""
    values = np.ones((3, 2)) / WIDTHS[:, None]
    values[2, 0] = value
    array = xr.DataArray(values, {'width': WIDTHS}, ('width', 'seed'))
    slopes = paper_claims.log_slope(array)
    np.testing.assert_allclose(slopes, [NAN, -1], rtol=1e-12)

  def test_one_width(self):
    """A point has no slope."""
    array = xr.DataArray(np.ones((1, 2)), {'width': [8]}, ('width', 'seed'))
    with warnings.catch_warnings(action='error'):
      slopes = paper_claims.log_slope(array)
    np.testing.assert_array_equal(slopes, [NAN, NAN])


class TrainingClaimsTest(parameterized.TestCase):
  def test_names(self):
    """The other tests tell the claims apart by these."""
    words = list(verdicts(lawful()))
    self.assertLen(words, len(NAMES))
    for name, text in zip(NAMES, words, strict=True):
      self.assertIn(name, text)

  def test_lawful(self):
    """Data as the paper describes it: every claim holds."""
    self.assertEqual(set(verdicts(lawful()).values()), {'holds'})

  @parameterized.parameters(*VIOLATIONS)
  def test_violation(self, index, violate):
    """One claim violated: it fails, and no other changes."""
    ds = lawful()
    violate(ds)
    expected = ['holds'] * len(NAMES)
    expected[index] = 'fails'
    found = verdicts(ds)
    self.assertEqual(found, dict(zip(found, expected, strict=True)))

  def test_diverged_seed(self):
    """Where one run of many is not a number, no claim holds."""
    ds = lawful()
    for variable in ds.data_vars.values():
      variable.loc[{'width': 1000, 'seed': 3}] = NAN
    self.assertEqual(set(verdicts(ds).values()), {'undecided'})

  def test_missing_step(self):
    """A gap within a curve is not skipped over where steps are compared."""
    ds = lawful()
    for variable in ds.data_vars.values():
      if 'step' in variable.dims:
        variable.loc[{'width': 1000, 'seed': 3, 'step': 10}] = NAN
    found = list(verdicts(ds).values())
    undecided = [i for i, v in enumerate(found) if v == 'undecided']
    self.assertEqual(undecided, [1, 2, 4])
    self.assertNotIn('fails', found)

  def test_order_of_dims_does_not_matter(self):
    """Names say what is what."""
    ds = lawful().transpose('rank', 'step', 'seed', 'width')
    self.assertEqual(verdicts(ds), verdicts(lawful()))

  def test_constant(self):
    """Figure 5's line is 8 / sqrt(m) on MNIST: other data, another claim."""
    ds = lawful()
    self.assertEqual(list(verdicts(ds, constant=8).values())[-1], 'fails')
    ds['distance_at_accuracy'] *= 12
    found = verdicts(ds, constant=8)
    self.assertEqual(set(found.values()), {'holds'})
    self.assertIn('8 / sqrt(m)', list(found)[-1])

  def test_unknown_number_of_patterns(self):
    """Nothing is said of a cliff whose place is not known."""
    words = ' '.join(verdicts(lawful(), num_patterns=None))
    self.assertNotIn('singular', words)
    self.assertNotIn('cliff', words)


class CliffTest(parameterized.TestCase):
  def test_ratio_of_neighbours(self):
    """Ranks count from one: value k l over value k l + 1."""
    values = np.random.default_rng(0).uniform(1, 2, (2, 3, 5))
    spectrum = xr.DataArray(
      values, {'rank': range(1, 6)}, ('width', 'seed', 'rank')
    )
    cliff = paper_claims.cliff(spectrum, 3)
    self.assertEqual(cliff.dims, ('width', 'seed'))
    np.testing.assert_allclose(cliff, values[..., 2] / values[..., 3])
    np.testing.assert_array_equal(
      paper_claims.cliff(spectrum, 5), np.full((2, 3), NAN)
    )
    np.testing.assert_array_equal(
      paper_claims.cliff(spectrum, 9), np.full((2, 3), NAN)
    )


if __name__ == '__main__':
  absltest.main()
