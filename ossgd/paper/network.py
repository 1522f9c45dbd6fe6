"""The two-layer network f of Section 3 and the pseudo-network g.

Neither has biases. What is not the paper's, ReLU's above all, is said by a
`Model`.
"""

from collections.abc import Callable

import chex
import jax
import jax.numpy as jnp
from jaxtyping import Bool, Float, Int, Key

from ossgd.paper.choices import gated
from ossgd.paper.model import PAPER, Model
from ossgd.paper.types import Array, Params, matmul, normal


def init_params(
  key: Key[Array, ''],
  *,
  width: int,
  dim: int,
  num_classes: int,
  scale: float = 1.0,
  model: Model = PAPER,
  normal: Callable = normal,
) -> Params:
  """Random initialisation (A3): w_r ~ N(0, scale^2 / m I), a_{i,r} ~ N(0, 1).

  The standard deviation of each entry of w is scale / sqrt(m): Section 7's
  "N(0, 1/sqrt m)" is read as (A3) states it, with sigma = 1 / sqrt(m).

  The antisymmetric start draws m / 2 units and puts beside each one with the
  same w and the opposite a. So f is zero, to the bit where a matmul adds unit
  after unit (seen on a CPU), and to a few units of float32 at sqrt(sum_r
  (a_{i,r} phi(h_r))^2) where it is cut elsewhere, as by the Gram engine's
  tiles.
  No f_i is then the largest, or rounding says which: accuracies at step 0 mean
  nothing.

  Args:
    key: PRNG key, consumed.
    width: m; even for the antisymmetric start.
    dim: d, input coordinates.
    scale: multiplies 1 / sqrt(m).
    model: its output law and its start.
    normal: draws N(0, 1) for w: (key, shape) -> array.

  Returns:
    Params of w (m, d) and a (k, m), float32.
  """
  if not isinstance(model.start, str):
    sizes = {'width': width, 'dim': dim, 'num_classes': num_classes}
    return Params(*model.start(key, **sizes, scale=scale))
  paired = model.start == 'antisymmetric'
  drawn = int(width) // (2 if paired else 1)  # NumPy's is no int
  key_w, key_a = jax.random.split(key)
  w = normal(key_w, (drawn, dim))
  a = model.draw_outputs(key_a, (num_classes, drawn))
  if paired:
    w = jnp.repeat(w, 2, axis=0)
    a = jnp.stack([a, -a], axis=-1).reshape(num_classes, width)
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
  return matmul(gated(h, p), a.T)


def outputs(
  a: Float[Array, 'k m'], h: Float[Array, 'n m'], model: Model = PAPER
) -> Float[jax.Array, 'n k']:
  """f = sum_r a_{i,r} phi(h_r), from pre-activations (n, m) -> (n, k)."""
  return matmul(model.phi(h), a.T)


def linearised_outputs(
  a: Float[Array, 'k m'],
  h: Float[Array, 'n m'],
  h0: Float[Array, 'n m'],
  model: Model = PAPER,
) -> Float[jax.Array, 'n k']:
  """sum_r a_{i,r} (phi(h0_r) + phi'(h0_r) (h_r - h0_r)): f linearised at w(0).

  Where phi is piecewise linear this is g of Section 5.1, phi'(h0_r) h_r.

  Args:
    h: pre-activations of today, (n, m).
    h0: those of w(0), (n, m).
  """
  chex.assert_equal_shape([h, h0])
  if model.piecewise_linear:
    return matmul(gated(h, model.slope(h0)), a.T)
  return matmul(model.phi(h0) + gated(h - h0, model.slope(h0)), a.T)


def logits(
  params: Params, x: Float[Array, 'n d'], model: Model = PAPER
) -> Float[jax.Array, 'n k']:
  """f_i(x) = sum_r a_{i,r} phi(<w_r, x>), Section 3: x (n, d) -> (n, k)."""
  return outputs(params.a, preactivations(params.w, x), model)


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
  model: Model = PAPER,
) -> Float[jax.Array, '']:
  """Cross entropy over the softmax: sum_s p_s (-log o_{y_s}(x_s)), Section 3.

  Args:
    weights: p_s, (n,), summing to one; 1/n each if not given. Appendix A's
      simplified case (S) weighs its points by p_{a,b}.
    model: another one's loss in its place.

  Returns:
    A scalar, of cross entropy in nats.
  """
  chex.assert_rank([f, y], [2, 1])
  losses = model.losses(f, y)
  return jnp.mean(losses) if weights is None else jnp.sum(weights * losses)
