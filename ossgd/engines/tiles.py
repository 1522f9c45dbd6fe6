"""The Gram engine's pass over the units: H through a chunk, tile by tile.

H(t+1) = H(t) + K_{all, batch} U_t touches every unit and every example, but no
unit needs another. So the units are taken in tiles of H that stay in cache
while they pass all steps of a chunk, and what is recorded is summed over tiles.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, PartitionSpec

from ossgd.engines import measuring, meshes
from ossgd.paper import metrics, network
from ossgd.paper.model import PAPER, Model
from ossgd.paper.types import matmul

# At 2000 examples a tile of H has 4 MB: 512 was the fastest of 64 to 1024.
_WIDTH = 512
# Up to so many rows, sums of products go faster than a matmul; see `_moved`.
_FEW = 16


def width(units: int) -> int:
  """Units in a tile: whole tiles if a width close to the best one divides."""
  if units <= _WIDTH:
    return units
  fitting = (u for u in range(_WIDTH, _WIDTH // 2 - 1, -1) if units % u == 0)
  return next(fitting, -(-units // -(-units // _WIDTH)))


def pass_over(mesh: Mesh | None, model: Model = PAPER) -> Callable:
  """`pass_over_units`; on a mesh every device goes through its own units."""
  pass_over_all = functools.partial(pass_over_units, model=model)
  if mesh is None:
    return pass_over_all

  def pass_over_own(*arguments):
    h, *sums = pass_over_all(*arguments)
    return h, *jax.lax.psum(sums, meshes.UNIT)

  split, whole = meshes.COLUMNS, meshes.WHOLE
  updates = PartitionSpec(None, None, meshes.UNIT)
  return jax.shard_map(
    pass_over_own,
    mesh=mesh,
    in_specs=(split, split, split, whole, updates, whole),
    out_specs=(split, whole, whole),
    check_vma=False,  # sums begin at zero, the same on all devices
  )


def pass_over_units(
  h: jax.Array,
  a: jax.Array,
  pattern: jax.Array | None,
  gram: jax.Array,
  updates: jax.Array,
  recorded: jax.Array,
  *,
  model: Model = PAPER,
) -> tuple[jax.Array, jax.Array, dict[str, jax.Array]]:
  """Moves H tile by tile, and sums what is recorded over the tiles.

  Args:
    h: (n, M).
    a: output weights, (k, M).
    pattern: of the test examples at w(0), (n - N, M) bool, if any.
    gram: K of the rows of each piece, (P, n, q).
    updates: U of each piece, (P, q, M).
    recorded: (P,).
    model: of the activation.

  Returns:
    H after the chunk (n, M), logits (P, n, k), and how many pairs of a unit and
    a test example each metric of the pattern is True of (P,), by name.
  """
  size = width(h.shape[1])

  def tile(i, carry):
    h, logits, counts = carry

    def part(values):
      return jax.lax.dynamic_slice_in_dim(
        values, i * size, size, values.ndim - 1
      )

    part_h, (f, more) = _pass_one(
      part(h),
      part(a),
      None if pattern is None else part(pattern),
      gram,
      part(updates),
      recorded,
      model,
    )
    h = jax.lax.dynamic_update_slice_in_dim(h, part_h, i * size, 1)
    # A tile's number is exact in float32, that of all tiles need not be.
    counts = {n: counts[n] + more[n].astype(counts[n].dtype) for n in counts}
    return h, logits + f, counts

  pieces = recorded.shape[0]
  zeros = jnp.zeros((pieces, h.shape[0], a.shape[0]), h.dtype)
  nothing = {}
  if pattern is not None:
    none = jnp.zeros(pieces, metrics.counting_type(pattern.size))
    nothing = dict.fromkeys(measuring.of_pattern(pattern, pattern), none)
  h, logits, counts = jax.lax.fori_loop(
    0, h.shape[1] // size, tile, (h, zeros, nothing)
  )
  return h, logits, {n: v.astype(h.dtype) for n, v in counts.items()}


def _pass_one(
  h: jax.Array,
  a: jax.Array,
  pattern: jax.Array | None,
  gram: jax.Array,
  updates: jax.Array,
  recorded: jax.Array,
  model: Model,
) -> tuple[jax.Array, tuple[jax.Array, dict[str, jax.Array]]]:
  """`pass_over_units` of a single tile; zeros for what is not recorded."""

  def count(h, pattern):
    tested = h[h.shape[0] - pattern.shape[0] :]
    return {
      name: jnp.sum(jnp.where(holds, 1.0, 0.0).astype(h.dtype))
      for name, holds in measuring.of_pattern(tested >= 0, pattern).items()
    }

  def measure(h):
    counts = {} if pattern is None else count(h, pattern)
    return network.outputs(a, h, model), counts

  def nothing(h):
    shapes = jax.eval_shape(measure, h)
    return jax.tree.map(lambda v: jnp.zeros(v.shape, v.dtype), shapes)

  def piece(h, inputs):
    gram, updates, recorded = inputs
    h = _moved(h, gram, updates)
    return h, jax.lax.cond(recorded, measure, nothing, h)

  return jax.lax.scan(piece, h, (gram, updates, recorded))


def _moved(h: jax.Array, gram: jax.Array, updates: jax.Array) -> jax.Array:
  """H + K U: (n, q) and (q, tile) added to (n, tile).

  A matmul of few rows spends its time writing the product, and the addition
  reads it again. On a CPU a sum of products is compiled into one pass that
  adds in place: with 16 rows it takes half the time, with 128 twice.
  """

  def multiplied(h, gram, updates):
    return h + matmul(gram, updates)

  def summed(h, gram, updates):
    return h + jnp.sum(gram[:, :, None] * updates[None], axis=1)

  if gram.shape[1] > _FEW:
    return multiplied(h, gram, updates)
  return jax.lax.platform_dependent(
    h, gram, updates, cpu=summed, default=multiplied
  )
