"""CSV and Parquet, as pandas and pyarrow write them."""

import gzip
import io
import tracemalloc
from unittest import mock

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from absl.testing import parameterized
from PIL import Image

from tests.data.files import cases


class CsvTest(cases.TableCase):
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
    (
      'twice',
      dict(header=['a', 'a ', 'c', 'd', 'label']),
      'several of its columns',
    ),
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


class ParquetTest(cases.TableCase):
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

  def test_one_number(self):
    """A billion zeros are a few bytes."""
    self.limit(2**20)
    table = pa.table({'label': np.zeros(2**18, int)})
    for part in ('train', 'test'):
      pq.write_table(table, self.folder / f'{part}.parquet')
    self.assertLess(len(self.content('train.parquet')), 2**12)
    self.assert_refused('', 'train.parquet cannot.*would take 0.0021 GB')

  def test_one_text(self):
    """One long text is stored once, and read a thousand times."""
    self.limit(2**20)
    table = pa.table({'image': [b'x' * 10_000] * 1000, 'label': [0] * 1000})
    for part in ('train', 'test'):
      pq.write_table(table, self.folder / f'{part}.parquet')
    self.assertLess(len(self.content('train.parquet')), 2**15)
    self.assert_refused('', 'train.parquet cannot.*would take 0.02')
