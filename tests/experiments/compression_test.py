"""Tests of experiments.compression: what the update carries, and how."""

import dataclasses
from unittest import mock

import numpy as np
from absl.testing import parameterized

from experiments import compression
from ossgd.running import blocks
from tests.experiments import scripts_test

TINY = compression.Config(
  widths=(128, 512),
  num_seeds=3,
  num_steps=100,
  dim=60,
  num_classes=4,
  num_train=200,
  num_test=200,
  eval_every=50,
  ranks=(8, 0, 2, 4, 7, 9),  # the order given must not matter
)
LOW_RANK = (
  'the update is approximately low rank',
  'k l directions carry the output',
)
SIGNAL = (
  'the signal alone does',
  "the signal adds up in its class's output",
)


class CompressionTest(parameterized.TestCase):
  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    cls.results = compression.run(TINY)

  def test_cliff(self):
    """k l = 8 directions are the update, each of them part of the output.

    The accuracy needs fewer, but none of them is not enough.
    """
    ds = self.results
    np.testing.assert_array_equal(ds.cut, sorted(TINY.ranks))
    error = ds.cut_error
    np.testing.assert_allclose(error.sel(cut=0), 1, rtol=1e-5)
    self.assertLess(error.sel(cut=8).max(), 0.01)
    self.assertGreater((error.sel(cut=7) / error.sel(cut=8)).min(), 10)
    self.assertGreater(error.sel(cut=4).min(), 0.1)
    last = ds.test_accuracy.isel(step=-1)
    np.testing.assert_allclose(ds.cut_loss, last - ds.cut_accuracy)
    np.testing.assert_array_equal(ds.cut_loss.sel(cut=8), 0)
    np.testing.assert_array_equal(
      ds.cut_accuracy.sel(cut=0), ds.test_accuracy.isel(step=0)
    )
    self.assertGreater(ds.rank_within_1.min(), 1)
    self.assertLessEqual(ds.rank_within_1.max(), 8)

  def test_spectra(self):
    """Shares of the squared norm, from the singular values of each matrix."""
    ds = self.results
    for name in ('update', 'weights', 'initial'):
      squares = ds[f'singular_values_{name}'].values.astype(np.float64) ** 2
      total = squares.sum(axis=-1)
      energy, stable_rank = squares[..., :8].sum(-1), total / squares[..., 0]
      np.testing.assert_allclose(ds[f'energy_{name}'], energy / total, 1e-5)
      np.testing.assert_allclose(ds[f'stable_rank_{name}'], stable_rank, 1e-5)
    self.assertLess(ds.stable_rank_update.max(), 8)
    self.assertGreater(ds.stable_rank_weights.min(), 8)

  def test_cancellation(self):
    """The random part cancels more in a wider network, the signal does not."""
    initial = self.results.initial_addition.mean('seed').values
    update = self.results.update_addition_own.mean('seed').values
    self.assertBetween(initial[0] / initial[1], 1.5, 2.7)  # sqrt(512 / 128) = 2
    self.assertBetween(update[0] / update[1], 0.9, 1.1)
    self.assertGreater(update.min(), 0.8)

  def test_claims(self):
    """Section 6, on data as structured as it wants; a claim can fail.

    On unstructured data the update is not low rank, nor does the random part
    do what the signal does.
    """
    config = dataclasses.replace(TINY, noise_scale=50.0, widths=(128,))
    unstructured, names = compression.run(config), {}
    for quantity in ('part_accuracy', 'part_size', 'addition', 'addition_own'):
      pair = f'initial_{quantity}', f'update_{quantity}'
      names |= dict(zip(pair, reversed(pair), strict=True))
    exchanged = self.results.rename_vars(names)
    for results, claims, verdict in (
      (self.results, (*LOW_RANK, *SIGNAL, 'far fewer do not'), 'holds'),
      (unstructured, LOW_RANK, 'fails'),
      (exchanged, SIGNAL, 'fails'),
    ):
      found = scripts_test.verdicts(compression.EXPERIMENT, results)
      for words in claims:
        self.assertEqual(found[words], verdict, words)

  def test_claims_of_ranks_that_were_cut(self):
    """Of k l = 8 directions, half as many and a tenth."""
    for cuts, words in (
      ([0, 2, 4], ['far fewer', 'half as many']),
      ([7, 8], ['k l directions predict', 'k l directions carry']),
      ([2, 9], []),
    ):
      some = self.results.sel(cut=cuts)
      said = ' '.join(scripts_test.verdicts(compression.EXPERIMENT, some))
      every = 'k l directions predict', 'k l directions carry', 'far fewer'
      found = [w for w in (*every, 'half as many') if w in said]
      self.assertEqual(found, words)

  def test_shown(self):
    """Every width and rank has its place in the table and in the figures."""
    table, figures = scripts_test.shown(compression.EXPERIMENT, self.results)
    for text in ('m = 512', 'accuracy, m = 128', 'error, m = 512', 'in f_y'):
      self.assertIn(text, table)
    self.assertRegex(table, r'\n\| 9 +\| 1 ± 0 ')
    self.assertEqual(set(figures), {'compression', 'parts'})
    for ax in figures['compression'].axes:
      self.assertLen(ax.containers, 2)  # curves with error bars, one a width
      for curve, _, _ in ax.containers:
        np.testing.assert_array_equal(curve.get_xdata(), sorted(TINY.ranks))

  @parameterized.parameters(((),), ((0, -1),), ((2, 2),))
  def test_bad_ranks(self, ranks):
    """Said before any training, which would be lost."""
    with (
      mock.patch.object(blocks, 'run', side_effect=AssertionError),
      self.assertRaisesRegex(ValueError, 'ranks are .* expected'),
    ):
      compression.run(dataclasses.replace(TINY, ranks=ranks))
