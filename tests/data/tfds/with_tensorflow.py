"""Folders that TFDS prepares with TensorFlow, read as `tfds.load` reads them.

In an environment with TensorFlow, which nothing else here needs:

  pip install tensorflow-cpu tensorflow-datasets pillow
  python -m tests.data.tfds.with_tensorflow

TFDS's own builders write random images in the place of those that they would
download, in several files; then every pixel and label is compared, in order.
"""

import os
import pathlib
import tempfile

import numpy as np

from ossgd.data.tfds import builders, prepared

SHAPES = {
  'mnist': (28, 28, 1),
  'fashion_mnist': (28, 28, 1),
  'emnist/letters': (28, 28, 1),
  'cifar10': (32, 32, 3),
  'cifar100': (32, 32, 3),
}


def prepare(wanted, shape, data_dir, num_shards):
  """Has TensorFlow write 300 and 100 examples."""
  import tensorflow_datasets as tfds

  official = tfds.builder_cls(wanted.name)
  unregistered = {'skip_registration': True}
  rng = np.random.default_rng(0)

  class Builder(official, **unregistered):
    name = official.name
    url_infos = None

    def _split_generators(self, dl_manager):
      del dl_manager
      examples = self._generate_examples
      return {'train': examples(300), 'test': examples(100)}

    def _generate_examples(self, count):
      others = {'id': 'a text', 'coarse_label': 3}
      features = self.info.features
      for i in range(count):
        image = rng.integers(0, 256, shape, dtype=np.uint8)
        label = i % features['label'].num_classes
        example = others | {'image': image, 'label': label}
        yield i, {name: example[name] for name in features}

  builder = Builder(data_dir=data_dir, config=wanted.config)
  builder.download_and_prepare(
    download_config=tfds.download.DownloadConfig(
      num_shards=num_shards, try_download_gcs=False
    )
  )


def compare(name, shape, num_shards):
  """Raises AssertionError where we read anything else than TensorFlow does."""
  import tensorflow_datasets as tfds

  wanted = builders.parse(name)
  with tempfile.TemporaryDirectory() as data_dir:
    prepare(wanted, shape, data_dir, num_shards)
    folder = builders.find(wanted, pathlib.Path(data_dir))
    got = prepared.read(folder, wanted.name)
    for split, x, y in (('train', *got[:2]), ('test', *got[2:4])):
      dataset = tfds.load(
        name,
        split=split,
        data_dir=data_dir,
        # File after file; in turns by default, which differs if they are many.
        read_config=tfds.ReadConfig(
          interleave_cycle_length=16 if num_shards == 1 else 1
        ),
      )
      theirs = [*tfds.as_numpy(dataset)]
      images = np.squeeze([example['image'] for example in theirs])
      np.testing.assert_array_equal(x, images)
      np.testing.assert_array_equal(y, [example['label'] for example in theirs])


def main():
  """Compares all of them, and says so."""
  os.environ['CUDA_VISIBLE_DEVICES'] = ''
  for name, shape in SHAPES.items():
    for num_shards in (1, 3):
      compare(name, shape, num_shards)
      print(f'{name} in {num_shards} files: the same as TensorFlow reads')


if __name__ == '__main__':
  main()
