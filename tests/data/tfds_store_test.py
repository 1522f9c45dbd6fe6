import contextlib
import io
import pathlib
import shutil
import sys
import tempfile
from unittest import mock

import numpy as np
import tensorflow_datasets as tfds
from absl.testing import parameterized
from tensorflow_datasets.core.download import checksums

from ossgd.data import idx, tfds_store
from tests import idx_files


class _Case(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    folder = self.enter_context(tempfile.TemporaryDirectory())
    self.folder = pathlib.Path(folder)
    self.files = idx.Arrays(*idx_files.small_set())


class PrepareTest(_Case):
  @parameterized.parameters('mnist', 'fashion_mnist')
  def test_tfds_reads_what_is_prepared(self, name):
    """By its official name, with its features, and without TensorFlow."""
    tfds_store.prepare(name, self.folder, self.files)
    train = tfds.data_source(
      name, split='train', data_dir=self.folder, download=False
    )
    self.assertLen(train, 30)
    self.assertEqual(train[0]['image'].shape, (28, 28, 1))
    self.assertEqual(train[0]['image'].dtype, np.uint8)
    pairs = {(e['image'].tobytes(), int(e['label'])) for e in train}
    written = zip(self.files.x_train, self.files.y_train, strict=True)
    self.assertEqual(pairs, {(x.tobytes(), int(y)) for x, y in written})
    self.assertNotIn('tensorflow', sys.modules)

  def test_read_gives_the_same_as_tfds(self):
    """Decoding by hand changes neither pixels nor order."""
    tfds_store.prepare('mnist', self.folder, self.files)
    read = tfds_store.read('mnist', self.folder)
    for split, x, y in (('train', *read[:2]), ('test', *read[2:])):
      source = tfds.data_source(
        'mnist', split=split, data_dir=self.folder, download=False
      )
      examples = list(source)
      self.assertEqual(x.dtype, np.uint8)
      np.testing.assert_array_equal(x, [e['image'][..., 0] for e in examples])
      np.testing.assert_array_equal(y, [e['label'] for e in examples])

  def test_order_is_tfdss_own(self):
    """It depends on the examples' numbers alone, and is not the files'."""
    order = []
    for seed in (1, 2):
      files = idx.Arrays(*idx_files.small_set(seed))
      tfds_store.prepare('mnist', self.folder / str(seed), files)
      read = tfds_store.read('mnist', self.folder / str(seed))
      number = {x.tobytes(): i for i, x in enumerate(files.x_train)}
      order.append([number[x.tobytes()] for x in read.x_train])
    self.assertEqual(order[0], order[1])
    self.assertCountEqual(order[0], range(30))
    self.assertNotEqual(order[0], sorted(order[0]))

  def test_nothing_is_printed(self):
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
      tfds_store.prepare('mnist', self.folder, self.files)
      tfds_store.read('mnist', self.folder)
    self.assertEqual(out.getvalue() + err.getvalue(), '')

  def test_another_process_may_be_first(self):
    """Two first loads at a time: the slower one finds the other's result."""
    tfds_store.prepare('mnist', self.folder / 'a', self.files)

    def images():
      yield from self.files.x_train
      done, slow = (
        tfds_store.prepared_folder('mnist', self.folder / side) for side in 'ab'
      )
      shutil.copytree(done, slow)

    tfds_store.prepare(
      'mnist', self.folder / 'b', self.files._replace(x_train=images())
    )
    self.assertLen(tfds_store.read('mnist', self.folder / 'b').x_train, 30)

  def test_folder_that_cannot_be_written_to(self):
    (self.folder / 'file').write_text('not a folder')
    with self.assertRaises(OSError):
      tfds_store.prepare('mnist', self.folder / 'file', self.files)


class CheckDownloadsTest(_Case):
  def setUp(self):
    super().setUp()
    idx_files.write(self.folder, self.files, suffix='.gz')

  def test_addresses_are_in_tfdss_registry(self):
    """Each official file has a known SHA-256, or no download is checked."""
    known = checksums.get_all_url_infos()
    for name in ('mnist', 'fashion_mnist'):
      self.assertEqual(list(tfds_store.urls(name)), list(idx.FILES))
      for file, url in tfds_store.urls(name).items():
        self.assertEndsWith(url, f'/{file}.gz')
        self.assertEqual(known[url].filename, f'{file}.gz')
        self.assertLen(known[url].checksum, 64)

  def registry(self, files):
    """TFDS's registry, as if it knew our files."""
    urls = tfds_store.urls('mnist')
    known = {
      urls[file]: checksums.compute_url_info(self.folder / f'{file}.gz')
      for file in files
    }
    return mock.patch.dict(checksums.get_all_url_infos(), known)

  def test_wrong_file_is_named_with_both_digests(self):
    wrong, *right = idx.FILES
    got = checksums.compute_url_info(self.folder / f'{wrong}.gz').checksum
    url = tfds_store.urls('mnist')[wrong]
    expected = checksums.get_all_url_infos()[url].checksum
    with self.registry(right), self.assertRaises(Exception) as caught:
      tfds_store.check_downloads('mnist', self.folder)
    for part in (url, got, expected):
      self.assertIn(part, str(caught.exception))

  def test_right_files_pass_in_silence(self):
    out, err = io.StringIO(), io.StringIO()
    with (
      self.registry(idx.FILES),
      contextlib.redirect_stdout(out),
      contextlib.redirect_stderr(err),
    ):
      tfds_store.check_downloads('mnist', self.folder)
    self.assertEqual(out.getvalue() + err.getvalue(), '')
