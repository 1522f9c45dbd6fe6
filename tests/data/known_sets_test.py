"""MNIST and Fashion-MNIST by name: where they are from, and that it is they."""

import functools
import hashlib
import pathlib
import sys
import tempfile
import unittest
from unittest import mock

import numpy as np
from absl.testing import parameterized

from ossgd.data import idx, images, sources, tfds_store
from tests import idx_files, tfds_folders


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
    with self.assertLogs(level='WARNING') as logs:
      self.load(name)
    self.assertRegex(logs.output[0], f'cannot use {cache}: .*Set aside as')
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
