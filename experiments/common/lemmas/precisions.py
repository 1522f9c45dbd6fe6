"""The network and its gradient by matmuls whose operands are rounded."""

import jax
import jax.numpy as jnp

from ossgd.paper import gradients
from ossgd.paper.types import Params, matmul

# Bits of the significand that are stored; the leading one is not.
STORED_BITS = {'float32': 23, 'tensorfloat32': 10, 'bfloat16': 7}


def rounded_matmul(a: jax.Array, b: jax.Array, bits: int) -> jax.Array:
  """a @ b, (p, q) by (q, r), of operands rounded to nearest even: (p, r).

  Of the significand so many bits are stored, of the exponent all eight; sums
  are float32.
  """
  a, b = (jax.lax.reduce_precision(v, 8, bits) for v in (a, b))
  return matmul(a, b)


def forward(
  params: Params, x: jax.Array, bits: int
) -> tuple[jax.Array, jax.Array]:
  """Pattern (n, m) and logits (n, k), by rounded matmuls."""
  h = rounded_matmul(x, params.w.T, bits)
  p = h >= 0
  return p, rounded_matmul(jnp.where(p, h, 0.0), params.a.T, bits)


def rounded_gradient(
  params: Params, w0: jax.Array, x: jax.Array, y: jax.Array, *, bits: int
) -> jax.Array:
  """Eq. (1) averaged over a batch, by rounded matmuls: (m, d)."""
  del w0
  p, f = forward(params, x, bits)
  slopes = gradients.residual(f, y) / len(y)
  backward = rounded_matmul(slopes, params.a, bits)
  return rounded_matmul(jnp.where(p, backward, 0.0).T, x, bits)
