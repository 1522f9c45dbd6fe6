"""What Section 7 reports, as pure functions of logits, patterns and weights."""

from collections.abc import Callable

import chex
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float, Int
from numpy.typing import ArrayLike

from ossgd.paper.types import Array, matmul

_ROWS_AT_ONCE = 2**14


def share(
  holds: Bool[Array, '...'], axis: int | None = None
) -> Float[jax.Array, '...']:
  """How many are True, divided by how many there are: bool -> float32.

  Correctly rounded below 2^24 of them, within 1e-6 of itself above. A mean is
  not: XLA multiplies by a rounded 1/n, and all of 41 come out below 1.
  """
  total = holds.size if axis is None else holds.shape[axis]
  number = jnp.sum(holds, axis, dtype=counting_type(total))
  # A constant divisor would become that reciprocal.
  divisor = jax.lax.optimization_barrier(jnp.float32(total))
  return number.astype(jnp.float32) / divisor


def counting_type(most: int) -> type[np.number]:
  """int32, which is exact, if it counts so far; else float32."""
  return np.int32 if most < 2**31 else np.float32


def num_correct(
  f: Float[Array, 'n k'], y: Int[Array, ' n']
) -> Int[jax.Array, '']:
  """Number of examples that `accuracy` counts: int32, in any precision."""
  return jnp.sum(_is_correct(f, y), dtype=jnp.int32)


def accuracy(
  f: Float[Array, 'n k'], y: Int[Array, ' n']
) -> Float[jax.Array, '']:
  """Fraction of examples with f_y > f_j for all j != y, as in Theorem 4.1.

  A tie for the first place is an error, and so is a logit that is not a
  number.

  Returns:
    A scalar in [0, 1], the count / n correctly rounded to float32.
  """
  return share(_is_correct(f, y))


def _is_correct(
  f: Float[Array, 'n k'], y: Int[Array, ' n']
) -> Bool[jax.Array, ' n']:
  """Whether f_y is above all others: (n, k), (n,) -> (n,) bool."""
  chex.assert_rank([f, y], [2, 1])
  is_label = y[:, None] == jnp.arange(f.shape[1])[None, :]
  own = jnp.sum(jnp.where(is_label, f, 0), axis=1)
  best_other = jnp.max(jnp.where(is_label, -jnp.inf, f), axis=1)
  return own > best_other


def pattern_difference(
  p: Bool[Array, '...'], p0: Bool[Array, '...']
) -> Float[jax.Array, '']:
  """Fraction of (unit, example) pairs whose pattern differs: (n, m) twice."""
  chex.assert_equal_shape([p, p0])
  return share(p != p0)


def relative_distance(
  w: Float[Array, '...'], w0: Float[Array, '...']
) -> Float[jax.Array, '']:
  """||w - w0||_F / ||w0||_F, Section 7: (m, d) twice -> scalar."""
  chex.assert_equal_shape([w, w0])
  return jnp.linalg.norm(w - w0) / jnp.linalg.norm(w0)


def spectrum(w: Float[Array, 'm d']) -> Float[jax.Array, ' q']:
  """Singular values of a matrix in descending order: (m, d) -> (min(m, d),).

  A QR decomposition first makes the matrix square at no loss of accuracy; a
  float32 Gram matrix would lose every value below 3e-4 of the largest.
  """
  chex.assert_rank(w, 2)
  tall = w if w.shape[0] >= w.shape[1] else w.T
  return jnp.linalg.svd(triangle(tall), compute_uv=False)


def triangle(tall: Float[Array, 'm d']) -> Float[jax.Array, 'd d']:
  """R of a QR decomposition: (m, d) -> (d, d), where m >= d."""

  def rows(first, number):
    return (jax.lax.dynamic_slice_in_dim(tall, first, number),)

  return triangles(rows, *tall.shape)[0]


def triangles(
  rows: Callable[[jax.Array | int, int], tuple[jax.Array, ...]],
  height: int,
  dim: int,
) -> list[jax.Array]:
  """`triangle` of several matrices, none of which need be there as a whole.

  A block of rows at a time, which needs little memory: [R; block] = Q R' and
  R'^T R' = R^T R + block^T block.

  Args:
    rows: so many rows of each matrix from the first one on: (number, d) each.
    height: m, of each.
    dim: d, at most m.
  """
  at_once = max(_ROWS_AT_ONCE, 4 * dim)
  whole = height // at_once * at_once

  def absorb(rs, i):
    blocks = rows(i * at_once, at_once)
    both = (jnp.concatenate(pair) for pair in zip(rs, blocks, strict=True))
    return [jnp.linalg.qr(one, mode='r') for one in both], None

  last = (jnp.linalg.qr(v, mode='r') for v in rows(whole, height - whole))
  # An exact multiple leaves no rows.
  rs = [jnp.pad(r, ((0, dim - r.shape[0]), (0, 0))) for r in last]
  if whole:
    rs, _ = jax.lax.scan(absorb, rs, jnp.arange(whole // at_once))
  return rs


def squared_distances(
  u: Float[Array, 's b m'],
  moved: Float[Array, 's b m'],
  gram: Float[Array, 's b s b'],
) -> Float[jax.Array, ' s']:
  """What each of several steps adds to ||W - W(0)||^2.

  sum_{s in batch} <u_s, 2 (h_s(t) - h_s(0)) + (X_t X_t^T U_t)_s>, where a step
  adds U_t^T X_t to W and h_s are pre-activations before it.

  Args:
    u: U of each step, (S, B, m).
    moved: h_s(t) - h_s(0) of its batch, (S, B, m).
    gram: X_t X_u^T of all batches, (S, B, S, B).

  Returns:
    (S,).
  """
  steps = jnp.arange(u.shape[0])
  own = gram[steps, :, steps]  # (S, B, B)
  products = jax.vmap(lambda u: matmul(u, u.T))(u)
  return 2 * jnp.sum(u * moved, (1, 2)) + jnp.sum(own * products, (1, 2))


def steps_to_accuracy(
  accuracies: ArrayLike, steps: ArrayLike, target: float
) -> np.ndarray:
  """The first recorded step with accuracy >= target, Figure 4; on the host.

  Args:
    accuracies: (..., t) at the recorded steps.
    steps: the recorded steps, (t,), increasing.
    target: in [0, 1].

  Returns:
    (...,) float; NaN where the target was never reached.
  """
  values = np.broadcast_to(steps, np.shape(accuracies))
  return at_accuracy(values, accuracies, target)


def at_accuracy(
  values: ArrayLike, accuracies: ArrayLike, target: float
) -> np.ndarray:
  """A recorded quantity where the target accuracy is first met, Figure 5.

  Accuracies are compared as they are, in NumPy: counts / n in float64 reach a
  target such as 0.98 exactly when the count does.

  Args:
    values: the quantity at the recorded steps, (..., t).
    accuracies: (..., t) at the same steps.
    target: in [0, 1].

  Returns:
    (...,) float; NaN where the target was never reached.
  """
  values, reached = np.asarray(values), np.asarray(accuracies) >= target
  chex.assert_equal_shape([values, reached])
  first = np.argmax(reached, axis=-1)
  value = np.take_along_axis(values, first[..., None], axis=-1)[..., 0]
  return np.where(reached.any(axis=-1), value, np.nan)
