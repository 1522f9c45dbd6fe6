"""The plain engine against NumPy descent, and the orders it goes through."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
from absl.testing import parameterized

from ossgd.engines import orders, sgd
from ossgd.paper.types import Dataset, Params
from tests import oracles


def method(batch_size, *, optimizer=None, order='epochs', gradient_fn=None):
  return sgd.Method(
    optimizer or optax.sgd(0.5),
    batch_size,
    order,
    gradient_fn or sgd.true_gradient,
  )


def visits(key, *, n, batch_size, order, num_steps):
  """Which examples each step used, (steps, n), through the public engine.

  Inputs are unit vectors e_s and the "gradient" is minus their sum, so that
  the one row of weights counts visits.
  """
  data = Dataset(jnp.eye(n), jnp.zeros(n, jnp.int32))

  def count(params, w0, x, y):
    return -jnp.sum(x, axis=0, keepdims=True)

  _, counts = sgd.train(
    key,
    Params(jnp.zeros((1, n)), jnp.zeros((2, 1))),
    data,
    record_steps=jnp.arange(num_steps + 1),
    method=method(
      batch_size, optimizer=optax.sgd(1.0), order=order, gradient_fn=count
    ),
    observe=lambda params: params.w[0],
  )
  return np.diff(counts, axis=0).astype(int)


class OrderTest(parameterized.TestCase):
  def test_epochs(self):
    """An epoch is floor(N / B) batches of B different examples, reshuffled."""
    seen = visits(
      jax.random.key(0), n=11, batch_size=3, order='epochs', num_steps=9
    )
    np.testing.assert_array_equal(seen.sum(1), 3)
    epochs = seen.reshape(3, 3, 11)
    self.assertEqual(epochs.sum(1).max(), 1)  # none twice in an epoch
    self.assertFalse(np.array_equal(epochs[0], epochs[1]))
    self.assertFalse(np.array_equal(epochs[1], epochs[2]))

  def test_one_pass(self):
    """T = N / B steps see every example once, in an order of the key's."""
    settings = dict(n=12, batch_size=3, order='one_pass', num_steps=4)
    seen = visits(jax.random.key(0), **settings)
    np.testing.assert_array_equal(seen.sum(0), 1)
    np.testing.assert_array_equal(seen.sum(1), 3)
    other = visits(jax.random.key(1), **settings)
    self.assertFalse(np.array_equal(seen, other))
    again = visits(jax.random.key(0), **settings)
    np.testing.assert_array_equal(seen, again)

  def test_full_batch(self):
    """Every step sees everything."""
    seen = visits(
      jax.random.key(0), n=5, batch_size=5, order='full_batch', num_steps=3
    )
    np.testing.assert_array_equal(seen, 1)

  @parameterized.parameters(
    ('one_pass', 10, 3, 4, 'at most 3'),
    ('epochs', 10, 11, 1, 'batch_size is 11'),
    ('epochs', 10, 0, 1, 'batch_size is 0'),
    ('sorted', 10, 2, 1, "order is 'sorted'"),
  )
  def test_refused(self, order, n, batch_size, num_steps, message):
    """What the order cannot do is said before anything is computed."""
    with self.assertRaisesRegex(ValueError, message):
      orders.check(order, n, batch_size, num_steps)

  def test_accepted(self):
    """The last whole batch of a pass may be used; a full batch has no size."""
    orders.check('one_pass', 10, 3, 3)
    orders.check('full_batch', 10, 64, 1000)


