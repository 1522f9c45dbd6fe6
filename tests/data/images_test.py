import functools
import hashlib
import os
import pathlib
import sys
import tempfile
import unittest
from unittest import mock

import numpy as np
import pandas as pd
from absl.testing import parameterized
from sklearn import datasets

from ossgd.data import idx, images, sources, tfds_store
from ossgd.running import sweeps
from tests import idx_files, tfds_folders


class OwnFilesTest(idx_files.Case):
  @parameterized.parameters('raw', 'unit_norm', 'centred_unit_norm')
  def test_idx_folder(self, preprocess):
    """Of pixels in [0, 1], in float64; the examples in the files' order."""
    idx_files.write(self.folder, self.files)
    split = images.load(f'idx:{self.folder}', preprocess=preprocess)
    train, test = (
      x.reshape(len(x), 784) / 255.0
      for x in (self.files.x_train, self.files.x_test)
    )
    if preprocess == 'centred_unit_norm':
      train, test = train - train.mean(axis=0), test - train.mean(axis=0)
    for x, got in ((train, split.train.x), (test, split.test.x)):
      if preprocess != 'raw':
        x = x / np.linalg.norm(x, axis=1, keepdims=True)
      np.testing.assert_allclose(got, x, atol=1e-6)
      self.assertEqual(got.dtype, np.float32)
    np.testing.assert_array_equal(split.train.y, self.files.y_train)
    np.testing.assert_array_equal(split.test.y, self.files.y_test)

  def test_npz_file(self):
    """Bytes are pixels; numbers of any other type are what they are."""
    path = self.folder / 'data.npz'
    other = self.files._replace(x_test=self.files.x_test.astype(np.float64))
    np.savez(path, **other._asdict())
    split = images.load(f'npz:{path}', normalize=False)
    pixels = self.files.x_train.reshape(30, 784) / 255
    np.testing.assert_allclose(split.train.x, pixels, rtol=1e-6)
    np.testing.assert_array_equal(split.test.x, other.x_test.reshape(20, 784))

  def test_faults_are_found(self):
    """A black image has no direction; a damaged file is not read."""
    black = self.files._replace(x_train=self.files.x_train.copy())
    black.x_train[7] = 0
    idx_files.write(self.folder, black)
    with self.assertRaisesRegex(ValueError, 'train x is zero in row 7'):
      images.load(f'idx:{self.folder}')
    images.load(f'idx:{self.folder}', normalize=False)
    path = self.folder / idx_files.NAMES[0]
    path.write_bytes(path.read_bytes()[:-1])
    with self.assertRaisesRegex(ValueError, f'{path} cannot be used'):
      images.load(f'idx:{self.folder}')

  @parameterized.parameters('idx', 'npz')
  def test_missing(self, kind):
    path = self.folder / 'nothing'
    with self.assertRaisesRegex(FileNotFoundError, str(path)):
      images.load(f'{kind}:{path}')

  @parameterized.parameters('', 'cifar10', 'idx:', 'npz:', 'tfds:', 'idx')
  def test_unknown_name(self, name):
    with self.assertRaisesRegex(ValueError, f"{name!r}.*'idx:DIR' or 'npz:FI"):
      images.load(name)

  def test_path_without_a_kind(self):
    """The line that mends it."""
    idx_files.write(self.folder, self.files)
    with self.assertRaisesRegex(
      ValueError, f"; for what is there, 'file:{self.folder}'"
    ):
      images.load(str(self.folder))

  @parameterized.parameters(False, True)
  def test_described(self, alike):
    """One line: n, d, k, range, counts, and what is particular."""
    labels = np.sort(self.files.y_train) if alike else np.arange(30) % 4 // 2
    files = self.files._replace(
      y_train=labels, y_test=labels[:20] if alike else labels[1:21]
    )
    names = [n.replace('t10k', 'test') for n in idx_files.NAMES]
    for name, array in zip(names, files, strict=True):
      content = idx_files.idx_bytes(array.astype(np.uint8))
      (self.folder / f'emnist-letters-{name}').write_bytes(content)
    with self.assertLogs(level='INFO') as logs:
      images.load(f'idx:{self.folder}/emnist-letters')
    said = [record.getMessage() for record in logs.records]
    (line,) = (line for line in said if line.startswith('idx:'))
    counts = '10 classes, 0 to 9, of 3'
    if not alike:
      counts = '2 classes, 0 to 1, of 16, 14'
    self.assertStartsWith(
      line,
      f'idx:{self.folder}/emnist-letters: 30 training and 20 test examples, '
      f'd = 784 (28 x 28), values 0 to 255, k = {counts} training examples '
      'each; '
      "images lie transposed, as EMNIST's",
    )

  def test_labels_as_makers_number_them(self):
    """MedMNIST's in a column, letters from 1, signs, words: all from 0."""
    x, y = np.arange(1.0, 49).reshape(12, 4), np.arange(12) % 2
    medmnist = {
      f'{part}_{name}': values
      for part in ('train', 'val', 'test')
      for name, values in (('images', x), ('labels', y[:, None]))
    }
    np.savez(self.folder / 'pathmnist.npz', **medmnist)
    for name in ('a9a', 'a9a.t'):
      datasets.dump_svmlight_file(x, 2 * y - 1, str(self.folder / name))
    letters = idx.Arrays(*2 * (np.uint8(x).reshape(12, 2, 2), np.uint8(y + 1)))
    idx_files.write(self.folder / 'letters', letters)
    words = pd.DataFrame(x).assign(label=np.array(['setosa', 'virginica'])[y])
    for part in ('train', 'test'):
      words.to_csv(self.folder / f'{part}.csv', index=False)
    for place in ('pathmnist.npz', 'a9a', 'letters', 'train.csv'):
      split = images.load(f'file:{self.folder / place}')
      for data in split[:2]:
        np.testing.assert_array_equal(data.y, y)
        np.testing.assert_allclose(
          data.x, x / np.linalg.norm(x, axis=1, keepdims=True), rtol=1e-6
        )

  def test_transposed(self):
    """Rows become columns of all images, grey or coloured."""
    colours = self.files._replace(
      x_train=np.stack([self.files.x_train] * 3, axis=-1),
      x_test=np.stack([self.files.x_test] * 3, axis=-1),
    )
    for files in (self.files, colours):
      path = self.folder / 'a.npz'
      np.savez(path, **files._asdict())
      plain = images.load(f'npz:{path}', preprocess='raw')
      turned = images.load(f'transposed:npz:{path}', preprocess='raw')
      shape = files.x_test.shape[1:]
      for one, other in zip(plain[:2], turned[:2], strict=True):
        one, other = (np.asarray(d.x).reshape(-1, *shape) for d in (one, other))
        np.testing.assert_array_equal(other[:, 3, 5], one[:, 5, 3])
        np.testing.assert_array_equal(other[:, 5, 3], one[:, 3, 5])
    np.savez(path, **files._replace(x_test=np.ones((20, 784)))._asdict())
    with self.assertRaisesRegex(
      ValueError, "no images.*leave 'transposed:' out"
    ):
      images.load(f'transposed:npz:{path}')

  @parameterized.parameters(
    (dict(name='npz:gs://bucket/mine.npz'), 'is an address.*mount'),
    (dict(name='idx:s3://bucket/mine'), 'is an address.*mount'),
    (dict(data_dir='gs://bucket/tfds'), 'is an address.*mount'),
    (dict(), 'gs://bucket/tfds is an address'),
    (dict(data_dir='~no-such-user/x'), 'no such home folder; give data_dir'),
  )
  def test_no_such_place(self, settings, message):
    """Not made below this folder; `TFDS_DATA_DIR` names the default one."""
    self.enter_context(
      mock.patch.dict(os.environ, TFDS_DATA_DIR='gs://bucket/tfds')
    )
    with self.assertRaisesRegex(ValueError, message):
      images.load(**settings)


