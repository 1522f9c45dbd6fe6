"""MNIST and its kin in TensorFlow Datasets' folder, without TensorFlow.

TFDS's builders of them read files and encode images with TensorFlow. The one
here takes arrays and has Pillow encode them, under the same name, version and
features, so that `tfds.data_source` reads what it writes. The keys are the
same too, and with them the order that TFDS shuffles examples into: whoever
prepared a set, its arrays are the same. TFDS, slow to import, is imported when
it is needed.
"""

import contextlib
import hashlib
import importlib
import io
from pathlib import Path
from typing import Any

from PIL import Image

from ossgd.data import idx
from ossgd.data.tfds import prepared

VERSION = '3.0.1'  # of both known sets


def prepare(name: str, data_dir: Path, files: idx.Arrays) -> None:
  """Writes the four files' content as TFDS's own data set, in ArrayRecord.

  Raises:
    ImportError: there is no ArrayRecord for this platform, as for Windows.
    OSError: the folder cannot be written.
  """
  importlib.import_module('array_record')  # before all images are encoded
  import tensorflow_datasets as tfds

  official: Any = tfds.builder_cls(name)
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
  said = io.StringIO()  # messages and progress bars: a library never prints
  with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
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
  if not (folder / name).exists():
    for root in folder.absolute().parents[:2]:
      prepared = prepared_folder(name, root)
      if prepared.exists() and folder.absolute() in (prepared, prepared.parent):
        return root
  return folder


def read(name: str, data_dir: Path) -> idx.Arrays:
  """A prepared set: images (n, 28, 28) and labels (n,), in TFDS's order.

  Raises:
    ValueError: as `prepared.read`.
  """
  return idx.Arrays(*prepared.read(prepared_folder(name, data_dir), name)[:4])


def in_order(files: idx.Arrays) -> idx.Arrays:
  """The same of the four files' content, with nothing written anywhere.

  TFDS sorts a split's examples by the MD5 of its name and their keys.
  """

  def order(split, x, y):
    keys = [f'{split}{i}'.encode() for i in range(len(y))]
    hashed = [hashlib.md5(k, usedforsecurity=False).digest() for k in keys]
    shuffled = sorted(range(len(y)), key=hashed.__getitem__)
    return x[shuffled], y[shuffled]

  train = order('train', files.x_train, files.y_train)
  return idx.Arrays(*train, *order('test', files.x_test, files.y_test))
