"""A few rows at a time are those of the whole."""

import jax
import jax.numpy as jnp
import numpy as np
from absl.testing import parameterized

from ossgd.compact import weights
from ossgd.paper import network
from ossgd.paper.model import PAPER, Model


def key():
  return jax.random.key(4)


class WeightsTest(parameterized.TestCase):
  def test_rows_of_the_start(self):
    """Those of `init_params`; of another start there are none."""
    width, dim, scale = 2000, 30, 2.0
    whole = network.init_params(
      key(), width=width, dim=dim, num_classes=3, scale=scale
    )
    std = np.float32(scale / width**0.5)
    rows = weights.drawn(key(), dim=dim, std=std)
    np.testing.assert_array_equal(rows(70, 5), whole.w[70:75])
    self.assertTrue(weights.can_draw_rows(key(), width, dim, PAPER))
    paired = Model(start='antisymmetric')
    self.assertFalse(weights.can_draw_rows(key(), width, dim, paired))

  @parameterized.parameters(4096, 9000)
  def test_preactivations(self, width):
    """Blocks that overlap count once; padding is zero."""
    rng = np.random.default_rng(0)
    w, x = (rng.normal(size=(n, 20)).astype(np.float32) for n in (width, 7))

    def rows(first, number):
      return weights.part(jnp.asarray(w), first, number)

    h, norm = jax.jit(
      lambda x: weights.preactivations(rows, x, width, padding=3)
    )(x)
    np.testing.assert_allclose(h[:, :width], x @ w.T, atol=1e-4)
    np.testing.assert_array_equal(h[:, width:], 0)
    np.testing.assert_allclose(norm, np.linalg.norm(w), rtol=1e-6)