class KnownSetTest(idx_files.Case):
  """A known set of 50 images in the place of MNIST's 70,000."""

  def setUp(self):
    super().setUp()
    self.fetch = self.patch(sources, 'fetch', mock.Mock())
    self.fetch.return_value = self.files
    # In TFDS's order, which is known once it has been prepared somewhere.
    self.ordered = _in_tfdss_order()
    digests = dict.fromkeys(images.KNOWN, _digests(self.ordered))
    self.patch(sources, 'TFDS_DIGESTS', digests)
    self.cache = self.folder / 'ossgd' / 'mnist-3.0.1.npz'

  def patch(self, module, name, value):
    return self.enter_context(mock.patch.object(module, name, value))

  def load(self, name='mnist'):
    split = images.load(name, data_dir=self.folder, normalize=False)
    expected = self.ordered.x_train.reshape(30, 784) / np.float32(255)
    np.testing.assert_array_equal(split.train.x, expected)
    np.testing.assert_array_equal(split.train.y, self.ordered.y_train)
    np.testing.assert_array_equal(split.test.y, self.ordered.y_test)
    return split

  def test_no_other_set_is_taken_for_it(self):
    """MNIST has no configurations: a version written as one is refused."""
    with self.assertRaisesRegex(ValueError, "no configuration '3.0.1'"):
      images.load('tfds:mnist/3.0.1', data_dir=self.folder)
    self.fetch.assert_not_called()

  @parameterized.parameters('mnist', 'fashion_mnist')
  def test_fetched_once_and_decoded_once(self, name):
    """First from a source, then from the cache, with the same arrays."""
    self.load(name)
    prepared = self.folder / name / '3.0.1'
    self.fetch.assert_called_once_with(name, prepared)
    self.assertTrue(prepared.is_dir())
    self.patch(tfds_store, 'read', mock.Mock(side_effect=AssertionError))
    self.load(name)
    self.fetch.assert_called_once()
    self.assertNotIn('tensorflow', sys.modules)

  @parameterized.product(
    name=images.KNOWN,
    spoil=(
      lambda path, files: path.write_bytes(path.read_bytes()[:-99]),
      lambda path, files: np.savez(path, **_brighter(files)._asdict()),
      lambda path, files: np.savez(path, **_moved_by_one(files)._asdict()),
    ),
  )
  def test_damaged_cache_is_set_aside_and_made_again(self, name, spoil):
    """It is not trained on: `load` compares every array it returns."""
    self.load(name)
    cache = self.cache.with_name(f'{name}-3.0.1.npz')
    spoil(cache, self.ordered)
    spoilt = cache.read_bytes()
    self.load(name)
    self.assertEqual(cache.with_suffix('.damaged').read_bytes(), spoilt)
    self.assertNotEqual(cache.read_bytes(), spoilt)
    self.patch(tfds_store, 'read', mock.Mock(side_effect=AssertionError))
    self.load(name)
    self.fetch.assert_called_once()

  def test_damaged_cache_that_cannot_be_moved(self):
    """In a folder that cannot be written to: slow, and no failure."""
    self.load()
    self.cache.write_bytes(b'')
    denied = mock.Mock(side_effect=PermissionError)
    with (
      mock.patch.object(pathlib.Path, 'replace', denied),
      mock.patch.object(np, 'savez', denied),
    ):
      self.load()
    self.assertEqual(self.cache.read_bytes(), b'')

  def test_prepared_set_is_read_before_any_source(self):
    """If slowly every time, from a folder that cannot be written to."""
    tfds_store.prepare('mnist', self.folder, self.files)
    with mock.patch.object(np, 'savez', side_effect=PermissionError):
      self.load()
    self.fetch.assert_not_called()
    self.assertEmpty(list(self.cache.parent.glob('*')))

  @parameterized.parameters(1, 4)
  def test_folder_of_tfds_load(self, shards):
    """TFRecord, in any number of files: read, and left as it is."""
    prepared = self.folder / 'mnist' / '3.0.1'
    x, y, x_test, y_test = self.ordered
    splits = {
      'train': tfds_folders.examples(x, y),
      'test': tfds_folders.examples(x_test, y_test),
    }
    tfds_folders.write(prepared, splits, shards=shards, name='mnist')
    before = {path: path.read_bytes() for path in prepared.iterdir()}
    for name in ('mnist', 'tfds:mnist', 'tfds:mnist:3.0.1'):
      self.load(name)
    self.assertTrue(self.cache.is_file())
    after = {path: path.read_bytes() for path in prepared.iterdir()}
    self.assertEqual(after, before)
    self.fetch.assert_not_called()

  @parameterized.parameters(*images.KNOWN)
  def test_nowhere_to_write(self, name):
    """A read-only folder without the set: the same arrays, from memory."""
    (self.folder / 'file').write_text('no folder can be made below it')
    self.folder = self.folder / 'file' / 'tfds'
    self.load(name)
    self.fetch.assert_called_once()

  def test_fetched_set_in_another_order(self):
    """If TFDS changed how it shuffles: not what all others have trained on."""
    self.patch(tfds_store, 'prepare', mock.Mock(side_effect=OSError))
    self.patch(tfds_store, 'in_order', lambda files: files)
    with self.assertRaisesRegex(ValueError, 'what was fetched does not hold'):
      self.load()

  @parameterized.product(
    name=images.KNOWN,
    change=(
      ('brighter', r'3\.0\.1 does not hold \w+: train-images-idx3-ubyte has '
       r'SHA-256 \w{64}, expected \w{64}.*'),
      ('moved', r'3\.0\.1 does not hold \w+: train-labels-idx1-ubyte.*'),
      ('cut', 'array_record'),
      ('half', 'half prepared: dataset_info.json.* is missing'),
    ),
  )  # fmt: skip
  def test_wrong_prepared_set_is_named_and_left_alone(self, name, change):
    """Another set under a known one's name, such as MNIST's digits as Fashion.

    Other programs may be content with it: nobody is asked to move it.
    """
    change, message = change
    spoil = {'brighter': _brighter, 'moved': _moved_by_one}.get(change)
    spoilt = spoil(self.files) if spoil else self.files
    tfds_store.prepare(name, self.folder, spoilt)
    prepared = self.folder / name / '3.0.1'
    (record,) = prepared.glob('*train.array_record*')
    if change == 'cut':
      record.write_bytes(record.read_bytes()[:1000])
    elif change == 'half':
      (prepared / 'dataset_info.json').unlink()
    with self.assertRaisesRegex(
      ValueError, rf'(?s){message}.*left as it is: give another data_dir'
    ) as caught:
      self.load(name)
    self.assertNotIn('ove it', str(caught.exception))
    self.fetch.assert_not_called()
    self.assertFalse(self.cache.exists())
    self.assertTrue(record.is_file())


