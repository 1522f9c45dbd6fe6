import gzip
import hashlib
import io
import os
import pathlib
import struct
import tempfile
import tracemalloc
import warnings
import zipfile
from unittest import mock

import numpy as np
from absl.testing import parameterized

from ossgd.data import idx
from tests import idx_files


class _Case(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    folder = self.enter_context(tempfile.TemporaryDirectory())
    self.folder = pathlib.Path(folder)

  def assert_same(self, got, expected):
    for a, b in zip(got, expected, strict=True):
      np.testing.assert_array_equal(a, b)
      self.assertEqual(a.dtype, b.dtype)


class FolderTest(_Case):
  @parameterized.parameters('', '.gz')
  def test_reads_what_was_written(self, suffix):
    written = idx_files.small_set()
    idx_files.write(self.folder, written, suffix=suffix)
    self.assert_same(idx.read_folder(self.folder), written)

  def test_names_with_a_dot_and_mixed_compression(self):
    """Both spellings are in use, and some tools unpack only some files."""
    written = idx_files.small_set()
    idx_files.write(self.folder, written, suffix='')
    for name in idx_files.NAMES[::2]:
      content = (self.folder / name).read_bytes()
      (self.folder / name).unlink()
      dotted = self.folder / f'{name.replace("-idx", ".idx")}.gz'
      dotted.write_bytes(gzip.compress(content))
    self.assert_same(idx.read_folder(self.folder), written)

  def test_digest_is_the_plain_files(self):
    """`sha256` must give what `sha256sum` gives for the file."""
    written = idx_files.small_set()
    idx_files.write(self.folder, written)
    for name, array in zip(idx_files.NAMES, written, strict=True):
      content = (self.folder / name).read_bytes()
      expected = hashlib.sha256(content).hexdigest()
      self.assertEqual(idx.sha256(array), expected)
      strided = np.repeat(array, 2, axis=0)[::2]
      self.assertEqual(idx.sha256(strided), expected)

  def test_missing_file_is_named(self):
    idx_files.write(self.folder, idx_files.small_set())
    (self.folder / 't10k-labels-idx1-ubyte').unlink()
    with self.assertRaisesRegex(
      FileNotFoundError, r't10k-labels-idx1-ubyte or t10k-labels\.idx1-ubyte'
    ):
      idx.read_folder(self.folder)

  def test_pipe_is_no_file(self):
    """Opening a named pipe would wait for a writer for ever."""
    idx_files.write(self.folder, idx_files.small_set())
    name = self.folder / 'train-images-idx3-ubyte'
    name.unlink()
    os.mkfifo(name)
    with self.assertRaises(FileNotFoundError):
      idx.read_folder(self.folder)

  @parameterized.named_parameters(
    ('short', lambda b: b[:-1], 'promises 23520 bytes, it holds 23519'),
    ('long', lambda b: b + b'x', 'promises 23520 bytes, it holds more'),
    ('labels', lambda b: b'\0\0\x08\x01' + b[4:], 'begins with 00 00 08 01'),
    ('floats', lambda b: b'\0\0\x0d\x03' + b[4:], 'begins with 00 00 0d 03'),
    ('gzip', gzip.compress, 'begins with 1f 8b'),
    ('empty', lambda b: b'', 'begins with nothing'),
    ('header', lambda b: b[:9], 'unpack'),
  )
  def test_wrong_plain_file_is_named(self, spoil, message):
    idx_files.write(self.folder, idx_files.small_set())
    path = self.folder / 'train-images-idx3-ubyte'
    path.write_bytes(spoil(path.read_bytes()))
    with self.assertRaisesRegex(ValueError, f'{path} cannot.*{message}'):
      idx.read_folder(self.folder)

  @parameterized.named_parameters(
    ('cut', lambda b: b[:-20]),
    ('bit', lambda b: b[:9000] + bytes([b[9000] ^ 1]) + b[9001:]),
    ('plain', gzip.decompress),
  )
  def test_wrong_compressed_file_is_named(self, spoil):
    idx_files.write(self.folder, idx_files.small_set(), suffix='.gz')
    path = self.folder / 'train-images-idx3-ubyte.gz'
    path.write_bytes(spoil(path.read_bytes()))
    with self.assertRaisesRegex(ValueError, f'{path} cannot'):
      idx.read_folder(self.folder)

  @parameterized.parameters('', '.gz')
  def test_memory_follows_the_file_not_its_header(self, suffix):
    """A header that promises 100 MB costs what the bytes that follow cost."""
    idx_files.write(self.folder, idx_files.small_set())
    path = self.folder / 'train-images-idx3-ubyte'
    content = struct.pack('>4B3I', 0, 0, 8, 3, 2**17, 28, 28) + b'123'
    path.unlink()
    compressed = gzip.compress(content) if suffix else content
    (self.folder / f'{path.name}{suffix}').write_bytes(compressed)
    tracemalloc.start()
    self.addCleanup(tracemalloc.stop)
    with self.assertRaisesRegex(ValueError, 'it holds 3'):
      idx.read_folder(self.folder)
    self.assertLess(tracemalloc.get_traced_memory()[1], 8 * 2**20)

  def test_more_than_memory_is_not_begun(self):
    """A file of 1 MB may hold 1 GB: what does not fit is not even tried."""
    idx_files.write(self.folder, idx_files.small_set(), suffix='.gz')
    content = struct.pack('>4B3I', 0, 0, 8, 3, 2**12, 28, 28) + bytes(
      2**12 * 784
    )
    path = self.folder / 'train-images-idx3-ubyte.gz'
    path.write_bytes(gzip.compress(content))
    memory = mock.Mock(available=10**6)
    tracemalloc.start()
    self.addCleanup(tracemalloc.stop)
    with (
      mock.patch.object(idx.psutil, 'virtual_memory', return_value=memory),
      self.assertRaisesRegex(ValueError, 'promises 3211264 .* 1000000 bytes'),
    ):
      idx.read_folder(self.folder)
    self.assertLess(tracemalloc.get_traced_memory()[1], 2**20)

  def test_expansion_stops_at_the_promised_size(self):
    """200 MB of zeros in a file that promises 784 bytes are not unpacked."""
    idx_files.write(self.folder, idx_files.small_set(), suffix='.gz')
    content = struct.pack('>4B3I', 0, 0, 8, 3, 1, 28, 28) + bytes(200 * 2**20)
    path = self.folder / 'train-images-idx3-ubyte.gz'
    path.write_bytes(gzip.compress(content, compresslevel=1))
    del content
    tracemalloc.start()
    self.addCleanup(tracemalloc.stop)
    with self.assertRaisesRegex(ValueError, 'promises 784 bytes.*more'):
      idx.read_folder(self.folder)
    self.assertLess(tracemalloc.get_traced_memory()[1], 8 * 2**20)


def _header(size: int) -> bytes:
  """Of an array of so many float64."""
  header = io.BytesIO()
  claim = dict(descr='<f8', fortran_order=False, shape=(size,))
  np.lib.format.write_array_header_1_0(header, claim)
  return header.getvalue()


class _Trap:
  """Unpickling one of these is noticed."""

  sprung = False

  def __reduce__(self):
    return _spring, ()


def _spring():
  _Trap.sprung = True


class NpzTest(_Case):
  def setUp(self):
    super().setUp()
    self.path = self.folder / 'data.npz'
    self.arrays = dict(
      x_train=np.arange(24.0).reshape(6, 4),
      y_train=np.arange(6) % 2,
      x_test=np.asfortranarray(np.arange(8, dtype='>f4').reshape(2, 4)),
      y_test=np.array([1, 0], np.uint8),
    )

  @parameterized.parameters(np.savez, np.savez_compressed)
  def test_reads_what_numpy_wrote(self, save):
    """Any numeric type, byte order and memory order; further arrays too."""
    save(self.path, **self.arrays, note=np.array('other'))
    self.assert_same(idx.read_npz(self.path), self.arrays.values())

  def test_missing_array_is_named(self):
    del self.arrays['y_test']
    np.savez(self.path, **self.arrays)
    with self.assertRaisesRegex(ValueError, r"holds 'x_train\.npy, y_.*y_test"):
      idx.read_npz(self.path)

  def test_nothing_is_unpickled(self):
    self.arrays['x_train'] = np.array([_Trap()] * 6)
    np.savez(self.path, **self.arrays)
    with self.assertRaisesRegex(ValueError, 'x_train has type object'):
      idx.read_npz(self.path)
    self.assertFalse(_Trap.sprung)

  @parameterized.parameters('<U3', 'complex64', 'datetime64[s]', 'i4,f4')
  def test_only_real_numbers(self, dtype):
    self.arrays['x_test'] = np.zeros((2, 4), dtype)
    np.savez(self.path, **self.arrays)
    with self.assertRaisesRegex(ValueError, 'x_test has type.*real numbers'):
      idx.read_npz(self.path)

  @parameterized.parameters(np.savez, np.savez_compressed)
  def test_damage_is_noticed(self, save):
    """A flipped bit is refused, or harmless: never another array."""
    save(self.path, **self.arrays)
    content = self.path.read_bytes()
    refused = 0
    flips = range(0, len(content), 7)
    for i in flips:
      spoilt = content[:i] + bytes([content[i] ^ 4]) + content[i + 1 :]
      self.path.write_bytes(spoilt)
      try:
        self.assert_same(idx.read_npz(self.path), self.arrays.values())
      except ValueError as error:
        self.assertIn(f'{self.path} cannot be used', str(error))
        refused += 1
    # The rest is in dates, paddings and the like.
    self.assertGreater(refused, len(flips) / 2)

  @parameterized.parameters(b'', b'PK', b'\x93NUMPY\x01\x00', b'x' * 1000)
  def test_other_files_are_refused(self, content):
    self.path.write_bytes(content)
    with self.assertRaisesRegex(ValueError, f'{self.path} cannot'):
      idx.read_npz(self.path)

  def test_missing_file(self):
    with self.assertRaisesRegex(FileNotFoundError, str(self.path)):
      idx.read_npz(self.path)

  def test_memory_follows_the_file_not_its_header(self):
    """An array that claims 80 MB costs no more than what the file holds."""
    for size in (10**7, 10**12):
      self.write_members(_header(size) + b'12345678')
      self.assert_refused_within(8 * 2**20, f'promises {size * 8} bytes')

  def write_members(self, content, method=zipfile.ZIP_STORED):
    with zipfile.ZipFile(self.path, 'w', method) as archive:
      for name in self.arrays:
        archive.writestr(f'{name}.npy', content)

  def assert_refused_within(self, size, message):
    tracemalloc.start()
    try:
      with self.assertRaisesRegex(ValueError, message):
        idx.read_npz(self.path)
      self.assertLess(tracemalloc.get_traced_memory()[1], size)
    finally:
      tracemalloc.stop()

  def test_long_header_is_not_read(self):
    """NumPy would hold all of it before it says that it is too long."""
    content = b'\x93NUMPY\2\0' + struct.pack('<I', 10**7) + b' ' * 10**7
    self.write_members(content, zipfile.ZIP_DEFLATED)
    self.assert_refused_within(2**20, 'header claims 10000000 bytes')

  @parameterized.parameters(zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)
  def test_other_compression(self, method):
    """zipfile would unpack a piece of 4 kB into as much as it holds."""
    self.write_members(_header(10**6) + bytes(8 * 10**6), method)
    self.assert_refused_within(2**20, 'compressed in another way')

  def test_one_name_twice(self):
    """Which is meant? It depends on who reads it."""
    np.savez(self.path, **self.arrays)
    with zipfile.ZipFile(self.path, 'a') as archive, warnings.catch_warnings():
      warnings.simplefilter('ignore')
      archive.writestr('y_test.npy', b'another')
    for read in (idx.read_npz, idx.read_archive):
      with self.assertRaisesRegex(ValueError, 'several arrays of one name'):
        read(self.path)
