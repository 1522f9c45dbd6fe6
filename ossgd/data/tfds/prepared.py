"""A folder that TensorFlow Datasets has prepared, read without TensorFlow.

Its files are TFRecord, which is what `tfds.load` leaves, or ArrayRecord; every
record is a tf.train.Example, whose protocol buffers TFDS ships.

The order is that of `tfds.data_source`: one file after the other. TFDS deals
examples out to files by ranges of the hash that it sorts them by, so this is
one order for any number of files; that of `tfds.load`, which takes 16 examples
from each of 16 files in turn, depends on their number.
"""

import io
import json
import math
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from ossgd.data.tfds import tfrecords
from ossgd.machine import memory

INFO = 'dataset_info.json'  # TFDS writes it last

_MODES = {1: 'L', 3: 'RGB', 4: 'RGBA'}  # Pillow's, by the number of channels
_LARGEST = 2**24  # numbers in one image: a bound on what a small file allocates


class Prepared(NamedTuple):
  """A set as it was read, in the order of `tfds.data_source`."""

  x_train: np.ndarray  # (n, height, width[, channels]) uint8
  y_train: np.ndarray  # (n,)
  x_test: np.ndarray  # (n_test, height, width[, channels]) uint8
  y_test: np.ndarray  # (n_test,)
  num_classes: int | None  # what TFDS says: perhaps more than there are labels


class _Info(NamedTuple):
  """What a folder says of itself."""

  name: str
  formats: list[str]  # of its files; several if it was converted
  splits: dict[str, dict[str, Any]]
  image: str  # the feature to learn from
  label: str  # and the one to learn
  shape: Sequence[int | None]  # height, width, channels; None: of the images
  num_classes: int | None  # None: not said


def read(folder: Path, name: str) -> Prepared:
  """A prepared set of images and class labels.

  The splits are train and test, or validation where there is no test; JPEG
  images are as Pillow decodes them.

  Args:
    folder: that of one version, such as `mnist/3.0.1`.
    name: of the set.

  Raises:
    ValueError: the folder is half prepared or damaged, holds another number
      of examples than it says, or no images of one size with one label each.
  """
  try:
    info = _info(folder)
    if info.name != name:
      raise ValueError(f'it holds {info.name}, not {name}.')
    test = 'test' if 'test' in info.splits else 'validation'
    if missing := {'train', test} - {*info.splits}:
      raise ValueError(
        f'it has the splits {", ".join(info.splits)}, but no '
        f'{missing.pop()}: divide it yourself, and pass arrays or npz:FILE.'
      )
    x, y = _arrays(_records(folder, info, 'train'), info, 'train')
    x_test, y_test = _arrays(_records(folder, info, test), info, test)
    return Prepared(x, y, x_test, y_test, info.num_classes)
  except Exception as error:  # json's, protobuf's, ArrayRecord's, Pillow's
    cause = str(error) or type(error).__name__
    raise ValueError(f'{folder} cannot be used: {cause:.600}') from error


def _info(folder: Path) -> _Info:
  if not (folder / INFO).is_file():
    raise ValueError(
      f'it is only half prepared: {INFO}, which TFDS writes last, is missing.'
    )
  info = json.loads((folder / INFO).read_bytes())
  keys = info.get('supervisedKeys', {})
  if 'tuple' in keys:
    image, label = (item['featureKey'] for item in keys['tuple']['items'])
  else:  # older than TFDS 4.5, or of no supervised task
    image, label = keys.get('input', 'image'), keys.get('output', 'label')
  shape, num_classes = _features(folder / 'features.json', image, label)
  formats = [info.get('fileFormat', 'tfrecord')]
  return _Info(
    name=info['name'],
    formats=formats + info.get('alternativeFileFormats', []),
    splits={split['name']: split for split in info['splits']},
    image=image,
    label=label,
    shape=shape,
    num_classes=num_classes,
  )


def _features(
  path: Path, image: str, label: str
) -> tuple[Sequence[int | None], int | None]:
  """Shape of the images and number of classes, as TFDS 3, 4.0, 4.5, 4.6 say."""
  if not path.is_file():  # older than TFDS 4.0
    return (None, None, None), None
  top = json.loads(path.read_bytes())
  held = _content(top, 'featuresDict')
  held = held.get('features', held)
  pixels = _content(held.get(image, {}), 'image')
  classes = _content(held.get(label, {}), 'classLabel')
  if pixels is None or classes is None:
    raise ValueError(
      f'it holds {", ".join(held):.200}, but no image {image!r} with a class '
      f'label {label!r}.'
    )
  shape = pixels['shape']
  sizes = shape['dimensions'] if isinstance(shape, dict) else shape
  known = [int(size or 0) for size in sizes]
  dtype = pixels.get('dtype', 'uint8')
  if dtype != 'uint8' or len(known) != 3:
    raise ValueError(
      f'its images are {dtype} of shape {tuple(known)}; expected uint8 of '
      '(height, width, channels).'
    )
  count = classes.get('numClasses', classes.get('num_classes'))
  return [size if size > 0 else None for size in known], int(count or 0) or None


def _content(feature: dict[str, Any], kind: str) -> Any:
  """What features.json says of a feature of this kind; None: it is another."""
  if 'type' not in feature:
    return feature.get(kind)
  if feature['type'].rpartition('.')[2].lower() != kind.lower():
    return None
  content = feature['content']
  return json.loads(content) if isinstance(content, str) else content


