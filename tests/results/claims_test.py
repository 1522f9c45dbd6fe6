"""Tests of claims: verdicts by hand, and data made to obey or violate."""

import json
import re
import warnings

import numpy as np
import scipy.stats
import xarray as xr
from absl.testing import parameterized

from experiments import mnist, synthetic
from ossgd.results import claims, paper_claims, statistics

INF = float('inf')
NAN = float('nan')
WIDTHS = np.array([250, 1000, 4000])
STEPS = np.arange(41)
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


def claim(
  low=-INF, high=INF, words='words', quantity='quantity', kind=lambda v: v
):
  return claims.Claim(
    'Section 7', words, quantity, low, high, lambda ds: kind(ds.value)
  )


def right_of(trials):
  return lambda values: statistics.Proportion(values, trials)


def judge(values, low=-INF, high=INF, **others):
  ds = xr.Dataset({'value': ('seed', np.asarray(values, np.float64))})
  return claims.judge(claim(low, high, **others), ds)


def lawful() -> xr.Dataset:
  """What Section 7 and D.1 say, up to luck; every quantity different."""
  rng = np.random.default_rng(0)

  def luck(*others):
    return rng.uniform(0.99, 1.01, (3, 5, *others))

  m = (WIDTHS / 250)[:, None, None]
  late = STEPS / STEPS[-1]
  rank = np.arange(1, 13)
  top = rank <= NUM_PATTERNS
  by_step = {
    'test_accuracy': 1 - 0.9 * np.exp(-STEPS / 6) * luck(1) * m**-0.2,
    'pattern_difference': 0.08 * late * luck(1) * m**-0.3,
    'relative_distance': 0.09 * late * luck(1) * m**-0.5,
  }
  by_rank = {
    'singular_values_update': luck(12) * np.where(top, 9 - rank, 0.1) / m**0.5,
    'singular_values_weights': luck(12) * (40 - rank / 2),
  }
  at_target = {
    'steps_to_accuracy': rng.integers(11, 14, (3, 5)) * 1.0,
    'distance_at_accuracy': luck() * CONSTANT / WIDTHS[:, None] ** 0.5,
  }
  return xr.Dataset(
    {name: (('width', 'seed', 'step'), v) for name, v in by_step.items()}
    | {name: (('width', 'seed', 'rank'), v) for name, v in by_rank.items()}
    | {name: (('width', 'seed'), v) for name, v in at_target.items()},
    {'width': WIDTHS, 'seed': range(5), 'step': STEPS, 'rank': rank},
    {'num_test': 5000},
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


def bend(*factors, name='distance_at_accuracy'):
  """A change of a dataset: another power law, by width."""

  def apply(ds):
    ds[name] = ds[name] * xr.DataArray([*factors], dims='width')

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
  (7, bend(1, 2, 3, name='steps_to_accuracy')),
  (8, bend(0.8, 1, 1.2)),  # the mean of sqrt(m) x distance stays
  (8, bend(1.2, 1, 0.8)),
  (9, change('distance_at_accuracy', 1.2)),
  (9, change('distance_at_accuracy', 0.8)),
)


def training_claims(**settings) -> list[claims.Claim]:
  settings = {'num_patterns': NUM_PATTERNS, 'constant': CONSTANT} | settings
  return paper_claims.training_claims('Figure 1', **settings)


def verdicts(ds, **settings) -> dict[str, str]:
  """By the words of the claims, in their order."""
  found = training_claims(**settings)
  return {c.words: claims.judge(c, ds).verdict for c in found}


