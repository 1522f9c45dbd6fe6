"""Files from elsewhere: packed or not, and no larger than memory.

Compression is known by a file's first bytes, whatever its name says.
"""

import bz2
import contextlib
import gzip
import lzma
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np

from ossgd.machine import memory

_PACKED: dict[bytes, Any] = {
  b'\x1f\x8b': gzip.open,
  b'BZh': bz2.open,
  b'\xfd7zXZ\0': lzma.open,
}
NUMBER = r'[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?'  # in text
_GROWTH = 10  # bytes of memory for a byte of text, at most
# Inputs and labels to train with, inputs and labels to test with.
Four = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


def unpacked(path: Path) -> IO[bytes]:
  """Opens a file that may be packed by gzip, bzip2 or xz."""
  with path.open('rb') as stream:
    begin = stream.read(6)
  for magic, opened in _PACKED.items():
    if begin.startswith(magic):
      return opened(path, 'rb')
  return path.open('rb')


def text(path: Path) -> bytes:
  """All of a file of text, unpacked, if there is room for its numbers.

  Raises:
    ValueError: there is not; not much more is unpacked than there is room for.
  """
  limit = memory.free() // _GROWTH
  with unpacked(path) as stream:
    content = stream.read(limit + 1)
  if len(content) > limit:
    raise ValueError(
      f'it holds more than {limit / 1e9:.3g} GB of text, whose numbers would '
      'not fit into the memory that is free.'
    )
  return content


def check_memory(size: int) -> None:
  """Raises ValueError if arrays of so many bytes cannot be held."""
  free = memory.free()
  if size > free:
    raise ValueError(
      f'it would take {size / 1e9:.3g} GB of memory, {free / 1e9:.3g} are free.'
    )


@contextlib.contextmanager
def named(path: Path) -> Iterator[None]:
  """Makes one error, with the file's name, of the many a bad file raises."""
  try:
    yield
  except Exception as error:
    cause = str(error) or type(error).__name__
    raise ValueError(
      f'{path} cannot be used, save or fetch it again: {cause:.600}'
    ) from error
