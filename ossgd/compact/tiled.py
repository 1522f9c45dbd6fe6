"""A block of steps of a wide network, its units tile by tile.

`engines.blocked` has the recursion. Where a row of m numbers is large, what it
costs is memory moved, not FLOPs: so nothing as large as the block's U is there
beside it, and what is added up over units is added up in cache.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from ossgd.compact import coefficients
from ossgd.compact.coefficients import Visited, Visits
from ossgd.paper import metrics, network
from ossgd.paper.choices import gated
from ossgd.paper.model import Model
from ossgd.paper.types import matmul


def updates(
  a: jax.Array,
  h: jax.Array,
  rows: jax.Array,
  gram: jax.Array,
  y: jax.Array,
  active: jax.Array | np.ndarray,
  rate: ArrayLike,
  model: Model,
  *,
  tile: int,
) -> tuple[jax.Array, jax.Array]:
  """U_t of every step of a block, where w alone is trained.

  Args:
    a: output weights, (k, m).
    h: pre-activations before the block, (n, m).
    rows: of the batches among them, (S, B).
    gram: X_t X_u^T, (S, B, S, B).
    y: labels, (S, B).
    active: False for a step that is not to be taken, (S,).
    rate: eta / B.
    model: activation and loss.
    tile: units at a time, which divides m.

  Returns:
    U (S, B, m), and -eta/B times the residuals, (S, B, k); zero where not
    active.
  """

  def step(u, told):
    t, own_rows, among, own_y, is_active = told
    h_t, f = _outputs(a, h[own_rows], among, u, t, model, tile=tile)
    own = -model.residual(f, own_y) * rate
    u_t = gated(matmul(own, a), model.slope(h_t))
    u = u.at[t].set(jnp.where(is_active, u_t, 0.0))
    return u, jnp.where(is_active, own, 0.0)

  none = jnp.zeros((*rows.shape, a.shape[1]), a.dtype)
  order = jnp.arange(rows.shape[0], dtype=jnp.int32)
  among = jnp.swapaxes(gram, 1, 2)  # of each step with each
  return jax.lax.scan(step, none, (order, rows, among, y, active))


def _outputs(
  a: jax.Array,
  h: jax.Array,
  among: jax.Array,
  u: jax.Array,
  t: jax.Array,
  model: Model,
  *,
  tile: int,
) -> tuple[jax.Array, jax.Array]:
  """Pre-activations and outputs of step t, after those before it.

  Args:
    h: with the weights before the block, (B, m).
    among: K of its batch and that of each step, (S, B, B).
    u: U of the block so far, (S, B, m).
  """
  batch_size = h.shape[0]

  def add(i, carry):
    moved, f = carry

    def after(s, own_h):
      start = s, jnp.int32(0), i * tile
      u_s = jax.lax.dynamic_slice(u, start, (1, batch_size, tile))
      return own_h + matmul(among[s], u_s[0])

    own_h = jax.lax.fori_loop(jnp.int32(0), t, after, _columns(h, i, tile))
    moved = jax.lax.dynamic_update_slice_in_dim(moved, own_h, i * tile, 1)
    return moved, f + network.outputs(_columns(a, i, tile), own_h, model)

  none = jnp.zeros((batch_size, a.shape[0]), h.dtype)
  number = h.shape[1] // tile
  return jax.lax.fori_loop(jnp.int32(0), number, add, (h, none))


def visited(
  visits: Visits,
  new: Visited,
  u: jax.Array,
  a: jax.Array,
  gram: jax.Array,
  among: jax.Array,
  *,
  tile: int,
) -> tuple[jax.Array, jax.Array]:
  """Patterns after a block, and `metrics.squared_distances` without h_s(0).

  h_s(t) - h_s(0) is K_{s, train} C before the block, and K times the updates
  of its earlier steps. Each tile finds its part of C again.

  Args:
    visits: before the block, of N examples.
    new: the block's S B visits.
    u: U, (S, B, m).
    a: output weights, (k, m).
    gram: K of the block's examples and all training examples, (S B, N).
    among: of the block's own, (S, B, S, B).
    tile: units at a time, which divides m.

  Returns:
    Those of all visits, and what each step adds to ||W - W(0)||^2, (S,).
  """
  order, flat = jnp.arange(among.shape[0]), gram.shape[0]
  is_earlier = order[:, None, None, None] > order[None, None, :, None]
  earlier = jnp.where(is_earlier, among, 0.0).reshape(flat, flat)

  def of_units(patterns, i):
    columns = functools.partial(_columns, i=i, tile=tile)
    own, own_u = visits._replace(patterns=columns(patterns)), columns(u)
    c = coefficients.coefficients(own, columns(a), new.visit[0] + 1)
    rows = own_u.reshape(flat, tile)
    moved = matmul(gram, c) + matmul(earlier, rows)
    patterns = jax.lax.dynamic_update_slice_in_dim(
      patterns, coefficients.marked(own, new, rows), i * tile, 1
    )
    moved = moved.reshape(own_u.shape)
    return patterns, metrics.squared_distances(own_u, moved, among)

  number = jnp.arange(u.shape[-1] // tile)
  patterns, parts = jax.lax.scan(of_units, visits.patterns, number)
  return patterns, jnp.sum(parts, axis=0)


def _columns(v: jax.Array, i: jax.Array, tile: int) -> jax.Array:
  return jax.lax.dynamic_slice_in_dim(v, i * tile, tile, v.ndim - 1)
