import json
import sys
import zipfile
from unittest import mock

import numpy as np
import tensorflow_datasets as tfds
from absl.testing import parameterized

from ossgd.data.tfds import builders, prepared
from tests import idx_files, tfds_folders


class OssgdSquares(tfds.core.GeneratorBasedBuilder):
  """A set of TFDS's, as far as TFDS can tell: it is registered by its name."""

  VERSION = tfds.core.Version('1.2.0')
  BUILDER_CONFIGS = tuple(
    tfds.core.BuilderConfig(name=name) for name in ('gray', 'colour')
  )
  url_infos = None  # to find them TFDS needs a package it does not require

  def _info(self):
    channels = 1 if self.builder_config.name == 'gray' else 3
    return tfds.core.DatasetInfo(
      builder=self,
      features=tfds.features.FeaturesDict(
        {
          'id': tfds.features.Text(),
          'image': tfds.features.Image(shape=(4, 4, channels)),
          'label': tfds.features.ClassLabel(num_classes=5),
        }
      ),
      supervised_keys=('image', 'label'),
    )

  def _split_generators(self, dl_manager):
    del dl_manager
    return {'train': self._examples(20), 'test': self._examples(8)}

  def _examples(self, count):
    return self._generate_examples(count)

  def _generate_examples(self, count):
    print('never shown')
    shape = self.info.features['image'].shape
    for i in range(count):
      image = np.full(shape, 10 * i, np.uint8)
      yield i, {'id': f'number {i}', 'image': image, 'label': i % 3}


class Case(idx_files.Case):
  def add(self, folder, name='small', *, whole=True):
    records = tfds_folders.examples(np.zeros((2, 28, 28), np.uint8), [0, 1])
    splits = {'train': records, 'test': records}
    tfds_folders.write(self.folder / folder, splits, name=name)
    if not whole:
      (self.folder / folder / prepared.INFO).unlink()

  def find(self, text, inside=''):
    return builders.find(builders.parse(text), self.folder / inside)


class NamesTest(parameterized.TestCase):
  @parameterized.parameters(
    ('cifar10', ('cifar10', None, None)),
    ('emnist/letters', ('emnist', 'letters', None)),
    ('cifar10:3.0.2', ('cifar10', None, '3.0.2')),
    ('imagenet_resized/8x8:0.1.0', ('imagenet_resized', '8x8', '0.1.0')),
  )
  def test_parse(self, text, parts):
    wanted = builders.parse(text)
    self.assertEqual(wanted, parts)
    self.assertEqual(str(wanted), text)
    tfds.core.naming.parse_builder_name_kwargs(text)  # TFDS's own words

  @parameterized.parameters(
    *(
      '',
      '..',
      'a/..',
      '/a',
      'a/../b',
      'a:1',
      'a:1.*.*',
      'a b',
      'gs://a',
      'a/',
    ),
    'a\n',
  )
  def test_no_name(self, text):
    with self.assertRaisesRegex(ValueError, "expected 'tfds:NAME'"):
      builders.parse(text)


class FindTest(Case):
  def test_newest_that_is_whole(self):
    """Unless another is asked for; a half prepared one if there is no other."""
    self.assertIsNone(self.find('small'))
    self.add('small/2.0.0', whole=False)
    self.assertEqual(self.find('small'), self.folder / 'small/2.0.0')
    for version in ('1.9.0', '1.10.0'):
      self.add(f'small/{version}')
    (self.folder / 'small' / 'incomplete.ABCDEF_3.0.0').mkdir()
    self.assertEqual(self.find('small'), self.folder / 'small/1.10.0')
    self.assertEqual(self.find('small:1.9.0'), self.folder / 'small/1.9.0')
    self.assertEqual(self.find('small:2.0.0'), self.folder / 'small/2.0.0')
    self.assertIsNone(self.find('small:1.0.0'))
    self.assertIsNone(self.find('small/one'))

  @parameterized.parameters('', 'small', 'small/1.0.0')
  def test_given_folder(self, inside):
    """TFDS's, the set's own, or that of the version."""
    self.add('small/1.0.0')
    self.assertEqual(self.find('small', inside), self.folder / 'small/1.0.0')
    self.assertIsNone(self.find('small:2.0.0', inside))
    self.assertIsNone(self.find('small/one', inside))

  def test_configurations(self):
    """TFDS's default, or the only one; else it has to be said which."""
    self.add('small/b/1.0.0')
    self.assertEqual(self.find('small'), self.folder / 'small/b/1.0.0')
    self.add('small/c/1.0.0')
    with self.assertRaisesRegex(ValueError, "b, c: say which.*'tfds:small/b'"):
      self.find('small')
    self.assertEqual(self.find('small/c'), self.folder / 'small/c/1.0.0')
    (self.folder / 'small' / '.config').mkdir()
    path = self.folder / 'small' / '.config' / 'metadata.json'
    for default in ('a', '../small/b', 7):  # not prepared; hostile
      path.write_text(json.dumps({'default_config_name': default}))
      with self.assertRaisesRegex(ValueError, 'say which'):
        self.find('small')
    path.write_text(json.dumps({'default_config_name': 'c'}))
    self.assertEqual(self.find('small'), self.folder / 'small/c/1.0.0')


