"""The two-layer ReLU network f of Section 3 and the pseudo-network g.

Neither has biases; only the hidden weights are trained.
"""

import chex
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Bool, Float, Int, Key

from ossgd.paper.types import Array, Params, matmul


def init_params(
  key: Key[Array, ''],
  *,
  width: int,
  dim: int,
  num_classes: int,
  scale: float = 1.0,
) -> Params:
  """Random initialisation (A3): w_r ~ N(0, scale^2 / m I), a_{i,r} ~ N(0, 1).

  The standard deviation of each entry of w is scale / sqrt(m): Section 7's
  "N(0, 1/sqrt m)" is read as (A3) states it, with sigma = 1 / sqrt(m).

  Args:
    key: PRNG key, consumed.
    dim: d, input coordinates.
    scale: multiplies 1 / sqrt(m).

  Returns:
    Params of w (m, d) and a (k, m), float32.
  """
  key_w, key_a = jax.random.split(key)
  w = jax.random.normal(key_w, (width, dim), jnp.float32)
  a = jax.random.normal(key_a, (num_classes, width), jnp.float32)
  return Params(w * jnp.float32(scale / width**0.5), a)


def preactivations(
  w: Float[Array, 'm d'], x: Float[Array, 'n d']
) -> Float[jax.Array, 'n m']:
  """<w_r, x_s> for every example and unit: w (m, d), x (n, d) -> (n, m)."""
  chex.assert_rank([w, x], 2)
  return matmul(x, w.T)


def pattern(
  w: Float[Array, 'm d'], x: Float[Array, 'n d']
) -> Bool[jax.Array, 'n m']:
  """1[<w_r, x_s> >= 0], the activation pattern of eq. (1).

  A unit at exactly zero counts as active, as in eq. (1).
  """
  return preactivations(w, x) >= 0


def gated_logits(
  a: Float[Array, 'k m'], h: Float[Array, 'n m'], p: Bool[Array, 'n m']
) -> Float[jax.Array, 'n k']:
  """sum_r a_{i,r} h_r 1[p_r]: f if p is h's own pattern, g if it is not."""
  chex.assert_equal_shape([h, p])
  return matmul(jnp.where(p, h, jnp.zeros((), h.dtype)), a.T)


def logits(params: Params, x: Float[Array, 'n d']) -> Float[jax.Array, 'n k']:
  """f_i(x) = sum_r a_{i,r} ReLU(<w_r, x>), Section 3: x (n, d) -> (n, k)."""
  h = preactivations(params.w, x)
  return gated_logits(params.a, h, h >= 0)


def pseudo_logits(
  params: Params, p0: Bool[Array, 'n m'], x: Float[Array, 'n d']
) -> Float[jax.Array, 'n k']:
  """g_i(x) = sum_r a_{i,r} <w_r, x> 1[<w_r(0), x> >= 0], Section 5.1.

  Linear in w; equal to the linearisation of f around w(0).

  Args:
    params: w (m, d) of today, a (k, m).
    p0: the fixed pattern of these inputs, (n, m) bool.
  """
  return gated_logits(params.a, preactivations(params.w, x), p0)


def loss(
  f: Float[Array, 'n k'],
  y: Int[Array, ' n'],
  weights: Float[Array, ' n'] | None = None,
) -> Float[jax.Array, '']:
  """Cross entropy over the softmax: sum_s p_s (-log o_{y_s}(x_s)), Section 3.

  Args:
    weights: p_s, (n,), summing to one; 1/n each if not given. Appendix A's
      simplified case (S) weighs its points by p_{a,b}.

  Returns:
    A scalar in nats.
  """
  chex.assert_rank([f, y], [2, 1])
  losses = optax.softmax_cross_entropy_with_integer_labels(f, y)
  return jnp.mean(losses) if weights is None else jnp.sum(weights * losses)