class TfdsTest(idx_files.Case):
  """Sets of TFDS that are known by their folders only."""

  def write(self, inside='small/one/1.2.0', *, labels=None, num_classes=37):
    y = self.files.y_train + 1 if labels is None else labels
    colour = self.files.x_train[:, :4, :6].reshape(30, 4, 2, 3)
    records = tfds_folders.examples(colour, y)
    tfds_folders.write(
      self.folder / inside,
      {'train': records, 'test': records[:20]},
      shape=(4, 2, 3),
      num_classes=num_classes,
    )
    return colour, y

  @parameterized.parameters('small', 'small/one', 'small/one:1.2.0')
  def test_as_tfds_has_it(self, name):
    """Labels and number of classes as they are there, colour flattened.

    As of emnist/letters, where 26 letters are 1 to 26 of 37 classes.
    """
    colour, y = self.write()
    with self.assertLogs(level='INFO') as logs:
      split = images.load(
        f'tfds:{name}', data_dir=self.folder, preprocess='raw'
      )
    self.assertRegex(logs.output[-1], r'k = 10 .*, 1 to 10.*TFDS says k = 37')
    np.testing.assert_allclose(
      split.train.x, colour.reshape(30, 24) / 255, rtol=1e-6
    )
    np.testing.assert_array_equal(split.train.y, y)
    self.assertEqual(split.num_classes, 37)
    self.assertEqual([*self.folder.iterdir()], [self.folder / 'small'])

  def test_transposed(self):
    """As of EMNIST, whose images lie on their side in TFDS too."""
    colour, _ = self.write()
    split = images.load(
      'transposed:tfds:small', data_dir=self.folder, preprocess='raw'
    )
    upright = colour.transpose(0, 2, 1, 3).reshape(30, 24)
    np.testing.assert_allclose(split.train.x, upright / 255, rtol=1e-6)
    self.assertEqual(split.num_classes, 37)

  def test_networks_have_that_many_outputs(self):
    """Of which some never are right."""
    self.write()
    split = images.load('tfds:small', data_dir=self.folder)
    ds = sweeps.sweep(split, widths=(8,), num_seeds=1, num_steps=2)
    self.assertEqual(ds.attrs['num_classes'], 37)
    # log 37 at the start, where all outputs are small beside the weights.
    loss = float(ds.train_loss.isel(step=0).squeeze())
    self.assertBetween(loss, np.log(36), np.log(60))

  def test_default_folder(self):
    """TFDS_DATA_DIR, as of TFDS itself."""
    self.write()
    with mock.patch.dict(os.environ, TFDS_DATA_DIR=str(self.folder)):
      self.assertEqual(images.load('tfds:small').num_classes, 37)

  def test_faults_are_told(self):
    self.write(labels=np.arange(30) % 2, num_classes=2)
    path = next(self.folder.rglob('*train.tfrecord*'))
    path.write_bytes(path.read_bytes()[:-9])
    message = rf'{path.parent} cannot be used: {path.name}: it is .*cut short'
    with self.assertRaisesRegex(ValueError, message):
      images.load('tfds:small', data_dir=self.folder)
    with self.assertRaisesRegex(ValueError, "no data set 'unheard_of'"):
      images.load('tfds:unheard_of', data_dir=self.folder)
    with self.assertRaisesRegex(FileNotFoundError, '`tfds build cifar10 --da'):
      images.load('tfds:cifar10', data_dir=self.folder)


