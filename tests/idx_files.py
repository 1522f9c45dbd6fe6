"""Small sets of images as IDX files, written by hand: for several tests."""

import gzip
import struct
import tempfile
from pathlib import Path

import numpy as np
from absl.testing import parameterized

from ossgd.data import idx

NAMES = (
  'train-images-idx3-ubyte',
  'train-labels-idx1-ubyte',
  't10k-images-idx3-ubyte',
  't10k-labels-idx1-ubyte',
)


class Case(parameterized.TestCase):
  """A folder of its own, and a small set."""

  def setUp(self):
    super().setUp()
    folder = self.enter_context(tempfile.TemporaryDirectory())
    self.folder = Path(folder)
    self.files = small_set()

  def assert_files(self, got, expected=None):
    for a, b in zip(got, expected or self.files, strict=True):
      np.testing.assert_array_equal(a, b)
      self.assertEqual(a.dtype, b.dtype)


def small_set(seed: int = 0) -> idx.Arrays:
  """30 and 20 random images of 28 x 28, all ten labels in both sets."""
  rng = np.random.default_rng(seed)
  images = rng.integers(0, 256, (50, 28, 28), dtype=np.uint8)
  labels = np.tile(np.arange(10, dtype=np.uint8), 5)
  return idx.Arrays(images[:30], labels[:30], images[30:], labels[30:])


def idx_bytes(array: np.ndarray) -> bytes:
  header = struct.pack('>HBB', 0, 8, array.ndim)
  for size in array.shape:
    header += struct.pack('>I', size)
  return header + array.tobytes()


def write(folder: Path, arrays: tuple[np.ndarray, ...], *, suffix='') -> None:
  folder.mkdir(parents=True, exist_ok=True)
  for name, array in zip(NAMES, arrays, strict=True):
    content = idx_bytes(array)
    if suffix == '.gz':
      content = gzip.compress(content)
    (folder / f'{name}{suffix}').write_bytes(content)
