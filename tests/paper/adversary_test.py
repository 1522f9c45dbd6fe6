"""The search for the worst v: what it may choose, and that it finds it."""

import functools

import jax.numpy as jnp
import numpy as np
from absl.testing import parameterized

from ossgd.paper import adversary, gradients, network, theory
from ossgd.paper.types import Params
from tests import oracles


def units(seed, *, k=3, per_class=2, m=400, d=12):
  w, a, x, _ = oracles.problem(seed, k=k, m=m, d=d, n=k * per_class)
  return adversary.Units(
    jnp.asarray(a),
    network.pattern(w, x),
    jnp.asarray(x @ x.T),
    jnp.arange(k * per_class),
  )


class AllowedTest(parameterized.TestCase):
  @parameterized.parameters((2, 1), (3, 2), (5, 3))
  def test_possible(self, k, per_class):
    """Appendix A's properties of v, and what has them already stays."""
    rng = np.random.default_rng(0)
    own = np.arange(k * per_class)[:, None] // per_class == np.arange(k)[None]
    for scale in (0.1, 1, 10):
      drawn = scale * rng.normal(size=(k * per_class, k)).astype(np.float32)
      v = np.asarray(adversary.possible(jnp.asarray(drawn), per_class))
      np.testing.assert_allclose(v.sum(1), 0, atol=1e-5)
      self.assertTrue((v[own] >= 0).all() and (v[own] <= 1 + 1e-5).all())
      self.assertTrue((v[~own] <= 0).all())
      self.assertAlmostEqual(v[0, 0], 1, delta=1e-5)
      again = adversary.possible(jnp.asarray(v), per_class)
      np.testing.assert_allclose(again, v, atol=1e-5)

  def test_possible_is_the_nearest(self):
    """No other allowed v is closer, over many draws."""
    rng = np.random.default_rng(1)
    own = np.arange(3)[:, None] == np.arange(3)[None]
    drawn = rng.normal(size=(3, 3))
    nearest = np.asarray(adversary.possible(jnp.asarray(drawn), 1))
    distance = ((nearest - drawn)[~own] ** 2).sum()
    for _ in range(2000):
      o = rng.dirichlet(np.ones(3), size=3)[:, :2]  # two others, sum <= 1
      o[0] /= o[0].sum()
      other = np.zeros((3, 3))
      other[~own] = -o.reshape(-1)
      self.assertGreaterEqual(((other - drawn)[~own] ** 2).sum(), distance)

  def test_boxed(self):
    v = adversary.boxed(jnp.array([[-3.0, 2.0], [0.5, -2.0]]))
    np.testing.assert_array_equal(v, [[1, 1], [0.5, -1]])


class NormsTest(parameterized.TestCase):
  def test_against_pseudo_gradient(self):
    """With the network's own v it is the pseudo-gradient's norm."""
    k, per_class = 3, 2
    w, a, x, _ = oracles.problem(0, k=k, m=30, d=7, n=k * per_class)
    y = np.arange(k * per_class) // per_class
    params, p0 = Params(w, a), network.pattern(w, x)
    v = theory.signed_errors(network.logits(params, x), y) / (k * per_class)
    some = adversary.Units(
      jnp.asarray(a), p0, x @ x.T, jnp.arange(k * per_class)
    )
    pseudo = gradients.pseudo_gradient(params, p0, x, y)
    np.testing.assert_allclose(
      adversary.norms(some, v),
      np.linalg.norm(pseudo, axis=1),
      rtol=1e-3,
      atol=1e-5,
    )

  def test_component_mean(self):
    """Several examples of a component share its v."""
    _, a, x, _ = oracles.problem(1, k=2, m=9, d=5, n=6)
    component = np.array([0, 0, 0, 1, 2, 2])
    p0 = np.random.default_rng(0).random((6, 9)) < 0.5
    v = np.random.default_rng(1).normal(size=(3, 2)).astype(np.float32)
    expected = np.zeros((9, 5))
    for r in range(9):
      for c in range(3):
        mean = np.mean(
          [p0[s, r] * x[s] for s in range(6) if component[s] == c], 0
        )
        expected[r] += (v[c] @ a[:, r]) * mean
    some = adversary.Units(a, p0, x @ x.T, component)
    # A component that no example is of adds nothing.
    for errors in (v, np.concatenate([v, np.ones((1, 2), np.float32)])):
      np.testing.assert_allclose(
        adversary.norms(some, errors),
        np.linalg.norm(expected, axis=1),
        rtol=1e-4,
      )


class WorstTest(parameterized.TestCase):
  def test_it_finds_a_worse_v(self):
    """Fewer units are large than for the start and for random v."""
    some, threshold = units(2), 0.4
    project = functools.partial(adversary.possible, num_components=2)
    rng = np.random.default_rng(0)

    def above(v):
      return float(jnp.mean(adversary.norms(some, v) >= threshold))

    for allowed in (project, adversary.boxed):
      drawn = jnp.asarray(rng.uniform(-1, 1, size=(6, 3)).astype(np.float32))
      found = adversary.worst(some, drawn, threshold, allowed, 100)
      others = [
        above(allowed(jnp.asarray(rng.uniform(-1, 1, size=(6, 3)))))
        for _ in range(20)
      ]
      self.assertLess(above(found), 0.9 * min(others))
      np.testing.assert_allclose(allowed(found), found, atol=1e-5)

  def test_known_worst(self):
    """Two points of one class next to each other: v and -v cancel."""
    x = np.array([[1.0, 0.0], [1.0, 1e-3]], np.float32)
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    rng = np.random.default_rng(0)
    w = rng.normal(size=(500, 2))
    some = adversary.Units(
      jnp.asarray(rng.normal(size=(2, 500)).astype(np.float32)),
      x @ w.T >= 0,
      jnp.asarray(x @ x.T),
      jnp.arange(2),
    )
    found = adversary.worst(some, jnp.zeros((2, 2)), 0.05, adversary.boxed)
    self.assertLess(float(jnp.mean(adversary.norms(some, found) >= 0.05)), 0.02)
    self.assertAlmostEqual(float(found[1, 0]), -1, delta=0.05)
