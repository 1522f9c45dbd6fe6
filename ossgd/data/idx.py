"""IDX files as NumPy arrays: whole, as they were written, or refused."""

import hashlib
import math
import re
import struct
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ossgd.data.files import opening

# The four files of MNIST and its kin, in the order of the fields of Arrays.
FILES = (
  'train-images-idx3-ubyte',
  'train-labels-idx1-ubyte',
  't10k-images-idx3-ubyte',
  't10k-labels-idx1-ubyte',
)
# Types that sets of images come in: IDX's code, what names call it, NumPy's.
_TYPES = {'ubyte': (0x08, 'u1'), 'int': (0x0C, '>i4')}


class Arrays(NamedTuple):
  """A training and a test set as they were read."""

  x_train: np.ndarray  # (n, ...)
  y_train: np.ndarray  # (n,) or (n, 1)
  x_test: np.ndarray  # (n_test, ...)
  y_test: np.ndarray  # as y_train


def read_folder(folder: Path) -> Arrays:
  """Images (n, height, width) and labels (n,), uint8, of four IDX files.

  Each under its name in FILES, plain or with .gz.

  Raises:
    FileNotFoundError: a file is missing.
    ValueError: a file is not what its name says, cut short or damaged.
  """
  return Arrays(*(read_idx(_find(folder, name)) for name in FILES))


def read_idx(path: Path) -> np.ndarray:
  """An IDX file of bytes or of 32-bit integers, in one to four dimensions.

  A name that says which, as idx3-ubyte does, has to be right.

  Raises:
    ValueError: it is no such file, cut short or damaged.
  """
  with opening.named(path), opening.unpacked(path) as stream:
    magic = stream.read(4)
    said = re.search(r'idx([1-4])-(ubyte|int)', path.name)
    if said:
      kind, ndim = said[2], int(said[1])
    else:
      kind = 'int' if magic[2:3] == b'\x0c' else 'ubyte'
      ndim = magic[-1] if magic else 1
    code, name = _TYPES[kind]
    if magic != bytes((0, 0, code, ndim)):
      raise ValueError(
        f'it begins with {magic.hex(" ") or "nothing"}, an IDX file of {kind} '
        f'in {ndim} dimensions with 00 00 {code:02x} {ndim:02x}.'
      )
    dtype = np.dtype(name)
    shape = struct.unpack(f'>{ndim}I', stream.read(4 * ndim))
    size = math.prod(shape) * dtype.itemsize
    opening.check_memory(size)
    data = stream.read(size + 1)  # one more shows whether it ends there
    if len(data) != size:
      held = 'more' if len(data) > size else f'{len(data)}'
      raise ValueError(f'its header promises {size} bytes, it holds {held}.')
    array = np.frombuffer(data, dtype).reshape(shape)
    return array.astype(dtype.newbyteorder('='), copy=False)


def sha256(array: np.ndarray) -> str:
  """SHA-256 of the plain IDX file that holds this uint8 array."""
  magic = struct.pack('>4B', 0, 0, 8, array.ndim)
  digest = hashlib.sha256(magic + np.array(array.shape, '>u4').tobytes())
  digest.update(np.ascontiguousarray(array).data)
  return digest.hexdigest()


def _find(folder: Path, name: str) -> Path:
  for path in (folder / name, folder / f'{name}.gz'):
    if path.is_file():
      return path
  raise FileNotFoundError(f'{folder} has no file {name}, plain or with .gz.')