class TrainTest(parameterized.TestCase):
  def test_more_steps_than_one_pass_has(self):
    """A second pass is not begun in silence."""
    params = Params(jnp.ones((3, 2)), jnp.ones((2, 3)))
    data = Dataset(jnp.ones((10, 2)), jnp.zeros(10, jnp.int32))
    settings = dict(
      method=method(4, order='one_pass'), observe=lambda params: ()
    )
    key = jax.random.key(0)
    sgd.train(key, params, data, record_steps=jnp.array([0, 2]), **settings)
    with self.assertRaisesRegex(ValueError, 'at most 2'):
      sgd.train(key, params, data, record_steps=jnp.array([0, 3]), **settings)

  def setUp(self):
    super().setUp()
    self.k, self.n, self.batch_size, self.num_steps = 3, 13, 4, 7
    w, a, x, y = oracles.problem(0, k=self.k, m=21, d=5, n=self.n)
    self.params = Params(jnp.asarray(w), jnp.asarray(a))
    self.data = Dataset(jnp.asarray(x), jnp.asarray(y))
    self.key = jax.random.key(3)

  def train(self, record_steps, **settings):
    return sgd.train(
      self.key,
      self.params,
      self.data,
      record_steps=jnp.asarray(record_steps),
      method=method(self.batch_size, **settings),
      observe=lambda params: params.w,
    )

  def batches(self):
    """The examples of every step."""
    return map(
      np.flatnonzero,
      visits(
        self.key,
        n=self.n,
        batch_size=self.batch_size,
        order='epochs',
        num_steps=self.num_steps,
      ),
    )

  def descend(self, update, *, pseudo=False):
    """Float64 weights after every step; update maps (w, gradient, t) to w."""
    w0 = np.asarray(self.params.w, np.float64)
    path = [w0]
    for t, rows in enumerate(self.batches()):
      gradient = oracles.gradient(
        path[-1],
        self.params.a,
        self.data.x[rows],
        self.data.y[rows],
        w_pattern=w0 if pseudo else None,
      )
      path.append(update(path[-1], gradient, t))
    return np.stack(path)

  @parameterized.product(pseudo=(False, True))
  def test_plain_descent(self, pseudo):
    """Section 3's update, step by step, with either gradient."""
    expected = self.descend(lambda w, g, t: w - 0.5 * g, pseudo=pseudo)
    gradient_fn = sgd.pseudo_gradient if pseudo else sgd.true_gradient
    _, path = self.train(range(self.num_steps + 1), gradient_fn=gradient_fn)
    self.assertLess(oracles.relative_error(path, expected), 1e-5)
    other = self.descend(lambda w, g, t: w - 0.5 * g, pseudo=not pseudo)
    self.assertGreater(oracles.relative_error(path, other), 1e-3)

  def test_pseudo_network_is_a_linear_model(self):
    """Training g is logistic regression on fixed features, started at w(0).

    In float64 NumPy: phi_i(x) = a_i x^T 1[<w_r(0), x> >= 0], all weights in
    one vector theta, g_i = <phi_i, theta>.
    """
    a, x, w0 = (
      np.asarray(v, np.float64)
      for v in (self.params.a, self.data.x, self.params.w)
    )
    labels = np.eye(self.k)[np.asarray(self.data.y)]
    features = np.einsum('ir,sd,sr->sird', a, x, x @ w0.T >= 0)
    features = features.reshape(self.n, self.k, -1)
    theta = w0.ravel()
    expected = [theta]
    for rows in self.batches():
      slope = np.zeros_like(theta)
      for s in rows:
        o = oracles.softmax(features[s] @ theta)
        slope += (o - labels[s]) @ features[s]
      theta = theta - 0.5 * slope / len(rows)
      expected.append(theta)
    expected = np.reshape(expected, (-1, *w0.shape))
    steps = range(self.num_steps + 1)
    _, path = self.train(steps, gradient_fn=sgd.pseudo_network_gradient)
    self.assertLess(oracles.relative_error(path, expected), 1e-6)
    for other in (sgd.true_gradient, sgd.pseudo_gradient):
      _, path = self.train(steps, gradient_fn=other)
      self.assertGreater(oracles.relative_error(path, expected), 1e-4)

  def test_adam(self):
    """Kingma & Ba's Algorithm 1 with optax's defaults."""
    first = np.zeros_like(self.params.w, dtype=np.float64)
    second = np.zeros_like(first)

    def update(w, gradient, t):
      first[:] = 0.9 * first + 0.1 * gradient
      second[:] = 0.999 * second + 0.001 * gradient**2
      rate = first / (1 - 0.9 ** (t + 1))
      scale = np.sqrt(second / (1 - 0.999 ** (t + 1))) + 1e-8
      return w - 1e-2 * rate / scale

    _, path = self.train(range(self.num_steps + 1), optimizer=optax.adam(1e-2))
    expected = self.descend(update)
    self.assertLess(oracles.relative_error(path, expected), 1e-5)

  def test_measuring_changes_nothing(self):
    """Whatever is recorded, the same weights come out, bit for bit."""
    trained, path = self.train(range(self.num_steps + 1))
    some, recorded = self.train([0, 2, 2, self.num_steps])
    np.testing.assert_array_equal(some.w, trained.w)
    np.testing.assert_array_equal(recorded, path[jnp.array([0, 2, 2, 7])])
    np.testing.assert_array_equal(recorded[0], self.params.w)

  def test_in_pieces(self):
    """Stopped and taken up again, also inside an epoch: the same bits."""
    trained, _ = self.train([self.num_steps])
    plan = method(self.batch_size)
    state = sgd.initial_state(self.key, self.params.w, self.n, plan)
    for boundaries in ((0, 1), (1, 5), (5, 7)):
      state = sgd.advance(
        self.key, state, self.params, self.data, *boundaries, method=plan
      )
    np.testing.assert_array_equal(state.w, trained.w)

  def test_memory_does_not_grow_with_steps(self):
    """A thousand times the steps need not a byte more."""

    def bytes_needed(num_steps):
      steps = jnp.array([0, num_steps])
      compiled = jax.jit(lambda: self.train(steps)).lower().compile()
      return compiled.memory_analysis().temp_size_in_bytes

    self.assertGreater(bytes_needed(10), 0)
    self.assertEqual(bytes_needed(10), bytes_needed(10_000))