@functools.cache
def _in_tfdss_order() -> idx.Arrays:
  with tempfile.TemporaryDirectory() as folder:
    tfds_store.prepare('mnist', pathlib.Path(folder), idx_files.small_set())
    return tfds_store.read('mnist', pathlib.Path(folder))


def _digests(files):
  return tuple(idx.sha256(array) for array in files)


def _brighter(files):
  return files._replace(x_train=files.x_train | 1)


def _moved_by_one(files):
  return files._replace(y_train=(files.y_train + 1) % 10)


def _check_files(name, split):
  """Compares a set's arrays with the digests of the four files."""
  read = []
  for x, y in (split.train, split.test):
    pixels = np.rint(np.asarray(x) * 255).astype(np.uint8)
    read += [pixels.reshape(-1, 28, 28), np.asarray(y).astype(np.uint8)]
  # The number in its file of each example of TFDS's order.
  numbers = tfds_store.in_order(idx.Arrays(*(np.arange(len(a)) for a in read)))
  files = [np.empty_like(array) for array in read]
  for file, array, number in zip(files, read, numbers, strict=True):
    file[number] = array
  expected = sources.FILE_DIGESTS[name]
  assert tuple(map(idx.sha256, files)) == expected, name


# Of MNIST's test images, from the file that its authors published.
_SORTED_TEST_IMAGES = (
  '426afedf4383f0cdb3da8ea95bbbc5ee9a584969f2ac07e9cc4218d0c8d50e80'
)


