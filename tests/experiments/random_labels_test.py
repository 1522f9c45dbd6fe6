"""Tests of experiments.random_labels: true, corrupted and random labels."""

import dataclasses
import pathlib
import tempfile
from unittest import mock

import jax
import numpy as np
import xarray as xr
from absl.testing import parameterized

from experiments import random_labels
from experiments.common import training
from ossgd.paper.types import Dataset, Split
from ossgd.results import claims
from tests.experiments import scripts_test

TINY = random_labels.Config(
  widths=(256,),
  num_seeds=4,
  num_steps=200,
  lr_times_width=40.0,
  corruption=(1.0, 0.0),  # the order given must not matter
  dim=50,
  num_classes=4,
  noise_scale=2.0,
  num_train=64,
  num_test=200,
  eval_every=5,
)


def verdicts(results) -> list[str]:
  return list(scripts_test.verdicts(random_labels.EXPERIMENT, results).values())


class CorruptTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    y = np.arange(10000, dtype=np.int32) % 5
    x = np.ones((10000, 1), np.float32)
    self.split = Split(Dataset(x, y), Dataset(x, y), y, y)

  def corrupted(self, fraction, seed=0):
    found = random_labels.corrupt(
      jax.random.key(seed), self.split, fraction=fraction, k=5
    )
    return jax.tree.map(np.asarray, found)

  @parameterized.parameters(0.0, 0.3, 1.0)
  def test_drawn_from_all_classes(self, fraction):
    """Of each true class so many stay, the rest go to all k alike, its own too.

    A drawn label knows nothing of the true one: within four standard errors.
    """
    y, new = self.split.train.y, self.corrupted(fraction).train.y
    self.assertEqual(new.dtype, y.dtype)
    counts = np.zeros((5, 5))
    np.add.at(counts, (y, new), 1)
    chance = (1 - fraction) * np.eye(5) + fraction / 5
    error = np.sqrt(2000 * chance * (1 - chance))
    self.assertTrue(np.all(abs(counts - 2000 * chance) <= 4 * error), counts)

  def test_nothing_else_changes(self):
    """Inputs and test labels stay; another key corrupts other labels."""
    one, other = self.corrupted(0.5), self.corrupted(0.5, seed=1)
    for a, b in (
      (one.train.x, self.split.train.x),
      (one.test.x, self.split.test.x),
      (one.test.y, self.split.test.y),
    ):
      np.testing.assert_array_equal(a, b)
    self.assertTrue(np.any(one.train.y != other.train.y))


