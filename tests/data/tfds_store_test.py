import contextlib
import io
import shutil
import sys

import numpy as np
import tensorflow_datasets as tfds
from absl.testing import parameterized

from ossgd.data import tfds_store
from tests import idx_files


class PrepareTest(idx_files.Case):
  @parameterized.parameters('mnist', 'fashion_mnist')
  def test_tfds_reads_what_is_prepared(self, name):
    """By its official name, with its features, and without TensorFlow.

    Decoding by hand changes neither pixels nor order; nothing is printed.
    """
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
      tfds_store.prepare(name, self.folder, self.files)
      read = tfds_store.read(name, self.folder)
    self.assertEqual(said.getvalue(), '')
    for split, x, y in (('train', *read[:2]), ('test', *read[2:])):
      source = tfds.data_source(
        name, split=split, data_dir=self.folder, download=False
      )
      examples = list(source)
      self.assertEqual(examples[0]['image'].shape, (28, 28, 1))
      self.assertEqual(examples[0]['image'].dtype, x.dtype)
      np.testing.assert_array_equal(x, [e['image'][..., 0] for e in examples])
      np.testing.assert_array_equal(y, [e['label'] for e in examples])
    pairs = {(x.tobytes(), y) for x, y in zip(*read[:2], strict=True)}
    written = zip(*self.files[:2], strict=True)
    self.assertEqual(pairs, {(x.tobytes(), y) for x, y in written})
    self.assertLen(read.x_train, 30)
    self.assertNotIn('tensorflow', sys.modules)

  def test_order_is_tfdss_own(self):
    """It depends on the examples' numbers alone, and is not the files'."""
    order = []
    for seed in (1, 2):
      files = idx_files.small_set(seed)
      tfds_store.prepare('mnist', self.folder / str(seed), files)
      read = tfds_store.read('mnist', self.folder / str(seed))
      number = {x.tobytes(): i for i, x in enumerate(files.x_train)}
      order.append([number[x.tobytes()] for x in read.x_train])
    self.assertEqual(order[0], order[1])
    self.assertCountEqual(order[0], range(30))
    self.assertNotEqual(order[0], sorted(order[0]))

  def test_order_without_a_folder(self):
    """What TFDS writes and reads in its order, computed of the arrays."""
    tfds_store.prepare('mnist', self.folder, self.files)
    read = tfds_store.read('mnist', self.folder)
    self.assert_files(tfds_store.in_order(self.files), read)

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


class RootTest(idx_files.Case):
  @parameterized.parameters('', 'mnist', 'mnist/3.0.1', 'mnist/3.0.1/')
  def test_inside(self, inside):
    """The set's own folder is known: no second copy inside of it."""
    (self.folder / 'mnist' / '3.0.1').mkdir(parents=True)
    given = self.folder / inside
    self.assertEqual(tfds_store.root_of('mnist', given), self.folder)

  def test_root_of_that_name(self):
    """A folder for TFDS may be called mnist."""
    root = self.folder / 'mnist'
    self.assertEqual(tfds_store.root_of('mnist', root), root)
    (root / 'mnist' / '3.0.1').mkdir(parents=True)
    self.assertEqual(tfds_store.root_of('mnist', root), root)
