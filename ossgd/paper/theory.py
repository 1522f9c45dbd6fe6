"""What the lemmas of Sections 4 and 5 and Appendices A and B speak of.

Measured quantities and the paper's bounds, side by side, on a weighted set of
n examples: the k l points of case (S) with p_{a,b}, or a sample with 1/n each,
whose means over a component are estimates with a standard error. The
appendices' v has the opposite sign of eq. (1)'s residual, v = -residual, so
sum_i a_{i,r} P_{i,r} is minus the pseudo-gradient.
"""

import math

import chex
import jax
import jax.numpy as jnp
from jaxtyping import Bool, Float, Int

from ossgd.paper import gradients
from ossgd.paper.types import Array, matmul


def signed_errors(
  f: Float[Array, 'n k'], y: Int[Array, ' n']
) -> Float[jax.Array, 'n k']:
  """v_{i,s} = 1[i = y_s] - o_i(x_s), Section 5.1: logits (n, k) -> (n, k).

  v_{y,s} in [0, 1] is how wrong example s is; sum_i v_{i,s} = 0.
  """
  return -gradients.residual(f, y)


def component_means(
  values: Float[Array, 'n q'], component: Int[Array, ' n'], num_components: int
) -> tuple[jax.Array, jax.Array]:
  """E_{x ~ D_{a,b}} of a quantity, from the examples of each component.

  Args:
    values: one row an example, (n, q).
    component: a l + b of each example, (n,) int.
    num_components: k l.

  Returns:
    The mean and its standard error, (k l, q) each; of a component without an
    example NaN, and infinite error of one with fewer than two.
  """
  chex.assert_rank([values, component], [2, 1])
  member = component[:, None] == jnp.arange(num_components)[None, :]
  weights = member.astype(values.dtype)
  count = jnp.sum(weights, axis=0)[:, None]
  mean = matmul(weights.T, values) / count
  centred = values - jnp.where(count > 0, mean, 0)[component]
  squares = matmul(weights.T, centred**2)
  variance = squares / jnp.maximum(1, count * (count - 1))
  return mean, jnp.where(count > 1, jnp.sqrt(variance), jnp.inf)


def largest_error(
  errors: Float[Array, 'n k'], weights: Float[Array, ' n']
) -> Float[jax.Array, '']:
  """v = max p_{a,b} v_{i,a,b}, Lemmas A.3 and A.4: (n, k), (n,) -> scalar."""
  return jnp.max(errors * weights[:, None])


def unit_sums(
  p0: Bool[Array, 'n m'], errors: Float[Array, 'n k'], x: Float[Array, 'n d']
) -> Float[jax.Array, 'k m d']:
  """P_{i,r} = sum_s p_s v_{i,s} 1[<w_r(0), x_s> >= 0] x_s, Appendix A.2.

  Args:
    p0: the initial pattern, (n, m) bool.
    errors: p_s v_{i,s}, (n, k).

  Returns:
    (k, m, d). sum_i a_{i,r} P_{i,r} is minus the pseudo-gradient.
  """
  chex.assert_rank([p0, errors, x], 2)
  gated = jnp.where(p0[None], errors.T[:, :, None], 0)  # (k, n, m)
  return matmul(jnp.swapaxes(gated, 1, 2), x)


def span_norms(
  coefficients: Float[Array, 'n m'], gram: Float[Array, 'n n']
) -> Float[jax.Array, ' m']:
  """||sum_s c_{s,r} x_s|| for every unit: c (n, m), K = X X^T (n, n) -> (m,).

  Gradients and updates of a unit lie in the span of the inputs, so their
  norms need no d-dimensional vector.
  """
  chex.assert_rank([coefficients, gram], 2)
  squares = jnp.sum(coefficients * matmul(gram, coefficients), axis=0)
  zero = squares <= 0  # rounding may leave one below; no slope there
  return jnp.where(zero, 0, jnp.sqrt(jnp.where(zero, 1, squares)))


def gradient_norms(
  a: Float[Array, 'k m'],
  p: Bool[Array, 'n m'],
  errors: Float[Array, 'n k'],
  gram: Float[Array, 'n n'],
) -> Float[jax.Array, ' m']:
  """||sum_i a_{i,r} P_{i,r}||, what Lemmas 5.2, A.3 and B.3 bound below.

  Args:
    p: pattern, (n, m) bool: the initial one for the pseudo-gradient, today's
      for the gradient.
    errors: p_s v_{i,s}, (n, k).
  """
  return span_norms(jnp.where(p, matmul(errors, a), 0), gram)


