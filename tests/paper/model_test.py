"""Activations, losses, laws and starts against formulas written here again."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import scipy.special
from absl.testing import parameterized

import ossgd
from ossgd.paper import choices, gradients, model, network
from ossgd.paper.types import Params
from ossgd.running import identities

# phi in float64 NumPy, each from its definition.
PHI = {
  'relu': lambda h: np.maximum(h, 0),
  'leaky_relu': lambda h: np.maximum(h, 0) + 0.01 * np.minimum(h, 0),
  'abs': np.abs,
  'identity': lambda h: +h,
  'quadratic': lambda h: h * h,
  'tanh': np.tanh,
  'erf': scipy.special.erf,
  'gelu': lambda h: h * (1 + scipy.special.erf(h / math.sqrt(2))) / 2,
  'softplus': lambda h: np.log1p(np.exp(h)),
}


# The same losses in JAX, otherwise than `choices` has them: one example each.
def cross_entropy(f, y):
  return jnp.log(jnp.sum(jnp.exp(f))) - f[y]


def squared(f, y):
  return 0.5 * jnp.sum(f**2) - f[y] + 0.5


def hinge(f, y):
  margins = jnp.where(jnp.arange(f.shape[0]) == y, 0.0, 1 + f - f[y])
  return jnp.max(margins)


def logistic(f, y):
  return jnp.log1p(jnp.exp((1 - 2 * y) * (f[1] - f[0])))


LOSSES = {
  'cross_entropy': cross_entropy,
  'squared': squared,
  'hinge': hinge,
  'logistic': logistic,
}
# phi in JAX, for jax.grad, otherwise than `choices` has it.
SMOOTH = {
  'relu': lambda h: (h + jnp.abs(h)) / 2,
  'leaky_relu': lambda h: 0.505 * h + 0.495 * jnp.abs(h),
  'abs': lambda h: jnp.sqrt(h**2),
  'identity': lambda h: 1.0 * h,
  'quadratic': jnp.square,
  'tanh': lambda h: 2 / (1 + jnp.exp(-2 * h)) - 1,
  'erf': lambda h: 1 - jax.lax.erfc(h),
  'gelu': lambda h: h - h * jax.lax.erfc(h / math.sqrt(2)) / 2,
  'softplus': lambda h: jnp.log(1 + jnp.exp(h)),
}


def objective(activation, loss, params, x, y):
  """Mean loss of a model's names, from the tables of this file."""
  f = jnp.einsum('ir,sr->si', params.a, SMOOTH[activation](x @ params.w.T))
  return jnp.mean(jax.vmap(LOSSES[loss])(f, y))


def problem(k, m, d, n, seed=0):
  """Params, inputs and labels in float64, with logits of order one."""
  rng = np.random.default_rng(seed)
  w, a = rng.normal(size=(m, d)), rng.normal(size=(k, m)) / m
  x, y = rng.normal(size=(n, d)), np.append(np.arange(k), [0] * (n - k))
  return Params(jnp.asarray(w), jnp.asarray(a)), jnp.asarray(x), jnp.asarray(y)


class ActivationTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    self.enter_context(jax.enable_x64(True))
    h = np.random.default_rng(0).normal(size=200)
    self.h = h[np.abs(h) > 1e-3] * 2  # no kink

  def test_every_name_is_here(self):
    self.assertEqual(set(PHI), set(choices.ACTIVATIONS))
    self.assertEqual(set(SMOOTH), set(choices.ACTIVATIONS))
    self.assertEqual(set(LOSSES), set(choices.LOSSES))

  def test_against_numpy_and_autodiff(self):
    """phi is its definition and the slope its derivative, in float64."""

    @jax.jit
    def found(h):
      return {
        name: (one.phi(h), one.slope(h), jax.vmap(jax.grad(SMOOTH[name]))(h))
        for name, one in choices.ACTIVATIONS.items()
      }

    for name, (phi, slope, expected) in found(self.h).items():
      np.testing.assert_allclose(
        phi, PHI[name](self.h), rtol=1e-13, atol=1e-15, err_msg=name
      )
      np.testing.assert_allclose(
        slope, expected, rtol=1e-10, atol=1e-13, err_msg=name
      )

  def test_at_the_kink(self):
    """At 0 the slopes are those of h > 0, as eq. (1)'s indicator is 1."""
    for name in ('relu', 'leaky_relu', 'abs'):
      self.assertEqual(float(choices.ACTIVATIONS[name].slope(jnp.zeros(()))), 1)

  def test_piecewise_linear(self):
    """phi(h) = slope(h) h where that is said, and only there."""
    for name, one in choices.ACTIVATIONS.items():
      gap = np.max(np.abs(one.phi(self.h) - one.slope(self.h) * self.h))
      self.assertEqual(gap < 1e-14, one.piecewise_linear, name)


