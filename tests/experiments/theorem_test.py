"""Tests of experiments.theorem: steps to epsilon, and their exponents."""

import dataclasses
import itertools
import math
from unittest import mock

import numpy as np
import xarray as xr
from absl.testing import parameterized

from experiments import theorem
from experiments.common.lemmas import exponents
from ossgd.data import mixtures
from ossgd.results import claims
from ossgd.running import blocks, sweeps
from tests.experiments import scripts_test

TINY = theorem.Config(
  widths=(64, 8, 128),
  dim=(20, 40),
  num_classes=(3, 2),
  num_components=(1, 2),
  separation=(0.8, 0.4),
  epsilon=(0.05, 0.3),
  num_seeds=2,
  num_steps=30,
  batch_size=8,
  num_test=60,
)
EXPECTED = ['holds', 'holds', *['measured'] * 4]
NAMES = ('width', 'dim', 'num_classes', 'num_components', 'separation')
ALL = (*NAMES, 'epsilon')


def verdicts(results) -> list[str]:
  return list(scripts_test.verdicts(theorem.EXPERIMENT, results).values())


def constructed(**exponents: float) -> xr.Dataset:
  """Steps in proportion to powers of the variables, a factor for each seed."""
  lists = {
    'width': [100, 10, 400, 1600],
    'dim': [10, 40],
    'num_classes': [5, 2, 16],
    'num_components': [2, 8],
    'separation': [0.8, 0.4, 0.1],
  }
  epsilon = np.array([0.01, 0.1])
  scale = np.array([30, 31, 29.5, 30.5])
  at_base = scale[:, None] * (epsilon / 0.01) ** exponents.get('epsilon', 0)
  variables = {'steps_epsilon': (('seed', 'epsilon'), at_base)}
  for name, values in lists.items():
    powers = (np.array(values) / values[0]) ** exponents.get(name, 0)
    luck = 1 + 0.001 * np.cos(np.arange(4.0 * len(values))).reshape(-1, 4, 1)
    dims = (name, 'seed', 'epsilon')
    variables[f'steps_{name}'] = dims, luck * powers[:, None, None] * at_base
  coords = lists | {'seed': range(4), 'epsilon': epsilon}
  return xr.Dataset(variables, coords, {'batch_size': 16})