def _records(folder: Path, info: _Info, split: str) -> list[Any]:
  """The serialized examples of a split, as many as its folder says."""
  lengths = [int(length) for length in info.splits[split]['shardLengths']]
  candidates = [kind for kind in _READERS if kind in info.formats]
  if not candidates:
    raise ValueError(
      f'its files are {", ".join(info.formats):.200}; expected '
      f'{" or ".join(_READERS)}: have TFDS prepare it so, in another folder.'
    )
  paths = [_paths(folder, info, split, kind) for kind in candidates]
  kind, files = max(
    zip(candidates, paths, strict=True),
    key=lambda found: sum(path.is_file() for path in found[1]),
  )
  if missing := [path.name for path in files if not path.is_file()]:
    raise ValueError(
      f'it is only half prepared: {missing[0]} is missing, and '
      f'{len(missing)} of {len(files)} files of {split}.'
    )
  records: list[Any] = []  # bytes, or views of them
  for path, length in zip(files, lengths, strict=True):
    try:
      held = _READERS[kind](path)
    except ImportError as error:
      raise ValueError(
        f'ArrayRecord cannot be read on this platform ({error}): have TFDS '
        'prepare it as TFRecord, in another folder.'
      ) from error
    except Exception as error:
      raise ValueError(f'{path.name}: {error}') from error
    if len(held) != length:
      raise ValueError(
        f'{path.name} holds {len(held)} examples, {INFO} says {length}.'
      )
    records += held
  return records


def _paths(folder: Path, info: _Info, split: str, kind: str) -> list[Path]:
  """The files of a split; none of their names leads out of the folder."""
  import tensorflow_datasets as tfds

  said = info.splits[split]
  files = tfds.core.ShardedFileTemplate(
    data_dir=folder,
    dataset_name=info.name,
    split=split,
    filetype_suffix=kind,
    **({'template': t} if (t := said.get('filepathTemplate')) else {}),
  ).sharded_filepaths(len(said['shardLengths']))
  paths = [Path(os.path.normpath(file)) for file in files]
  if any(Path(os.path.normpath(folder)) not in path.parents for path in paths):
    raise ValueError(f'{INFO} names files outside of it.')
  return paths


def _arrays(
  records: list[Any], info: _Info, split: str
) -> tuple[np.ndarray, np.ndarray]:
  """Images, decoded, and labels (n,) of serialized examples."""
  from tensorflow_datasets.proto import tf_example_pb2

  if not records:
    raise ValueError(f'its split {split} is empty.')
  x, y = None, np.empty(len(records), np.int64)
  for i, record in enumerate(records):
    feature = tf_example_pb2.Example.FromString(record).features.feature
    image = feature[info.image].bytes_list.value
    label = feature[info.label].int64_list.value
    if len(image) != 1 or len(label) != 1:
      raise ValueError(f'example {i} of {split} is no image with one label.')
    pixels, y[i] = _decode(image[0], info.shape), label[0]
    if x is None:
      size, free = len(records) * pixels.nbytes, memory.free()
      if size > free:
        raise ValueError(
          f'{split} would take {size / 1e9:.3g} GB, {free / 1e9:.3g} are free.'
        )
      x = np.empty((len(records), *pixels.shape), np.uint8)
    if pixels.shape != x.shape[1:]:
      raise ValueError(
        f'image {i} of {split} has shape {pixels.shape}, the first one '
        f'{x.shape[1:]}; expected images of one size: resize them, and pass '
        'arrays or npz:FILE.'
      )
    x[i] = pixels
  low, high = y.min(), y.max()
  if low < 0 or high >= (info.num_classes or math.inf):
    raise ValueError(
      f'its {split} labels are {low} to {high}; expected 0 to '
      f'{(info.num_classes or 0) - 1}.'
    )
  assert x is not None  # there are records
  return x, y.astype(np.uint8 if high < 256 else np.int32)


def _decode(encoded: bytes, shape: Sequence[int | None]) -> np.ndarray:
  """A PNG or JPEG image, of this shape where it is known."""
  height, width, channels = shape
  with Image.open(io.BytesIO(encoded), formats=['PNG', 'JPEG']) as image:
    w, h = image.size  # of the header: nothing is decoded yet
    if (height or h, width or w) != (h, w) or w * h * 4 > _LARGEST:
      raise ValueError(
        f'an image is {h} x {w}, expected {height or "any"} x '
        f'{width or "any"} and at most {_LARGEST} numbers.'
      )
    own = {'1': 'L', 'P': 'RGB'}.get(image.mode, image.mode)
    wanted = own if channels is None else _MODES[channels]
    if image.mode not in ('1', 'P', 'LA', *_MODES.values()):
      raise ValueError(f'an image has mode {image.mode}, expected 8 bits.')
    return np.asarray(image if image.mode == wanted else image.convert(wanted))


def _array_record(path: Path) -> list[bytes]:
  from array_record.python import array_record_module

  reader = array_record_module.ArrayRecordReader(str(path))
  try:
    return reader.read_all() if reader.num_records() else []
  finally:
    reader.close()


_READERS: dict[str, Callable[[Path], list[Any]]] = {
  'tfrecord': tfrecords.read,
  'array_record': _array_record,
}