class LossTest(parameterized.TestCase):
  @parameterized.parameters(2, 5)
  def test_against_autodiff(self, k):
    """Values, and residuals as their slopes in float64."""
    self.enter_context(jax.enable_x64(True))
    rng = np.random.default_rng(k)
    f, y = rng.normal(size=(40, k)) * 2, rng.integers(k, size=40)

    @jax.jit
    def both(f, y):
      return {
        name: (
          (one.value(f, y), one.residual(f, y)),
          jax.vmap(jax.value_and_grad(LOSSES[name]))(f, y),
        )
        for name, one in choices.LOSSES.items()
        if name != 'logistic' or k == 2
      }

    for name, (found, (value, slope)) in both(f, y).items():
      np.testing.assert_allclose(
        found[0], value, rtol=1e-12, atol=1e-14, err_msg=name
      )
      np.testing.assert_allclose(
        found[1], slope, rtol=1e-10, atol=1e-13, err_msg=name
      )

  def test_hinge_where_it_is_not_smooth(self):
    """Of a tie the first; nothing where the margin is exactly one."""
    f = jnp.array([[1.0, 3.0, 3.0], [0.0, 1.0, -1.0]])
    residual = choices.LOSSES['hinge'].residual(f, jnp.array([0, 1]))
    np.testing.assert_array_equal(residual, [[-1, 1, 0], [0, 0, 0]])
    np.testing.assert_array_equal(
      choices.LOSSES['hinge'].value(f, jnp.array([0, 1])), [3, 0]
    )

  def test_logistic_is_the_cross_entropy_of_two(self):
    f, y = np.random.default_rng(3).normal(size=(9, 2)), np.arange(9) % 2
    f = jnp.asarray(f, jnp.float32)
    one, other = (choices.LOSSES[n] for n in ('logistic', 'cross_entropy'))
    np.testing.assert_allclose(one.value(f, y), other.value(f, y), rtol=1e-5)
    np.testing.assert_allclose(
      one.residual(f, y), other.residual(f, y), rtol=1e-5, atol=1e-7
    )


class GradientTest(parameterized.TestCase):
  @parameterized.parameters((2, 7, 5, 6), (3, 16, 4, 11))
  def test_against_autodiff(self, k, m, d, n):
    """By hand and by jax.grad, of both layers, all pairs, in float64."""
    self.enter_context(jax.enable_x64(True))
    params, x, y = problem(k, m, d, n, seed=m)
    pairs = [(one, 'cross_entropy') for one in choices.ACTIVATIONS]
    others = [loss for loss in LOSSES if k == 2 or loss != 'logistic']
    pairs += [(one, loss) for one in ('relu', 'gelu') for loss in others]

    @jax.jit
    def both(params, x, y):
      found = {}
      for pair in pairs:
        own = {'model': model.Model(*pair)}
        by_hand = Params(
          gradients.gradient(params, x, y, **own),
          gradients.output_gradient(params, x, y, **own),
        )
        expected = jax.grad(functools.partial(objective, *pair))(params, x, y)
        found[pair] = by_hand, expected
      return found

    for pair, (found, expected) in both(params, x, y).items():
      for one, other in zip(found, expected, strict=True):
        scale = np.max(np.abs(other))
        self.assertLess(np.max(np.abs(one - other)), 1e-11 * scale, pair)

  def test_linearised(self):
    """f at w(0) plus its derivative there: jax.linearize, in float64."""
    self.enter_context(jax.enable_x64(True))
    params, x, _ = problem(3, 9, 4, 6)
    w0 = problem(3, 9, 4, 6, seed=1)[0].w

    @functools.partial(jax.jit, static_argnums=0)
    def both(name, params, w0, x):
      def f(w):
        return SMOOTH[name](x @ w.T) @ params.a.T

      f0, derivative = jax.linearize(f, w0)
      expected = f0 + derivative(params.w - w0)
      h, h0 = x @ params.w.T, x @ w0.T
      one = model.Model(name)
      return network.linearised_outputs(params.a, h, h0, one), expected

    for name in ('tanh', 'leaky_relu', 'relu'):
      found, expected = both(name, params, w0, x)
      np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-12)