class TheoremTest(parameterized.TestCase):
  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    cls.fractions, cls.calls = [], []
    sweep = sweeps.sweep

    def watched(spec, **settings):
      results = sweep(spec, **settings)
      cls.calls.append((spec, settings, results))
      return results

    with mock.patch.object(sweeps, 'sweep', watched):
      cls.results = theorem.run(
        TINY, lambda fraction, label: cls.fractions.append(fraction)
      )

  def test_sorted_widths(self):
    """Pooling sorts them, and the base is the first that was asked for."""
    found, again = (
      scripts_test.verdicts(theorem.EXPERIMENT, results)
      for results in (self.results, self.results.sortby('width'))
    )
    self.assertEqual(found, again)
    low, high = exponents.fitted(self.results.sortby('width'), 'width')
    np.testing.assert_array_equal(high.width, [64, 128])
    np.testing.assert_array_equal(low.width, [64, 128])

  def test_one_at_a_time(self):
    """The base with all widths, then the base width with one number else.

    One pass, with samples enough for all its steps: more of harder data. And
    lambda is 1 / (8 l), the most that (A1) allows.
    """
    changes = (
      ({}, 30),
      ({'dim': 40}, 30),
      ({'num_classes': 2}, 30),
      ({'num_components': 2, 'ratio': 1 / 16}, 60),
      ({'separation': 0.4}, 120),
    )
    base = mixtures.bounded(
      dim=20, num_classes=3, num_components=1, separation=0.8, ratio=1 / 8
    )
    for (spec, settings, results), (changed, num_steps) in zip(
      self.calls, changes, strict=True
    ):
      self.assertEqual(spec, dataclasses.replace(base, **changed))
      self.assertEqual(settings['widths'], (64,) if changed else TINY.widths)
      self.assertEqual(settings['order'], 'one_pass')
      self.assertEqual(settings['num_train'], 8 * num_steps)
      self.assertEqual(results.step[-1], num_steps)

  def test_first_step_below_epsilon(self):
    """Found by a loop over what the sweeps recorded."""
    for name, (spec, _, results) in zip(NAMES, self.calls, strict=True):
      for width, seed, epsilon in itertools.product(
        results.width.values, (0, 1), TINY.epsilon
      ):
        run = results.sel(width=width, seed=seed)
        reached = run.step.values[run.test_accuracy >= 1 - epsilon - 1e-6]
        expected = float(reached[0]) if reached.size else np.nan
        here = {name: getattr(spec, name, width), 'seed': seed}
        found = self.results[f'steps_{name}'].sel(here).sel(epsilon=epsilon)
        np.testing.assert_equal(found.item(), expected)

  def test_base_is_shared(self):
    """The base point is in every list, and is one run."""
    expected = self.results.steps_width.sel(width=64)
    for name in (*NAMES[1:], 'epsilon'):
      steps = self.results[f'steps_{name}']
      if name != 'epsilon':
        steps = steps.sel({name: getattr(TINY, name)[0]})
      np.testing.assert_array_equal(steps, expected)
    self.assertTrue((expected.diff('epsilon') <= 0).all())

  def test_rounding_does_not_decide(self):
    """An error of epsilon counts, also when float32 has it a bit larger."""
    right = np.float32(0.7)
    accuracy = [right - 1 / 60, np.nextafter(right, np.float32(0))]
    fake = xr.Dataset(
      {'test_accuracy': (('width', 'seed', 'step'), [[accuracy]])},
      {'width': [64], 'seed': [0], 'step': [3, 4]},
    )
    config = dataclasses.replace(
      TINY,
      epsilon=(0.3,),
      **{name: getattr(TINY, name)[:1] for name in NAMES[1:]},
    )
    with mock.patch.object(sweeps, 'sweep', return_value=fake):
      results = theorem.run(config)
    self.assertEqual(results.steps_epsilon.item(), 4)

  def test_shown(self):
    """A row a setting and an exponent; six figures."""
    table, figures = scripts_test.shown(theorem.EXPERIMENT, self.results)
    for symbol in ('d', 'k', 'l', 'delta'):  # an exponent, two settings
      self.assertEqual(table.count(f'\n| {symbol} '), 3, symbol)
    self.assertIn('for width 64 to 128', table)
    self.assertEqual(set(figures), {f'theorem_{name}' for name in ALL})
    self.assertEqual(self.fractions, sorted(self.fractions))
    self.assertAlmostEqual(self.fractions[-1], 1)

  @parameterized.parameters(
    ({'epsilon': (0.1, 0.0)}, 'expected 0 to 1'),
    ({'epsilon': (0.1, 0.1)}, 'different numbers'),
    ({'dim': ()}, 'different numbers'),
    ({'num_classes': (2, 2)}, 'different numbers'),
    ({'separation': (0.8, 1.9)}, 'No arrangement'),
    ({'num_components': (1, 0)}, 'num_components'),
    ({'widths': (8, 8)}, 'all different'),
  )
  def test_bad_setting(self, settings, part):
    """Said before any training, whichever list it stands in."""
    with (
      mock.patch.object(blocks, 'run', side_effect=AssertionError),
      self.assertRaisesRegex(ValueError, part),
    ):
      theorem.run(dataclasses.replace(TINY, **settings))


