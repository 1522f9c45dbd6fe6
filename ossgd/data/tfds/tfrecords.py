"""TFRecord files, the form in which `tfds.load` leaves a data set.

A record is the length of its content, that length's CRC, the content and its
CRC. TensorFlow, which has a reader, is not needed.
"""

from pathlib import Path

import numpy as np


def read(path: Path) -> list[memoryview]:
  """The records of a file, in its order.

  All CRCs are compared, and what is allocated is bounded by the file's size.

  Raises:
    ValueError: it is damaged or cut short.
  """
  view = memoryview(path.read_bytes())
  data = np.frombuffer(view, np.uint8)
  starts: list[int] = []
  lengths: list[int] = []
  at = 0
  while at < len(view):
    promised = int.from_bytes(view[at : at + 8], 'little')
    left = len(view) - at - 16  # without two CRCs and the length
    if promised > left:
      raise ValueError(
        f'it is damaged or cut short: record {len(starts)} needs {promised} '
        f'bytes, and {max(left, 0)} are left.'
      )
    starts.append(at + 12)
    lengths.append(promised)
    at += promised + 16
  start, length = np.array(starts, np.int64), np.array(lengths, np.int64)
  for begin, size in ((start - 12, np.full_like(length, 8)), (start, length)):
    stored = data[(begin + size)[:, None] + np.arange(4)].view('<u4')[:, 0]
    wrong = np.flatnonzero(_masked_crc32c(data, begin, size) != stored)
    if wrong.size:
      raise ValueError(f'it is damaged: the CRC of record {wrong[0]} differs.')
  return [view[s : s + n] for s, n in zip(starts, lengths, strict=True)]


def _crc_table() -> np.ndarray:
  """CRC-32C (Castagnoli) of each byte."""
  table = np.arange(256, dtype=np.uint32)
  for _ in range(8):
    table = np.where(
      table & 1, (table >> 1) ^ np.uint32(0x82F63B78), table >> 1
    )
  return table


_TABLE = _crc_table()


def _masked_crc32c(
  data: np.ndarray, starts: np.ndarray, lengths: np.ndarray
) -> np.ndarray:
  """TFRecord's CRC of many pieces of data, a byte of all of them at a time.

  So NumPy is fast enough: no package that has CRC-32C is needed.
  """
  out = np.empty(len(starts), np.uint32)
  order = np.argsort(-lengths, kind='stable')
  for part in np.array_split(order, 1 + len(order) // 4096):  # fits in cache
    at, size = starts[part], lengths[part]
    crc = np.full(len(part), 0xFFFFFFFF, np.uint32)
    longer = np.searchsorted(-size, -np.arange(size.max(initial=0)))
    for i, n in enumerate(longer):  # the first n are longer than i bytes
      low = (crc[:n] ^ data[at[:n] + i]) & 255
      crc[:n] = _TABLE[low] ^ (crc[:n] >> 8)
    out[part] = ~crc
  return ((out >> 15) | (out << 17)) + np.uint32(0xA282EAD8)