def independence() -> claims.Claim:
  """Figure 4's."""
  return training_claims()[7]


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

  @parameterized.parameters(-INF, 0.0, 2.0)
  def test_equal_values_decide_nothing(self, low):
    """No spread is no certainty, whichever side of the range it is on."""
    for value in (1.0, 0.1):
      finding = judge([value] * 5, low)
      expected = 'measured' if low == -INF else 'undecided'
      self.assertEqual(finding.verdict, expected)
      np.testing.assert_array_equal(finding.interval, (NAN, NAN))
      if low > -INF:
        reason = f'no spread: all values are {value:g}'
        self.assertEqual(finding.reason, reason)

  @parameterized.parameters(NAN, INF, -INF)
  def test_missing_seeds_decide_nothing(self, missing):
    """A target never reached: the rest neither holds nor fails."""
    for low, high in ((0, 2), (3, 4)):
      finding = judge([1, missing, 1.1, 0.9], low, high)
      self.assertEqual(finding.verdict, 'undecided')
      self.assertEqual(finding.reason, '1 of 4 seeds without a value')
      self.assertEqual((finding.num_seeds, finding.num_missing), (4, 1))
      np.testing.assert_allclose(finding.mean, 1, rtol=1e-12)
      np.testing.assert_allclose(finding.std, 0.1, rtol=1e-12)
    self.assertEqual(judge([1, 1, 1.1, 0.9], 0, 2).verdict, 'holds')
    self.assertEqual(judge([1, 1, 1.1, 0.9], 3, 4).verdict, 'fails')

  @parameterized.parameters(
    ([1.0], 1.0, 0), ([1.0, NAN], 1.0, 1), ([NAN, NAN], NAN, 2), ([], NAN, 0)
  )
  def test_fewer_than_two_decide_nothing(self, values, mean, missing):
    """One seed has no spread to judge by, wherever it lies."""
    for low, high in ((0, 2), (5, 6)):
      with warnings.catch_warnings(action='error'):
        finding = judge(values, low, high)
      self.assertEqual(finding.verdict, 'undecided')
      self.assertRegex(
        finding.reason,
        'seeds without a value' if missing else f'too few seeds: {len(values)}',
      )
      self.assertEqual(finding.num_missing, missing)
      np.testing.assert_array_equal(finding.mean, mean)
      np.testing.assert_array_equal([finding.std, *finding.interval], NAN)
      self.assertNotIn('nan', claims.report([finding]))
      self.assertNotIn('nan', claims.summary([finding]))

  @parameterized.parameters(
    ([3, 3.1, 3.2], 3, INF, 'crosses 3'),
    ([3, 3.1, 3.2], -INF, 3.1, 'crosses 3.1'),
    ([3, 3.1, 3.2], 3.09, 3.11, 'crosses 3.09 and 3.11'),
  )
  def test_undecided_says_where(self, values, low, high, reason):
    self.assertEqual(judge(values, low, high).reason, f'the interval {reason}')

  def test_p_value_decides_with_the_interval(self):
    """0.05 at the very place where the verdict changes."""
    values = [1, 2, 3, 4, 5]
    end = judge(values, 0).interval[0]
    for shift, verdict in ((-1e-9, 'holds'), (1e-9, 'undecided')):
      finding = judge(values, end + shift)
      self.assertEqual(finding.verdict, verdict)
      np.testing.assert_allclose(finding.p, 0.05, rtol=1e-6)
    np.testing.assert_allclose(
      judge(values, 0).p,
      2 * scipy.stats.t.sf(3 / (2.5 / 5) ** 0.5, 4),
      rtol=1e-9,
    )
    self.assertEqual(judge(values, 9).verdict, 'fails')


class ProportionTest(parameterized.TestCase):
  def test_all_right_is_evidence(self):
    """5000 of 5000 bound the error by 0.00074, though no seed differs."""
    finding = judge([1.0] * 5, 0.99, kind=right_of(1000))
    self.assertEqual(finding.verdict, 'holds')
    np.testing.assert_allclose(
      finding.interval, (0.025 ** (1 / 5000), 1), rtol=1e-9
    )
    self.assertEqual(finding.trials, 1000)
    few = judge([1.0] * 5, 0.99, kind=right_of(20))
    self.assertEqual(few.verdict, 'undecided')
    self.assertEqual(few.reason, 'the interval crosses 0.99')

  def test_none_of_80_is_not_below_a_hundredth(self):
    """The two-sided exact limit is 0.0451."""
    finding = judge([0.0] * 20, high=0.01, kind=right_of(4))
    self.assertEqual(finding.verdict, 'undecided')
    np.testing.assert_allclose(finding.interval[1], 0.0451, atol=5e-5)
    finding = judge([0.0] * 200, high=0.01, kind=right_of(4))
    self.assertEqual(finding.verdict, 'holds')

  def test_rounded_accuracies_are_counts(self):
    """float32's 9799/10000 is 9799 right."""
    values = np.float32([0.9799, 0.9801, 0.98])
    ds = xr.Dataset({'value': ('seed', values)})
    finding = claims.judge(claim(0.99, kind=right_of(10000)), ds)
    np.testing.assert_allclose(finding.mean, 0.98, rtol=1e-12)
    self.assertEqual(finding.verdict, 'fails')

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

  def test_one_seed(self):
    """Its examples say nothing of other seeds."""
    finding = judge([1.0], 0.99, kind=right_of(1000))
    self.assertEqual(finding.verdict, 'undecided')


