"""Each form that makers ship their files in, small, written by the test."""

import bz2
import gzip
import lzma
import struct

import numpy as np
from absl.testing import parameterized

from ossgd.data import idx
from tests import idx_files
from tests.data.files import cases


class IdxTest(cases.Case):
  def write_idx(self, folder, prefix='', *, files=None, suffix='', test='t10k'):
    for name, array in zip(idx.FILES, files or self.files, strict=True):
      name = prefix + name.replace('t10k', test)
      content = idx_files.idx_bytes(array)
      if suffix:
        content = gzip.compress(content)
      self.write(f'{folder}/{name}{suffix}', content)

  @parameterized.product(
    place=('root', 'root/MNIST', 'root/MNIST/raw'), kind=('', 'idx')
  )
  def test_torchvision(self, place, kind):
    """Its root, with MNIST/raw below; both plain and packed, as it leaves them.

    And an archive in the same folder, which is no part of it.
    """
    self.write_idx('root/MNIST/raw')
    packed = idx_files.small_set(seed=1)  # not read: these may be left over
    self.write_idx('root/MNIST/raw', files=packed, suffix='.gz')
    self.write('root/MNIST/raw/other.npz', b'')
    if kind:
      self.assert_read(place, kind=kind)
    (self.folder / 'root/MNIST/raw/other.npz').unlink()
    self.assert_read(place)

  def test_several_sets(self):
    """Both below torchvision's root: each is read by the name that is told."""
    other = idx_files.small_set(seed=1)
    self.write_idx('root/MNIST/raw')
    self.write_idx('root/FashionMNIST/raw', files=other)
    told = f'{self.folder}/root/FashionMNIST/raw, {self.folder}/root/MNIST/raw'
    self.assert_refused('root', f'holds several sets; name one of them: {told}')
    self.assert_read('root/MNIST/raw')
    self.assert_read('root/FashionMNIST/raw', other)
    self.write_idx('root/MNIST/raw', 'emnist-mnist-', files=other, test='test')
    self.assert_read('root/MNIST/raw', kind='idx')

  def test_emnist(self):
    """Six sets in one folder; one is named by what its files begin with."""
    letters = self.files._replace(y_train=self.files.y_train + 1)
    digits = idx_files.small_set(seed=1)
    note = 'images lie transposed.*transposed: .*'
    self.write_idx('raw', 'emnist-letters-', files=letters, test='test')
    self.assert_read('', letters, note=note)
    self.write_idx('raw', 'emnist-digits-', files=digits, test='test')
    told = [
      self.folder / f'raw/emnist-{name}' for name in ('digits', 'letters')
    ]
    self.assert_refused('', f'name one of them: {told[0]}, {told[1]}')
    for place in (told[1], f'{told[1]}-train-labels-idx1-ubyte'):
      self.assert_read(place, letters, note=note, kind='idx')
    self.assert_read(told[0], digits, note=note)

  def write_qmnist(self, num_columns=8):
    for name in ('train', 'test'):
      x, y = (getattr(self.files, f'{r}_{name}') for r in 'xy')
      labels = np.arange(len(y) * num_columns)
      labels = labels.reshape(len(y), num_columns) - 99
      labels[:, 0] = y
      self.write(f'qmnist-{name}-images-idx3-ubyte.gz', idx_files.idx_bytes(x))
      header = struct.pack('>4B2I', 0, 0, 12, 2, *labels.shape)
      self.write(
        f'qmnist-{name}-labels-idx2-int',
        header + labels.astype('>i4').tobytes(),
      )
      self.write(f'qmnist-{name}-labels.tsv.gz', b'0\t4\n')

  def test_qmnist(self):
    """int32 labels of eight columns, of which the first is the digit."""
    self.write_qmnist()
    expected = self.files._replace(
      y_train=self.files.y_train.astype(np.int32),
      y_test=self.files.y_test.astype(np.int32),
    )
    self.assert_read('', expected, note="of QMNIST's columns.*the digit")
    self.write_qmnist(num_columns=7)
    self.assert_refused('', r'labels-idx2-int has labels of shape \(30, 7\)')

  @parameterized.parameters(gzip.compress, bz2.compress, lzma.compress, bytes)
  def test_packed_whatever_the_name_says(self, pack):
    """Unpacked by a browser under its old name, or packed again."""
    for name, array in zip(idx.FILES, self.files, strict=True):
      self.write(f'{name}.gz', pack(idx_files.idx_bytes(array)))
    self.assert_read('')
    for name in idx.FILES:
      (self.folder / f'{name}.gz').rename(self.folder / name)
    self.assert_read('', kind='idx')

  def test_names_with_a_dot_and_mixed_compression(self):
    """Both spellings are in use, and some tools unpack only some files."""
    idx_files.write(self.folder, self.files)
    for name in idx_files.NAMES[::2]:
      content = (self.folder / name).read_bytes()
      (self.folder / name).unlink()
      dotted = self.folder / f'{name.replace("-idx", ".idx")}.gz'
      dotted.write_bytes(gzip.compress(content))
    self.assert_read('')

  def test_no_type_in_the_name(self):
    """Then the file says it."""
    for name, array in zip(
      ('train-images', 'train-labels', 'test-images', 'test-labels'),
      self.files,
      strict=True,
    ):
      self.write(f'{name}.bin', idx_files.idx_bytes(array))
    self.assert_read('')

  def test_missing_part_is_named(self):
    self.write_idx('.')
    (self.folder / 't10k-labels-idx1-ubyte').unlink()
    for place in ('', 'train-images-idx3-ubyte'):
      self.assert_refused(
        place, 'has no test labels; expected four IDX', FileNotFoundError
      )
    self.assert_refused('emnist', 'no file or folder', FileNotFoundError)
    self.assert_refused('', 'npz archive', FileNotFoundError, kind='npz')

  def test_idx(self):
    """A header that promises more than there is room for, and keeps it."""
    self.limit(2**20)
    for name in idx.FILES:
      self.write(name, struct.pack('>4B', 0, 0, 8, int(name[-7])))
    path = 'train-images-idx3-ubyte'
    self.write(path, struct.pack('>4B3I', 0, 0, 8, 3, 2**11, 28, 28))
    self.assert_refused('', f'{path} cannot.*would take 0.00161 GB')


