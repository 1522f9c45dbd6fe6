"""A run whose numbers overflow stops, is marked, and disturbs no other."""

import jax
import jax.numpy as jnp
import numpy as np
from absl.testing import parameterized

from experiments.common import training
from ossgd.data import mixtures
from ossgd.paper.types import Dataset
from ossgd.results import tables
from ossgd.running import sweeps

SETTINGS = dict(
  widths=(16, 24),
  num_seeds=4,
  num_steps=6,
  batch_size=4,
  num_train=24,
  num_test=10,
  eval_growth=0.0,
)
SPEC = mixtures.gaussian(num_classes=3, num_components=1, dim=12)


def enormous(key, split):
  """Inputs of 1e25 for about half of the seeds: their loss overflows."""
  chosen = jax.random.bernoulli(jax.random.fold_in(key, 0))
  scale = jnp.where(chosen, 1e25, 1.0)
  x, y = split.train
  return split._replace(train=Dataset(x * scale, y))


class DivergenceTest(parameterized.TestCase):
  @parameterized.product(
    engine=('plain', 'blocked', 'gram'), seeds_at_once=(1, 2)
  )
  def test_no_nan_while_healthy(self, engine, seeds_at_once):
    """JAX's own search for NaNs, which works, stops no healthy run."""
    settings = SETTINGS | dict(
      widths=(16,), num_seeds=2, engine=engine, seeds_at_once=seeds_at_once
    )
    with jax.debug_nans(True):
      ds = sweeps.sweep(SPEC, **settings, target=1.0)
      self.assertTrue(np.isnan(ds.diverged_at).all())
      with self.assertRaises(FloatingPointError):
        jax.jit(jnp.log)(-1.0)

  @parameterized.parameters(('plain', 1), ('gram', 4))
  def test_some_seeds(self, engine, seeds_at_once):
    """NaN from the step where it happened; the others are as without them."""
    settings = SETTINGS | dict(
      widths=(16,), engine=engine, seeds_at_once=seeds_at_once
    )
    calm = sweeps.sweep(SPEC, **settings)
    ds = sweeps.sweep(SPEC, **settings, transform=enormous)
    self.assertTrue(np.isnan(calm.diverged_at).all())
    gone = np.isfinite(ds.diverged_at.values[0])
    self.assertTrue(0 < gone.sum() < 4)
    for s in range(4):
      one = ds.isel(width=0, seed=s)
      if not gone[s]:
        # The training data passed through a transform: the same to rounding.
        np.testing.assert_allclose(
          one.train_loss, calm.train_loss[0, s], rtol=1e-5
        )
        self.assertTrue(np.isfinite(one.singular_values_update[0]))
        continue
      before = one.step < one.diverged_at
      self.assertTrue(np.isfinite(one.train_loss[before]).all())
      for name in ('train_loss', 'test_accuracy', 'pattern_difference'):
        self.assertTrue(np.isnan(one[name][~before]).all(), name)
      self.assertTrue(np.isnan(one.singular_values_update).all())
    table = tables.sweep_table(ds)
    self.assertIn('diverged at step', table)
    self.assertNotIn('diverged at step', tables.sweep_table(calm))

  def test_all_seeds(self):
    """The work stops there, and other widths go on."""
    told = []
    ds = sweeps.sweep(
      SPEC,
      **SETTINGS | {'num_seeds': 1},
      lr_times_width=1e30,
      engine='plain',
      progress=lambda fraction, label: told.append(label),
    )
    np.testing.assert_array_equal(ds.diverged_at, [[1], [1]])
    self.assertEqual(dict(ds.sizes)['step'], 7)
    # Step 0 alone was told of each width: step 1 was the last.
    self.assertLen(told, 2)

  def test_step_size_past_the_stable_range(self):
    """A warning, with the step size up to which descent is stable."""
    config = training.MixtureConfig(
      dim=12, num_train=24, num_test=10, widths=(16,), num_seeds=1, num_steps=1
    )
    data = training.data(config)
    with self.assertNoLogs(level='WARNING'):
      training.sweep(config, data, lambda *_: None)
    with self.assertLogs(level='WARNING') as logs:
      training.sweep(config, data, lambda *_: None, lr_times_width=1e4)
    self.assertRegex(logs.output[0], r'10000.* past \d+')
