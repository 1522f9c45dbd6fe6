import pickle
import warnings
import zipfile

import numpy as np
from absl.testing import parameterized

from ossgd.data import archives
from tests import idx_files, mutations


class _Trap:
  """Unpickling one of these is noticed."""

  sprung = False

  def __reduce__(self):
    return _spring, ()


def _spring():
  _Trap.sprung = True


class ArchiveTest(idx_files.Case):
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
      archives.read_sets(self.path)
    self.assertFalse(_Trap.sprung, 'something was unpickled')

  @parameterized.parameters(np.savez, np.savez_compressed)
  def test_reads_what_numpy_wrote(self, save):
    """Any numeric type, byte order and memory order; further arrays too."""
    save(self.path, **self.arrays, note=np.array('other'))
    self.assert_files(archives.read_sets(self.path), self.arrays.values())

  def test_missing(self):
    """The file, or an array in it."""
    with self.assertRaisesRegex(FileNotFoundError, str(self.path)):
      archives.read_sets(self.path)
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
    for read in (archives.read_sets, archives.read):
      with self.assertRaisesRegex(ValueError, 'several arrays of one name'):
        read(self.path)
