"""Tests of experiments.separability: Figure 3 and who can classify it."""

import dataclasses
import pathlib
import tempfile
from unittest import mock

import jax.numpy as jnp
import numpy as np
import xarray as xr
from absl.testing import parameterized
from sklearn import linear_model

from experiments import separability
from experiments.common import command
from ossgd.data import mixtures
from ossgd.engines import measuring
from ossgd.running import sweeps
from tests.experiments import command_test, scripts_test, section7_test

TINY = separability.Config(
  widths=(64,),
  num_seeds=2,
  seed=3,
  num_steps=60,
  num_train=300,
  num_test=300,
  eval_every=30,
)


def verdicts(results) -> list[str]:
  found = scripts_test.verdicts(separability.EXPERIMENT, results)
  return list(found.values())


class SeparabilityTest(section7_test.ScriptCase):
  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    fit = linear_model.LogisticRegression.fit
    cls.fitted, cls.trained = [], []
    sweep = sweeps.sweep

    def spy(self, x, y):
      cls.fitted.append((self, x, y))
      return fit(self, x, y)

    def watched(spec, **settings):
      results = sweep(
        spec,
        **settings,
        extra=lambda params, start, split: {
          'seen_x': split.train.x,
          'seen_y': split.train.y,
        },
      )
      cls.trained += [results.isel(width=0, seed=s) for s in (0, 1)]
      return results.drop_vars(['seen_x', 'seen_y'])

    with (
      mock.patch.object(linear_model.LogisticRegression, 'fit', spy),
      mock.patch.object(sweeps, 'sweep', watched),
    ):
      cls.run_once(separability, TINY)

  @parameterized.parameters(
    ('plane', 1.9, (0.1, 8**0.5 + 0.1), True, False),
    ('lifted', 0.678, (0.1,), False, True),
    ('centred', 1.363, (0.1 / 2**0.5,), True, True),
  )
  def test_views(self, view, delta, diameters, separable, unit_norm):
    """Appendix C: (A1) with l = 2, not with l = 1, by the discs' geometry.

    A sample shows at most the support's diameters, in the plane 1/10 of a disc
    and 2 sqrt 2 + 1/10 of a class, and at least its delta, there 19/10.
    Centred, the discs are arcs of 2 arcsin(0.05 / sqrt 2) around the corners
    of a square, so delta = 2 sin(45 deg - arcsin(0.05 / sqrt 2)) = 1.363.
    """
    ds = self.results.sel(view=view)
    for parts, diameter in zip((2, 1), diameters, strict=False):
      one = ds.sel(labelling=parts)
      np.testing.assert_allclose(one.delta, delta, rtol=0.02)
      np.testing.assert_allclose(one.ratio * one.delta, diameter, rtol=0.1)
      if view == 'plane':
        self.assertBetween(one.delta.values.min(), 1.9, 1.92)
        self.assertBetween(one.delta.values.max(), 1.9, 1.92)
        shown = (one.ratio * one.delta).values
        self.assertBetween(shown.max(), 0.95 * diameter, diameter + 1e-6)
    self.assertEqual(np.unique(ds.separable.sel(labelling=2)), separable)
    self.assertFalse(ds.separable.sel(labelling=1).values.any())
    self.assertEqual(np.unique(ds.unit_norm), unit_norm)

  def test_tasks_of_a_job_array(self):
    """They are pooled: what is drawn is the same whichever seeds were run."""
    other = dataclasses.replace(TINY, num_seeds=1, seed=9, num_steps=30)
    self.assertNotEqual(other.seed, TINY.seed)
    drawn = separability.run(other)[['x', 'y', 'component']]
    xr.testing.assert_identical(
      drawn.drop_attrs(), self.results[['x', 'y', 'component']].drop_attrs()
    )

  def test_network_learns_what_no_line_separates(self):
    """A line has at most three of the four discs on the right sides.

    On the lifted examples a classifier without intercept is such a line; with
    one it separates four points in general position, as it must.
    """
    linear = self.results.linear_train_accuracy
    for view, intercepts in (('plane', 2), ('lifted', 1), ('centred', 2)):
      values = linear.sel(view=view).isel(intercept=slice(intercepts))
      # 3/4, and the unequal sizes of the discs in a sample.
      self.assertBetween(values.values.min(), 0.2, values.values.max())
      self.assertLess(values.max(), 0.85, view)
    np.testing.assert_array_equal(linear.sel(view='lifted', intercept=1), 1)
    final = self.results.test_accuracy.isel(step=-1)
    np.testing.assert_array_equal(final.sel(view=['lifted', 'centred']), 1)
    self.assertLess(self.results.test_accuracy.isel(step=0).max(), 1)

  def test_no_network_without_biases_learns_the_plane(self):
    """f(c x) = c f(x): around the origin half of each class's rays are lost.

    The other three discs can be right, so 3/4 and a share of the fourth.
    """
    plane = self.results.test_accuracy.isel(step=-1).sel(view='plane')
    self.assertBetween(plane.values.min(), 0.7, plane.values.max())
    self.assertLess(plane.values.max(), 0.95)

  def test_both_classifiers_see_the_same_examples(self):
    """The seed's own, and scored on its test examples, 1 where positive."""
    lifts = {
      'plane': lambda x: x,
      'lifted': lambda x: np.append(x, np.ones((len(x), 1)), axis=1),
      'centred': lambda x: x - 1,
    }
    fitted, trained = iter(self.fitted), iter(self.trained)
    for view, lift in lifts.items():
      for seed in (3, 4):
        split = mixtures.sample(
          measuring.seed_keys(jnp.asarray(seed)).data,
          mixtures.xor(),
          num_train=300,
          num_test=300,
        )
        x, x_test = (lift(np.asarray(d.x)) for d in (split.train, split.test))
        if view != 'plane':
          x /= np.linalg.norm(x, axis=1, keepdims=True)
          x_test /= np.linalg.norm(x_test, axis=1, keepdims=True)
        network = next(trained)
        np.testing.assert_allclose(network.seen_x, x, atol=1e-6)
        np.testing.assert_array_equal(network.seen_y, split.train.y)
        for intercept in (0, 1):
          linear, seen, y = next(fitted)
          np.testing.assert_allclose(seen, x, atol=1e-6)
          np.testing.assert_array_equal(y, split.train.y)
          positive = x_test @ linear.coef_[0] + linear.intercept_ > 0
          self.assertEqual(linear.intercept_[0] != 0, bool(intercept))
          accuracy = self.results.linear_accuracy.sel(
            view=view, seed=seed, intercept=intercept
          )
          right = np.mean(positive == np.asarray(split.test.y))
          self.assertAlmostEqual(accuracy.item(), right)
    self.assertLen(self.fitted, 12)

  def test_verdicts_follow_the_measurements(self):
    """They hold here; each one fails when its quantity says so."""
    ds = self.results
    # Four are of every sample, the last is of proportions.
    self.assertEqual(verdicts(ds), [*['holds in all'] * 4, 'holds'])
    wrong = ds.assign(
      ratio=ds.ratio.isel(labelling=[1, 0]).assign_coords(
        labelling=ds.labelling
      ),
      linear_train_accuracy=1 + 0 * ds.linear_train_accuracy,
      test_accuracy=0.5 + 0 * ds.test_accuracy,
    )
    self.assertEqual(set(verdicts(wrong)), {'fails'})
    unscaled = ds.assign(unit_norm=~ds.unit_norm)
    self.assertIn('undecided', verdicts(unscaled))

  def test_table(self):
    """Every view has its assumptions, under both labellings, and accuracies."""
    table = separability.EXPERIMENT.table(self.results)
    rows = [line.split('|')[1:-1] for line in table.splitlines()]
    rows = [[cell.strip() for cell in row] for row in rows]
    found = {tuple(row[:2]): row[-2:] for row in rows if len(row) == 7}
    self.assertEqual(found['plane', '2'], ['2 of 2', '0 of 2'])
    self.assertEqual(found['plane', '1'], ['0 of 2', '0 of 2'])
    self.assertEqual(found['lifted', '2'], ['0 of 2', '2 of 2'])
    self.assertEqual(found['centred', '2'], ['2 of 2', '2 of 2'])
    networks = {row[0]: row[3] for row in rows if len(row) == 4}
    self.assertEqual(networks['lifted'], '1 ± 0')
    self.assertEqual(networks['centred'], '1 ± 0')
    self.assertNotEqual(networks['plane'], '1 ± 0')

  def test_figure(self):
    """Two panels of the same points: four groups, then two, as in Figure 3."""
    figure = separability.EXPERIMENT.figures(self.results)['figure3']
    left, right = figure.axes
    self.assertLen(left.collections, 4)
    self.assertLen(right.collections, 2)
    centers = np.array([[0, 0], [2, 2], [0, 2], [2, 0]])
    for points, center in zip(left.collections, centers, strict=True):
      gaps = np.linalg.norm(points.get_offsets() - center, axis=1)
      self.assertNotEmpty(gaps)
      self.assertLess(gaps.max(), 0.05 + 1e-6)
    for i, points in enumerate(right.collections):
      drawn = [left.collections[j].get_offsets() for j in (2 * i, 2 * i + 1)]
      self.assertEqual(
        set(map(tuple, points.get_offsets())),
        set(map(tuple, np.concatenate(drawn))),
      )
    for ax in (left, right):
      self.assertEqual(ax.get_aspect(), 1)
      self.assertTrue(ax.get_xlabel() and ax.get_ylabel() and ax.get_legend())

  @parameterized.parameters(dict(widths=(8, 16)), dict(normalize=False))
  def test_bad_setting(self, **setting):
    """No setting is ignored in silence."""
    with self.assertRaisesRegex(ValueError, 'expected one number, and true'):
      separability.run(dataclasses.replace(TINY, **setting))

  def test_from_flags_to_folder(self):
    """What is saved is enough for the table and the figure."""
    root = self.enter_context(tempfile.TemporaryDirectory())
    out = pathlib.Path(root, 'out')
    experiment = separability.EXPERIMENT._replace(
      run=lambda config, progress: self.results
    )
    # The second is shown from the folder.
    (_, text, _), (_, again, _) = (
      command_test.ended(command.main, experiment, ['program', f'--out={out}'])
      for _ in range(2)
    )
    self.assertIn(separability.EXPERIMENT.table(self.results), text)
    self.assertEqual(text, again)
    self.assertStartsWith((out / 'figure3.png').read_bytes(), b'\x89PNG')
