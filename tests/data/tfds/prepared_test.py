import json
import random
import struct
import sys
import zlib
from unittest import mock

import numpy as np
import tensorflow_datasets as tfds
from absl.testing import parameterized
from array_record.python import array_record_module

from ossgd.data.tfds import prepared
from ossgd.machine import memory
from tests import idx_files, mutations, tfds_folders


class Case(idx_files.Case):
  def setUp(self):
    super().setUp()
    self.root = self.folder
    self.folder = self.root / 'small' / '1.0.0'
    self.splits = {
      'train': tfds_folders.examples(self.files.x_train, self.files.y_train),
      'test': tfds_folders.examples(self.files.x_test, self.files.y_test),
    }

  def write(self, **settings):
    tfds_folders.write(self.folder, **{'splits': self.splits} | settings)

  def read(self):
    return prepared.read(self.folder, 'small')

  def change(self, name, change):
    """Of a JSON file of the folder."""
    path = self.folder / name
    content = json.loads(path.read_text())
    path.write_text(json.dumps(change(content) or content))

  def assert_refused(self, message):
    with self.assertRaisesRegex(
      ValueError, rf'(?s){self.folder} cannot be used: .*{message}'
    ):
      self.read()


class ReadTest(Case):
  @parameterized.parameters(1, 2, 3, 16)
  def test_tfrecord(self, shards):
    """In one order, whatever the number of files; without TensorFlow."""
    self.write(shards=shards)
    *arrays, num_classes = self.read()
    self.assert_files(arrays)
    self.assertEqual(num_classes, 10)
    self.assertNotIn('tensorflow', sys.modules)

  @parameterized.parameters(1, 3)
  def test_array_record(self, shards):
    """The same, and alone or beside TFRecord in a converted folder."""
    self.write(shards=shards)
    for path in self.folder.glob('*tfrecord*'):
      converted = path.name.replace('tfrecord', 'array_record')
      writer = array_record_module.ArrayRecordWriter(
        str(path.with_name(converted)), 'group_size:1'
      )
      split = 'train' if 'train' in path.name else 'test'
      i, records = int(path.name[-14:-9]), self.splits[split]
      n = len(records)
      for record in records[i * n // shards : (i + 1) * n // shards]:
        writer.write(record)
      writer.close()
    more = {'alternativeFileFormats': ['array_record']}
    self.change(prepared.INFO, lambda info: info | more)
    self.assert_files(self.read()[:4])
    for path in self.folder.glob('*tfrecord*'):
      path.unlink()
    self.assert_files(self.read()[:4])
    only = {'alternativeFileFormats': [], 'fileFormat': 'array_record'}
    self.change(prepared.INFO, lambda info: info | only)
    self.assert_files(self.read()[:4])
    source = tfds.builder_from_directory(self.folder).as_data_source
    labels = [e['label'] for e in source(split='train')]
    np.testing.assert_array_equal(self.read().y_train, labels)

  @parameterized.parameters(
    (1, 'L', (6, 5)), (3, 'RGB', (6, 5, 3)), (4, 'RGBA', (6, 5, 4))
  )
  def test_colour(self, channels, mode, shape):
    """As many channels as TFDS says, also where an image has others."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (4, *shape), dtype=np.uint8)
    gray = images[0].reshape(6, 5, -1)[..., :1].repeat(3, -1)
    other = gray if channels == 1 else gray[..., 0]
    records = tfds_folders.examples([*images, other], [0, 1, 0, 1, 0])
    splits = {'train': records, 'validation': records[:2]}
    self.write(splits=splits, shape=(6, 5, channels), num_classes=7)
    got = self.read()
    np.testing.assert_array_equal(got.x_train[:4], images)
    np.testing.assert_array_equal(got.x_test, images[:2])
    last = got.x_train[4].reshape(6, 5, -1)[..., :3]
    np.testing.assert_array_equal(last, gray[..., : last.shape[-1]])
    self.assertEqual(got.num_classes, 7)

  def test_jpeg(self):
    """Of a size that only the images know, to what JPEG loses."""
    smooth = np.tile(np.arange(0, 160, 10, dtype=np.uint8), (16, 1))
    record = tfds_folders.example(tfds_folders.encoded(smooth, 'JPEG'), 1)
    splits = {'train': [record], 'test': [record]}
    self.write(splits=splits, shape=(-1, -1, 1))
    got = self.read()
    np.testing.assert_allclose(got.x_train[0], smooth, atol=5)

  @parameterized.named_parameters(
    ('3', None),
    (
      '4.0',
      {
        'type': 'tensorflow_datasets.core.features.features_dict.FeaturesDict',
        'content': {
          'image': {
            'type': 'tensorflow_datasets.core.features.image_feature.Image',
            'content': {
              'shape': [28, 28, 1],
              'dtype': 'uint8',
              'encoding_format': 'png',
            },
          },
          'label': {
            'type': 'tensorflow_datasets.core.features.class_label_feature.'
            'ClassLabel',
            'content': {'num_classes': 10},
          },
        },
      },
    ),
    (
      '4.5',
      {
        'type': 'tensorflow_datasets.core.features.features_dict.FeaturesDict',
        'proto_cls': 'tensorflow_datasets.FeaturesDict',
        'content': json.dumps(
          tfds_folders.features((28, 28, 1), 10)['featuresDict']
        ),
      },
    ),
  )
  def test_older_tfds(self, features):
    """Which may not say the format, the files' names or the classes."""
    self.write()
    if features is None:
      (self.folder / 'features.json').unlink()
    else:
      path = self.folder / 'features.json'
      path.write_text(json.dumps(features))
      tfds.features.FeaturesDict.from_json(features)  # it is one of theirs

    def older(info):
      del info['fileFormat']
      info['supervisedKeys'] = {'input': 'image', 'output': 'label'}
      for split in info['splits']:
        del split['filepathTemplate']

    self.change(prepared.INFO, older)
    *arrays, num_classes = self.read()
    self.assert_files(arrays)
    self.assertEqual(num_classes, 10 if features else None)


class FaultsTest(Case):
  def test_other_number_of_examples(self):
    """What a writer has lost is missed: TFDS's own of Parquet loses some."""
    self.write(shards=2)
    self.splits['test'].pop()
    (self.folder / 'small-test.tfrecord-00001-of-00002').write_bytes(
      b''.join(map(tfds_folders.framed, self.splits['test'][10:]))
    )
    self.assert_refused('-test.*-00001-of-00002 holds 9 examples, .* says 10')

  @parameterized.parameters(
    prepared.INFO, 'small-train.tfrecord-00001-of-00003'
  )
  def test_half_prepared(self, missing):
    self.write(shards=3)
    (self.folder / missing).unlink()
    self.assert_refused(f'half prepared: {missing}')

  @parameterized.named_parameters(
    (
      'format',
      dict(fileFormat='parquet'),
      r'parquet; expected tfrecord or arr',
    ),
    ('name', dict(name='other'), 'it holds other, not small'),
    ('split', dict(splits=[dict(name='train')]), 'but no validation: divide'),
  )
  def test_other_sets(self, changes, message):
    self.write()
    self.change(prepared.INFO, lambda info: info | changes)
    self.assert_refused(message)

  @parameterized.parameters('../', '/', 'a/../../')
  def test_names_lead_nowhere_else(self, inside):
    self.write()
    outside = self.folder.parent / 'small-train.tfrecord-00000-of-00001'
    (self.folder / outside.name).replace(outside)

    def elsewhere(info):
      for split in info['splits']:
        split['filepathTemplate'] = inside + tfds_folders.TEMPLATE

    self.change(prepared.INFO, elsewhere)
    self.assert_refused('names files outside of it')

  @parameterized.named_parameters(
    ('high', [9, 10], 'labels are 9 to 10; expected 0 to 9'),
    ('unlabelled', [0, -1], 'labels are -1 to 0'),
  )
  def test_labels(self, labels, message):
    images = self.files.x_train[:2]
    self.write(
      splits={'train': tfds_folders.examples(images, labels), 'test': []}
    )
    self.assert_refused(message)

  def test_images_of_several_sizes(self):
    images = [np.zeros((4, 4), np.uint8), np.zeros((4, 5), np.uint8)]
    records = tfds_folders.examples(images, [0, 1])
    splits = {'train': records, 'test': records}
    self.write(splits=splits, shape=(-1, -1, 1))
    self.assert_refused(r'image 1 of train has shape \(4, 5\).*of one size')

  def test_larger_than_memory(self):
    """Said before an array is made."""
    self.write()
    with mock.patch.object(memory, 'free', return_value=100):
      self.assert_refused('train would take .* GB, 1e-07 are free')

  def test_features_of_another_kind(self):
    self.write()
    held = {'image': {'tensor': {}}, 'label': {'classLabel': {}}}
    self.change('features.json', lambda _: {'featuresDict': {'features': held}})
    self.assert_refused("image, label, but no image 'image' with a class label")

  @parameterized.parameters((-1, -1, 1), (28, 28, 1))
  def test_small_file_of_a_huge_image(self, *shape):
    """Refused by its header, before a pixel is decoded."""

    def chunk(kind, content):
      crc = struct.pack('>I', zlib.crc32(kind + content))
      return struct.pack('>I', len(content)) + kind + content + crc

    header = struct.pack('>IIBBBBB', 2100, 2100, 8, 0, 0, 0, 0)
    rows = zlib.compress(bytes(2101 * 2100))
    huge = (
      b'\x89PNG\r\n\x1a\n'
      + chunk(b'IHDR', header)
      + chunk(b'IDAT', rows)
      + chunk(b'IEND', b'')
    )
    record = tfds_folders.example(huge, 0)
    self.write(splits={'train': [record], 'test': [record]}, shape=shape)
    self.assert_refused('an image is 2100 x 2100, expected')

  def test_any_damage(self):
    """Read as it was, or refused by an error of ours; nothing is written."""
    records = tfds_folders.examples(self.files.x_train[:3, :4, :4], [0, 1, 0])
    self.write(splits={'train': records, 'test': records}, shape=(4, 4, 1))
    honest = self.read()
    files = sorted(self.folder.iterdir())
    refused = 0
    for seed in range(200):
      rng = random.Random(seed)
      path = rng.choice(files)
      content = path.read_bytes()
      if path.suffix == '.json' and rng.random() < 0.5:
        text = content.decode()
        words = [w for w in text.split(' ') if w]
        changed = text.replace(rng.choice(words), mutations.json_text(rng), 1)
        path.write_text(changed)
      else:
        path.write_bytes(mutations.damaged(rng, content))
      try:
        got = self.read()
        if path.suffix != '.json':  # CRCs; what JSON says has none
          self.assert_files(got[:4], honest[:4])
      except ValueError as error:
        refused += 1
        self.assertStartsWith(str(error), f'{self.folder} cannot be used: ')
        self.assertLess(len(str(error)), 1000)
      path.write_bytes(content)
    self.assertEqual(sorted(self.folder.iterdir()), files)
    self.assertBetween(refused, 100, 199)
