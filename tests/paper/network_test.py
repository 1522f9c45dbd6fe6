"""The network f, the pseudo-network g and the loss."""

import chex
import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
from absl.testing import parameterized

from ossgd.paper import network
from ossgd.paper.types import Params, matmul
from tests import oracles


class InitTest(parameterized.TestCase):
  @parameterized.parameters(0.5, 1.0, 4.0)
  def test_moments(self, scale):
    """(A3): entries of w have std scale / sqrt(m), those of a have std 1."""
    m, d, k = 400, 300, 7
    params = network.init_params(
      jax.random.key(0), width=m, dim=d, num_classes=k, scale=scale
    )
    chex.assert_shape(params.w, (m, d))
    chex.assert_shape(params.a, (k, m))
    for values, std in ((params.w, scale / np.sqrt(m)), (params.a, 1.0)):
      n = values.size
      self.assertLess(abs(np.mean(values)), 4 * std / np.sqrt(n))
      # The standard error of a Gaussian's sample std is std / sqrt(2 n).
      self.assertLess(abs(np.std(values) - std), 4 * std / np.sqrt(2 * n))


class ShapesTest(parameterized.TestCase):
  """The suite checks annotations: else they could say anything."""

  @parameterized.parameters(
    (np.ones((4, 3), np.float32), np.ones((2, 5), np.float32)),
    (np.ones((4, 3), np.float32), np.ones(3, np.float32)),
    (np.ones((4, 3), int), np.ones((2, 3), np.float32)),
  )
  def test_refused(self, w, x):
    with self.assertRaises(jaxtyping.TypeCheckError):
      network.pattern(w, x)


class LogitsTest(parameterized.TestCase):
  @parameterized.product(
    shape=((2, 3, 5, 4), (7, 31, 11, 6)), use_jit=(False, True)
  )
  def test_against_loop(self, shape, use_jit):
    """f is the sum over units of the paper's definition."""
    k, m, d, n = shape
    w, a, x, _ = oracles.problem(0, k=k, m=m, d=d, n=n)
    function = jax.jit(network.logits) if use_jit else network.logits
    f = function(Params(w, a), x)
    self.assertLess(oracles.relative_error(f, oracles.logits(w, a, x)), 1e-5)

  def test_zero_counts_as_active(self):
    """At <w_r, x> = 0 exactly, eq. (1) has the unit active."""
    w = jnp.array([[1.0, -1.0], [-1.0, 0.5], [0.0, 0.0]])
    x = jnp.array([[2.0, 2.0], [1.0, 2.0]])
    expected = [[True, False, True], [False, True, True]]
    np.testing.assert_array_equal(network.pattern(w, x), expected)

  def test_pseudo_network_is_the_linearisation(self):
    """At fixed a, g(w) = f(w0) + df/dw(w0) (w - w0), far from w0 too."""
    w0, a, x, _ = oracles.problem(1, k=3, m=40, d=6, n=9)
    w = w0 + np.random.default_rng(2).normal(size=w0.shape).astype(np.float32)
    p0 = network.pattern(w0, x)
    f0, derivative = jax.linearize(
      lambda w: matmul(jnp.maximum(matmul(x, w.T), 0), a.T), jnp.asarray(w0)
    )
    g = network.pseudo_logits(Params(w, a), p0, x)
    self.assertLess(oracles.relative_error(g, f0 + derivative(w - w0)), 1e-5)
    f = network.logits(Params(w, a), x)
    self.assertGreater(oracles.relative_error(f, g), 0.1)

  def test_pseudo_network_at_its_own_pattern(self):
    """g with today's pattern is f, bit for bit."""
    w, a, x, _ = oracles.problem(3, k=4, m=20, d=5, n=8)
    params = Params(jnp.asarray(w), jnp.asarray(a))
    g = network.pseudo_logits(params, network.pattern(w, x), x)
    np.testing.assert_array_equal(g, network.logits(params, x))


class LossTest(parameterized.TestCase):
  def test_against_loop(self):
    """Mean of -log o_y; with weights, their sum weighted."""
    f = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32) * 3
    y = np.array([0, 2, 1, 1, 0], np.int32)
    losses = [-np.log(oracles.softmax(f[s])[y[s]]) for s in range(5)]
    np.testing.assert_allclose(network.loss(f, y), np.mean(losses), rtol=1e-5)
    weights = np.array([0.5, 0.1, 0.1, 0.2, 0.1], np.float32)
    np.testing.assert_allclose(
      network.loss(f, y, weights), weights @ losses, rtol=1e-5
    )

  @parameterized.parameters((0, 0.0), (1, 2e4))
  def test_large_logits(self, label, expected):
    """No overflow: the loss is the difference of the logits."""
    f = jnp.array([[1e4, -1e4]])
    np.testing.assert_allclose(network.loss(f, jnp.array([label])), expected)


class PrecisionTest(parameterized.TestCase):
  def test_stated_in_the_program(self):
    """No matmul is left to the device; the user's own context is obeyed."""
    w, a, x, _ = oracles.problem(0, k=3, m=8, d=4, n=2)

    def trace():
      return jax.jit(network.logits).lower(Params(w, a), x).as_text()

    self.assertEqual(trace().count('precision = [HIGHEST, HIGHEST]'), 2)
    with jax.default_matmul_precision('default'):
      self.assertNotIn('HIGHEST', trace())
