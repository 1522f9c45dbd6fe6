"""JAX's 64-bit mode: what the library makes has the same types and bits."""

import inspect

import jax
import numpy as np
from absl.testing import parameterized

from ossgd.data import mixtures
from ossgd.paper import network
from ossgd.paper.types import Dataset, Split
from ossgd.running import sweeps

# Their numbers as they come out of NumPy's arrays.
CLASSES = dict(num_classes=3, num_components=2, dim=np.int64(8))


def gaussian():
  return mixtures.gaussian(
    **CLASSES, center_scale=np.float64(4.7), noise_scale=np.float64(1.3)
  )


def bounded():
  return mixtures.bounded(
    **CLASSES, separation=np.float64(0.7), ratio=np.float64(0.06)
  )


def own_split():
  """A user's own data, in NumPy's default types."""
  rng = np.random.default_rng(0)
  x, y = rng.normal(size=(48, 8)), np.arange(48) % 3
  return Split(Dataset(x[:32], y[:32]), Dataset(x[32:], y[32:]))


class X64Test(parameterized.TestCase):
  def same_in_both_modes(self, function):
    """What it returns, having checked that 64-bit mode changes nothing."""
    found = []
    for enabled in (False, True):
      with jax.enable_x64(enabled):
        found.append(jax.tree.map(np.asarray, function()))
    for off, on in zip(*map(jax.tree.leaves, found), strict=True):
      self.assertEqual(off.dtype, on.dtype)
      np.testing.assert_array_equal(off, on)
    return found[0]

  @parameterized.parameters(gaussian, bounded)
  def test_sample(self, spec):
    """float32 inputs, int32 labels."""
    train, *_ = self.same_in_both_modes(
      lambda: mixtures.sample(
        jax.random.key(0), spec(), num_train=9, num_test=7
      )
    )
    self.assertEqual((train.x.dtype, train.y.dtype), (np.float32, np.int32))

  def test_init_params(self):
    """From NumPy's numbers as well, which its types do not promise."""
    init_params = inspect.unwrap(network.init_params)
    w, a = self.same_in_both_modes(
      lambda: init_params(
        jax.random.key(0),
        width=np.int64(24),
        dim=5,
        num_classes=3,
        scale=np.float64(0.3),
      )
    )
    self.assertEqual((w.dtype, a.dtype), (np.float32, np.float32))

  @parameterized.parameters(
    ('plain', gaussian), ('blocked', own_split), ('gram', own_split)
  )
  def test_sweep(self, engine, data):
    """All that a sweep returns, whatever types its numbers have."""

    def variables():
      ds = sweeps.sweep(
        data(),
        engine=engine,
        widths=np.array([24]),
        num_seeds=1,
        num_steps=6,
        batch_size=5,
        lr_times_width=np.float64(10),
        num_train=32,
        num_test=16,
      )
      return {name: ds[name].values for name in ds}

    self.same_in_both_modes(variables)
