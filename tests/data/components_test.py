"""Tests of components: the law of each kind, and what it refuses."""

import functools
import math

import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
from absl.testing import parameterized
from scipy import stats

from ossgd.data import geometry, mixtures


@functools.partial(jax.jit, static_argnums=0)
def batched_draw(spec, keys, center):
  return jax.vmap(spec.draw, (0, None))(keys, center)


def draws(spec, center, n, seed=0):
  """n examples around one centre, float64."""
  keys = jax.random.split(jax.random.key(seed), n)
  return np.asarray(batched_draw(spec, keys, jnp.asarray(center)), np.float64)


def bounded(**changes):
  shape = dict(num_classes=3, num_components=1, dim=7)
  return mixtures.bounded(**shape | dict(separation=1.0, ratio=1 / 8) | changes)


class GaussianTest(parameterized.TestCase):
  def assert_moments(self, x, mean, variance):
    """Mean and covariance of the rows, within five standard errors."""
    n, d = x.shape
    np.testing.assert_allclose(
      x.mean(axis=0), mean, rtol=0, atol=5 * math.sqrt(variance / n)
    )
    covariance = (x - mean).T @ (x - mean) / n
    np.testing.assert_allclose(
      covariance,
      variance * np.eye(d),
      rtol=0,
      atol=5 * variance * math.sqrt(2 / n),
    )

  def test_centers(self):
    """The k l means are independent N(0, sigma_0^2 / d I): 9 / 4 here."""
    spec = mixtures.gaussian(
      num_classes=3, num_components=2, dim=4, center_scale=3.0
    )
    keys = jax.random.split(jax.random.key(0), 20_000)
    centers = jax.jit(jax.vmap(spec.centers))(keys)
    self.assertEqual(centers.shape, (20_000, 6, 4))
    self.assert_moments(
      np.asarray(centers, np.float64).reshape(20_000, 24), 0, 9 / 4
    )

  def test_draw(self):
    """An example is N(center, sigma^2 / d I): 0.49 / 3 here."""
    spec = mixtures.gaussian(dim=3, noise_scale=0.7, normalize=False)
    center = np.array([1.0, -2.0, 0.5], np.float32)
    self.assert_moments(draws(spec, center, 20_000), center, 0.49 / 3)

  def test_normalize(self):
    """(A2) is the same example scaled to length 1, not another law."""
    center = np.array([1.0, -2.0, 0.5], np.float32)
    raw = draws(mixtures.gaussian(dim=3, normalize=False), center, 90)
    unit = draws(mixtures.gaussian(dim=3), center, 90)
    scaled = raw / np.linalg.norm(raw, axis=1, keepdims=True)
    np.testing.assert_allclose(unit, scaled, atol=1e-6)
    self.assertGreater(np.abs(raw - unit).max(), 0.1)


