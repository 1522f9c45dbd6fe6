"""IDX and npz files that nobody vouches for, as NumPy arrays.

A header is only a claim: what it promises has to fit in memory, is read in
pieces, and has to be there in full with nothing after it, so that memory
follows the file and not its header. A compressed file may honestly hold more
than its own size. Nothing is unpickled, and no name in an archive is a path.
"""

import contextlib
import gzip
import hashlib
import math
import struct
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import psutil

# The four files of MNIST and its kin, in the order of the fields of Arrays.
FILES = (
  'train-images-idx3-ubyte',
  'train-labels-idx1-ubyte',
  't10k-images-idx3-ubyte',
  't10k-labels-idx1-ubyte',
)

_PIECE = 1 << 20
# How many bytes say how long the header of an array is, and who reads it.
_NPY_HEADERS: dict[tuple[int, int], tuple[int, Callable]] = {
  (1, 0): (2, np.lib.format.read_array_header_1_0),
  (2, 0): (4, np.lib.format.read_array_header_2_0),
}
_LONGEST_NPY_HEADER = 1024  # bytes; those of numbers have 118


class Arrays(NamedTuple):
  """A training and a test set as they were read."""

  x_train: np.ndarray  # (n, ...)
  y_train: np.ndarray  # (n,)
  x_test: np.ndarray  # (n_test, ...)
  y_test: np.ndarray  # (n_test,)


def read_folder(folder: Path) -> Arrays:
  """Four IDX files: each under its name in FILES, plain or with .gz.

  `train-images.idx3-ubyte`, with a dot, is the same name.

  Args:
    folder: where they are.

  Returns:
    Images (n, height, width) and labels (n,), all uint8.

  Raises:
    FileNotFoundError: a file is missing.
    ValueError: a file is not what its name says, cut short or damaged.
  """
  return Arrays(*(_read_idx(_find(folder, name)) for name in FILES))


def read_npz(path: Path) -> Arrays:
  """A NumPy archive of x_train, y_train, x_test and y_test.

  Args:
    path: the file that `np.savez` or `np.savez_compressed` left.

  Returns:
    The arrays, of any numeric type.

  Raises:
    FileNotFoundError: there is no such file.
    ValueError: it is no such archive, cut short or damaged.
  """
  if not path.is_file():
    raise FileNotFoundError(
      f'there is no file {path}; expected an archive of x_train, y_train, '
      'x_test and y_test: check the name'
    )
  with _opened(path) as archive:
    return Arrays(*(_read_member(archive, key) for key in Arrays._fields))


def read_archive(path: Path) -> dict[str, np.ndarray]:
  """All arrays of a NumPy archive, by name.

  Raises:
    ValueError: it is no such archive, cut short or damaged.
  """
  with _opened(path) as archive:
    names = [name.removesuffix('.npy') for name in archive.namelist()]
    if not names:  # a few bytes at its end say so
      raise ValueError('it holds nothing.')
    return {name: _read_member(archive, name) for name in names}


def sha256(array: np.ndarray) -> str:
  """SHA-256 of the plain IDX file that holds this uint8 array."""
  magic = struct.pack('>4B', 0, 0, 8, array.ndim)
  digest = hashlib.sha256(magic + np.array(array.shape, '>u4').tobytes())
  digest.update(np.ascontiguousarray(array).data)
  return digest.hexdigest()


def _find(folder: Path, name: str) -> Path:
  plain = (name, name.replace('-idx', '.idx'))
  for candidate in (*plain, *(f'{file}.gz' for file in plain)):
    if (folder / candidate).is_file():
      return folder / candidate
  raise FileNotFoundError(
    f'{folder} has no file {plain[0]} or {plain[1]}, plain or with .gz.'
  )


@contextlib.contextmanager
def _named(path: Path) -> Iterator[None]:
  """Makes one error, with the file's name, of the many a bad file raises."""
  try:
    yield
  except Exception as error:
    cause = str(error) or type(error).__name__
    raise ValueError(
      f'{path} cannot be used, save or fetch it again: {cause:.600}'
    ) from error


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[zipfile.ZipFile]:
  """An archive in which a name means one thing."""
  with _named(path), zipfile.ZipFile(path) as archive:
    names = archive.namelist()
    if len({*names}) < len(names):
      raise ValueError('it holds several arrays of one name.')
    yield archive


def _read_exactly(read: Callable[[int], bytes], size: int) -> bytearray:
  """The rest of a stream, which must be `size` bytes long."""
  # Asking takes longer than reading a small file.
  if size > _PIECE and size > (free := psutil.virtual_memory().available):
    raise ValueError(
      f'its header promises {size} bytes, more than the {free} bytes of memory '
      'that are free.'
    )
  data = bytearray()
  while (missing := size + 1 - len(data)) > 0:
    piece = read(min(missing, _PIECE))
    if not piece:
      break
    data += piece
  if len(data) != size:
    held = 'more' if len(data) > size else f'{len(data)}'
    raise ValueError(f'its header promises {size} bytes, it holds {held}.')
  return data


def _read_idx(path: Path) -> np.ndarray:
  """An IDX file of bytes, with the number of dimensions its name gives."""
  ndim = int(path.name.partition('idx')[2][0])
  opened = gzip.open if path.suffix == '.gz' else open
  with _named(path), opened(path, 'rb') as stream:
    magic = stream.read(4)
    if magic != bytes((0, 0, 8, ndim)):
      raise ValueError(
        f'it begins with {magic.hex(" ") or "nothing"}, an IDX file of bytes '
        f'in {ndim} dimensions with 00 00 08 0{ndim}.'
      )
    shape = struct.unpack(f'>{ndim}I', stream.read(4 * ndim))
    data = _read_exactly(stream.read, math.prod(shape))
    return np.frombuffer(data, np.uint8).reshape(shape)


def _read_member(archive: zipfile.ZipFile, key: str) -> np.ndarray:
  """One array of an npz file: `np.load` would allocate what a header says."""
  try:
    member = archive.getinfo(f'{key}.npy')
  except KeyError:
    held = ', '.join(archive.namelist()) or 'nothing'
    raise ValueError(
      f'it holds {held!r:.200}; expected arrays named '
      f'{", ".join(Arrays._fields)}.'
    ) from None
  if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
    # The others are never NumPy's, and unpack without any limit.
    raise ValueError(f'{key} is compressed in another way than NumPy does it.')
  with archive.open(member) as stream:
    shape, fortran_order, dtype = _read_npy_header(stream)
    if dtype.kind not in 'buif':
      raise ValueError(f'{key} has type {dtype}, expected real numbers.')
    data = _read_exactly(stream.read, math.prod(shape) * dtype.itemsize)
    flat = np.frombuffer(data, dtype)
    return flat.reshape(shape[::-1]).T if fortran_order else flat.reshape(shape)


def _read_npy_header(stream: Any) -> tuple[tuple[int, ...], bool, np.dtype]:
  """Shape, memory order and type; NumPy would read a header of 4 GB."""
  version = np.lib.format.read_magic(stream)
  if version not in _NPY_HEADERS:
    raise ValueError(f'its arrays have version {version}, expected (1, 0).')
  size, read_header = _NPY_HEADERS[version]
  length = int.from_bytes(stream.peek(size)[:size], 'little')
  if length > _LONGEST_NPY_HEADER:
    raise ValueError(f'its header claims {length} bytes, numbers need 118.')
  return read_header(stream)
