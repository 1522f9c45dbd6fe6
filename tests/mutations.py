"""Damaged and hostile inputs, the same ones for the same seed."""

import random
import struct

# What lengths, offsets, counts and types are in headers, at their extremes.
_WORDS = (
  b'\0',
  b'\xff',
  b'\0' * 4,
  b'\xff' * 4,
  b'\0' * 8,
  b'\xff' * 8,
  b'\xff\xff\xff\x7f',
  b'\x7f\xff\xff\xff',
  b'\0\0\0\x40\0\0\0\0',
)


def damaged(rng: random.Random, content: bytes) -> bytes:
  """One to eight changes of some bytes; seldom none in effect."""
  data = bytearray(content)
  for _ in range(rng.choice((1, 1, 1, 2, 3, 8))):
    i, j = rng.randrange(len(data) + 1), rng.randrange(len(data) + 1)
    size = rng.randrange(1, 32)
    change = rng.randrange(8)
    if change == 0 and i < len(data):
      data[i] ^= 1 << rng.randrange(8)
    elif change == 1:
      data[i : i + size] = rng.randbytes(size)
    elif change == 2:
      word = rng.choice(_WORDS)
      data[i : i + len(word)] = word
    elif change == 3:
      del data[i : i + size]
    elif change == 4:
      data[i:i] = rng.randbytes(size)
    elif change == 5:
      data[i : i + size] = data[j : j + size]
    elif change == 6:
      data[i:i] = data[j : j + size]
    elif rng.random() < 0.5:
      del data[i:]
  return bytes(data)


def json_text(rng: random.Random) -> str:
  """A JSON value of any type and size, or what looks like one."""
  depth = rng.choice((3, 19))
  open_, close = rng.choice((('[', ']'), ('{"a":', '}'), ('{"a":[', ']}')))
  return rng.choice(
    (
      f'{open_ * depth}0{close * rng.choice((depth, depth - 1))}',
      rng.choice(('-', '')) + '9' * rng.choice((20, 4299, 4301, 50_000)),
      rng.choice(('1e999', '-1e-999', 'NaN', '-Infinity', '1.' + '3' * 9999)),
      '"\\ud800"',
      '"' + rng.choice(('\\u0000', 'x', '\u2028')) * rng.randrange(5000) + '"',
      rng.choice(('null', 'true', '[]', '{}', '""', '0', "'a'", 'undefined')),
      '{"jax": ["0"], "jax": {"0": null}}',
    )
  )


def npy(descr: str, shape: str, data: bytes, **header) -> bytes:
  """An array of NumPy's format, of which each part may be a lie."""
  text = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}"
  text = header.get('text', text) + '\n'
  version = header.get('version', (1, 0))
  length = header.get('length', len(text))
  size = struct.pack('<H' if version == (1, 0) else '<I', length)
  return b'\x93NUMPY' + bytes(version) + size + text.encode() + data
