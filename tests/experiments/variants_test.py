"""Variants of the model: each asked what the paper says of its own."""

import numpy as np
from absl.testing import parameterized

from experiments import variants
from experiments.common import models as options_of
from ossgd.paper import model
from tests.experiments import scripts_test

SMALL = scripts_test.SMALL | dict(
  num_seeds=1, dim=20, num_train=40, num_test=30, batch_size=20, num_steps=6
)


class VariantsTest(parameterized.TestCase):
  def test_every_variant_is_a_config(self):
    models = [
      options_of.settings(variants.Config(**settings))['model']
      for settings in variants.VARIANTS.values()
    ]
    self.assertLen(set(models), len(variants.VARIANTS))
    self.assertEqual(models[0], model.PAPER)

  def test_two(self):
    """What is told of each, and what is not made up of tanh."""
    longer = SMALL | dict(num_steps=22, eval_every=3, eval_growth=0.0)
    config = variants.Config(
      **longer, widths=(48,), variants=('antisymmetric', 'tanh')
    )
    results = variants.run(config)
    self.assertEqual(results.variant.values.tolist(), list(config.variants))
    has = results.pattern_difference.notnull().all(['width', 'seed', 'step'])
    np.testing.assert_array_equal(has, [True, False])
    np.testing.assert_allclose(
      results.scaled_last.sel(variant='tanh', width=48),
      results.relative_distance.sel(variant='tanh', width=48, step=22)
      * 48**0.5,
    )
    self.assertEqual(results.early, 21)  # the recorded one next to 20
    values = results.singular_values_update
    np.testing.assert_allclose(
      results.classes_cliff, values.sel(rank=3) / values.sel(rank=4)
    )
    table, found = scripts_test.finish(variants.EXPERIMENT, results)
    self.assertIn('tanh', table)
    self.assertIn('value 3 / 4', table)
    told = [finding.claim.words for finding in found]
    self.assertLen(told, 10 + 8)
    about = 'fewer than one pattern in ten changes'
    self.assertIn(f'antisymmetric: {about}', told)
    self.assertNotIn(f'tanh: {about}', told)
    for finding in found:  # other sizes than the paper's; but not the model
      self.assertIn('dim 20, paper 1000', finding.reason)
      self.assertNotIn('activation', finding.reason)
      self.assertNotIn('start', finding.reason)

  @parameterized.parameters((('paper', 'paper'),), (('swish',),), ((),))
  def test_refused(self, names):
    with self.assertRaisesRegex(ValueError, 'expected some of paper, leaky'):
      variants.run(variants.Config(variants=names))

  def test_the_papers_model_is_one_of_them(self):
    with self.assertRaisesRegex(ValueError, '--loss=squared; expected cross'):
      variants.run(variants.Config(loss='squared'))