class PrepareTest(Case):
  def prepare(self, text):
    builders.prepare(builders.parse(text), self.folder)
    return self.find(text)

  @parameterized.parameters('gray', 'colour')
  def test_builder_in_plain_python(self, config):
    """Its arrays are what TFDS reads then, by its own name, and what we do."""
    text = f'ossgd_squares/{config}'
    got = prepared.read(self.prepare(text), 'ossgd_squares')
    source = tfds.data_source(text, split='train', data_dir=self.folder)
    images = np.array([example['image'] for example in source])
    np.testing.assert_array_equal(got.x_train, np.squeeze(images))
    labels = [example['label'] for example in source]
    np.testing.assert_array_equal(got.y_train, labels)
    self.assertLen(got.y_train, 20)
    values = got.x_train.reshape(20, -1)[:, 0]
    np.testing.assert_array_equal(values // 10 % 3, got.y_train)
    self.assertNotEqual(values.tolist(), sorted(values))
    self.assertLen(got.y_test, 8)
    self.assertEqual(got.num_classes, 5)
    self.assertNotIn('tensorflow', sys.modules)

  def test_order_is_one_for_any_number_of_files(self):
    """As TFDS deals examples out to files, and reads them one after another."""
    one = prepared.read(self.prepare('ossgd_squares/gray'), 'ossgd_squares')
    several = OssgdSquares(
      config='gray', data_dir=self.folder / 'b', file_format='array_record'
    )
    with mock.patch.object(
      *(OssgdSquares, '_generate_examples', _as_pillow_images)
    ):
      several.download_and_prepare(
        download_config=tfds.download.DownloadConfig(
          num_shards=3, try_download_gcs=False
        )
      )
    folder = self.folder / 'b' / 'ossgd_squares' / 'gray' / '1.2.0'
    self.assertLen(list(folder.glob('*train*')), 3)
    self.assert_files(prepared.read(folder, 'ossgd_squares')[:4], one[:4])

  def test_one_of_tfdss_own(self):
    """Rock, paper, scissors of 2 x 3 images, in the place of its archives."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (6, 300, 300, 3), dtype=np.uint8)
    archives = []
    for stem in ('rps', 'rps-test-set'):
      archives.append(self.folder / f'{stem}.zip')
      with zipfile.ZipFile(archives[-1], 'w') as archive:
        for i, image in enumerate(images):
          kind = ('rock', 'paper', 'scissors')[i % 3]
          name = f'{stem}/{kind}/{kind}{i}.png'
          archive.writestr(name, tfds_folders.encoded(image))
    with mock.patch.object(
      tfds.download.DownloadManager, 'download', return_value=archives
    ):
      folder = self.prepare('rock_paper_scissors')
    got = prepared.read(folder, 'rock_paper_scissors')
    self.assertEqual(got.num_classes, 3)
    given = {x.tobytes(): i % 3 for i, x in enumerate(images)}
    read = zip(got.x_train, got.y_train, strict=True)
    self.assertEqual({x.tobytes(): y for x, y in read}, given)

  @parameterized.parameters('cifar10', 'kmnist', 'emnist/letters')
  def test_what_to_run_elsewhere(self, text):
    """Said before anything is downloaded, in one line."""
    left = self.folder / text.split('/')[0] / 'incomplete.ABCDEF_3.0.0'
    left.mkdir(parents=True)
    with self.assertRaisesRegex(
      FileNotFoundError,
      rf'\Atfds:{text} is not prepared in {self.folder} \({left} was left half '
      r"prepared\), and cannot be .*: TFDS's builder of it needs TensorFlow\. "
      rf'Where TensorFlow is installed, run `tfds build {text} --data_dir=DIR`'
      r', and give that DIR as data_dir\.\Z',
    ):
      self.prepare(text)
    self.assertEqual([*self.folder.rglob('*')], [left.parent, left])

  def test_what_is_prepared_beside_it(self):
    """Another version, say."""
    self.add('kmnist/1.0.0')
    there = self.folder / 'kmnist' / '1.0.0'
    with self.assertRaisesRegex(FileNotFoundError, rf'\({there} is\), and'):
      self.prepare('kmnist:2.0.0')

  def test_builder_that_fails(self):
    """It may need another package, or the network: whatever it says is told."""
    with (
      mock.patch.object(
        OssgdSquares, '_generate_examples', side_effect=OSError('no\nnetwork')
      ),
      self.assertRaisesRegex(FileNotFoundError, 'here: no network. Where'),
    ):
      self.prepare('ossgd_squares/gray')

  @parameterized.parameters(
    ('cifar11', "no data set 'cifar11'; did you mean .*cifar10"),
    ('zzzzzz', "no data set 'zzzzzz'"),
    ('emnist/leters', "configuration 'leters'; expected byclass, .*letters"),
    ('cifar10/one', "configuration 'one'; expected none"),
  )
  def test_unknown(self, text, message):
    with self.assertRaisesRegex(ValueError, message):
      self.prepare(text)


def _as_pillow_images(self, count):
  from PIL import Image

  for i in range(count):
    image = Image.fromarray(np.full((4, 4), 10 * i, np.uint8))
    yield i, {'id': f'number {i}', 'image': image, 'label': i % 3}
