"""TensorFlow Datasets' folder of prepared sets, without TensorFlow.

TFDS's builders read their files and encode their images with TensorFlow. The
one here takes arrays and has Pillow encode them, under the same name, version
and features, so that `tfds.data_source` reads what it writes. The keys are
the same too, and with them the order that TFDS shuffles examples into:
whoever prepared a set, its arrays are the same. TFDS, slow to import, is
imported when it is needed.
"""

import contextlib
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ossgd.data import idx

VERSION = '3.0.1'  # of both known sets


def urls(name: str) -> dict[str, str]:
  """The official address of each of `idx.FILES`, compressed."""
  return {file: f'{_official(name).URL}{file}.gz' for file in idx.FILES}


def check_downloads(name: str, folder: Path) -> None:
  """Compares the official compressed files with TFDS's registry.

  Args:
    name: 'mnist' or 'fashion_mnist'.
    folder: where they are, under the names they have at their addresses.

  Raises:
    Exception: TFDS's own, with the SHA-256 it got and the expected one.
  """
  import tensorflow_datasets as tfds

  with _quiet():
    tfds.download.DownloadManager(
      download_dir=folder / 'tfds',
      manual_dir=folder,
      force_checksums_validation=True,
    ).download(urls(name))


def prepare(name: str, data_dir: Path, files: idx.Arrays) -> None:
  """Writes the four files' content as TFDS's own data set, in ArrayRecord.

  Args:
    name: 'mnist' or 'fashion_mnist'.
    data_dir: TFDS's folder.
    files: images (n, 28, 28) and labels (n,), uint8.
  """
  import tensorflow_datasets as tfds

  official: Any = _official(name)
  unregistered = {'skip_registration': True}  # its name is the official one's

  class Builder(official, **unregistered):
    name = official.name
    url_infos = None  # to find them TFDS needs a package it does not require

    def _split_generators(self, dl_manager):
      del dl_manager
      return {
        'train': self._generate_examples(files.x_train, files.y_train),
        'test': self._generate_examples(files.x_test, files.y_test),
      }

    def _generate_examples(self, images, labels):
      for i, (image, label) in enumerate(zip(images, labels, strict=True)):
        yield i, {'image': Image.fromarray(image), 'label': int(label)}

  config = tfds.download.DownloadConfig(try_download_gcs=False)
  with _quiet():
    builder = Builder(data_dir=data_dir, file_format='array_record')
    try:
      builder.download_and_prepare(download_config=config)
    except OSError:
      if not prepared_folder(name, data_dir).exists():
        raise  # and if it does exist, another process was first


def prepared_folder(name: str, data_dir: Path) -> Path:
  """Where TFDS keeps a known set that is prepared."""
  return data_dir / name / VERSION


def root_of(name: str, folder: Path) -> Path:
  """TFDS's folder, of itself or of a prepared set's folder inside of it."""
  if (folder / name).exists():
    return folder
  for inside in (name, f'{name}/{VERSION}'):
    root = folder.absolute().parents[inside.count('/')]
    if (root / inside) == folder.absolute() and prepared_folder(
      name, root
    ).exists():
      return root
  return folder


def read(name: str, data_dir: Path) -> idx.Arrays:
  """Decodes a set that is prepared in TFDS's folder.

  Args:
    name: 'mnist' or 'fashion_mnist'.
    data_dir: TFDS's folder.

  Returns:
    Images (n, 28, 28) and labels (n,), uint8, in TFDS's order.
  """
  import tensorflow_datasets as tfds

  train, test = tfds.data_source(
    f'{name}:{VERSION}',
    split=['train', 'test'],
    data_dir=data_dir,
    download=False,
    decoders={'image': tfds.decode.SkipDecoding()},
  )
  return idx.Arrays(*_decode(train), *_decode(test))


def _official(name: str) -> Any:
  """TFDS's builder of a known set: its addresses, features and version."""
  import tensorflow_datasets as tfds

  known = tfds.image_classification
  return {'mnist': known.MNIST, 'fashion_mnist': known.FashionMNIST}[name]


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
  """Keeps TFDS's messages and progress bars back: a library never prints."""
  with (
    contextlib.redirect_stdout(io.StringIO()),
    contextlib.redirect_stderr(io.StringIO()),
  ):
    yield


def _decode(source: Any) -> tuple[np.ndarray, np.ndarray]:
  """Reads all at once and decodes by hand: 2.5 times as fast as iterating."""
  examples = source.__getitems__(range(len(source)))
  streams = (io.BytesIO(example['image']) for example in examples)
  images = [np.asarray(Image.open(s, formats=['PNG'])) for s in streams]
  labels = [example['label'] for example in examples]
  return np.stack(images), np.array(labels, np.uint8)