class EveryTest(parameterized.TestCase):
  def test_one_violation(self):
    """One in 20 is enough, whatever the mean."""
    values = [0.1] * 19 + [1.2]
    finding = judge(values, high=1.0, kind=statistics.Every)
    self.assertEqual(finding.verdict, 'fails')
    self.assertEqual(finding.reason, 'broken in 1 of 20')
    self.assertEqual(finding.mean, 1.2)
    self.assertEqual(judge(values, high=1.0).verdict, 'holds', 'by the mean')

  @parameterized.parameters((20, 0.139108), (80, 0.036754), (1, 0.95))
  def test_none(self, draws, limit):
    """1 - 0.05^(1/n) of the initialisations may still break it."""
    finding = judge(
      [0.2] * draws, high=1.0, kind=statistics.Every, words='a bound'
    )
    self.assertEqual(finding.verdict, 'holds in all')
    np.testing.assert_allclose(finding.interval, (0, limit), atol=1e-6)
    for text in (claims.report([finding]), claims.summary([finding])):
      self.assertIn(f'holds in all {draws}', text)
      self.assertIn(f'at most {limit:.3g} (95 %, one-sided)', text)

  def test_ends_belong_to_it(self):
    """A bound that is met exactly is kept."""
    self.assertEqual(
      judge([1.0, 1.0], high=1.0, kind=statistics.Every).verdict, 'holds in all'
    )
    self.assertEqual(
      judge([1.0, 0.9], low=1.0, kind=statistics.Every).verdict, 'fails'
    )

  def test_missing(self):
    """What is not known may have broken it; what has, has."""
    every = statistics.Every
    finding = judge([0.1, NAN, 0.2], high=1.0, kind=every)
    self.assertEqual(finding.verdict, 'undecided')
    self.assertEqual(finding.reason, '1 of 3 seeds without a value')
    self.assertEqual(judge([2, NAN], high=1.0, kind=every).verdict, 'fails')
    self.assertEqual(judge([NAN], high=1.0, kind=every).verdict, 'undecided')


class FlatTest(parameterized.TestCase):
  @parameterized.parameters(3, 20)
  def test_no_effect_is_not_refuted(self, num_widths):
    """Steps that depend on nothing: refuted in few of 300, at any widths."""
    rng = np.random.default_rng(num_widths)
    widths = np.rint(np.geomspace(1000, 16000, num_widths)).astype(int)
    found = []
    for _ in range(300):
      steps = np.rint(rng.normal(20, 3, (num_widths, 5)))
      ds = xr.Dataset(
        {'steps_to_accuracy': (('width', 'seed'), steps)},
        {'width': widths, 'step': np.arange(60)},
      )
      found.append(claims.judge(independence(), ds).verdict)
    self.assertLessEqual(found.count('fails') / 300, 0.05)
    if num_widths == 20:
      self.assertGreater(found.count('holds') / 300, 0.9)

  def test_an_effect_is(self):
    """Steps that fall as m^-0.3 are not flat."""
    widths = np.array([1000, 4000, 16000])
    steps = np.rint(np.full((3, 5), 400.0) * widths[:, None] ** -0.3 * 8)
    steps += np.array([0, 1, -1, 2, 1])
    ds = xr.Dataset(
      {'steps_to_accuracy': (('width', 'seed'), steps)},
      {'width': widths, 'step': np.arange(600)},
    )
    self.assertEqual(claims.judge(independence(), ds).verdict, 'fails')

  def test_recorded_steps(self):
    """Between two records the target may have been met at any step."""
    ds = xr.Dataset(
      {'steps_to_accuracy': ('seed', [4.0, 8.0, NAN, 0.0])},
      {'step': [0, 1, 4, 8, 16]},
    )
    low, high = paper_claims.step_cells(ds.steps_to_accuracy, ds.step.values)
    np.testing.assert_array_equal(low, [2, 5, NAN, 1])
    np.testing.assert_array_equal(high, ds.steps_to_accuracy)