class NpzTest(cases.Case):
  @parameterized.parameters(
    'X_train y_train X_test y_test',
    'X_train Y_train X_test Y_test',
    'xtrain ytrain xtest ytest',
    'Xtrain Ytrain Xtest Ytest',
    'trainX trainY testX testY',
    'train_x train_y test_x test_y',
    'train_images train_labels test_images test_labels',
    'train_data train_labels test_data test_labels',
    'x_train y_train x_test y_test',
  )
  def test_spellings(self, names):
    np.savez(
      self.folder / 'a.npz', **dict(zip(names.split(), self.files, strict=True))
    )
    for place in ('a.npz', ''):
      self.assert_read(place)
      self.assert_read(place, kind='npz')
    self.assert_refused('a.npz', 'no set that is read|not one', kind='idx')
    (self.folder / 'a.npz').rename(self.folder / 'train.npz')
    self.assert_read('train.npz')

  def test_keras(self):
    """keras.datasets.mnist keeps this file: x_test first, compressed."""
    np.savez_compressed(
      self.folder / 'mnist.npz', **dict(reversed(self.files._asdict().items()))
    )
    self.assert_read('mnist.npz')

  def test_medmnist(self):
    """Labels (n, 1) are handed on as they are; validation is left out."""
    files = self.files._replace(
      y_train=self.files.y_train[:, None], y_test=self.files.y_test[:, None]
    )
    names = ('train_images', 'train_labels', 'test_images', 'test_labels')
    more = {'val_images': self.files.x_test, 'val_labels': files.y_test}
    np.savez(
      self.folder / 'pathmnist.npz',
      **dict(zip(names, files, strict=True)),
      **more,
    )
    note = 'its validation set is left out'
    self.assert_read('pathmnist.npz', files, note=note)
    np.savez(self.folder / 'bloodmnist.npz', **self.files._asdict())
    self.assert_refused('', f'name one of them: {self.folder}/bloodmnist.npz, ')

  def test_kuzushiji(self):
    """Four archives of arr_0."""
    for prefix, seed in (('kmnist', 0), ('k49', 1)):
      names = ('train-imgs', 'train-labels', 'test-imgs', 'test-labels')
      for name, array in zip(names, idx_files.small_set(seed), strict=True):
        np.savez_compressed(self.folder / f'{prefix}-{name}.npz', array)
      place = '' if prefix == 'kmnist' else 'k49'
      self.assert_read(place, idx_files.small_set(seed))
    self.assert_refused('', f'name one of them: {self.folder}/k49, ')
    self.assert_read('kmnist', kind='npz')
    np.savez(self.folder / 'kmnist-test-imgs.npz', a=[0], b=[1])
    self.assert_refused('kmnist', 'kmnist-test-imgs.npz holds 2 arrays')

  def test_ambiguous_names(self):
    """Which images are meant? It is not guessed."""
    names = ('x_train', 'y_train', 'test_images', 'test_labels', 'images_test')
    np.savez(self.folder / 'a.npz', **{name: np.ones(3) for name in names})
    self.assert_refused(
      'a.npz', 'cannot be used.*expected arrays named x_train'
    )


class OtherFilesTest(cases.Case):
  @parameterized.parameters(b'', b'\0' * 99, b'\x89PNG\r\n', b'a text.\n')
  def test_not_one_of_these(self, content):
    self.write('file', content)
    self.assert_refused('file', 'file cannot be used.*not one of what is read')
    self.assert_refused('', 'no set that is read', FileNotFoundError)
    self.assert_refused('else', 'no file or folder', FileNotFoundError)
