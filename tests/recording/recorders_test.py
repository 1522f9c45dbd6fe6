"""Tests of recorders: blocks of units of any size make up the whole."""

import jax.numpy as jnp
import numpy as np
from absl.testing import parameterized

from ossgd.paper.types import Params
from ossgd.recording import recorders
from ossgd.recording.recorders import Recorder

SOME = (
  Recorder('least', of_units=lambda h, h0, a: h.min(axis=1), reduce='min'),
  Recorder('largest', of_units=lambda h, h0, a: a.max(), reduce='max'),
  Recorder(
    'moved',
    of_units=lambda h, h0, a: jnp.sum(h - h0, axis=1),
    examples='train',
  ),
  Recorder(
    'opened',
    of_units=lambda h, h0, a: jnp.sum((h >= 0) & (h0 < 0), dtype=jnp.int32),
  ),
  Recorder(
    'most_active',
    of_units=lambda h, h0, a: jnp.max(jnp.sum(h >= 0, axis=0)),
    reduce='max',
  ),
)


class UnitsTest(parameterized.TestCase):
  @parameterized.parameters(1, 3, 4, 11, 12, 100)
  def test_blocks(self, units_at_once):
    """Each unit counts once, whether blocks divide the width or not."""
    rng = np.random.default_rng(0)
    m, d, k = 12, 3, 2
    w, w0 = rng.normal(size=(2, m, d)).astype(np.float32)
    a = rng.normal(size=(k, m)).astype(np.float32)
    x = {
      'test': rng.normal(size=(5, d)).astype(np.float32),
      'train': rng.normal(size=(4, d)).astype(np.float32),
    }
    found = recorders.of_all_units(
      SOME, Params(jnp.asarray(w), jnp.asarray(a)), w0, x, units_at_once
    )
    h, h0 = (x['test'] @ v.T for v in (w, w0))
    expected = {
      'least': h.min(axis=1),
      'largest': a.max(),
      'moved': (x['train'] @ (w - w0).T).sum(axis=1),
      'opened': np.sum((h >= 0) & (h0 < 0)),
      'most_active': (h >= 0).sum(axis=0).max(),
    }
    self.assertEqual(found.keys(), expected.keys())
    for name, values in expected.items():
      np.testing.assert_allclose(
        found[name], values, rtol=1e-5, atol=1e-5, err_msg=name
      )

  def test_none(self):
    """What changes nothing, of floats and of integers."""
    shapes = {
      recorder.name: jnp.zeros(2, dtype)
      for recorder, dtype in zip(
        SOME, ('float32', 'float32', 'float32', 'int32', 'int32'), strict=True
      )
    }
    none = recorders.none_of(SOME, shapes)
    some = {name: v - 3 for name, v in shapes.items()}
    for name, values in recorders.together(SOME, some, none).items():
      np.testing.assert_array_equal(values, some[name], name)
      self.assertEqual(values.dtype, some[name].dtype)