def margins(
  w0: Float[Array, 'm d'], x: Float[Array, 'n d']
) -> Float[jax.Array, ' m']:
  """min_s |<w_r(0), x_s>| of every unit: w0 (m, d), x (n, d) -> (m,).

  H of Lemma A.1's proof is the units with a margin of at least tau.
  """
  return jnp.min(jnp.abs(matmul(x, w0.T)), axis=0)


def coupled(
  p: Bool[Array, 'n m'], p0: Bool[Array, 'n m']
) -> Bool[jax.Array, ' m']:
  """Units whose gradient is their pseudo-gradient, whatever v: (n, m) -> (m,).

  Both are the same sum with another pattern, so it is those whose pattern is
  the initial one at all n points, Lemma A.1.
  """
  chex.assert_equal_shape([p, p0])
  return jnp.all(p == p0, axis=0)


def coupling_bound(tau, sigma, num_points: int):
  """1 - e tau k l / sigma, Lemmas 5.1 and A.1: the least fraction coupled.

  As stated "for every tau" |H| breaks it with probability sqrt(2/pi) / e =
  0.29: `spared_units` repairs it.
  """
  return 1 - math.e * tau * num_points / sigma


def spared_units(failure: float = 1e-3) -> float:
  """How many units more may leave H, for Lemma A.1 to hold for every tau.

  The margins are m independent draws with Pr[margin < tau] at most u =
  sqrt(2/pi) tau k l / sigma. Their empirical distribution exceeds c u
  somewhere with probability 1 / c (Daniels' theorem), which for the paper's
  c u = e tau k l / sigma is 0.29. With s units spared,

    |H| >= m (1 - e tau k l / sigma) - s for every tau,

  fails with probability at most exp(-theta s), where exp(theta) - 1 <= c theta
  (a Poisson process and a line): theta = 2.09.

  Args:
    failure: the probability that some tau breaks it, in (0, 1).
  """
  return math.log(1 / failure) / 2.09


def point_coupling_bound(tau, sigma):
  """1 - 10 tau / sigma, Lemma B.1: at one point x, in place of all k l."""
  return 1 - 10 * tau / sigma


def reach(a: Float[Array, 'k m'], step_size, step):
  """The tau whose time tau / (2 L eta) is this step: 2 L eta t, L = max |a|.

  Lemma A.1 speaks of the steps up to tau / (2 L eta). So at step t its bound
  is the one with tau = 2 L eta t, the smallest tau it may be used with. Half
  of that, L eta t, is its bound on the drift ||w_r(t) - w_r(0)||.
  """
  return 2 * jnp.max(jnp.abs(a)) * step_size * step


def coupling_constant(
  margin: Float[Array, ' m'], sigma, num_points: int, spared: float = 0.0
) -> Float[jax.Array, '']:
  """The smallest c with |H| >= m (1 - c tau k l / sigma) - s for every tau.

  Just above the j-th smallest margin j units are out of H, so c is the largest
  (j - s) / m sigma / (margin_j k l). Lemma A.1 says e, with s = 0.

  Args:
    margin: of every unit, (m,).
    sigma: standard deviation of the initial weights.
    spared: s.
  """
  m = margin.shape[0]
  outside = (jnp.arange(1, m + 1, dtype=margin.dtype) - spared) / m
  return jnp.max(outside * sigma / (jnp.sort(margin) * num_points))


def decrease_bound(step_size, width, v, separation, num_points: int):
  """eta m (delta / (k l))^3 v^2, the shape of Lemmas A.4 and B.4's decrease.

  A fraction delta / (k l) of m units have a gradient of v delta / (k l); what
  the paper's tilde Omega hides is the constant in front.
  """
  return step_size * width * (separation / num_points) ** 3 * v**2


def error_sum_bound(width, separation, num_points: int):
  """k^5 l^5 / (delta^4 sqrt(m)), Lemma A.4's bound on the mean of v(t)^2."""
  return num_points**5 / (separation**4 * width**0.5)