SIZES = dict(width=6, dim=4, num_classes=3)


class StartTest(parameterized.TestCase):
  def init(self, scale=1.0, **own):
    params = network.init_params(
      jax.random.key(3),
      **SIZES | {'width': 2000},
      scale=scale,
      model=model.Model(**own),
    )
    self.assertEqual(params.w.dtype, jnp.float32)
    self.assertEqual(params.a.dtype, jnp.float32)
    return params

  def test_laws(self):
    """Signs; or whatever a function of key, shape and type draws."""
    np.testing.assert_array_equal(
      np.unique(self.init(output_law='rademacher').a), [-1, 1]
    )
    a = self.init(output_law=jax.random.uniform).a
    self.assertBetween(float(a.min()), 0, 0.01)
    self.assertBetween(float(a.max()), 0.99, 1)

  @parameterized.parameters('gaussian', 'rademacher')
  def test_antisymmetric(self, law):
    """Pairs side by side: std of w as ever, and f = 0 at once."""
    params = self.init(start='antisymmetric', output_law=law, scale=3.0)
    np.testing.assert_array_equal(params.w[::2], params.w[1::2])
    np.testing.assert_array_equal(params.a[:, ::2], -params.a[:, 1::2])
    self.assertAlmostEqual(float(np.std(params.w)) * 2000**0.5, 3.0, delta=0.2)
    x = np.random.default_rng(0).normal(size=(5, 4)).astype(np.float32)
    one = model.Model(activation='softplus')
    f = network.logits(params, x, one)
    size = np.sqrt(np.square(one.phi(x @ params.w.T)) @ np.square(params.a).T)
    np.testing.assert_array_less(np.abs(f), 1e-6 * size)

  def test_own_start(self):
    def ones(key, *, width, dim, num_classes, scale):
      del key
      return scale * jnp.ones((width, dim)), jnp.ones((num_classes, width))

    params = self.init(start=ones, scale=2.0)
    np.testing.assert_array_equal(params.w, np.full((2000, 4), 2.0))
    self.assertIsInstance(params, Params)

  @parameterized.parameters(
    ({}, 0.5),
    ({'activation': 'softplus'}, 12.0),
    ({'activation': 'quadratic', 'output_law': 'rademacher'}, None),
  )
  def test_at_start(self, own, least):
    """What is said of w(0) without drawing it is what is drawn."""
    said = model.at_start(model.Model(**own), width=2000, scale=1.5)
    x = np.random.default_rng(1).normal(size=(1, 4)).astype(np.float32)
    x /= np.linalg.norm(x)
    params = network.init_params(
      jax.random.key(0),
      **SIZES | {'width': 2000, 'num_classes': 400},
      scale=1.5,
      model=model.Model(**own),
    )
    f = network.logits(params, x, model.Model(**own))
    rms = float(np.sqrt(np.mean(np.square(f))))
    self.assertBetween(said.outputs / rms, 0.85, 1.15)
    self.assertGreater(said.outputs, least or 0.0)
    h = x @ params.w.T
    slopes = np.asarray(model.Model(**own).slope(h), float)
    self.assertBetween(said.slopes / np.sqrt(np.mean(slopes**2)), 0.85, 1.15)

  def test_antisymmetric_begins_at_nothing(self):
    one = model.Model('softplus', start='antisymmetric')
    self.assertEqual(model.at_start(one, width=2000).outputs, 0)


