"""Tests of experiments.separability: Figure 3 and who can classify it."""

import contextlib
import dataclasses
import io
import pathlib
import tempfile
from unittest import mock

import jax
import numpy as np
from absl.testing import absltest, parameterized
from sklearn import linear_model

from experiments import command, separability
from ossgd import claims, mixtures, sweeps

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
  return [
    claims.judge(claim, results).verdict
    for claim in separability.EXPERIMENT.claims(results)
  ]


class SeparabilityTest(parameterized.TestCase):
  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    fit = linear_model.LogisticRegression.fit
    cls.fitted, cls.fractions = [], []

    def spy(self, x, y):
      cls.fitted.append((self, x, y))
      return fit(self, x, y)

    with mock.patch.object(linear_model.LogisticRegression, 'fit', spy):
      cls.results = separability.run(
        TINY, lambda fraction, label: cls.fractions.append(fraction)
      )

  def test_both_labellings(self):
    """Appendix C: (A1) with l = 2, not with l = 1, by the discs' geometry.

    A sample shows at most the support's diameters, 1/10 of a disc and
    2 sqrt 2 + 1/10 of a class, and at least its delta of 19/10.
    """
    ds = self.results
    for parts, diameter in ((2, 0.1), (1, 8**0.5 + 0.1)):
      delta = ds.delta.sel(labelling=parts).values
      shown = ds.ratio.sel(labelling=parts).values * delta
      self.assertBetween(delta.min(), 1.9, delta.max())
      self.assertLess(delta.max(), 1.92)
      self.assertBetween(shown.max(), 0.95 * diameter, diameter + 1e-6)
      self.assertGreater(shown.min(), 0.9 * diameter)
    self.assertTrue(ds.separable.sel(labelling=2).values.all())
    self.assertFalse(ds.separable.sel(labelling=1).values.any())

  def test_network_learns_what_no_line_separates(self):
    """A line has at most three of the four discs on the right sides."""
    linear = self.results.linear_accuracy.values
    self.assertLess(linear.max(), 0.85)  # 3/4 and the sampling of the discs
    self.assertGreater(linear.min(), 0.2)
    np.testing.assert_array_equal(self.results.test_accuracy.isel(step=-1), 1)
    self.assertLess(self.results.test_accuracy.isel(step=0).max(), 1)

  def test_both_classifiers_see_the_same_examples(self):
    """Lifted to the unit sphere of R^3, drawn with the seed's own key.

    And the linear one is scored on the test examples: class 1 where it is
    positive.
    """
    inputs = sweeps.sweep(
      mixtures.xor(lift=True),
      widths=(8,),
      num_seeds=2,
      seed=3,
      num_steps=1,
      num_train=300,
      num_test=300,
      extra=lambda params, start, split: {
        'x': split.train.x,
        'y': split.train.y,
        'x_test': split.test.x,
        'y_test': split.test.y,
      },
    ).isel(width=0)
    for seed, (linear, x, y) in zip((3, 4), self.fitted, strict=True):
      here = inputs.sel(seed=seed)
      np.testing.assert_allclose(x, here.x, atol=1e-6)
      np.testing.assert_array_equal(y, here.y)
      right = (here.x_test.values @ linear.coef_[0] > 0) == here.y_test
      measured = self.results.linear_accuracy.sel(seed=seed)
      self.assertAlmostEqual(measured.item(), right.mean().item())
    self.assertFalse(np.allclose(self.fitted[0][1], self.fitted[1][1]))

  def test_an_intercept_more_would_use_the_curvature_of_the_sphere(self):
    """Why there is none: four points in general position are separable.

    In the plane a line cannot do it, intercept and all.
    """
    sizes = {'num_train': 300, 'num_test': 1}
    affine = linear_model.LogisticRegression(C=1e4)
    for lift, low, high in ((True, 1, 1), (False, 0.2, 0.85)):
      split = mixtures.sample(
        jax.random.key(0), mixtures.xor(lift=lift), **sizes
      )
      x, y = map(np.asarray, split.train)
      self.assertBetween(affine.fit(x, y).score(x, y), low, high)

  def test_verdicts_follow_the_measurements(self):
    """They hold here; each one fails when its quantity says so.

    Two seeds are too few for the mean of the linear classifier's.
    """
    ds = self.results
    geometry, network = verdicts(ds)[:2], verdicts(ds)[-1]
    self.assertEqual((geometry, network), (['holds'] * 2, 'holds'))
    wrong = ds.assign(
      ratio=ds.ratio[:, ::-1].assign_coords(labelling=ds.labelling),
      linear_accuracy=1 + 0 * ds.linear_accuracy,
      test_accuracy=0.5 + 0 * ds.test_accuracy,
    )
    self.assertEqual(verdicts(wrong), ['fails'] * 4)

  def test_table(self):
    """Both labellings and both classifiers have a row."""
    table = separability.EXPERIMENT.table(self.results)
    rows = [line.split('|')[1:-1] for line in table.splitlines() if line]
    rows = [[cell.strip() for cell in row] for row in rows]
    self.assertEqual((rows[2][0], rows[2][-1]), ('2', '2 of 2'))
    self.assertEqual((rows[3][0], rows[3][-1]), ('1', '0 of 2'))
    self.assertIn(['network', '1 ± 0'], rows)

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

  def test_progress(self):
    self.assertEqual(self.fractions, sorted(self.fractions))
    self.assertAlmostEqual(self.fractions[-1], 1)

  def test_several_widths(self):
    with self.assertRaisesRegex(ValueError, 'expected one number'):
      separability.run(dataclasses.replace(TINY, widths=(8, 16)))

  def test_from_flags_to_folder(self):
    """What is saved is enough for the table and the figure."""
    root = self.enter_context(tempfile.TemporaryDirectory())
    out = pathlib.Path(root, 'out')
    experiment = separability.EXPERIMENT._replace(
      run=lambda config, progress: self.results
    )
    texts = []
    for _ in range(2):  # the second is shown from the folder
      with (
        contextlib.redirect_stdout(io.StringIO()) as text,
        contextlib.redirect_stderr(io.StringIO()),
        contextlib.suppress(SystemExit),
      ):
        command.main(experiment, ['program', f'--out={out}'])
      texts.append(text.getvalue())
    self.assertIn(separability.EXPERIMENT.table(self.results), texts[0])
    self.assertEqual(*texts)
    self.assertStartsWith((out / 'figure3.png').read_bytes(), b'\x89PNG')


if __name__ == '__main__':
  absltest.main()