class BoundedTest(parameterized.TestCase):
  @parameterized.parameters(2, 5)
  def test_draw_is_uniform(self, dim):
    """A cap's examples project onto the tangent space as a uniform ball.

    In D = d - 1 dimensions (radius / largest)^D is then uniform on [0, 1], the
    largest radius is lambda delta / 2, and the direction has no bias.
    """
    n = 5_000
    x = draws(bounded(dim=dim), np.eye(dim, dtype=np.float32)[0], n)
    np.testing.assert_allclose(np.linalg.norm(x, axis=1), 1, atol=3e-7)
    radius = np.linalg.norm(x[:, 1:], axis=1) / (1 / 16)
    self.assertLess(radius.max(), 1 + 1e-5)
    self.assertGreater(
      stats.kstest(radius ** (dim - 1), 'uniform').pvalue, 0.01
    )
    bias = (x[:, 1:] / np.linalg.norm(x[:, 1:], axis=1)[:, None]).mean(axis=0)
    np.testing.assert_allclose(bias, 0, atol=5 / math.sqrt((dim - 1) * n))
    self.assertTrue((x[:, 0] > 0.99).all())  # this side of the sphere

  @parameterized.parameters(40, 2)
  def test_centers(self, dim):
    """Unit vectors in a frame of their own per key, at the angle of delta."""
    spec = bounded(dim=dim, separation=0.8)
    keys = jax.random.split(jax.random.key(0), 2)
    first, second = (np.asarray(spec.centers(k), np.float64) for k in keys)
    angle = 2 * (math.asin(0.4) + math.asin(0.05))
    for centers in (first, second):
      np.testing.assert_allclose(np.linalg.norm(centers, axis=1), 1, atol=1e-6)
      gram = centers @ centers.T
      largest = gram[~np.eye(3, dtype=bool)].max()
      np.testing.assert_allclose(largest, math.cos(angle), atol=1e-6)
    self.assertGreater(np.abs(first - second).max(), 0.1)

  def test_frame_is_uniform(self):
    """A centre turned at random is uniform on the sphere: mean 0, I / d."""
    spec = bounded(dim=3, separation=0.5)
    keys = jax.random.split(jax.random.key(0), 4_000)
    x = np.asarray(jax.jit(jax.vmap(spec.centers))(keys), np.float64)[:, 1]
    np.testing.assert_allclose(x.mean(axis=0), 0, atol=5 / math.sqrt(3 * 4_000))
    # Var(x_i x_j) <= E x_i^4 = 3 / (d (d + 2)) = 1 / 5
    np.testing.assert_allclose(
      x.T @ x / 4_000, np.eye(3) / 3, atol=5 * math.sqrt(1 / 5 / 4_000)
    )

  def test_many_dimensions(self):
    """d = 20,000: unit norm and the cap hold to float32 rounding.

    There the mass sits at the rim: the radius is nearly always the largest.
    """
    spec = bounded(num_classes=2, dim=20_000)
    centers = spec.centers(jax.random.key(0))
    x = draws(spec, centers[1], 4)
    center = np.asarray(centers[1], np.float64)
    np.testing.assert_allclose(np.linalg.norm(x, axis=1), 1, atol=1e-6)
    along = x @ center
    radius = np.linalg.norm(x - along[:, None] * center, axis=1)
    np.testing.assert_allclose(radius, 1 / 16, rtol=2e-3)
    self.assertLess(radius.max(), 1 / 16 * (1 + 1e-5))


