"""Files of one's own and sets of TFDS, as arrays to train on."""

import os
from unittest import mock

import numpy as np
import pandas as pd
from absl.testing import parameterized
from sklearn import datasets

from ossgd.data import idx, images
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