class MeanOverStepsTest(parameterized.TestCase):
  def test_recorded_steps_do_not_matter(self):
    """The slope of "wider networks get there sooner" is that of the curve.

    A mean over records counts early steps more, as gaps widen with the step.
    """
    slopes, old = [], []
    for factor in (1.0, 1.05, 1.3):
      steps = [0]
      while steps[-1] < 400:
        steps.append(min(400, max(steps[-1] + 1, int(steps[-1] * factor))))
      step = xr.DataArray(steps, {'step': steps}, 'step')
      ds = lawful()
      time = 8 * (ds.width / 250) ** -0.2 * (1 + ds.seed / 50)
      accuracy = 1 - 0.9 * np.exp(-step / time)
      ds = ds.drop_dims('step').assign(test_accuracy=accuracy)
      slopes.append(np.mean(training_claims()[1].measure(ds)))
      old.append(statistics.log_slope(1 - accuracy.mean('step')).mean())
    # By hand: the area is 0.9 x time, so its slope is -0.2.
    np.testing.assert_allclose(slopes, -0.2, atol=0.01)
    self.assertGreater(max(old) - min(old), 0.01, 'what it was')


class SetUpTest(parameterized.TestCase):
  @parameterized.parameters(
    ({'lr_times_width': 50.0}, 'lr_times_width 50, paper 10'),
    ({'dataset': 'fashion_mnist'}, 'dataset fashion_mnist, paper synthetic'),
    (
      {'num_steps': 9, 'normalize': 0},
      'normalize 0, paper True; num_steps 9, paper 400',
    ),
  )
  def test_away_from_it(self, attrs, reason):
    """Measured with intervals, no verdict on the paper, and why."""
    for ds in (
      lawful().assign_attrs(attrs),
      lawful().assign_attrs(config=json.dumps({'settings': attrs})),
    ):
      for one in training_claims():
        finding = claims.judge(one, ds)
        self.assertEqual(finding.verdict, 'measured')
        self.assertEqual(
          finding.reason, f"away from the paper's set-up: {reason}"
        )
        self.assertTrue(np.isfinite(finding.interval).all())
      self.assertIn(reason, claims.report([finding]))
      findings = [claims.judge(one, ds) for one in training_claims()]
      self.assertEqual(claims.summary(findings).count(reason), 1)

  def test_within_it(self):
    """All that the paper names as it has it, and what is ours at will."""
    ds = lawful().assign_attrs(
      paper_claims.FIGURE_1 | {'num_test': 1000, 'eval_every': 7}
    )
    self.assertNotIn('measured', verdicts(ds).values())

  def test_defaults_of_the_scripts(self):
    """The paper's values stand once more as defaults of the flags."""
    for script, setup in (
      (synthetic, paper_claims.FIGURE_1),
      (mnist, paper_claims.FIGURE_2),
    ):
      config = vars(script.Config())
      shared = config.keys() & setup.keys()
      self.assertContainsSubset({'num_steps', 'lr_times_width'}, shared)
      self.assertEqual(
        {name: config[name] for name in shared},
        {name: setup[name] for name in shared},
      )

  def test_no_range_no_verdict(self):
    """What nothing could leave is measured beside the proof's."""
    one = claim()._replace(beside='proof: 10')
    ds = xr.Dataset({'value': ('seed', [1.0, 1.2, 1.1])})
    finding = claims.judge(one, ds)
    self.assertEqual(
      (finding.verdict, finding.reason), ('measured', 'proof: 10')
    )
    self.assertTrue(np.isfinite(finding.interval).all())


