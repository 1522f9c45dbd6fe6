import gzip
import hashlib
import os
import struct
import tracemalloc

import numpy as np
from absl.testing import parameterized

from ossgd.data import idx
from tests import idx_files

_LYING = struct.pack('>4B3I', 0, 0, 8, 3, 2**17, 28, 28) + b'123'
_HUGE = struct.pack('>4B3I', 0, 0, 8, 3, *[2**32 - 1] * 3)


class FolderTest(idx_files.Case):
  @parameterized.parameters('', '.gz')
  def test_reads_what_was_written(self, suffix):
    idx_files.write(self.folder, self.files, suffix=suffix)
    self.assert_files(idx.read_folder(self.folder))

  def test_digest_is_the_plain_files(self):
    """`sha256` must give what `sha256sum` gives for the file."""
    idx_files.write(self.folder, self.files)
    for name, array in zip(idx_files.NAMES, self.files, strict=True):
      content = (self.folder / name).read_bytes()
      expected = hashlib.sha256(content).hexdigest()
      self.assertEqual(idx.sha256(array), expected)
      strided = np.repeat(array, 2, axis=0)[::2]
      self.assertEqual(idx.sha256(strided), expected)

  @parameterized.parameters(False, True)
  def test_missing_file_is_named(self, pipe):
    """Opening a named pipe would wait for a writer for ever."""
    idx_files.write(self.folder, self.files)
    path = self.folder / 't10k-labels-idx1-ubyte'
    path.unlink()
    if pipe:
      os.mkfifo(path)
    with self.assertRaisesRegex(
      FileNotFoundError, 'no file t10k-labels-idx1-ubyte, plain'
    ):
      idx.read_folder(self.folder)

  @parameterized.named_parameters(
    ('short', '', lambda b: b[:-1], 'promises 23520 bytes, it holds 23519'),
    ('long', '', lambda b: b + b'x', 'promises 23520 bytes, it holds more'),
    (
      'labels',
      '',
      lambda b: b'\0\0\x08\x01' + b[4:],
      'begins with 00 00 08 01',
    ),
    (
      'floats',
      '',
      lambda b: b'\0\0\x0d\x03' + b[4:],
      'begins with 00 00 0d 03',
    ),
    ('empty', '', lambda b: b'', 'begins with nothing'),
    ('header', '', lambda b: b[:9], 'unpack'),
    ('lie', '', lambda b: _LYING, 'promises 102760448 bytes, it holds 3'),
    ('huge', '', lambda b: _HUGE, ''),
    ('cut', '.gz', lambda b: b[:-20], 'ended before'),
    ('bit', '.gz', lambda b: b[:9000] + bytes([b[9000] ^ 1]) + b[9001:], ''),
    ('packed_lie', '.gz', lambda b: gzip.compress(_LYING), 'it holds 3'),
  )
  def test_wrong_file_is_named(self, suffix, spoil, message):
    """Whatever its header claims, what it holds is what counts."""
    idx_files.write(self.folder, self.files, suffix=suffix)
    path = self.folder / f'train-images-idx3-ubyte{suffix}'
    path.write_bytes(spoil(path.read_bytes()))
    with self.assertRaisesRegex(ValueError, f'{path} cannot.*{message}'):
      idx.read_folder(self.folder)

  def test_expansion_stops_at_the_promised_size(self):
    """200 MB of zeros in a file that promises 784 bytes are not unpacked."""
    idx_files.write(self.folder, self.files, suffix='.gz')
    content = struct.pack('>4B3I', 0, 0, 8, 3, 1, 28, 28) + bytes(200 * 2**20)
    path = self.folder / 'train-images-idx3-ubyte.gz'
    path.write_bytes(gzip.compress(content, compresslevel=1))
    del content
    tracemalloc.start()
    self.addCleanup(tracemalloc.stop)
    with self.assertRaisesRegex(ValueError, 'promises 784 bytes.*more'):
      idx.read_folder(self.folder)
    self.assertLess(tracemalloc.get_traced_memory()[1], 8 * 2**20)
