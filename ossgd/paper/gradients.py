"""Eq. (1) by hand: the gradient, and the pseudo-gradient of Section 5.

Both are the same sum; they differ in the activation pattern only. The
pseudo-network's own gradient differs in o as well. With
o = softmax(f(x, w)) and residual = o - 1[i = y], the bracket of eq. (1) is

  sum_{i != y} a_{i,r} o_i - sum_{i != y} a_{y,r} o_i
    = sum_i a_{i,r} (o_i - 1[i = y]),

which makes a batch two matmuls around the residual. Section 5 and the
appendices write v_i = -residual_i: their sums have the opposite sign.

Another loss has another residual, its slope in f; another activation phi has
phi'(<w_r, x>) for the indicator. A `Model` says which.
"""

import chex
import jax
import jax.numpy as jnp
from jaxtyping import Bool, Float, Int, Shaped

from ossgd.paper import network
from ossgd.paper.choices import gated
from ossgd.paper.model import PAPER, Model
from ossgd.paper.types import Array, Params, matmul


def residual(
  f: Float[Array, 'n k'], y: Int[Array, ' n']
) -> Float[jax.Array, 'n k']:
  """o_i - 1[i = y] = -v_i, the slope of the loss in f: (n, k) -> (n, k)."""
  chex.assert_rank([f, y], [2, 1])
  return PAPER.residual(f, y)


def example_gradient(
  params: Params,
  x: Float[Array, ' d'],
  y: Int[Array, ''],
  p: Bool[Array, ' m'] | None = None,
) -> Float[jax.Array, 'm d']:
  """Eq. (1) read literally, for one example.

  (sum_{i != y} a_{i,r} o_i - sum_{i != y} a_{y,r} o_i) 1[<w_r, x> >= 0] x

  Args:
    x: one input, (d,).
    y: its label, ().
    p: the pattern to use in place of today's, (m,) bool: the initial one
      gives the pseudo-gradient.

  Returns:
    (m, d), row r the derivative in w_r.
  """
  chex.assert_rank([x, y], [1, 0])
  a = params.a
  o = jax.nn.softmax(network.logits(params, x[None])[0])
  others = jnp.arange(o.shape[0]) != y
  attracted = matmul((o * others)[None], a)[0]
  repelled = a[y] * jnp.sum(o * others)
  if p is None:
    p = network.pattern(params.w, x[None])[0]
  return ((attracted - repelled) * p)[:, None] * x[None]


def pattern_gradient(
  a: Float[Array, 'k m'],
  p: Shaped[Array, 'n m'],
  x: Float[Array, 'n d'],
  slopes: Float[Array, 'n k'],
  weights: Float[Array, ' n'] | None = None,
) -> Float[jax.Array, 'm d']:
  """sum_s p_s (sum_i a_{i,r} slope_{s,i}) 1[p_{s,r}] x_s, batched eq. (1).

  Args:
    p: the pattern, (n, m) bool, or another activation's slopes.
    slopes: residuals, (n, k).
    weights: p_s, (n,), summing to one; 1/n each if not given.
  """
  chex.assert_rank([a, p, x, slopes], 2)
  backward = matmul(_weighed(slopes, weights), a)
  return matmul(gated(backward, p).T, x)


def _weighed(
  slopes: Float[Array, 'n k'], weights: Float[Array, ' n'] | None
) -> Float[jax.Array, 'n k']:
  """Residuals as they enter a mean over examples."""
  if weights is None:
    return jnp.divide(slopes, slopes.shape[0])
  return jnp.multiply(slopes, weights[:, None])


def _forward(
  params: Params, x: Float[Array, 'n d'], y: Int[Array, ' n'], model: Model
) -> tuple[Float[jax.Array, 'n m'], Float[jax.Array, 'n k']]:
  """Pre-activations and residuals."""
  h = network.preactivations(params.w, x)
  return h, model.residual(network.outputs(params.a, h, model), y)


def gradient(
  params: Params,
  x: Float[Array, 'n d'],
  y: Int[Array, ' n'],
  weights: Float[Array, ' n'] | None = None,
  model: Model = PAPER,
) -> Float[jax.Array, 'm d']:
  """Eq. (1) averaged over a batch, with today's pattern.

  Args:
    weights: p_s, (n,), summing to one; 1/n each if not given. With p_{a,b}
      this is the gradient of the simplified case (S), Appendix A.
    model: another one's activation and loss.
  """
  h, slopes = _forward(params, x, y, model)
  return pattern_gradient(params.a, model.slope(h), x, slopes, weights)


def output_gradient(
  params: Params,
  x: Float[Array, 'n d'],
  y: Int[Array, ' n'],
  weights: Float[Array, ' n'] | None = None,
  model: Model = PAPER,
) -> Float[jax.Array, 'k m']:
  """sum_s p_s residual_{s,i} phi(<w_r, x_s>): the loss's derivative in a.

  The paper never trains a. Arguments as those of `gradient`.
  """
  h, slopes = _forward(params, x, y, model)
  return matmul(_weighed(slopes, weights).T, model.phi(h))


def pseudo_gradient(
  params: Params,
  p0: Shaped[Array, 'n m'],
  x: Float[Array, 'n d'],
  y: Int[Array, ' n'],
  weights: Float[Array, ' n'] | None = None,
  model: Model = PAPER,
) -> Float[jax.Array, 'm d']:
  """Eq. (1) with the pattern frozen at p0; o is still the network's own.

  Section 5.1 freezes the indicator alone: o_i(x, w) stays the softmax of f,
  not of the pseudo-network g.

  Args:
    p0: the pattern of these inputs at the initialisation, (n, m) bool, or
      another activation's slopes there.
    weights: p_s, (n,), summing to one; 1/n each if not given.
    model: another one's activation and loss.
  """
  _, slopes = _forward(params, x, y, model)
  return pattern_gradient(params.a, p0, x, slopes, weights)


def pseudo_network_gradient(
  params: Params,
  p0: Bool[Array, 'n m'],
  x: Float[Array, 'n d'],
  y: Int[Array, ' n'],
  weights: Float[Array, ' n'] | None = None,
) -> Float[jax.Array, 'm d']:
  """The gradient of the pseudo-network g of Section 5.1, frozen throughout.

  Eq. (1) with the pattern frozen at p0 and o = softmax(g(x, w)): the gradient
  of a linear model, logistic regression on the features a_{i,r} 1[p0_r] x.

  Args:
    p0: the pattern of these inputs at the initialisation, (n, m) bool.
    weights: p_s, (n,), summing to one; 1/n each if not given.
  """
  slopes = residual(network.pseudo_logits(params, p0, x), y)
  return pattern_gradient(params.a, p0, x, slopes, weights)
