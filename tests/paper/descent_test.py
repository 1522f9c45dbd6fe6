"""Descent in the span of its inputs against a loop over the weights."""

import jax
import jax.numpy as jnp
import numpy as np
from absl.testing import parameterized

from ossgd.paper import descent, theory
from ossgd.paper.types import Dataset, Params
from tests import oracles


def setting(seed, *, n=6, k=3, m=11, d=5):
  w, a, x, y = oracles.problem(seed, k=k, m=m, d=d, n=n)
  return Params(jnp.asarray(w), jnp.asarray(a)), Dataset(
    jnp.asarray(x), jnp.asarray(y)
  )


class DescentTest(parameterized.TestCase):
  def test_against_loop(self):
    """The weights' own descent, float64, with weights that change by step."""
    params, data = setting(0)
    rng = np.random.default_rng(0)
    weights = rng.dirichlet(np.ones(6), size=7).astype(np.float32)
    weights[:, 2] = 0  # never trained on
    seen = descent.descend(
      descent.problem(params, data),
      jnp.asarray(weights),
      0.5,
      lambda view: view,
    )
    w = np.asarray(params.w, np.float64)
    x = np.asarray(data.x, np.float64)
    w0 = w.copy()
    for t in range(8):
      np.testing.assert_allclose(seen.h[t], x @ w.T, atol=2e-6)
      moved = np.asarray(seen.coefficients[t]).T @ x
      np.testing.assert_allclose(moved, w - w0, atol=2e-6)
      p = weights[min(t, 6)]
      slope = oracles.gradient(w, params.a, x, np.asarray(data.y), p)
      np.testing.assert_allclose(
        np.asarray(seen.gradient[t]).T @ x, slope, atol=2e-6
      )
      f = oracles.logits(w, np.asarray(params.a), x)
      losses = [
        -np.log(oracles.softmax(row)[label])
        for row, label in zip(f, np.asarray(data.y), strict=True)
      ]
      np.testing.assert_allclose(seen.loss[t], losses, rtol=1e-5, atol=1e-6)
      w = w - 0.5 * slope
    np.testing.assert_array_equal(seen.step, np.arange(8))

  def test_small_steps_are_not_lost(self):
    """A step far below float32's resolution of w(0) moves as it should."""
    params, data = setting(1)
    problem = descent.problem(params, data)
    weights = jnp.full((3, 6), 1 / 6)

    def drift(view):
      return theory.span_norms(view.coefficients, problem.gram)

    tiny = descent.descend(problem, weights, 1e-12, drift)
    small = descent.descend(problem, weights, 1e-6, drift)
    np.testing.assert_allclose(1e6 * tiny[-1], small[-1], rtol=1e-3)
    self.assertGreater(tiny[-1].max(), 0)

  def test_batches(self):
    """Each training example once, B a step; the rest has no weight."""
    weights = descent.batch_weights(jax.random.key(0), 15, 4, 3)
    self.assertEqual(weights.shape, (3, 15))
    np.testing.assert_allclose(weights.sum(1), 1)
    np.testing.assert_allclose(weights[:, :12].sum(0), 0.25)
    np.testing.assert_array_equal(weights[:, 12:], 0)
    other = descent.batch_weights(jax.random.key(1), 15, 4, 3)
    self.assertFalse((weights == other).all())
    with self.assertRaisesRegex(ValueError, 'at most 3 steps'):
      descent.batch_weights(jax.random.key(0), 15, 4, 4)
