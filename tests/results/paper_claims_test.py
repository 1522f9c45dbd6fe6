"""Tests of the paper's claims: data made to obey or to violate each."""

import json

import numpy as np
import xarray as xr
from absl.testing import parameterized

from experiments import mnist, synthetic
from ossgd.results import claims, paper_claims, statistics

NAN = float('nan')
WIDTHS = np.array([250, 1000, 4000])
STEPS = np.arange(41)
NUM_PATTERNS = 6


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
    'distance_at_accuracy': luck() * (2 / 3) / WIDTHS[:, None] ** 0.5,
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


def bend(name, *factors):
  """A change of a dataset: another power law, by width."""
  return change(name, xr.DataArray([*factors], dims='width'))


def reverse(name):
  """A change of a dataset: what the widest did, the narrowest does."""

  def apply(ds):
    ds[name][:] = ds[name].values[::-1]

  return apply


# What violates a claim, by a part of its words, and no other. Maxima and minima
# are violated at one width only, and before the last step.
VIOLATIONS = (
  ('the network learns', change('test_accuracy', 0.98, width=250, step=40)),
  ('get there sooner', reverse('test_accuracy')),
  ('one pattern in ten', change('pattern_difference', 5, width=1000, step=20)),
  ('coupling tightens', reverse('pattern_difference')),
  ('within a tenth', change('relative_distance', 5, width=1000, step=20)),
  ('of the update', change('singular_values_update', 10, width=1000, rank=7)),
  ('no such cliff', change('singular_values_weights', 0.8, width=1000, rank=7)),
  ('do not depend on width', bend('steps_to_accuracy', 1, 2, 3)),
  # The mean of sqrt(m) x distance stays.
  ('as 1/sqrt(m)', bend('distance_at_accuracy', 0.8, 1, 1.2)),
  ('as 1/sqrt(m)', bend('distance_at_accuracy', 1.2, 1, 0.8)),
  ('closely matches 0.667', change('distance_at_accuracy', 1.2)),
  ('closely matches 0.667', change('distance_at_accuracy', 0.8)),
)


def training_claims(**settings) -> list[claims.Claim]:
  settings = {'num_patterns': NUM_PATTERNS, 'constant': 2 / 3} | settings
  return paper_claims.training_claims('Figure 1', **settings)


def named(part: str) -> claims.Claim:
  (found,) = (c for c in training_claims() if part in c.words)
  return found


def verdicts(ds, **settings) -> dict[str, str]:
  """By the words of the claims, in their order."""
  found = training_claims(**settings)
  return {c.words: claims.judge(c, ds).verdict for c in found}


class TrainingClaimsTest(parameterized.TestCase):
  @parameterized.parameters(*VIOLATIONS)
  def test_violation(self, part, violate):
    """All holds of data as the paper describes them; one violated fails."""
    ds = lawful()
    holds = dict.fromkeys(verdicts(ds), 'holds')
    self.assertLen(holds, 10)
    self.assertEqual(verdicts(ds), holds)
    violate(ds)
    ds = ds.transpose('rank', 'step', 'seed', 'width')
    self.assertEqual(verdicts(ds), holds | {named(part).words: 'fails'})

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
    parts = 'get there sooner', 'one pattern in ten', 'within a tenth'
    missing = {named(part).words: 'undecided' for part in parts}
    self.assertEqual(verdicts(ds), verdicts(lawful()) | missing)

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

  @parameterized.parameters(3, 5, 9)
  def test_cliff(self, count):
    """Ranks count from one: value k l over value k l + 1, if there is one."""
    values = np.random.default_rng(0).uniform(1, 2, (2, 3, 5))
    spectrum = xr.DataArray(
      values, {'rank': range(1, 6)}, ('width', 'seed', 'rank')
    )
    cliff = paper_claims.cliff(spectrum, count)
    self.assertEqual(cliff.dims, ('width', 'seed'))
    expected = values[..., 2] / values[..., 3] if count == 3 else NAN
    np.testing.assert_allclose(cliff, np.broadcast_to(expected, (2, 3)))


