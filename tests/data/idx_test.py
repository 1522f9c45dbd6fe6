import gzip
import hashlib
import os
import pickle
import struct
import tracemalloc
import warnings
import zipfile

import numpy as np
from absl.testing import parameterized

from ossgd.data import idx
from tests import idx_files, mutations

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


class _Trap:
  """Unpickling one of these is noticed."""

  sprung = False

  def __reduce__(self):
    return _spring, ()


def _spring():
  _Trap.sprung = True


class NpzTest(idx_files.Case):
  def setUp(self):
    super().setUp()
    self.path = self.folder / 'data.npz'
    self.arrays = dict(
      x_train=np.arange(24.0).reshape(6, 4),
      y_train=np.arange(6) % 2,
      x_test=np.asfortranarray(np.arange(8, dtype='>f4').reshape(2, 4)),
      y_test=np.array([1, 0], np.uint8),
    )

  def assert_refused(self, message):
    with self.assertRaisesRegex(ValueError, f'{self.path} cannot.*{message}'):
      idx.read_npz(self.path)
    self.assertFalse(_Trap.sprung, 'something was unpickled')

  @parameterized.parameters(np.savez, np.savez_compressed)
  def test_reads_what_numpy_wrote(self, save):
    """Any numeric type, byte order and memory order; further arrays too."""
    save(self.path, **self.arrays, note=np.array('other'))
    self.assert_files(idx.read_npz(self.path), self.arrays.values())

  def test_missing(self):
    """The file, or an array in it."""
    with self.assertRaisesRegex(FileNotFoundError, str(self.path)):
      idx.read_npz(self.path)
    del self.arrays['y_test']
    np.savez(self.path, **self.arrays)
    self.assert_refused(r'holds x_train, y_.*y_test')

  @parameterized.parameters('<U3', 'complex64', 'datetime64[s]', 'i4,f4')
  def test_only_real_numbers(self, dtype):
    self.arrays['x_test'] = np.zeros((2, 4), dtype)
    np.savez(self.path, **self.arrays)
    self.assert_refused('x_test has type.*real numbers')

  @parameterized.parameters(b'', b'PK', b'\x93NUMPY\x01\x00', b'x' * 1000)
  def test_other_files_are_refused(self, content):
    self.path.write_bytes(content)
    self.assert_refused('')

  @parameterized.parameters(
    (dict(shape='(10000000,)'), 'array data'),
    (dict(shape='(1000000000000,)'), '(array data|allocate)'),
    (dict(shape='(4294967296, 4294967296)'), ''),
    (dict(shape='(-1,)'), 'negative'),
    (dict(shape='"a"'), 'shape'),
    (dict(shape='(7,)'), 'x_train holds more'),
    (dict(descr="'|O'", data=pickle.dumps([_Trap()])), 'Object arrays'),
    (dict(descr="('<f8', (99999, 99999))"), ''),
    (dict(length=2**32 - 1, version=(2, 0)), 'array header'),
    (dict(text='(' * 900), ''),
    (dict(version=(9, 9)), r'\(9, 9\)'),
  )
  def test_headers_may_lie(self, claim, message):
    """What an array's header claims is refused if the file does not hold it."""
    honest = dict(descr="'<f8'", shape='(8,)', data=bytes(64))
    content = mutations.npy(**honest | claim)
    with zipfile.ZipFile(self.path, 'w') as archive:
      for name in self.arrays:
        archive.writestr(f'{name}.npy', content)
    self.assert_refused(message)

  def test_one_name_twice(self):
    """Which is meant? It depends on who reads it."""
    np.savez(self.path, **self.arrays)
    with zipfile.ZipFile(self.path, 'a') as archive, warnings.catch_warnings():
      warnings.simplefilter('ignore')
      archive.writestr('y_test.npy', b'another')
    for read in (idx.read_npz, idx.read_archive):
      with self.assertRaisesRegex(ValueError, 'several arrays of one name'):
        read(self.path)