class MnistTest(parameterized.TestCase):
  """MNIST itself, in the default folder: fetched once on each machine."""

  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    try:
      cls.raw = images.load('mnist', normalize=False)
    except FileNotFoundError as error:
      raise unittest.SkipTest(f'MNIST cannot be had here. {error}') from error

  def test_is_mnist(self):
    """Counts and mean are those that the literature gives for MNIST."""
    split = self.raw
    self.assertEqual(split.train.x.shape, (60000, 784))
    self.assertEqual(split.test.x.shape, (10000, 784))
    counts = [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    np.testing.assert_array_equal(np.bincount(split.train.y), counts)
    counts = [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    np.testing.assert_array_equal(np.bincount(split.test.y), counts)
    x = np.asarray(split.train.x)
    self.assertEqual((x.min(), x.max()), (0, 1))
    self.assertAlmostEqual(x.mean(dtype=np.float64), 0.1307, places=4)
    self.assertAlmostEqual(x.std(dtype=np.float64), 0.3081, places=4)

  def test_is_in_tfdss_order(self):
    """The first test labels that `tfds.load('mnist', split='test')` gives."""
    first = [2, 0, 4, 8, 7, 6, 0, 6, 3, 1]
    np.testing.assert_array_equal(self.raw.test.y[:10], first)

  def test_published_files_are_known_by_their_digests(self):
    """With TFDS's order undone: what was read is those files, to the bit."""
    _check_files('mnist', self.raw)

  def test_usual_standardisation(self):
    """(x - 0.1307) / 0.3081, as everybody writes it, then unit norm.

    0.1307 is off by 4e-5, and no image is nearer to it than 1.
    """
    split = images.load('mnist', preprocess='standardised_unit_norm')
    usual = (np.asarray(self.raw.test.x, np.float64) - 0.1307) / 0.3081
    usual /= np.linalg.norm(usual, axis=1, keepdims=True)
    np.testing.assert_allclose(split.test.x, usual, atol=4e-5)
    self.assertTrue(np.any(np.asarray(split.train.x), axis=0).all())

  def test_no_pixel_is_lost_on_the_way(self):
    """Sorted, the images are the files': a digest that no order changes."""
    pixels = np.rint(np.asarray(self.raw.test.x) * 255).astype(np.uint8)
    digest = hashlib.sha256(b''.join(sorted(x.tobytes() for x in pixels)))
    self.assertEqual(digest.hexdigest(), _SORTED_TEST_IMAGES)


class FashionTest(parameterized.TestCase):
  """Fashion-MNIST itself, in the default folder: fetched once a machine."""

  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    try:
      cls.raw = images.load('fashion_mnist', normalize=False)
    except FileNotFoundError as error:
      reason = f'Fashion-MNIST cannot be had here. {error}'
      raise unittest.SkipTest(reason) from error

  def test_is_fashion_mnist(self):
    """As many of each class, and pixels as the literature gives them."""
    split = self.raw
    self.assertEqual(split.train.x.shape, (60000, 784))
    np.testing.assert_array_equal(np.bincount(split.train.y), [6000] * 10)
    np.testing.assert_array_equal(np.bincount(split.test.y), [1000] * 10)
    x = np.asarray(split.train.x)
    self.assertAlmostEqual(x.mean(dtype=np.float64), 0.2860, places=4)
    self.assertAlmostEqual(x.std(dtype=np.float64), 0.3530, places=4)

  def test_is_in_tfdss_order(self):
    """Train and test labels that `tfds.load` of TensorFlow gives first."""
    first = [2, 1, 8, 4, 1, 9, 2, 2]
    np.testing.assert_array_equal(self.raw.train.y[:8], first)

  def test_published_files_are_known_by_their_digests(self):
    """With TFDS's order undone: what was read is those files, to the bit."""
    _check_files('fashion_mnist', self.raw)

  def test_what_is_nearly_it(self):
    """Labels moved by one, and one pixel: neither file passes for it."""
    pixels, labels = (
      np.rint(np.asarray(self.raw.test.x) * 255).astype(np.uint8),
      np.asarray(self.raw.test.y).astype(np.uint8),
    )
    *_, x, y = sources.TFDS_DIGESTS['fashion_mnist']
    pixels = pixels.reshape(-1, 28, 28)
    self.assertEqual((idx.sha256(pixels), idx.sha256(labels)), (x, y))
    pixels[5000, 14, 14] ^= 1
    self.assertNotEqual(idx.sha256(pixels), x)
    self.assertNotEqual(idx.sha256((labels + 1) % 10), y)
