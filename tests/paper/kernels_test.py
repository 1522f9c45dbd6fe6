"""The tangent kernel against Jacobians, loops and integrals; curvature too."""

import jax
import jax.numpy as jnp
import numpy as np
from absl.testing import parameterized

from ossgd.paper import gradients, kernels, network
from ossgd.paper.types import Params
from tests import oracles

# k, m, d, n, n': asymmetric, so that a transposed axis shows.
SHAPES = ((2, 7, 5, 3, 4), (3, 31, 4, 6, 2), (10, 12, 33, 1, 5))


def kernel_of(params, x, other_x):
  patterns = (network.pattern(params.w, points) for points in (x, other_x))
  p, other_p = patterns
  return kernels.kernel(params.a, p, x, other_p, other_x)


@jax.jit
def jacobian(params, x):
  """The network's own derivative at each example."""
  return jax.jacobian(lambda w: network.logits(Params(w, params.a), x))(
    params.w
  )


@jax.jit
def hessian(params, x, y):
  """Of the loss."""

  def loss(w):
    return network.loss(network.logits(Params(w, params.a), x), y)

  return jax.hessian(loss)(params.w)


def loop(w, a, x, other_x):
  """The double sum over units and coordinates, one term at a time."""
  k, m = a.shape
  theta = np.zeros((len(x) * k, len(other_x) * k))
  for s, u in enumerate(x):
    for t, v in enumerate(other_x):
      for i in range(k):
        for j in range(k):
          for r in range(m):
            if w[r] @ u >= 0 and w[r] @ v >= 0:
              theta[s * k + i, t * k + j] += a[i, r] * a[j, r] * (u @ v)
  return theta


