"""Normal numbers piece by piece: those of `jax.random.normal`, to the bit.

JAX draws a whole array at once, and on a CPU its random bits take four times
the array's size on the way. Threefry's bits at a place depend on the key and
the place alone, and `jax.random.fold_in` gives those of any place: pieces that
stay in cache need no memory, and take a third of the time.
"""

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from ossgd.paper.types import normal

_PIECE = 2**16  # numbers that are under way at a time
_FEW = 2**20  # not worth looking at how bits are made


def whole(
  key: jax.Array, shape: tuple[int, int], std: ArrayLike = 1.0
) -> jax.Array:
  """`jax.random.normal` of a matrix, times a standard deviation."""
  return normal(key, shape) * std


def draw(
  key: jax.Array, shape: tuple[int, int], std: ArrayLike = 1.0
) -> jax.Array:
  """`whole` to the bit, a piece at a time on a CPU.

  Whole where it is small, where another generator is asked for, or on devices
  that go through all places side by side.

  Args:
    key: PRNG key, consumed.
    shape: rows and columns.
    std: of the numbers. A compiler rounds products of several factors in an
      order of its own, so pieces are multiplied where they are drawn.
  """

  def pieces(key, std):
    number, dim = shape
    at_once = min(number, max(1, _PIECE // dim))

    def piece(i, drawn):
      first = jnp.minimum(i * at_once, number - at_once)
      some = rows(key, first, at_once, dim) * std
      return jax.lax.dynamic_update_slice_in_dim(drawn, some, first, 0)

    nothing = jnp.zeros(shape, jnp.float32)
    return jax.lax.fori_loop(0, -(-number // at_once), piece, nothing)

  if not draws_pieces(key, shape):
    return whole(key, shape, std)
  std = jnp.asarray(std, jnp.float32)
  return jax.lax.platform_dependent(
    key, std, cpu=pieces, default=lambda key, std: whole(key, shape, std)
  )


def draws_pieces(key: jax.Array, shape: tuple[int, int]) -> bool:
  """Whether `draw` needs no memory on a CPU beside what it draws."""
  return math.prod(shape) >= _FEW and can_draw_rows(key, shape)


def can_draw_rows(key: jax.Array, shape: tuple[int, int]) -> bool:
  """Whether `rows` are those of this matrix; how JAX makes bits is its own."""
  is_key = jax.dtypes.issubdtype(key.dtype, jax.dtypes.prng_key)
  if not is_key or math.prod(shape) > 2**32:
    return False
  config: Any = jax.config  # its options are attributes made at run time
  impl = str(jax.random.key_impl(key))
  return _as_folded(impl, config.jax_threefry_partitionable)


@functools.cache
def _as_folded(impl: str, partitionable: bool) -> bool:
  """Whether bits are made as `rows` has it, which is tried."""
  del partitionable  # the answer is that of today's configuration
  with jax.ensure_compile_time_eval():
    key, again = (jax.random.key(1, impl=impl) for _ in range(2))
    if jax.random.key_data(key).shape != (2,):
      return False
    expected = jax.random.normal(key, (5, 7), jnp.float32)[1:4]
    found = rows(again, 1, 3, 7)
    return bool(jnp.allclose(found, expected, rtol=1e-6))


def rows(
  key: jax.Array, first: jax.Array | int, number: int, dim: int
) -> jax.Array:
  """Rows of the matrix that `draw` draws: (number, dim) float32.

  sqrt(2) erf^-1(u), with u uniform on the grid of 2^23 numbers in (-1, 1).

  Args:
    key: PRNG key.
    first: of the rows.
    number: of rows.
    dim: columns of the matrix.
  """
  own = jnp.arange(number * dim, dtype=jnp.uint32)
  places = jnp.asarray(first).astype(jnp.uint32) * jnp.uint32(dim) + own
  keys = jax.vmap(jax.random.fold_in, (None, 0))(key, places)
  halves = jax.random.key_data(keys)
  bits = halves[:, 0] ^ halves[:, 1]
  # Mantissas of numbers from 1 to 2.
  mantissas = (bits >> 9) | jnp.uint32(0x3F800000)
  uniform = jax.lax.bitcast_convert_type(mantissas, jnp.float32) - 1
  low, high = np.nextafter(np.float32(-1), np.float32(0)), np.float32(1)
  u = jnp.maximum(low, uniform * (high - low) + low)
  return (np.float32(np.sqrt(2)) * jax.lax.erf_inv(u)).reshape(number, dim)