class RandomLabelsTest(parameterized.TestCase):
  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    cls.results = random_labels.run(TINY)
    cls.true = cls.results.sel(corruption=0)
    cls.random = cls.results.sel(corruption=1)

  def test_random_labels_lead_further_away(self):
    """Section 6, of every seed: more steps, distance and rank."""
    for name, factor in (
      ('steps_to_fit', 1.2),
      ('distance_at_fit', 1.2),
      ('stable_rank', 1.2),
      ('pattern_at_fit', 1),
      ('num_large', 1),
    ):
      true, random = self.true[name].values, self.random[name].values
      self.assertTrue(np.all(random > factor * true), name)

  def test_diverged(self):
    """No rank is counted of what there is not."""
    config = dataclasses.replace(TINY, lr_times_width=1e30)
    found = random_labels.run(config)
    self.assertTrue(np.isnan(found.num_large).all())
    self.assertTrue(np.isfinite(self.results.num_large).all())

  def test_where_all_labels_are_fitted(self):
    """The first recorded step, found by a loop."""
    for ds in (self.true, self.random):
      for s in range(ds.sizes['seed']):
        run = ds.isel(seed=s)
        first = run.train_accuracy.values.tolist().index(1)
        self.assertEqual(run.steps_to_fit, run.step[first])
        self.assertEqual(run.distance_at_fit, run.relative_distance[first])
        self.assertEqual(run.pattern_at_fit, run.pattern_difference[first])

  def test_rank(self):
    """||dW||_F^2 / ||dW||_2^2 <= number of values, and those above 1 %."""
    s = self.random.singular_values_update.isel(seed=0).values.astype(float)
    frobenius, largest = np.linalg.norm(s), s.max()
    np.testing.assert_allclose(
      self.random.stable_rank[0], (frobenius / largest) ** 2, rtol=1e-5
    )
    self.assertEqual(
      self.random.num_large[0], sum(v > largest / 100 for v in s)
    )

  def test_same_data_and_start(self):
    """Runs of a seed differ in nothing but the labels trained on."""
    a, b = (ds.isel(step=0) for ds in (self.true, self.random))
    np.testing.assert_array_equal(a.test_accuracy, b.test_accuracy)
    np.testing.assert_array_equal(a.test_loss, b.test_loss)
    self.assertTrue(np.any(a.train_loss.values != b.train_loss.values))

  def test_verdicts_follow_the_measurements(self):
    """All hold here; none does with the roles of p = 0 and 1 exchanged.

    So all labels are fitted, and only true ones tell of the test set.
    """
    self.assertEqual(verdicts(self.results), ['holds in all', *['holds'] * 5])
    self.assertLess(self.results.train_accuracy.isel(step=0).max(), 1)
    swapped = self.results.assign_coords(corruption=[0.0, 1.0])
    swapped['train_accuracy'] = 0.9 * swapped.train_accuracy
    self.assertEqual(set(verdicts(swapped)), {'fails'})

  def test_claims_ask_of_every_corruption(self):
    """Capacity at each p; that nothing is learned of random labels alone."""
    accuracy = self.results.train_accuracy
    unfitted = self.results.assign(
      train_accuracy=accuracy.where(accuracy.corruption == 1, 0.9)
    )
    self.assertEqual(verdicts(unfitted)[0], 'fails')
    half = self.results.assign_coords(corruption=[0.5, 0.0])
    words = [c.words for c in random_labels.EXPERIMENT.claims(half)]
    self.assertLen(words, 5)
    self.assertNotIn('random labels', ' '.join(words))

  def test_saved(self):
    """What is on disk is enough for table and figures."""
    folder = self.enter_context(tempfile.TemporaryDirectory())
    path = pathlib.Path(folder, 'results.nc')
    self.results.to_netcdf(path, engine='h5netcdf')
    loaded = xr.load_dataset(path, engine='h5netcdf')
    tables = [
      scripts_test.shown(random_labels.EXPERIMENT, results)[0]
      for results in (self.results, loaded)
    ]
    self.assertEqual(*tables)

  def test_never_fitted(self):
    """Too few steps: no number for it, said in the table, and no claim holds.

    That random labels predict nothing is true with or without training.
    """
    early = self.results.isel(step=slice(0, 2))
    with mock.patch.object(training, 'over', return_value=early):
      results = random_labels.run(TINY)
    random = results.sel(corruption=1)
    for name in ('steps_to_fit', 'distance_at_fit', 'pattern_at_fit'):
      self.assertTrue(np.isnan(random[name].values).all())
    row = random_labels.EXPERIMENT.table(results).splitlines()[2]
    self.assertEqual(row.count('4 of 4 without'), 3)
    for claim in random_labels.EXPERIMENT.claims(results):
      if 'fitted' in claim.quantity or 'training' in claim.quantity:
        found = claims.judge(claim._replace(setup={}), results)
        self.assertIn(found.verdict, ('undecided', 'fails'))
    random_labels.EXPERIMENT.figures(results)

  @parameterized.parameters(
    ((0.0, 1.5),),
    ((-0.1,),),
    ((float('nan'),),),
  )
  def test_bad_setting(self, corruption):
    with self.assertRaisesRegex(ValueError, 'expected 0 to 1'):
      random_labels.run(dataclasses.replace(TINY, corruption=corruption))