def swish(h):
  return h * jax.nn.sigmoid(h)


class ModelTest(parameterized.TestCase):
  def test_known_by_what_it_is(self):
    """Equal, hashed and stored by names and functions."""
    pair = swish, jax.nn.sigmoid
    models = [
      ossgd.Model(),
      ossgd.Model('tanh'),
      ossgd.Model(loss='squared'),
      ossgd.Model(output_law='rademacher'),
      ossgd.Model(output_law=jax.random.uniform),
      ossgd.Model(start='antisymmetric'),
      ossgd.Model(layers='both'),
      ossgd.Model(pair),
      ossgd.Model((lambda h: swish(h), jax.nn.sigmoid)),
    ]
    self.assertLen({*models, ossgd.Model(pair), ossgd.Model()}, len(models))
    stored = {str(identities.of(one)) for one in models}
    self.assertLen(stored, len(models))
    self.assertEqual(models[0], model.PAPER)
    self.assertEqual(models[7].names()['activation'], 'swish')

  @parameterized.parameters(
    ({'activation': 'swish'}, "activation is 'swish'; expected one of relu, "),
    ({'activation': ('relu', 'relu')}, 'activation is'),
    ({'loss': 'mse'}, "loss is 'mse'; expected one of cross_entropy, squared"),
    ({'output_law': 'cauchy'}, 'or a function of a key, a shape and a type'),
    ({'start': 'zero'}, 'expected one of iid, antisymmetric, or a function'),
    ({'layers': 'output'}, 'expected one of hidden, both$'),
    ({'start': max, 'output_law': 'rademacher'}, 'expected it without output'),
  )
  def test_unknown(self, own, message):
    with self.assertRaisesRegex(ValueError, message):
      model.Model(**own)

  @parameterized.parameters(
    ({'loss': 'logistic'}, 'there are 3 classes; expected 2'),
    ({'start': 'antisymmetric'}, 'width is 7; expected an even number'),
    (
      {'activation': (jnp.sum, jnp.sign)},
      r'the phi of activation returns float32 \(\); expected float32 \(3, 5\)',
    ),
    (
      {'activation': (lambda h: h @ h, jnp.sign)},
      'the phi of activation raises TypeError.*; expected float32',
    ),
    (
      {'activation': (jnp.abs, lambda h: h.astype(int))},
      'slope of activation returns int32 .* expected float32 or bool',
    ),
    (
      {'activation': (jnp.tanh, lambda h: 1 - jnp.tanh(h) ** 2, True)},
      'phi.h. is not slope.h. h',
    ),
    (
      {'loss': (lambda f, y: jnp.mean(f), lambda f, y: f)},
      r'the value of loss returns float32 \(\); expected float32 \(3,\)',
    ),
    (
      {'loss': (lambda f, y: f[:, 0], lambda f, y: f[:, 0])},
      r'the residual of loss returns float32 \(3,\)',
    ),
    (
      {'output_law': lambda key, shape, dtype: jnp.zeros(shape[::-1], dtype)},
      r'output_law returns float32 \(7, 3\); expected float32 \(3, 7\)',
    ),
    (
      {'start': lambda key, **sizes: (jnp.ones((7, 4)), jnp.ones((7, 3)))},
      r'the a of start returns float32 \(7, 3\); expected float32 \(3, 7\)',
    ),
  )
  def test_refused(self, own, message):
    """Before anything is trained, by shapes alone."""
    with self.assertRaisesRegex(ValueError, message):
      model.check(model.Model(**own), **SIZES | {'width': 7})

  def test_taken(self):
    for own in (
      {'activation': (swish, jax.nn.sigmoid)},
      {'activation': (jnp.abs, jnp.sign, True)},
      {'loss': (lambda f, y: f[:, 0], lambda f, y: f)},
      {'start': lambda key, **sizes: (jnp.ones((6, 4)), jnp.ones((3, 6)))},
    ):
      model.check(model.Model(**own), **SIZES)
