"""Each form that makers ship their files in, small, written by the test."""

import bz2
import gzip
import io
import lzma
import struct
import tracemalloc
from unittest import mock

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from absl.testing import parameterized
from PIL import Image
from sklearn import datasets

from ossgd.data import file_sets, idx
from ossgd.data.files import opening
from tests import idx_files

FIELDS = idx.Arrays._fields


class Case(idx_files.Case):
  def assert_read(self, place, expected=None, *, kind='', note=''):
    found = file_sets.read(self.folder / place, kind)
    self.assert_files(found.arrays, expected)
    self.assertRegex(found.note, rf'\A{note}\Z')

  def assert_refused(self, place, message, error=ValueError, *, kind=''):
    with self.assertRaisesRegex(error, message) as caught:
      file_sets.read(self.folder / place, kind)
    self.assertNotIn('\n', str(caught.exception))

  def content(self, name):
    return (self.folder / name).read_bytes()

  def write(self, name, content):
    path = self.folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


class IdxTest(Case):
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


class NpzTest(Case):
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


class TableTest(Case):
  """Four numbers, of which two tell the classes; 30 and 20 rows."""

  def setUp(self):
    super().setUp()
    rng = np.random.default_rng(0)
    x = rng.integers(-9, 9, (50, 4)) / 4  # exact, however they are written
    x[:, 3] = 0
    self.x, self.y = (x[:30], x[30:]), (np.arange(30) % 3, np.arange(20) % 3)
    self.tables = [
      pd.DataFrame(x, columns=['a', 'b', 'c', 'd']).assign(label=y)
      for x, y in zip(self.x, self.y, strict=True)
    ]
    self.expected = (self.x[0], self.y[0], self.x[1], self.y[1])

  def save(self, names=('train.csv', 'test.csv'), **settings):
    settings = {'index': False} | settings
    for name, table in zip(names, self.tables, strict=True):
      table.to_csv(self.folder / name, **settings)

  @parameterized.parameters('label', 'Class', 'TARGET', 'y')
  def test_csv(self, label):
    """Wherever in the row the label is, and in the test set elsewhere."""
    self.tables = [t.rename(columns={'label': label}) for t in self.tables]
    self.tables[1] = self.tables[1][['d', label, 'a', 'c', 'b']]
    self.save()
    for place in ('', 'train.csv', 'test.csv'):
      self.assert_read(place, self.expected)

  @parameterized.parameters(
    dict(sep=';'),
    dict(sep='\t'),
    dict(encoding='utf-8-sig'),
    dict(lineterminator='\r\n'),
    dict(quoting=1),
  )
  def test_csv_dialects(self, **settings):
    self.save(**settings)
    self.assert_read('', self.expected)

  def test_csv_names(self):
    """As they are shipped, beside others; packed, whatever the name says."""
    self.save(('mnist_train.csv', 'mnist_test.csv'))
    self.write('readme.txt', b'label, train, test')
    self.write(
      'mnist_train.csv', gzip.compress(self.content('mnist_train.csv'))
    )
    for place in ('', 'mnist', 'mnist_train.csv'):
      self.assert_read(place, self.expected)
    self.save(('iris.train.csv', 'iris.test.csv'))
    self.assert_refused('', f'name one of them: {self.folder}/iris, ')
    self.assert_read('iris', self.expected)

  def test_csv_numbered_columns(self):
    """pandas names columns by numbers, which are no numbers of a row."""
    names = dict(zip('abcd', range(4), strict=True))
    self.tables = [t.rename(columns=names) for t in self.tables]
    self.save()
    self.assert_read('', self.expected)

  @parameterized.parameters(True, False)
  def test_words_are_labels(self, header):
    """Inputs are numbers, so the only column of words cannot be one.

    Without names of columns, too, as UCI ships its files.
    """
    words = np.array(['setosa', 'versicolor', 'virginica'])
    self.tables = [
      t.assign(label=words[t.label]).rename(columns={'label': 'species'})
      for t in self.tables
    ]
    self.save(header=header)
    expected = list(self.expected)
    expected[1::2] = words[expected[1]], words[expected[3]].astype('<U10')
    self.assert_read('', expected)

  def test_words_that_labels_may_be_called(self):
    """A row that ends in y, for yes, is no line of names."""
    words = np.array(['n', 'y', 'class'])
    self.tables = [t.assign(label=words[t.label])[::-1] for t in self.tables]
    self.save(header=False)
    expected = [array[::-1] for array in self.expected]
    expected[1::2] = words[expected[1]], words[expected[3]]
    self.assert_read('', expected)

  @parameterized.named_parameters(
    ('no_names', dict(header=False), 'its columns have no names: put a line'),
    (
      'names_or_row',
      dict(),
      'first line, 0,1,2,3,species, one of names or a row',
    ),
    ('an_index', dict(index=True), 'its column 1 has no name.*leave it out'),
    ('not_called', dict(columns=['a', 'b']), 'Name that one "label".* a, b'),
    ('no_inputs', dict(columns=['label']), 'no columns but the labels'),
    ('no_rows', dict(), 'no rows'),
    ('words', dict(), "column 'b' holds 'x', expected numbers"),
    ('two', dict(), 'which of its columns'),
    ('other', dict(), "train.csv: 'y[01]' is only in one"),
    ('missing', dict(), 'row 3 has nan for a label'),
    ('long', dict(), 'row 0 has .x+.* for a label'),
    ('more', dict(), 'more fields than its first line'),
  )
  def test_csv_refused(self, settings, message):
    """With the line that mends it, and which file it is."""
    case = self._testMethodName.rpartition('refused_')[2]
    for i, table in enumerate(self.tables):
      if case == 'no_rows':
        table = table[:0]
      if case == 'words':
        table['b'] = table['b'].astype(object)
        table.loc[2, 'b'] = 'x'
      if case == 'names_or_row':
        table = pd.DataFrame(table.to_numpy()).rename(columns={4: 'species'})
        table['species'] = table['species'].map('word{:.0f}'.format)
      if case == 'two':
        table['y'] = 0
      if case == 'other':
        table[f'y{i}'] = 0
      if case in ('missing', 'long'):
        table['label'] = 'word' if case == 'missing' else 'x' * 201
        table.loc[3, 'label'] = None if case == 'missing' else 'word'
      self.tables[i] = table
    self.save(**settings)
    if case == 'more':
      content = self.content('train.csv')
      self.write(
        'train.csv', content.replace(b'\n', b',1\n').replace(b'l,1', b'l')
      )
    self.assert_refused('', rf'(train|test)\.csv cannot be used.*{message}')

  def test_one_table(self):
    """Nothing says which rows are to test with."""
    self.save(('iris.csv', 'train.csv'))
    self.assert_refused(
      'iris.csv', 'save them as two files, train.csv and test.csv'
    )
    self.assert_refused('train.csv', 'no test rows', FileNotFoundError)
    self.assert_refused('', 'no test rows', FileNotFoundError)

  @parameterized.parameters('snappy', 'zstd', None)
  def test_parquet(self, compression):
    """In one part or in several, as Hugging Face cuts them."""
    train, test = self.tables
    names = (
      'data/train-00000-of-00002.parquet',
      'data/train-00001-of-00002.parquet',
      'data/test-00000-of-00001.parquet',
    )
    (self.folder / 'data').mkdir()
    for name, table in zip(names, (train[:17], train[17:], test), strict=True):
      table.to_parquet(self.folder / name, compression=compression)
    self.assert_read('', self.expected)
    self.assert_read(names[0], self.expected)
    test.drop(columns='a').to_parquet(self.folder / names[1])
    self.assert_refused('', 'train-00001.*its columns are not those of .*00000')

  def test_parquet_words(self):
    """Texts, and categories, which each row group numbers by itself."""
    words = np.array(['u', 'v', 'w'])
    for kind in (str, 'category'):
      for name, table in zip(('train', 'test'), self.tables, strict=True):
        table = pa.Table.from_pandas(
          table.assign(label=pd.Series(words[table.label][::-1]).astype(kind)),
          preserve_index=False,
        )
        pq.write_table(table, self.folder / f'{name}.parquet', row_group_size=4)
      expected = list(self.expected)
      expected[1::2] = words[expected[1]][::-1], words[expected[3]][::-1]
      self.assert_read('', expected)

  @parameterized.parameters(True, False)
  def test_parquet_missing(self, category):
    """pyarrow gives another row's word for one that is missing."""
    label = pd.Series(['u', 'v', None] * 10)
    label = label.astype('category') if category else label
    for name in ('train', 'test'):
      table = self.tables[0].assign(label=label)
      table.to_parquet(self.folder / f'{name}.parquet')
    self.assert_refused('', "train.parquet cannot.*'label' lacks 10 values")

  def test_parquet_images(self):
    """As Hugging Face stores them: PNG in a struct."""
    for mode, form in (('L', 'PNG'), ('RGB', 'PNG'), ('L', 'struct')):
      for part in ('train', 'test'):
        x, y = (getattr(self.files, f'{r}_{part}') for r in 'xy')
        encoded = [
          self.png(Image.fromarray(image).convert(mode)) for image in x
        ]
        if form == 'struct':
          encoded = [{'bytes': one, 'path': None} for one in encoded]
        pq.write_table(
          pa.table({'image': encoded, 'label': y}),
          self.folder / f'{part}-00000-of-00001.parquet',
        )
      expected = self.files
      if mode == 'RGB':
        colours = [np.stack([x] * 3, axis=-1) for x in self.files[::2]]
        expected = expected._replace(x_train=colours[0], x_test=colours[1])
      self.assert_read('', expected)

  def png(self, image):
    stream = io.BytesIO()
    image.save(stream, 'PNG')
    return stream.getvalue()

  def test_parquet_image_sizes(self):
    """The first image's header decides what is allocated, all must be as it."""
    small, large = (Image.new('L', (n, n)) for n in (28, 30))
    for images, message in (
      ([small, large], 'image 1 is 30 x 30, L; expected all of one size'),
      ([small.convert('RGBA'), small], 'image 0 is 28 x 28, RGBA'),
    ):
      table = {'image': [self.png(i) for i in images], 'label': [0, 1]}
      for part in ('train', 'test'):
        pq.write_table(pa.table(table), self.folder / f'{part}.parquet')
      self.assert_refused('', f'train.parquet cannot.*{message}')

  def test_no_pyarrow(self):
    for part in ('train', 'test'):
      self.tables[0].to_parquet(self.folder / f'{part}.parquet')
    with mock.patch.dict('sys.modules', {'pyarrow.parquet': None}):
      self.assert_refused('', 'pip install pyarrow', ImportError)

  def save_libsvm(self, names, pack=bytes, **settings):
    for name, x, y in zip(names, self.x, self.y, strict=True):
      stream = io.BytesIO()
      datasets.dump_svmlight_file(x, y, stream, **settings)
      self.write(name, pack(stream.getvalue()))

  @parameterized.parameters(
    dict(names=('a9a', 'a9a.t')),
    dict(names=('a9a.bz2', 'a9a.t.bz2'), pack=bz2.compress),
    dict(names=('a9a.bz2', 'a9a.t'), pack=gzip.compress),
    dict(names=('a9a.xz', 'a9a.t.xz'), pack=lzma.compress),
    dict(names=('train.svm', 'test.svm')),
    dict(names=('agaricus.txt.train', 'agaricus.txt.test')),
    dict(names=('a9a', 'a9a.t'), comment='of somebody'),
  )
  def test_libsvm(self, names, **settings):
    """Numbered from 1; the last coordinate is nowhere, and so is not known."""
    self.save_libsvm(names, zero_based=False, **settings)
    x_train, y_train, x_test, y_test = self.expected
    expected = (np.float32(x_train[:, :3]), y_train)
    expected += (np.float32(x_test[:, :3]), y_test)
    self.write('a9a.other', b'1 1:1\n')
    for place in ('', *names):
      self.assert_read(place, expected)

  def test_libsvm_numbers(self):
    """Of both files together: coordinates, where they begin, labels' signs."""
    self.write('a', b'+1 qid:3 1:1 2:.5\n-1 2:-1e-2 # note\n\n# note\n1\n')
    self.write('a.t', b'-1 4:2\n1 1:1.\n')
    expected = (
      np.float32([[1, 0.5, 0, 0], [0, -0.01, 0, 0], [0, 0, 0, 0]]),
      np.array([1, -1, 1]),
      np.float32([[0, 0, 0, 2], [1, 0, 0, 0]]),
      np.array([-1, 1]),
    )
    self.assert_read('a', expected)
    self.write('a.t', b'-1 0:3 4:2\n1 1:1.\n')
    test = np.float32([[3, 0, 0, 0, 2], [0, 1, 0, 0, 0]])
    train = np.pad(expected[0], ((0, 0), (1, 0)))
    self.assert_read('a', (train, expected[1], test, expected[3]))

  @parameterized.parameters(
    (b'1,2 1:1\n', 'could not convert'),
    (b'1 2:1 1:1\n', 'sorted'),
    (b'1 1:x\n', ''),
    (b'1 2147483648:1 99999999999999999999:1\n', ''),
  )
  def test_libsvm_damaged(self, line, message):
    self.write('a', b'1 1:1\n' + line)
    self.write('a.t', b'1 1:1\n')
    self.assert_refused('a', f'a cannot be used.*{message}')


