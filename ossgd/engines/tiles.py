"""The Gram engine's pass over the units: H through a chunk, tile by tile.

H(t+1) = H(t) + K_{all, batch} U_t touches every unit and every example, but no
unit needs another. So the units are taken in tiles of H that stay in cache
while they pass all steps of a chunk, and what is recorded is summed over tiles.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, PartitionSpec

from ossgd.engines import measuring, meshes
from ossgd.engines.setup import Setup
from ossgd.paper import metrics, network
from ossgd.paper.types import Split, matmul
from ossgd.recording import recorders
from ossgd.recording.recorders import EXAMPLES, Examples, Record

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


def several(units: int) -> int:
  """Units in up to four tiles, for what has few rows of each."""
  size = width(units)
  return size * next(n for n in (4, 3, 2, 1) if units % (n * size) == 0)


class Initial(NamedTuple):
  """What recorders look at of w(0)."""

  patterns: dict[Examples, jax.Array]  # of each: bits, (ceil(n / 8), M)
  # Pre-activations, of training examples first, if any are looked at: (n, M).
  h: jax.Array | None


class Sums(NamedTuple):
  """What is recorded of units, of each of P pieces."""

  logits: jax.Array  # of all examples: (P, n, k)
  counts: Record  # how many pairs recorders of patterns are True of: (P,)
  units: Record  # of recorders of units: (P, ...)


def pass_over(setup: Setup, mesh: Mesh | None) -> Callable:
  """`pass_over_units`; on a mesh every device goes through its own units."""
  if mesh is None:
    return functools.partial(pass_over_units, setup)

  def pass_over_own(h, *others):
    tiles = h.shape[1] // width(h.shape[1])
    first = jax.lax.axis_index(meshes.UNIT) * tiles
    h, sums = pass_over_units(setup, h, *others, first=first)
    logits, counts = jax.lax.psum(sums[:2], meshes.UNIT)
    units = recorders.across(setup.measured, sums.units, meshes.UNIT)
    return h, Sums(logits, counts, units)

  split, whole = meshes.COLUMNS, meshes.WHOLE
  updates = PartitionSpec(None, None, meshes.UNIT)
  outputs = updates if setup.model.layers == 'both' else split
  return jax.shard_map(
    pass_over_own,
    mesh=mesh,
    in_specs=(split, outputs, split, whole, updates, whole),
    out_specs=(split, whole),
    check_vma=False,  # sums begin at zero, the same on all devices
  )


def pass_over_units(
  setup: Setup,
  h: jax.Array,
  a: jax.Array,
  initial: Initial,
  gram: jax.Array,
  updates: jax.Array,
  recorded: jax.Array,
  *,
  first: jax.Array | int = 0,
) -> tuple[jax.Array, Sums]:
  """Moves H tile by tile, and sums what is recorded over the tiles.

  Args:
    setup: of the run.
    h: (n, M).
    a: output weights, (k, M), or of each piece, (P, k, M).
    initial: of w(0).
    gram: K of the rows of each piece, (P, n, q).
    updates: U of each piece, (P, q, M).
    recorded: (P,).
    first: number of the first tile among those of all devices.

  Returns:
    H after the chunk (n, M), and what is recorded of each piece.
  """
  size = width(h.shape[1])
  numbers = setup.recorder_sizes.examples

  def tile(i, carry):
    h, sums = carry

    def part(values):
      return jax.lax.dynamic_slice_in_dim(
        values, i * size, size, values.ndim - 1
      )

    own_h, own_a, own_initial, own_updates = jax.tree.map(
      part, (h, a, initial, updates)
    )
    own_initial = own_initial._replace(
      patterns={
        e: jnp.unpackbits(p, axis=0, count=numbers[e]).astype(bool)
        for e, p in own_initial.patterns.items()
      }
    )
    part_h, more = _pass_one(
      setup, own_h, own_a, own_initial, gram, own_updates, recorded, first + i
    )
    h = jax.lax.dynamic_update_slice_in_dim(h, part_h, i * size, 1)
    # A tile's number is exact in float32 up to 2^24, that of all need not be.
    counts = {
      name: number + more.counts[name].astype(number.dtype)
      for name, number in sums.counts.items()
    }
    units = recorders.together(setup.measured, sums.units, more.units)
    return h, Sums(sums.logits + more.logits, counts, units)

  nothing = _of_no_unit(setup, h, a, initial, recorded.shape[0])
  h, sums = jax.lax.fori_loop(0, h.shape[1] // size, tile, (h, nothing))
  counts = {name: v.astype(h.dtype) for name, v in sums.counts.items()}
  return h, sums._replace(counts=counts)


def _of_no_unit(
  setup: Setup, h: jax.Array, a: jax.Array, initial: Initial, pieces: int
) -> Sums:
  """What is recorded before the first tile."""
  counts = {}
  for recorder in recorders.of_kind(setup.measured, 'of_pattern'):
    numbers = setup.recorder_sizes.examples
    most = numbers[recorder.examples] * h.shape[1]
    counts[recorder.name] = jnp.zeros(pieces, metrics.counting_type(most))
  units = jax.tree.map(
    lambda v: jnp.broadcast_to(v, (pieces, *v.shape)),
    recorders.none_of(setup.measured, setup.record_shapes),
  )
  logits = jnp.zeros((pieces, h.shape[0], a.shape[-2]), h.dtype)
  return Sums(logits, counts, units)


def _pass_one(
  setup: Setup,
  h: jax.Array,
  a: jax.Array,
  initial: Initial,
  gram: jax.Array,
  updates: jax.Array,
  recorded: jax.Array,
  index: jax.Array | int,
) -> tuple[jax.Array, Sums]:
  """`pass_over_units` of a single tile; zeros for what is not recorded."""

  def measure(h, a):
    p = h >= 0
    counts = {}
    for examples, p0 in initial.patterns.items():
      rows = setup.rows(examples)
      for name, holds in recorders.of_pattern(
        setup.measured, examples, p[rows], p0
      ).items():
        counts[name] = jnp.sum(jnp.where(holds, 1.0, 0.0).astype(h.dtype))
    units = _of_real_units(setup, h, a, initial.h, index)
    return Sums(network.outputs(a, h, setup.model), counts, units)

  def nothing(h, a):
    shapes = jax.eval_shape(measure, h, a)
    return jax.tree.map(lambda v: jnp.zeros(v.shape, v.dtype), shapes)

  def piece(h, inputs):
    gram, updates, recorded, moved = inputs
    h = _moved(h, gram, updates)
    outputs = a if moved is None else moved
    return h, jax.lax.cond(recorded, measure, nothing, h, outputs)

  moved = a if a.ndim == 3 else None
  return jax.lax.scan(piece, h, (gram, updates, recorded, moved))


def _of_real_units(
  setup: Setup,
  h: jax.Array,
  a: jax.Array,
  h0: jax.Array | None,
  index: jax.Array | int,
) -> Record:
  """What is recorded of a tile's units, without those that fill up tiles."""

  if not recorders.of_kind(setup.measured, 'of_units'):
    return {}

  def of_first(units):
    today = {e: h[setup.rows(e), :units] for e in EXAMPLES}
    begun = dict(today)
    if h0 is not None:
      begun |= {e: h0[setup.rows(e), :units] for e in setup.initial_of}
    return recorders.of_units(setup.measured, today, begun, a[:, :units])

  size = h.shape[1]
  # Real ones come first: whole tiles, then one in part, then none.
  whole, rest = divmod(setup.width, size)

  def none():
    return recorders.none_of(setup.measured, setup.record_shapes)

  return jax.lax.switch(
    jnp.clip(index - whole + 1, 0, 2),
    [
      lambda: of_first(size),
      lambda: of_first(rest) if rest else none(),
      none,
    ],
  )


def record(
  setup: Setup,
  sums: Sums,
  split: Split,
  num_patterns: dict[Examples, jax.Array],
  padding: int,
) -> Record:
  """What is recorded of each piece: arrays (P, ...).

  Args:
    setup: of the run.
    sums: over the tiles, with units that fill them up.
    split: the data.
    num_patterns: n m of each data set that patterns are looked at for.
    padding: the number of units that fill up tiles.
  """

  def of_piece(f):
    found: Record = {}
    for e, data in measuring.evaluated(split, setup.num_train_eval).items():
      found |= recorders.of_logits(setup.measured, e, f[setup.rows(e)], data.y)
    return found

  found = jax.vmap(of_piece)(sums.logits) | sums.units
  for recorder in recorders.of_kind(setup.measured, 'of_pattern'):
    number = sums.counts[recorder.name]
    with jax.ensure_compile_time_eval():
      counted = recorder.function(np.True_, np.True_)
    if counted:  # units of the padding are active, today as at w(0)
      number -= padding * setup.recorder_sizes.examples[recorder.examples]
    found[recorder.name] = number / num_patterns[recorder.examples]
  return found


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