class XorTest(parameterized.TestCase):
  @parameterized.parameters(0, 1, 2, 3)
  def test_draw_is_uniform(self, which):
    """Uniform in a disc of diameter 1/10: so are (20 r)^2 and the angle."""
    spec = mixtures.xor()
    center = spec.centers(jax.random.key(0))[which]
    offset = 20 * (draws(spec, center, 5_000) - np.asarray(center))
    radius = np.linalg.norm(offset, axis=1)
    self.assertLess(radius.max(), 1 + 1e-5)
    self.assertGreater(stats.kstest(radius**2, 'uniform').pvalue, 0.01)
    turn = np.arctan2(offset[:, 1], offset[:, 0]) / (2 * math.pi) + 0.5
    self.assertGreater(stats.kstest(turn, 'uniform').pvalue, 0.01)

  def test_lift(self):
    """The lifted example is (x, 1) / |(x, 1)|: dividing by z gives x back."""
    center = np.array([0.0, 2.0], np.float32)
    flat = draws(mixtures.xor(), center, 5_000)
    lifted = draws(mixtures.xor(lift=True), center, 5_000)
    np.testing.assert_allclose(np.linalg.norm(lifted, axis=1), 1, atol=1e-6)
    np.testing.assert_allclose(lifted[:, :2] / lifted[:, 2:], flat, atol=1e-6)

  def test_lifted_separation(self):
    """The lift brings delta to 0.678 and lambda to 0.147, as `xor` says.

    Measured on 1000 points of every rim.
    """
    turn = np.linspace(0, 2 * math.pi, 1000, endpoint=False)
    rim = np.stack([np.cos(turn), np.sin(turn)], axis=1) / 20
    corners = np.asarray(mixtures.xor().centers(jax.random.key(0)))
    x = (corners[:, None] + rim).reshape(-1, 2)
    x = np.append(x, np.ones((4000, 1)), axis=1)
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    z = np.repeat(np.arange(4), 1000)
    support = geometry.measured_separation(x, z // 2, z % 2)
    self.assertAlmostEqual(support.delta, 0.678, delta=1e-3)
    self.assertAlmostEqual(support.ratio, 0.147, delta=1e-3)
    self.assertFalse(support.separable)


class SpecTest(parameterized.TestCase):
  def test_weights(self):
    """p_{i,j} stands at i l + j; 1 / (k l) each if none are given."""
    p = ((0.5, 0.125, 0.0), (0.25, 0.0625, 0.0625))
    spec = mixtures.gaussian(num_classes=2, num_components=3, probabilities=p)
    np.testing.assert_array_equal(spec.weights, [*p[0], *p[1]])
    uniform = mixtures.gaussian(num_classes=2, num_components=3)
    np.testing.assert_allclose(uniform.weights, np.full(6, 1 / 6), rtol=1e-6)

  def test_hashable(self):
    """Equal specs are one static argument: jit traces once, not twice."""
    traces = []

    def weights(spec):
      traces.append(spec)
      return spec.weights

    jitted = jax.jit(weights, static_argnums=0)
    jitted(bounded(dim=4, probabilities=((0.25,), (0.25,), (0.5,))))
    jitted(bounded(dim=4, probabilities=((0.25,), (0.25,), (0.5,))))
    self.assertLen(traces, 1)
    jitted(bounded(dim=4))
    self.assertLen(traces, 2)

  @parameterized.parameters(
    ({'num_classes': 1}, 'num_classes must be an integer >= 2, got 1'),
    ({'num_components': 0}, 'num_components must be an integer >= 1, got 0'),
    ({'dim': 10.0}, r'dim must be an integer >= 1, got 10\.0'),
    ({'center_scale': -1.0}, r'center_scale must be a finite .*got -1\.0'),
    ({'center_scale': math.inf}, 'center_scale must be a finite .*got inf'),
    ({'noise_scale': math.nan}, 'noise_scale must be a finite .*got nan'),
    ({'center_scale': 0.0, 'noise_scale': 0.0}, 'zero vector'),
    ({'probabilities': ((0.5, 0.5),)}, '=2 tuples of num_components=2'),
    ({'probabilities': ((0.5, 0.5), (0.0,))}, '=2 tuples of .*=2'),
    ({'probabilities': (0.5, 0.5, 0.0, 0.0)}, '=2 tuples of .*=2'),
    ({'probabilities': [[0.5, 0.5], [0.0, 0.0]]}, '=2 tuples of .*=2'),
    ({'probabilities': ((0.5, 0.5), (0.1, -0.1))}, 'non-negative and sum to'),
    ({'probabilities': ((0.5, 0.5), (0.1, 0.1))}, 'non-negative and sum to'),
    ({'probabilities': ((0.5, 0.5), (0.0, math.nan))}, 'non-negative and sum'),
  )
  def test_gaussian_refuses(self, changes, message):
    """Each argument out of range is named, with what was expected."""
    with self.assertRaisesRegex(ValueError, message):
      mixtures.gaussian(**{'num_classes': 2, 'num_components': 2} | changes)

  @parameterized.parameters(
    ({'dim': 1}, 'dim must be an integer >= 2, got 1'),
    ({'separation': 0.0}, r'\(A1\) .* 0 < separation <= 2, got 0\.0'),
    ({'separation': 2.1}, r'\(A1\) .* 0 < separation <= 2, got 2\.1'),
    ({'ratio': 0.126}, r'\(A1\) requires .* = 0\.125, got ratio=0\.126'),
    ({'ratio': -0.1}, r'\(A1\) requires .*got ratio=-0\.1'),
    ({'num_components': 2}, r'\(A1\) requires .* = 0\.0625, got ratio=0\.125'),
    ({'separation': 1.74}, 'No arrangement .* best separation reached'),
  )
  def test_bounded_refuses(self, changes, message):
    """(A1) cannot be met: the spec itself fails, before any sampling."""
    with self.assertRaisesRegex(ValueError, message):
      bounded(**changes)

  def test_shapes_are_checked(self):
    """The annotations of data are those that hold in every test."""
    with self.assertRaises(jaxtyping.TypeCheckError):
      mixtures.xor().draw(jax.random.key(0), jnp.zeros((1, 2)))
    with self.assertRaises(jaxtyping.TypeCheckError):
      mixtures.sample(jax.random.split(jax.random.key(0)), mixtures.xor())