class FamilyTest(parameterized.TestCase):
  def test_by_hand(self):
    """Holm at 5 %: 0.01 x 3 stands, 0.03 x 2 does not, nor what follows."""
    findings = [
      judge([1, 2, 3], 0)._replace(p=p, verdict='holds')
      for p in (0.03, 0.01, 0.04)
    ]
    self.assertEqual(
      claims.family_wise(findings), ['undecided', 'holds', 'undecided']
    )
    self.assertEqual(claims.family_wise(findings[:1]), ['holds'])

  def test_members(self):
    """Undecided ones count; worst cases and measurements do not."""
    holds = judge([1, 2, 3], 0)._replace(p=0.03, verdict='holds')
    self.assertEqual(
      claims.family_wise([holds, judge([1, 1], 0)])[0], 'undecided'
    )
    others = [judge([1, 2]), judge([3], high=4, kind=statistics.Every)]
    self.assertEqual(
      claims.family_wise([holds, *others]),
      ['holds', 'measured', 'holds in all'],
    )
    self.assertEqual(claims.family_wise([]), [])
    self.assertEqual(claims.report([]), '')
    self.assertIn('Holm over the 1 claims', claims.report([holds, *others]))
    text = claims.summary([holds, judge([1, 1], 0)])
    self.assertIn('family-wise undecided', text.splitlines()[0])
    self.assertNotIn('family-wise', text.splitlines()[1])


class ReportTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    self.findings = [
      judge([1, 2, 3, 4, 5], 0, words='all is well'),
      judge([1, NAN, 1.1], -INF, 0.5, words='||w - w(0)|| is small'),
      judge([1, 1.2, 1.1], -INF, 0.5, words='no'),
      judge([7], 0.25, 0.75, quantity='a rather long quantity'),
    ]

  def test_table_is_well_formed(self):
    """As many unescaped bars in each line, a rule below the header."""
    text = claims.report(self.findings)
    table, note = text.split('\n\n')
    self.assertIn('Holm over the 4 claims of this table', note)
    lines = table.splitlines()
    self.assertLen(lines, 2 + 4)
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
        'measured': '3 ± 1.6',
        '95 % interval': '1.04 to 4.96',
        'seeds': '5',
        'p': '0.013',
        'verdict': '**holds**',
        'family-wise': 'holds',
        'why': '',
      },
    )
    self.assertEqual(rows[1][0], r'\|\|w - w(0)\|\| is small')
    self.assertEqual(rows[1][3], '< 0.5')
    self.assertEqual(rows[1][6], '3 (1 without)')
    self.assertEqual(rows[3][3:6], ['0.25 to 0.75', '7', ''])

  def test_cells_of_a_table(self):
    """They come back as they were, bars, blanks and backslashes included."""
    rows = [['a|b', ' x y', '||'], ['\\', '', '-'], ['1 ± 2', '--', r'\|']]
    text = claims.markdown_table(['one', '', '|'], rows)
    expected = [[cell.strip() for cell in row] for row in rows]
    self.assertEqual(claims.table_cells(text), [['one', '', '|'], *expected])
    cells = claims.table_cells(claims.report(self.findings).split('\n\n')[0])
    self.assertEqual(cells[0], list(claims.HEADER))
    self.assertEqual(cells[1][:8], list(claims.rows(self.findings)[0][:8]))
    self.assertLen(cells, 1 + len(self.findings))

  def test_summary(self):
    """A line a finding, the verdict first."""
    lines = claims.summary(self.findings).splitlines()
    self.assertLen(lines, 4)
    for line, finding in zip(lines, self.findings, strict=True):
      self.assertStartsWith(line.strip(), f'{finding.verdict}: ')
      self.assertIn(finding.claim.words, line)
    self.assertIn('3 ± 1.6; 1.04 to 4.96; > 0', lines[0])
    self.assertIn('1 of 3 seeds without a value', lines[1])
    self.assertEqual(
      [f.verdict for f in self.findings],
      ['holds', 'undecided', 'fails', 'undecided'],
    )


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
