"""The lemmas' quantities against loops written from the paper's text."""

import math

import jax
import jax.numpy as jnp
import numpy as np
from absl.testing import parameterized

from ossgd.paper import gradients, network, theory
from ossgd.paper.types import Params
from tests import oracles

SHAPES = ((2, 7, 5, 3), (3, 31, 4, 10), (10, 12, 33, 5))  # k, m, d, n


def v_loop(w, a, x, y):
  """v_{s,a,b} of Section 5.1, case by case."""
  f = oracles.logits(w, a, x)
  v = np.zeros_like(f)
  for s in range(len(x)):
    e = np.exp(f[s])
    for i in range(len(a)):
      others = [j for j in range(len(a)) if j != y[s]]
      v[s, i] = e[others].sum() if i == y[s] else -e[i]
    v[s] /= e.sum()
  return v


class ErrorsTest(parameterized.TestCase):
  @parameterized.parameters(*SHAPES)
  def test_signed_errors(self, k, m, d, n):
    w, a, x, y = oracles.problem(0, k=k, m=m, d=d, n=n)
    value = theory.signed_errors(network.logits(Params(w, a), x), y)
    np.testing.assert_allclose(value, v_loop(w, a, x, y), atol=1e-5)
    np.testing.assert_allclose(value.sum(1), 0, atol=1e-6)
    own = np.asarray(value)[np.arange(n), y]
    self.assertTrue(((own >= 0) & (own <= 1)).all())

  @parameterized.parameters(*SHAPES)
  def test_unit_sums(self, k, m, d, n):
    """sum_i a_{i,r} P_{i,r} is minus the pseudo-gradient: the paper's sign."""
    w, a, x, y = oracles.problem(1, k=k, m=m, d=d, n=n)
    w0 = oracles.problem(2, k=k, m=m, d=d, n=n)[0]
    p0 = network.pattern(w0, x)
    weights = np.random.default_rng(0).dirichlet(np.ones(n)).astype(np.float32)
    v = v_loop(w, a, x, y)
    sums = theory.unit_sums(p0, (weights[:, None] * v).astype(np.float32), x)
    self.assertEqual(sums.shape, (k, m, d))
    expected = np.zeros((k, m, d))
    for s in range(n):
      for r in range(m):
        if w0[r].astype(np.float64) @ x[s] >= 0:
          expected[:, r] += weights[s] * v[s][:, None] * x[s]
    np.testing.assert_allclose(sums, expected, atol=1e-6)
    pseudo = gradients.pseudo_gradient(Params(w, a), p0, x, y, weights)
    together = jnp.einsum('ir,ird->rd', a, sums, precision='highest')
    np.testing.assert_allclose(together, -pseudo, atol=2e-6)
    norms = theory.gradient_norms(
      a, p0, (weights[:, None] * v).astype(np.float32), x @ x.T
    )
    np.testing.assert_allclose(
      norms, np.linalg.norm(pseudo, axis=1), rtol=2e-3, atol=2e-4
    )

  def test_largest_error(self):
    v = jnp.array([[0.5, -0.5], [-0.9, 0.9]])
    np.testing.assert_allclose(
      theory.largest_error(v, jnp.array([0.9, 0.1])), 0.45
    )

  def test_component_means(self):
    """A mean and its standard error; none where there is no example."""
    rng = np.random.default_rng(0)
    values = rng.normal(size=(50, 3)).astype(np.float32)
    component = rng.integers(3, size=50)
    component[0] = 3  # one example
    mean, error = theory.component_means(values, component, 5)
    for c in range(4):
      some = values[component == c]
      np.testing.assert_allclose(mean[c], some.mean(0), rtol=1e-5, atol=1e-6)
      if c < 3:
        expected = some.std(0, ddof=1) / len(some) ** 0.5
        np.testing.assert_allclose(error[c], expected, rtol=1e-5)
    self.assertTrue(np.isposinf(error[3:]).all())
    self.assertTrue(np.isnan(mean[4]).all())

  def test_span_norms(self):
    """Norms from the Gram matrix; a zero unit has norm and slope zero."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(4, 9)).astype(np.float32)
    c = rng.normal(size=(4, 6)).astype(np.float32)
    c[:, 2] = 0
    expected = np.linalg.norm(c.T @ x, axis=1)
    np.testing.assert_allclose(
      theory.span_norms(c, x @ x.T), expected, rtol=1e-5
    )
    slope = jax.grad(lambda c: theory.span_norms(c, x @ x.T).sum())(c)
    self.assertTrue(np.isfinite(slope).all())


class CouplingTest(parameterized.TestCase):
  def test_coupled_units_have_equal_gradients(self):
    """Bit for bit; and the others differ, whatever rounding does."""
    w0, a, x, y = oracles.problem(3, k=4, m=200, d=6, n=8)
    rng = np.random.default_rng(1)
    w = (w0 + 0.01 * rng.normal(size=w0.shape)).astype(np.float32)
    params, p0 = Params(w, a), network.pattern(w0, x)
    coupled = theory.coupled(network.pattern(w, x), p0)
    true = gradients.gradient(params, x, y)
    pseudo = gradients.pseudo_gradient(params, p0, x, y)
    same = np.asarray((true == pseudo).all(axis=1))
    np.testing.assert_array_equal(same, coupled)
    self.assertTrue(0 < coupled.sum() < 200)

  def test_margins(self):
    w, _, x, _ = oracles.problem(4, k=2, m=20, d=5, n=7)
    expected = [min(abs(float(row @ point)) for point in x) for row in w]
    np.testing.assert_allclose(theory.margins(w, x), expected, rtol=1e-4)

  def test_constant_is_the_least(self):
    """With it the bound holds for every tau, with less it does not."""
    margin = np.abs(np.random.default_rng(0).normal(size=300)) / 20
    for spared in (0.0, 3.0):
      c = float(
        theory.coupling_constant(jnp.asarray(margin), 0.5, 4, spared=spared)
      )
      taus = np.nextafter(np.sort(margin), 1)
      inside = np.array([(margin >= tau).sum() for tau in taus])

      def bound(c, taus=taus, spared=spared):
        return 300 * (1 - c * taus * 4 / 0.5) - spared

      self.assertTrue((inside >= bound(1.0001 * c)).all())
      self.assertFalse((inside >= bound(0.9999 * c)).all())

  def test_daniels(self):
    """Some tau breaks A.1's bound in 29 % of draws; spared units repair it.

    One point, so that Pr[margin < tau] is the normal's. 0.2935 has a standard
    error of 0.01 over 2000 draws.
    """
    margin = np.abs(np.random.default_rng(0).normal(size=(2000, 500)))
    constant = jax.vmap(
      lambda m, s: theory.coupling_constant(m, 1.0, 1, spared=s), (0, None)
    )
    broken = np.mean(constant(margin, 0.0) > math.e)
    self.assertAlmostEqual(broken, math.sqrt(2 / math.pi) / math.e, delta=0.03)
    for failure in (0.1, 0.01):
      spared = theory.spared_units(failure)
      still = np.mean(constant(margin, spared) > math.e)
      self.assertLess(still, failure)
    self.assertGreater(np.mean(constant(margin, 0.5) > math.e), 0.1)

  def test_gradients_exceed_the_largest_weight(self):
    """||dL/dw_r|| <= L, as A.1's proof has it, is off by a factor of two.

    Two classes with opposite output weights L and -L, and a network that is
    sure of the wrong one: the bracket of eq. (1) is nearly 2 L.
    """
    a, x = jnp.array([[3.0], [-3.0]]), jnp.array([[1.0, 0.0]])
    w, y = jnp.array([[5.0, 0.0]]), jnp.array([1])
    norm = jnp.linalg.norm(gradients.gradient(Params(w, a), x, y))
    self.assertAlmostEqual(float(norm), 2 * 3.0, delta=1e-4)

  def test_norms_of_what_is_no_number(self):
    """NaN, where 0 would look like a bound that holds."""
    c = jnp.array([[1.0, 0.0, jnp.nan], [0.0, 0.0, 1.0]])
    norms = theory.span_norms(c, jnp.eye(2))
    np.testing.assert_array_equal(norms, [1, 0, np.nan])

  def test_bounds(self):
    """As the lemmas write them."""
    self.assertAlmostEqual(
      theory.coupling_bound(0.01, 0.5, 4), 1 - math.e * 0.01 * 4 / 0.5
    )
    self.assertAlmostEqual(theory.point_coupling_bound(0.01, 0.5), 0.8)
    a = jnp.array([[1.0, -3.0], [2.0, 0.5]])
    self.assertAlmostEqual(float(theory.reach(a, 0.1, 5)), 2 * 3 * 0.1 * 5)
    self.assertAlmostEqual(
      theory.decrease_bound(0.1, 50, 0.2, 0.5, 4), 5 * 0.125**3 * 0.04
    )
    self.assertAlmostEqual(
      theory.error_sum_bound(100, 0.5, 2), 32 / (0.0625 * 10)
    )
