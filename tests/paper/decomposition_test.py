"""Tests of decomposition: against weights that NumPy takes apart in float64."""

import jax
import jax.numpy as jnp
import numpy as np
from absl.testing import parameterized

from ossgd.data import mixtures
from ossgd.paper import decomposition, network
from ossgd.paper.types import Params

RANKS = (3, 0, 1, 20)


def trained(width):
  """Networks before and after an update large enough to change patterns."""
  split = mixtures.sample(
    jax.random.key(0), mixtures.gaussian(num_classes=3, dim=20), num_test=90
  )
  initial = network.init_params(
    jax.random.key(1), width=width, dim=20, num_classes=3
  )
  update = jax.random.normal(jax.random.key(2), (width, 20)) / 8
  return Params(initial.w + update, initial.a), initial, split


def float64(*arrays):
  return [np.asarray(array, np.float64) for array in arrays]


def correct(f, y):
  return np.sum(f.argmax(axis=1) == y)


class CutTest(parameterized.TestCase):
  @parameterized.parameters(30, 12)
  def test_against_svd(self, width):
    """Rank q means the best approximation of the update, not of w(T).

    For more and for fewer units than coordinates; ranks in any order.
    """
    params, initial, split = trained(width)
    counts, errors = decomposition.cut(params, initial, split.test, ranks=RANKS)
    w, w0, a, x = float64(params.w, initial.w, initial.a, split.test.x)
    u, s, v = np.linalg.svd(w - w0, full_matrices=False)

    def logits(w):
      return np.maximum(x @ w.T, 0) @ a.T

    change = np.linalg.norm(logits(w) - logits(w0))
    for i, q in enumerate(RANKS):
      f = logits(w0 + (u[:, :q] * s[:q]) @ v[:q])
      self.assertEqual(counts[i], correct(f, split.test.y))
      error = np.linalg.norm(f - logits(w)) / change
      np.testing.assert_allclose(errors[i], error, rtol=1e-4, atol=1e-5)
    # At rank 0 the network is where it began; at full rank nothing is lost.
    np.testing.assert_allclose(errors[1], 1, rtol=1e-6)
    self.assertLess(errors[3], 1e-5)


class TakeApartTest(parameterized.TestCase):
  def test_against_loops(self):
    """Both parts go through the trained pattern, the network through its own.

    And together the parts are the trained network's output.
    """
    params, initial, split = trained(30)
    found = decomposition.take_apart(params, initial, split, ranks=RANKS)
    w, w0, a, x = float64(params.w, initial.w, initial.a, split.test.x)
    y = np.asarray(split.test.y)
    active = x @ w.T >= 0
    whole = 0
    for name, part in (('initial', w0), ('update', w - w0)):
      terms = (x @ part.T * active)[:, None, :] * a  # (n, k, m)
      f = terms.sum(axis=2)
      whole += f
      added = np.abs(f) / np.abs(terms).sum(axis=2)
      for quantity, value in (
        ('part_correct', correct(f, y)),
        ('part_size', np.sqrt(np.mean(f**2))),
        ('addition', np.mean(added)),
        ('addition_own', added[np.arange(len(y)), y].mean()),
      ):
        np.testing.assert_allclose(
          found[f'{name}_{quantity}'], value, rtol=1e-4, err_msg=quantity
        )
    np.testing.assert_allclose(whole, np.maximum(x @ w.T, 0) @ a.T)
    alone = np.maximum(x @ (w - w0).T, 0) @ a.T
    self.assertEqual(found['update_network_correct'], correct(alone, y))
    np.testing.assert_allclose(
      found['singular_values_initial'],
      np.linalg.svd(w0, compute_uv=False),
      rtol=1e-4,
    )
    correct_cut, error = decomposition.cut(
      params, initial, split.test, ranks=RANKS
    )
    np.testing.assert_array_equal(found['cut_correct'], correct_cut)
    np.testing.assert_allclose(found['cut_error'], error, rtol=1e-5)


class AdditionTest(parameterized.TestCase):
  def test_by_hand(self):
    """1 for terms of one sign, 0 if they cancel; units that rest do not count.

    The first example has the terms 1, 2 and 1, -2; the second, with its last
    unit at rest, -3 and -3.
    """
    a = jnp.array([[1.0, 1], [1, -1]])
    h = jnp.array([[1.0, 2], [-3, 5]])
    pattern = jnp.array([[True, True], [True, False]])
    np.testing.assert_allclose(
      decomposition.addition(a, h, pattern), [[1, 1 / 3], [1, 1]], rtol=1e-6
    )
    none = decomposition.addition(a, h, jnp.zeros((2, 2), bool))
    np.testing.assert_array_equal(none, np.zeros((2, 2)))

  def test_independent_terms(self):
    """Terms of random sign cancel: sqrt(pi / m), whatever their scale."""
    n, m = 4000, 500
    key_a, key_h = jax.random.split(jax.random.key(0))
    a = jax.random.normal(key_a, (50, m))
    h = 7 * jax.random.normal(key_h, (n, m))
    added = decomposition.addition(a, h, h >= 0)
    # 50 classes with weights of their own: 0.76 is |N(0, 1)|'s std / mean.
    error = 0.76 / 50**0.5 * np.sqrt(np.pi / m)
    self.assertLess(abs(jnp.mean(added) - np.sqrt(np.pi / m)), 4 * error)