class RightTest(parameterized.TestCase):
  @parameterized.parameters(
    ('synthetic', False),
    ('Bounded', False),
    ('Xor', False),
    ('function mine', False),
    ('arrays', True),
    ('mnist', True),
    ('file:x.csv', True),
  )
  def test_who_is_tried_on_the_same_examples(self, dataset, shared):
    ds = xr.Dataset(attrs={'dataset': dataset, 'num_test': 50})
    found = paper_claims.right(ds, xr.DataArray([0.5], dims='seed'))
    self.assertEqual((found.trials, found.shared), (50, shared))

  def test_figures(self):
    """The paper has bounds of Figure 1, and of Figure 2 only words."""
    for figure, judged in (('Figure 1', True), ('Figure 2', False)):
      found = paper_claims.training_claims(
        figure, num_patterns=None, constant=1.0
      )
      for quantity in ('largest pattern difference', 'largest relative dist'):
        (claim,) = (c for c in found if c.quantity.startswith(quantity))
        self.assertEqual(claim.high == 0.1, judged)
        self.assertEqual(bool(claim.beside), not judged)


class StepsTest(parameterized.TestCase):
  def verdict(self, widths, steps) -> str:
    """Figure 4's: the steps to the target do not depend on width."""
    ds = xr.Dataset(
      {'steps_to_accuracy': (('width', 'seed'), np.rint(steps))},
      {'width': widths, 'step': np.arange(600)},
    )
    return claims.judge(named('do not depend on width'), ds).verdict

  @parameterized.parameters(3, 20)
  def test_no_effect_is_not_refuted(self, num_widths):
    """Steps that depend on nothing: refuted in few of 300, at any widths."""
    rng = np.random.default_rng(num_widths)
    widths = np.rint(np.geomspace(1000, 16000, num_widths)).astype(int)
    found = [
      self.verdict(widths, rng.normal(20, 3, (num_widths, 5)))
      for _ in range(300)
    ]
    self.assertLessEqual(found.count('fails') / 300, 0.05)
    if num_widths == 20:
      self.assertGreater(found.count('holds') / 300, 0.9)

  def test_an_effect_is(self):
    """Steps that fall as m^-0.3 are not flat."""
    widths = np.array([1000, 4000, 16000])
    steps = 3200 * widths[:, None] ** -0.3 + [0, 1, -1, 2, 1]
    self.assertEqual(self.verdict(widths, steps), 'fails')

  def test_recorded_steps(self):
    """Between two records the target may have been met at any step."""
    reached = xr.DataArray([4.0, 8.0, NAN, 0.0], dims='seed')
    steps = np.array([0, 1, 4, 8, 16])
    low, high = paper_claims.step_cells(reached, steps)
    np.testing.assert_array_equal(low, [2, 5, NAN, 0])
    np.testing.assert_array_equal(high, reached)

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
      slopes.append(np.mean(named('get there sooner').measure(ds)))
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
      findings = [claims.judge(one, ds) for one in training_claims()]
      for finding in findings:
        self.assertEqual(finding.verdict, 'measured')
        self.assertEqual(
          finding.reason, f"away from the paper's set-up: {reason}"
        )
        self.assertTrue(np.isfinite(finding.interval).all())
      self.assertIn(reason, claims.report(findings))
      self.assertEqual(claims.summary(findings).count(reason), 1)

  def test_within_it(self):
    """All that the paper names as it has it, and what is ours at will."""
    ds = lawful().assign_attrs(
      paper_claims.FIGURE_1 | {'num_test': 1000, 'eval_every': 7}
    )
    self.assertNotIn('measured', verdicts(ds).values())

  @parameterized.parameters(
    (synthetic, paper_claims.FIGURE_1), (mnist, paper_claims.FIGURE_2)
  )
  def test_defaults_of_the_scripts(self, script, setup):
    """The paper's values stand once more as defaults of the flags."""
    config = vars(script.Config())
    shared = config.keys() & setup.keys()
    self.assertContainsSubset({'num_steps', 'lr_times_width'}, shared)
    for name in shared:
      self.assertEqual(config[name], setup[name], name)