class Float64Test(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    self.enter_context(jax.enable_x64(True))

  def problem(self, seed, k, m, d, n, scale=1.0):
    w, a, x, y = oracles.problem(seed, k=k, m=m, d=d, n=n)
    w, a, x = (jnp.asarray(v, jnp.float64) for v in (w, a, x))
    return Params(scale * w, a), x, jnp.asarray(y)


class KernelTest(Float64Test):
  @parameterized.product(shape=SHAPES, use_jit=(False, True))
  def test_against_jacobian(self, shape, use_jit):
    """J J'^T of the network's own derivative, whatever the inputs' norms."""
    k, m, d, n, other_n = shape
    params, x, _ = self.problem(0, k, m, d, n + other_n)
    x *= jnp.linspace(0.3, 4, len(x))[:, None]
    x, other_x = x[:n], x[n:]

    function = jax.jit(kernel_of) if use_jit else kernel_of
    value = function(params, x, other_x)
    first, second = (
      np.asarray(jacobian(params, points)).reshape(len(points) * k, -1)
      for points in (x, other_x)
    )
    expected = first @ second.T
    self.assertEqual(value.dtype, jnp.float64)
    self.assertLess(oracles.relative_error(value, expected), 1e-10)

  @parameterized.parameters(*SHAPES)
  def test_against_loop(self, k, m, d, n, other_n):
    """Also in float32."""
    w, a, x, _ = oracles.problem(1, k=k, m=m, d=d, n=n + other_n)
    expected = loop(*(np.float64(v) for v in (w, a, x[:n], x[n:])))
    value = kernel_of(Params(jnp.asarray(w), jnp.asarray(a)), x[:n], x[n:])
    self.assertEqual(value.dtype, jnp.float32)
    self.assertLess(oracles.relative_error(value, expected), 1e-5)

  def test_a_unit_at_zero_is_active(self):
    """As in eq. (1), and unlike a slope of jax.nn.relu."""
    params = Params(jnp.array([[1.0, -1.0]]), jnp.array([[3.0], [1.0]]))
    x = jnp.array([[1.0, 1.0]])
    np.testing.assert_array_equal(
      kernel_of(params, x, x), [[18.0, 6.0], [6.0, 2.0]]
    )


class LimitTest(Float64Test):
  @parameterized.product(
    angle=(0.0, 1e-6, np.pi / 3, np.pi / 2, np.pi), single=(False, True)
  )
  def test_known_angles(self, angle, single):
    """<x, x'> (pi - angle) / 2 pi: half at 0, a quarter of 0, none at pi."""
    dtype = jnp.float32 if single else jnp.float64
    x = jnp.array([[0.6, 0.8, 0.0]], dtype)
    turned = [
      0.6 * np.cos(angle) - 0.8 * np.sin(angle),
      0.8 * np.cos(angle) + 0.6 * np.sin(angle),
      0.0,
    ]
    other_x = jnp.array([turned], dtype)
    share = (np.pi - angle) / (2 * np.pi)
    expected = np.cos(angle) * share * np.eye(3)
    # Of the angle, not of its cosine: the root of these is lost otherwise.
    tolerance = 2e-7 if single else 1e-15
    value = kernels.limit_kernel(x, other_x, num_classes=3)
    self.assertEqual(value.dtype, dtype)
    np.testing.assert_allclose(value, expected, atol=tolerance)
    scaled = kernels.limit_kernel(50 * x, 0.02 * other_x, num_classes=3)
    np.testing.assert_allclose(scaled, expected, atol=2 * tolerance)
    zero = kernels.limit_kernel(0 * x, other_x, num_classes=3)
    np.testing.assert_array_equal(zero, np.zeros((3, 3)))

  @parameterized.parameters(1.0, 30.0)
  def test_against_sampling(self, scale):
    """The mean of Theta / m over networks, to five standard errors."""
    k, n, m = 2, 5, 40_000
    x = np.random.default_rng(0).normal(size=(n, 4))
    limit = kernels.limit_kernel(jnp.asarray(x), x, num_classes=k)
    draws = []
    for key in jax.random.split(jax.random.key(1), 30):
      params = network.init_params(
        key, width=m, dim=4, num_classes=k, scale=scale
      )
      draws.append(kernel_of(params, x.astype(np.float32), np.float32(x)) / m)
    error = np.std(draws, axis=0, ddof=1) / len(draws) ** 0.5
    gap = np.abs(np.mean(draws, axis=0) - limit)
    self.assertLess((gap / error).max(), 5)
    self.assertLess(error.max(), 0.01 * np.abs(limit).max())

  def test_against_integration(self):
    """The share of directions on the positive side of both inputs."""
    x = np.random.default_rng(2).normal(size=(7, 2))
    phi = (np.arange(200_000) + 0.5) * (2 * np.pi / 200_000)
    active = np.stack([np.cos(phi), np.sin(phi)], axis=1) @ x.T >= 0
    both = np.float64(active).T @ active / len(phi)
    limit = kernels.limit_kernel(jnp.asarray(x), x[:4], num_classes=1)
    np.testing.assert_allclose(limit, (x @ x.T * both)[:, :4], atol=1e-4)


class CurvatureTest(Float64Test):
  @parameterized.product(shape=SHAPES, scale=(1.0, 30.0))
  def test_against_hessian(self, shape, scale):
    """The top of the dense Hessian, and of H_o^1/2 Theta H_o^1/2 / n.

    With large weights the softmax is nearly sure, and the curvature tiny.
    """
    k, m, d, n, _ = shape
    params, x, y = self.problem(5, k, m, d, n, scale)
    value = kernels.top_curvature(params, x, tolerance=1e-12)
    dense = np.linalg.eigvalsh(
      np.asarray(hessian(params, x, y)).reshape(m * d, m * d)
    )
    self.assertGreater(dense[0], -1e-12)  # no kink: Gauss-Newton
    self.assertAlmostEqual(value / dense[-1], 1, delta=1e-8)
    # The nonzero eigenvalues of J^T H J are those of H^1/2 J J^T H^1/2.
    root = np.zeros((n * k, n * k))
    for s, f in enumerate(np.asarray(network.logits(params, x))):
      o = oracles.softmax(f)
      values, vectors = np.linalg.eigh(np.diag(o) - np.outer(o, o))
      block = slice(s * k, s * k + k)
      scaled = vectors * np.sqrt(values.clip(0))
      root[block, block] = scaled @ vectors.T
    dual = root @ np.asarray(kernel_of(params, x, x)) @ root / n
    self.assertAlmostEqual(value / np.linalg.eigvalsh(dual)[-1], 1, delta=1e-8)

  def test_stable_step(self):
    """Descent settles just below 2 / lambda_max and not just above it."""
    params, x, _ = self.problem(6, 3, 40, 6, 4)
    # Labels are as sure as outputs at a minimum of the loss on soft targets.
    targets = jax.nn.softmax(network.logits(params, x))
    p = network.pattern(params.w, x)
    curvature = kernels.top_curvature(params, x, tolerance=1e-10)
    stable = kernels.largest_stable_step(curvature)
    noise = np.random.default_rng(7).normal(size=params.w.shape)

    @jax.jit
    def moved(w, step_size):
      f = network.logits(Params(w, params.a), x)
      slopes = jax.nn.softmax(f) - targets
      step = gradients.pattern_gradient(params.a, p, x, slopes)
      return w - step_size * step

    for factor, settles in ((0.98, True), (1.02, False)):
      w = params.w + 1e-9 * noise
      for _ in range(400):
        w = moved(w, factor * stable)
      f = network.logits(Params(w, params.a), x)
      error = jnp.abs(jax.nn.softmax(f) - targets).max()
      self.assertEqual(bool(error < 1e-10), settles, factor)

  def test_float32(self):
    """To the tolerance that is asked for, and the same each time."""
    w, a, x, _ = oracles.problem(8, k=4, m=50, d=20, n=30)
    exact, exact_x, _ = self.problem(8, 4, 50, 20, 30)
    expected = kernels.top_curvature(exact, exact_x, tolerance=1e-10)
    params = Params(jnp.asarray(w), jnp.asarray(a))
    value = kernels.top_curvature(params, x)
    self.assertAlmostEqual(value / expected, 1, delta=1e-3)
    self.assertEqual(value, kernels.top_curvature(params, x))

  def test_flat_and_broken(self):
    """A loss without slope has curvature 0; NaN stays NaN."""
    params, x, _ = self.problem(9, 3, 8, 5, 4)
    dead = params._replace(w=0 * params.w, a=0 * params.a)
    self.assertEqual(kernels.top_curvature(dead, x), 0)
    self.assertEqual(kernels.largest_stable_step(0.0), np.inf)
    self.assertEqual(kernels.largest_stable_step(4.0), 0.5)
    broken = params._replace(a=params.a.at[0, 0].set(jnp.nan))
    self.assertTrue(np.isnan(kernels.top_curvature(broken, x)))
