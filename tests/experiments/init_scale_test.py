"""Tests of experiments.init_scale: what the scale of w(0) decides."""

import dataclasses
from unittest import mock

import numpy as np
from absl.testing import parameterized

from experiments import init_scale
from experiments.common import options
from ossgd.running import execution
from tests.experiments import scripts_test

TINY = init_scale.Config(
  widths=(256,),
  num_seeds=3,
  num_steps=60,
  dim=60,
  num_classes=4,
  num_train=200,
  num_test=200,
  eval_every=2,
  eval_growth=0.3,
  init_scale=(30.0, 0.03, 1.0),  # the order given must not matter
)


def verdicts(results) -> dict[str, str]:
  return scripts_test.verdicts(init_scale.EXPERIMENT, results)


class InitScaleTest(parameterized.TestCase):
  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    cls.fractions = []
    cls.results = init_scale.run(
      TINY, lambda fraction, label: cls.fractions.append(fraction)
    )

  def final(self, name):
    """The mean over seeds after the last step, from small to large scales."""
    last = self.results[name].isel(step=-1).mean('seed')
    return last.sel(init_scale=[0.03, 1.0, 30.0]).values

  def test_coupling(self):
    """A larger scale changes fewer patterns and stays closer, relatively."""
    for name in ('pattern_difference', 'relative_distance'):
      self.assertTrue((np.diff(self.final(name)) < 0).all(), name)
    self.assertGreater(self.final('pattern_difference')[0], 0.2)
    self.assertLess(self.final('pattern_difference')[1], 0.15)

  def test_learning(self):
    """A random output too large to overcome in time; a small one is no harm."""
    small, ours, large = self.final('test_accuracy')
    self.assertGreater(min(small, ours), 0.98)
    self.assertLess(large, 0.9)
    steps = self.results.steps_to_accuracy.mean('seed')
    self.assertLess(steps.sel(init_scale=0.03), steps.sel(init_scale=1.0))

  def test_scale_reaches_the_weights(self):
    """Singular values of w(T) where the update is small: in proportion."""
    largest = self.results.singular_values_weights.isel(rank=0)
    ratio = largest.sel(init_scale=30.0) / largest.sel(init_scale=1.0)
    # Nearly 30: the seeds start alike, and the update is not nothing.
    self.assertBetween(ratio.min(), 25, 31)
    self.assertBetween(ratio.max(), 25, 31)

  def test_claims(self):
    """Held where it is so, and said to fail where it is not."""
    found = verdicts(self.results)
    for words, verdict in {
      'with a proper scale (the paper has 1) the network learns': 'holds',
      'a larger scale couples more tightly': 'holds',
      'a larger scale stays closer to the start': 'holds',
      'too small a scale loses the coupling': 'holds',
      'too large a scale slows learning': 'holds',
      'a proper scale helps generalization: too large a one harms it': 'holds',
      'and so does too small a one': 'undecided',  # all is right with it
    }.items():
      self.assertEqual(found[words], verdict, words)

  def test_claims_fail(self):
    """With large and small exchanged, what held fails."""
    exchanged = self.results.assign_coords(
      init_scale=1 / self.results.init_scale
    )
    found = verdicts(exchanged)
    for words in (
      'a larger scale couples more tightly',
      'a larger scale stays closer to the start',
      'too small a scale loses the coupling',
    ):
      self.assertEqual(found[words], 'fails', words)
    self.assertEqual(found['and so does too small a one'], 'holds')
    harmless = 'a proper scale helps generalization: too large a one harms it'
    self.assertEqual(found[harmless], 'undecided')

  def test_shown(self):
    """A row a scale; a curve a scale, and a point."""
    table = init_scale.EXPERIMENT.table(self.results)
    for scale in TINY.init_scale:
      self.assertRegex(table, rf'\n\| {scale} +\|')
    figures = init_scale.EXPERIMENT.figures(self.results)
    self.assertEqual(set(figures), {'init_scale', 'init_scale_training'})
    for figure in figures.values():
      figure.draw_without_rendering()
    for ax in figures['init_scale'].axes:
      np.testing.assert_allclose(ax.lines[0].get_xdata(), [0.03, 1, 30])
    self.assertEqual(self.fractions, sorted(self.fractions))
    self.assertAlmostEqual(self.fractions[-1], 1)

  @parameterized.parameters(
    ({'init_scale': (1.0, 0.0)}, 'expected positive numbers'),
    ({'init_scale': (1.0, float('nan'))}, 'expected positive numbers'),
    ({'init_scale': (1.0, 1.0)}, 'without repetition'),
    ({'widths': (8, 16)}, 'expected one width'),
  )
  def test_bad_setting(self, settings, part):
    """Said before any training: the last scale too."""
    with (
      mock.patch.object(execution, 'run_block', side_effect=AssertionError),
      self.assertRaisesRegex(ValueError, part),
    ):
      init_scale.run(dataclasses.replace(TINY, **settings))

  def test_flags(self):
    """The flag takes several scales; the preset has the Config's fields."""
    call = options.parse(
      'init_scale',
      init_scale.Config,
      init_scale.PRESETS,
      ['program', '--preset=quick', '--init_scale=0.5,1'],
    )
    self.assertEqual(call.config.init_scale, (0.5, 1.0))
    self.assertEqual(call.config.widths, (1000,))
