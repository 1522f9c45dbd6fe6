"""Eq. (1) and the pseudo-gradient against loops, autodiff and each other."""

import jax
import jax.numpy as jnp
import numpy as np
from absl.testing import parameterized

from ossgd.paper import gradients, network
from ossgd.paper.types import Params, matmul
from tests import oracles

# k, m, d, n: asymmetric, so that a transposed axis shows; k = 2 included.
SHAPES = ((2, 7, 5, 3), (3, 31, 4, 10), (10, 12, 33, 5), (5, 64, 17, 1))


def probabilities(n):
  p = np.random.default_rng(n).uniform(0.1, 1, size=n).astype(np.float32)
  return p / p.sum()


class GradientTest(parameterized.TestCase):
  @parameterized.product(
    shape=SHAPES,
    weighted=(False, True),
    use_jit=(False, True),
    pseudo=(False, True),
  )
  def test_against_loop(self, shape, weighted, use_jit, pseudo):
    """The two matmuls are the sum that eq. (1) and (S) write out.

    In the pseudo-gradient only the indicator is the initial one; o is today's
    network's.
    """
    k, m, d, n = shape
    w, a, x, y = oracles.problem(1, k=k, m=m, d=d, n=n)
    w0 = oracles.problem(2, k=k, m=m, d=d, n=n)[0] if pseudo else None
    frozen = [network.pattern(w0, x)] if pseudo else []
    p = probabilities(n) if weighted else None
    function = gradients.pseudo_gradient if pseudo else gradients.gradient
    function = jax.jit(function) if use_jit else function
    value = function(Params(w, a), *frozen, x, y, p)
    expected = oracles.gradient(w, a, x, y, p, w_pattern=w0)
    self.assertLess(oracles.relative_error(value, expected), 1e-5)

  @parameterized.product(
    shape=SHAPES, weighted=(False, True), use_jit=(False, True)
  )
  def test_pseudo_network_against_autodiff(self, shape, weighted, use_jit):
    """g is linear in w: its gradient is jax.grad's, kinks or not."""
    k, m, d, n = shape
    w, a, x, y = oracles.problem(8, k=k, m=m, d=d, n=n)
    p0 = oracles.problem(9, k=k, m=m, d=d, n=n)[0] @ x.T >= 0
    weights = probabilities(n) if weighted else np.full(n, 1 / n, np.float32)

    def loss(w):
      g = jnp.einsum('ir,rd,sd,rs->si', a, w, x, p0.astype(np.float32))
      log_o = jax.nn.log_softmax(g)
      return -jnp.sum(weights * log_o[jnp.arange(n), y])

    function = gradients.pseudo_network_gradient
    function = jax.jit(function) if use_jit else function
    p = weights if weighted else None
    value = function(Params(w, a), jnp.asarray(p0.T), x, y, p)
    expected = jax.grad(loss)(jnp.asarray(w))
    self.assertLess(oracles.relative_error(value, expected), 1e-5)
    # The pseudo-gradient has the softmax of f, which is another one here.
    other = gradients.pseudo_gradient(Params(w, a), jnp.asarray(p0.T), x, y, p)
    self.assertGreater(oracles.relative_error(other, expected), 1e-3)

  @parameterized.parameters(*SHAPES)
  def test_one_example_form(self, k, m, d, n):
    """Eq. (1) as written, vmapped and averaged, is the batched form."""
    w, a, x, y = oracles.problem(3, k=k, m=m, d=d, n=n)
    params = Params(jnp.asarray(w), jnp.asarray(a))
    p0 = network.pattern(oracles.problem(4, k=k, m=m, d=d, n=n)[0], x)
    each = jax.vmap(gradients.example_gradient, (None, 0, 0))(params, x, y)
    batched = gradients.gradient(params, x, y)
    self.assertLess(oracles.relative_error(each.mean(0), batched), 1e-5)
    each = jax.vmap(gradients.example_gradient, (None, 0, 0, 0))(
      params, x, y, p0
    )
    batched = gradients.pseudo_gradient(params, p0, x, y)
    self.assertLess(oracles.relative_error(each.mean(0), batched), 1e-5)

  @parameterized.parameters(*SHAPES)
  def test_against_autodiff(self, k, m, d, n):
    """Away from kinks eq. (1) is the derivative of the cross entropy."""
    w, a, x, y = oracles.problem(5, k=k, m=m, d=d, n=n)
    self.assertGreater(np.abs(x @ w.T).min(), 1e-6)  # no kink here

    def loss(w):
      f = matmul(jax.nn.relu(matmul(x, w.T)), a.T)
      log_o = jax.nn.log_softmax(f)
      return -jnp.mean(jnp.take_along_axis(log_o, y[:, None], axis=1))

    expected = jax.grad(loss)(jnp.asarray(w))
    value = gradients.gradient(Params(w, a), x, y)
    self.assertLess(oracles.relative_error(value, expected), 1e-5)

  def test_a_unit_at_zero_is_active(self):
    """At <w_r, x> = 0, where jax.nn.relu has slope 0, eq. (1) has 1."""
    w = jnp.array([[1.0, -1.0], [-1.0, -1.0]])  # <w_0, x> = 0, <w_1, x> < 0
    a = jnp.array([[2.0, 3.0], [-1.0, 5.0]])
    x, y = jnp.array([[1.0, 1.0]]), jnp.array([1])
    # f = 0, so o = (1/2, 1/2) and the bracket is a_0/2 - a_1/2.
    expected = [[1.5, 1.5], [0.0, 0.0]]
    np.testing.assert_allclose(
      gradients.gradient(Params(w, a), x, y), expected, rtol=1e-6
    )
    np.testing.assert_allclose(
      gradients.example_gradient(Params(w, a), x[0], y[0]), expected, rtol=1e-6
    )

  @parameterized.product(
    shape=SHAPES,
    pseudo=(gradients.pseudo_gradient, gradients.pseudo_network_gradient),
  )
  def test_pseudo_at_todays_pattern(self, shape, pseudo):
    """At the initialisation f and g have one gradient, bit for bit."""
    k, m, d, n = shape
    w, a, x, y = oracles.problem(6, k=k, m=m, d=d, n=n)
    params = Params(jnp.asarray(w), jnp.asarray(a))
    value = pseudo(params, network.pattern(w, x), x, y)
    np.testing.assert_array_equal(value, gradients.gradient(params, x, y))

  def test_float64(self):
    """In 64-bit mode nothing falls back to float32."""
    self.enter_context(jax.enable_x64(True))
    w, a, x, y = oracles.problem(7, k=3, m=9, d=5, n=4)
    w, a, x = (jnp.asarray(v, jnp.float64) for v in (w, a, x))
    value = gradients.gradient(Params(w, a), x, y)
    expected = oracles.gradient(w, a, x, y)
    self.assertLess(oracles.relative_error(value, expected), 1e-13)


class ResidualTest(parameterized.TestCase):
  def test_identities(self):
    """Section 5: v_y = -residual_y in [0, 1], and residuals sum to zero."""
    f = np.random.default_rng(0).normal(size=(6, 4)).astype(np.float32)
    y = np.array([0, 1, 2, 3, 1, 1], np.int32)
    value = np.asarray(gradients.residual(f, y))
    np.testing.assert_allclose(value.sum(1), 0, atol=1e-6)
    for s in range(6):
      expected = oracles.softmax(f[s]) - np.eye(4)[y[s]]
      np.testing.assert_allclose(value[s], expected, rtol=1e-5, atol=1e-6)