class ClaimsTest(parameterized.TestCase):
  def test_mild_growth(self):
    """Linear in k and l, flat in m and d: what the theorem allows."""
    results = constructed(
      num_classes=1, num_components=1, separation=-2, epsilon=-0.1
    )
    self.assertEqual(verdicts(results), EXPECTED)
    # No steps that can be run would leave k^10: no verdict, an interval.
    finding = claims.judge(theorem.EXPERIMENT.claims(results)[2], results)
    self.assertEqual(finding.reason, 'proof: 10')
    self.assertBetween(1, *finding.interval)
    table = theorem.EXPERIMENT.table(results).partition('\n\n')[0]
    rows = [
      (symbol, round(float(slope.split()[0]), 3), *map(float, others))
      for symbol, slope, *others in claims.table_cells(table)[1:]
    ]
    # The proof's, the difference, T at a given eta m and B T.
    self.assertEqual(
      rows,
      [
        ('m', 0, 0, 0, 0, 0),
        ('m, all that reached it', 0, 0, 0, 0, 0),
        ('d', 0, 0, 0, 0, 0),
        ('k', 1, 10, -9, 5, 20),
        ('l', 1, 10, -9, 5, 20),
        ('delta', -2, -6, 4, -3, -12),
        ('epsilon', -0.1, -12, 11.9, -6, -24),
      ],
    )
    # k^20 l^20 / (delta^12 epsilon^24) of k = 5, l = 2, 0.8 and 0.01.
    expected = math.log10(10**20 / (0.8**12 * 0.01**24))
    self.assertIn(f'10^{expected:.1f} at', theorem.EXPERIMENT.table(results))

  @parameterized.parameters(
    ('width', 0.3),
    ('width', -0.3),
    ('dim', 0.2),
  )
  def test_steeper_than_the_proof(self, name, exponent):
    """Its own claim fails and no other."""
    place = ALL.index(name)
    expected = [*EXPECTED[:place], 'fails', *EXPECTED[place + 1 :]]
    self.assertEqual(verdicts(constructed(**{name: exponent})), expected)

  def test_recorded_steps(self):
    """What lies between two records is part of the interval."""
    results = constructed()
    wide = results.assign(least_width=0.5 * results.steps_width)
    claim = theorem.EXPERIMENT.claims(results)[0]
    narrow, between = (claims.judge(claim, ds) for ds in (results, wide))
    self.assertEqual(narrow.verdict, 'holds')
    self.assertEqual(between.verdict, 'undecided')
    # Three widths from the base on: log 2 / log 16 to either side.
    np.testing.assert_allclose(
      np.array(between.interval),
      np.add(narrow.interval, [-0.25, 0.25]),
      atol=1e-3,
    )
    self.assertRegex(theorem.EXPERIMENT.table(wide), r'-0\.25\d to 0\.25\d')

  def test_width_from_the_base_on(self):
    """A narrow network may take longer: the theorem has m >= M."""
    results = constructed()
    narrow = results.width == 10
    results['steps_width'] = results.steps_width.where(~narrow, 500)
    self.assertEqual(verdicts(results)[0], 'holds')
    first = theorem.EXPERIMENT.claims(results)[0]
    self.assertIn('m = 100 to 1600', first.quantity)
    table = theorem.EXPERIMENT.table(results)
    self.assertIn('from 10 on: m = 10.', table)
    self.assertRegex(table, r'reached it \| -0\.\d+ .* for width 10 to 1600')

  def test_not_reached(self):
    """A seed without the error leaves a claim open and its width out."""
    results = constructed()
    lost = (results.width == 10) & (results.seed == 2)
    results['steps_width'] = results.steps_width.where(~lost)
    table = theorem.EXPERIMENT.table(results)
    self.assertIn('from 10 on: m = 100.', table)
    self.assertEqual(verdicts(results)[0], 'holds')
    results['steps_width'] = results.steps_width.where(results.seed != 2)
    self.assertEqual(verdicts(results)[0], 'undecided')
    table = theorem.EXPERIMENT.table(results)
    self.assertIn('from 10 on: none.', table)
    self.assertIn('1 of 4 without', table)
