"""C, what w has of every training input, as the patterns it is made of.

Every visit v of an example adds to its row of C what eq. (1) says,

  u = 1[h >= 0] * (a^T s),                     s = -eta/B residual, (k,),

so C follows from one bit a visit and unit, where float32 takes 32 whatever the
number of visits, and from the few numbers s of every visit. Eight visits of an
example share a byte.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from ossgd.paper.types import matmul


class Visits(NamedTuple):
  """What training has seen: of N examples at most V visits each."""

  # Bit v % 8 of row v // 8 and s: whether s moved the unit on its visit v.
  patterns: jax.Array  # (ceil(V / 8) N, m) uint8
  slopes: jax.Array  # s of each visit: (V, N, k); zero where there was none


class Visited(NamedTuple):
  """Some more visits, each of which is new."""

  examples: jax.Array  # which: (q,)
  visit: jax.Array  # which visit of each, in the order of steps: (q,)
  slopes: jax.Array  # s of each, (q, k); zero for one that is not to count


def nothing(
  num_visits: int, num_examples: int, num_classes: int, width: int
) -> Visits:
  """Before the first step."""
  planes = -(-num_visits // 8)
  return Visits(
    jnp.zeros((planes * num_examples, width), jnp.uint8),
    jnp.zeros((num_visits, num_examples, num_classes), jnp.float32),
  )


def told(slopes: jax.Array, new: Visited) -> jax.Array:
  """The slopes of all visits with those of new ones: (V, N, k)."""
  return slopes.at[new.visit, new.examples].add(new.slopes)


def marked(visits: Visits, new: Visited, u: jax.Array) -> jax.Array:
  """The patterns of all visits with those of new ones.

  Args:
    visits: with the columns of some units.
    new: visits.
    u: what each adds to C, (q, units); zero for one that is not to count.
  """
  rows = new.visit // 8 * visits.slopes.shape[1] + new.examples
  bits = (u != 0).astype(jnp.uint8) << (new.visit % 8).astype(jnp.uint8)[
    :, None
  ]
  return visits.patterns.at[rows].add(bits)


def coefficients(
  visits: Visits, a: jax.Array, num_visits: jax.Array | int
) -> jax.Array:
  """C of some units after so many visits of each example: (N, units).

  Args:
    visits: with the columns of these units.
    a: their output weights, (k, units).
    num_visits: at least those that there were.
  """
  number = visits.slopes.shape[1]

  def add(v, c):
    rows = jax.lax.dynamic_slice_in_dim(
      visits.patterns, v // 8 * number, number
    )
    moved = (rows >> (v % 8).astype(jnp.uint8)) & 1
    return c + jnp.where(moved == 1, matmul(visits.slopes[v], a), 0.0)

  none = jnp.zeros((number, a.shape[1]), a.dtype)
  return jax.lax.fori_loop(0, jnp.int32(num_visits), add, none)