class BoundedTest(Case):
  """Little on disk, much in memory: refused before it is."""

  def limit(self, size):
    free = mock.patch.object(opening.memory, 'free', return_value=size)
    self.enter_context(free)

  def test_text(self):
    """32 MB of commas, packed into 32 kB: most of it is not unpacked."""
    self.limit(5 * 2**20)
    content = gzip.compress(b'a,label\n' + b'1,0\n' * 2**23)
    for name in ('train.csv', 'test.csv'):
      self.write(name, content)
    tracemalloc.start()
    self.addCleanup(tracemalloc.stop)
    self.assert_refused('', 'train.csv cannot.*more than 0.000524 GB of text')
    self.assertLess(tracemalloc.get_traced_memory()[1], 4 * 2**20)

  def test_libsvm(self):
    """One number, far to the right."""
    for name in ('a', 'a.t'):
      self.write(name, b'1 2147483647:1\n' * 3)
    self.assert_refused('', 'it would take 103 GB of memory')

  def test_idx(self):
    """A header that promises more than there is room for, and keeps it."""
    self.limit(2**20)
    for name in idx.FILES:
      self.write(name, struct.pack('>4B', 0, 0, 8, int(name[-7])))
    path = 'train-images-idx3-ubyte'
    self.write(path, struct.pack('>4B3I', 0, 0, 8, 3, 2**11, 28, 28))
    self.assert_refused('', f'{path} cannot.*would take 0.00161 GB')

  def test_parquet(self):
    """A billion zeros are a few bytes."""
    self.limit(2**20)
    table = pa.table({'label': np.zeros(2**18, int)})
    for part in ('train', 'test'):
      pq.write_table(table, self.folder / f'{part}.parquet')
    self.assertLess(len(self.content('train.parquet')), 2**12)
    self.assert_refused('', 'train.parquet cannot.*would take 0.0021 GB')

  def test_parquet_texts(self):
    """One long text is stored once, and read a thousand times."""
    self.limit(2**20)
    table = pa.table({'image': [b'x' * 10_000] * 1000, 'label': [0] * 1000})
    for part in ('train', 'test'):
      pq.write_table(table, self.folder / f'{part}.parquet')
    self.assertLess(len(self.content('train.parquet')), 2**15)
    self.assert_refused('', 'train.parquet cannot.*would take 0.02')


class OtherFilesTest(Case):
  @parameterized.parameters(b'', b'\0' * 99, b'\x89PNG\r\n', b'a text.\n')
  def test_not_one_of_these(self, content):
    self.write('file', content)
    self.assert_refused('file', 'file cannot be used.*not one of what is read')
    self.assert_refused('', 'no set that is read', FileNotFoundError)
    self.assert_refused('else', 'no file or folder', FileNotFoundError)
