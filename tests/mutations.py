"""Damaged and hostile inputs, the same ones for the same seed."""

import io
import random
import struct
import warnings
import zipfile

import numpy as np

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
_DESCRS = (
  *("'<f8'", "'<f8'", "'|O'", "'O'", "'<U99'", "'|V0'", "'<M8[s]'", "'<c16'"),
  *("'|b1'", "('<f8', (99999, 99999))", "[('a', '<i4')]", "'<f8,O'", '8'),
  *("'|S2147483647'", "'<f3'", "{'names': ['a'], 'formats': ['O']}", 'None'),
)
_SHAPES = (
  *('(6, 4)', '(4, 6)', '(24,)', '()', '(0,)', '(6, 4, 0)', '(-6, -4)'),
  *('(1000000000000,)', '(4294967296, 4294967296)', '(-1,)', '(0, -1)'),
  *('(0, 9223372036854775807, 9)', f'({"9" * 400},)', '(True, 24)', '6'),
  *(f'({"1, " * 70})', '(2.0, 12)', '"a"', '(6, 4, "a")', '(1e3,)'),
)
_HEADERS: tuple[dict, ...] = (
  *({}, {}, {}, {}, {'fortran_order': 'True'}, {'fortran_order': '1'}),
  *({'version': (2, 0)}, {'version': (3, 0)}, {'version': (9, 9)}),
  *({'length': 0}, {'length': 65535}, {'length': 40}),
  {'version': (2, 0), 'length': 2**32 - 1},
  *({'text': '(' * 900}, {'text': '-' * 900 + '1'}),
  {'text': '[' * 70_000, 'version': (2, 0)},
  *({'text': '__import__("os").getpid()'}, {'text': "{'descr': 1}"}),
)
_CHARACTERS = '-=,."\'\\/\n\r\t\0 ~01e+_naif×٣\ud800\U0001f600{}[]()#%'


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


def misspelt(rng: random.Random, text: str) -> str:
  """Up to four characters more, fewer or others; seldom thousands more."""
  characters = list(text)
  for _ in range(rng.choice((0, 1, 1, 2, 4))):
    i = rng.randrange(len(characters) + 1)
    change = rng.randrange(4)
    if change == 0:
      often = 5000 if rng.random() < 0.01 else 1
      characters[i:i] = rng.choice(_CHARACTERS) * often
    elif change == 1:
      characters[i : i + 1] = rng.choice(_CHARACTERS)
    elif change == 2:
      del characters[i : i + rng.randrange(4)]
    else:
      characters[i:i] = characters[:i]
  return ''.join(characters)


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
  order = header.get('fortran_order', 'False')
  text = f"{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}, }}"
  text = header.get('text', text) + '\n'
  version = header.get('version', (1, 0))
  length = header.get('length', len(text))
  size = struct.pack('<H' if version == (1, 0) else '<I', length)
  return b'\x93NUMPY' + bytes(version) + size + text.encode() + data


def hostile_npy(rng: random.Random, pickled: bytes) -> bytes:
  """An array whose header claims what is not so, or should not be read."""
  descr, shape = rng.choice(_DESCRS), rng.choice(_SHAPES)
  header = dict(rng.choice(_HEADERS))
  data = np.arange(24.0).tobytes()
  data = rng.choice((data, data, data[:-1], data + b'x', b'', pickled))
  return npy(descr, shape, data, **header)


def hostile_npz(
  rng: random.Random, honest: dict[str, bytes], pickled: bytes
) -> bytes:
  """An archive of arrays that lies about its members, or within them."""
  members = [(f'{name}.npy', data) for name, data in honest.items()]
  i = rng.randrange(len(members))
  name, data = members[i]
  prefix = rng.choice(('../../', '/tmp/', 'C:\\', './', '\0', 'a/../', '\n'))
  kind = rng.randrange(6)
  if kind == 0:  # a path in the place of the name, or besides
    members[i:i] = [(prefix + name, data)]
    del members[i + 1 : i + 1 + rng.randrange(2)]
  elif kind == 1:  # one name twice
    members.append((name, rng.choice((data, pickled))))
  elif kind == 2:  # an archive within, or objects
    within = _archive(members, zipfile.ZIP_STORED)
    members[i] = (name, rng.choice((within, pickled)))
  elif kind > 2:
    members[i] = (name, hostile_npy(rng, pickled))
  methods = (zipfile.ZIP_DEFLATED, zipfile.ZIP_STORED)
  content = _archive(
    members, rng.choice((*methods, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA))
  )
  return _lying(rng, content) if kind == 5 else content


def _archive(members: list[tuple[str, bytes]], method: int) -> bytes:
  stream = io.BytesIO()
  with (
    warnings.catch_warnings(),
    zipfile.ZipFile(stream, 'w', method) as archive,
  ):
    warnings.simplefilter('ignore')  # of names that are there twice
    for name, data in members:
      with archive.open(zipfile.ZipInfo(name), 'w') as file:
        file.write(data)
  return stream.getvalue()


def _lying(rng: random.Random, content: bytes) -> bytes:
  """Other sizes, offsets, methods and flags in the central directory."""
  data = bytearray(content)
  start = data.find(b'PK\x01\x02')
  field = rng.choice((6, 8, 10, 16, 20, 24, 28, 30, 32, 34, 42))
  value = rng.choice(
    (0, 1, 14, 95, 0x7FFFFFFF, 0xFFFFFFFF, rng.getrandbits(32))
  )
  size = 4 if field in (16, 20, 24, 42) else 2
  data[start + field : start + field + size] = value.to_bytes(4, 'little')[
    :size
  ]
  if rng.random() < 0.3:  # zip64's extra field: sizes of 8 bytes
    end = start + 46 + int.from_bytes(data[start + 28 : start + 30], 'little')
    extra = struct.pack('<HHQQQ', 1, 24, 2**63, rng.getrandbits(64), 2**40)
    data[start + 30 : start + 32] = len(extra).to_bytes(2, 'little')
    data[start + 20 : start + 28] = b'\xff' * 8
    data[end:end] = extra
  return bytes(data)
