"""w(0) in pieces has the bits of `jax.random.normal`, or is drawn whole."""

import functools
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
from absl.testing import parameterized

from ossgd.compact import normals


def bits(v):
  return np.asarray(v).view(np.uint32)


class NormalsTest(parameterized.TestCase):
  @parameterized.parameters((30, 40000), (1100, 1000), (150001, 7))
  def test_to_the_bit(self, *shape):
    """Whole, in pieces of which the last one overlaps, and by rows."""
    key, again, once_more = (jax.random.key(5) for _ in range(3))
    whole = jax.jit(lambda key: jax.random.normal(key, shape, jnp.float32))
    lowered = jax.jit(functools.partial(normals.draw, shape=shape)).lower(key)
    compiled = lowered.compile()
    expected = bits(whole(key))
    np.testing.assert_array_equal(bits(compiled(again)), expected)
    memory = compiled.memory_analysis().temp_size_in_bytes
    self.assertLess(memory, 4 * expected.size)
    first, number = shape[0] // 3, 2
    rows = jax.jit(lambda key, i: normals.rows(key, i, number, shape[1]))
    some = bits(rows(once_more, first))
    np.testing.assert_array_equal(some, expected[first : first + number])

  @parameterized.parameters((1100, 1000), (150001, 7))
  def test_standard_deviation(self, *shape):
    """As the whole matrix and its product are rounded when compiled as one."""
    key, again, once_more = (jax.random.key(7) for _ in range(3))
    std = np.float32(0.0123)
    normal = functools.partial(
      jax.random.normal, shape=shape, dtype=jnp.float32
    )
    expected = bits(jax.jit(lambda key, std: normal(key) * std)(key, std))
    drawn = jax.jit(functools.partial(normals.draw, shape=shape))
    np.testing.assert_array_equal(bits(drawn(again, std=std)), expected)
    first, number = shape[0] // 3, 2
    rows = jax.jit(
      lambda key, i, std: normals.rows(key, i, number, shape[1]) * std
    )
    some = bits(rows(once_more, first, std))
    np.testing.assert_array_equal(some, expected[first : first + number])

  def test_seeds_side_by_side(self):
    keys = jax.random.split(jax.random.key(2), 2)
    draw = functools.partial(normals.draw, shape=(2200, 500))
    drawn = jax.jit(jax.vmap(draw))(keys)
    again = jax.random.split(jax.random.key(2), 2)
    for key, one in zip(again, drawn, strict=True):
      expected = jax.random.normal(key, (2200, 500), jnp.float32)
      np.testing.assert_array_equal(bits(one), bits(expected))

  @parameterized.parameters('rbg', 'unsafe_rbg')
  def test_other_generators(self, impl):
    """Their bits are made otherwise: the whole matrix at once."""
    key, again = (jax.random.key(0, impl=impl) for _ in range(2))
    self.assertFalse(normals.can_draw_rows(key, (2000, 1000)))
    expected = jax.random.normal(key, (2000, 1000), jnp.float32)
    drawn = normals.draw(again, (2000, 1000))
    np.testing.assert_array_equal(bits(drawn), bits(expected))

  def test_bits_that_are_made_otherwise(self):
    """As they were before partitionable ones, or may be one day."""
    normals._as_folded.cache_clear()
    self.addCleanup(normals._as_folded.cache_clear)
    with mock.patch.object(normals, 'rows', return_value=jnp.zeros((3, 7))):
      self.assertFalse(normals.can_draw_rows(jax.random.key(0), (9, 9)))
    normals._as_folded.cache_clear()
    self.assertTrue(normals.can_draw_rows(jax.random.key(0), (9, 9)))
    self.assertFalse(normals.can_draw_rows(jax.random.key(0), (2**22, 2**11)))
