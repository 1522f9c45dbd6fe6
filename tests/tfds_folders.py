"""Folders as `tfds.load` leaves them, written by hand: for several tests.

TFRecord's framing, its CRC and tf.train.Example's protocol buffers are written
out here from their descriptions, a byte at a time.
"""

import io
import json
import struct
from pathlib import Path

import numpy as np
from PIL import Image

# As TFDS 4.9 writes it.
TEMPLATE = '{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}'


def crc32c(content: bytes) -> int:
  crc = 0xFFFFFFFF
  for byte in content:
    crc ^= byte
    for _ in range(8):
      crc = crc >> 1 ^ 0x82F63B78 * (crc & 1)
  return crc ^ 0xFFFFFFFF


def framed(content: bytes, *, promised: int | None = None) -> bytes:
  """A record of a TFRecord file."""
  length = len(content) if promised is None else promised
  framed = b''
  for part in (struct.pack('<Q', length), content):
    crc = crc32c(part)
    masked = ((crc >> 15 | crc << 17) + 0xA282EAD8) % 2**32
    framed += part + struct.pack('<I', masked)
  return framed


def _field(number: int, content: bytes) -> bytes:
  length, size = len(content), b''
  while length >= 128:
    size, length = size + bytes([length % 128 | 128]), length // 128
  return bytes([number << 3 | 2]) + size + bytes([length]) + content


def _varint(value: int) -> bytes:
  value, out = value % 2**64, b''
  while value >= 128:
    value, out = value >> 7, out + bytes([value & 127 | 128])
  return out + bytes([value])


def example(image: bytes, label: int) -> bytes:
  """A tf.train.Example of an `image` and a `label`."""
  images = _field(1, _field(1, image))  # Feature.bytes_list.value
  labels = _field(3, _field(1, _varint(label)))  # Feature.int64_list.value
  return _field(
    1,  # Example.features
    b''.join(
      _field(1, _field(1, key) + _field(2, value))  # an entry of the map
      for key, value in ((b'image', images), (b'label', labels))
    ),
  )


def encoded(pixels: np.ndarray, form: str = 'PNG') -> bytes:
  stream = io.BytesIO()
  Image.fromarray(pixels).save(stream, form)
  return stream.getvalue()


def examples(images, labels) -> list[bytes]:
  return [
    example(encoded(x), int(y)) for x, y in zip(images, labels, strict=True)
  ]


def info(name: str, lengths: dict[str, list[int]]) -> dict:
  """dataset_info.json of so many examples in each file of each split."""
  splits = [
    {
      'filepathTemplate': TEMPLATE,
      'name': split,
      'numBytes': '1',
      'shardLengths': [str(length) for length in shards],
    }
    for split, shards in lengths.items()
  ]
  keys = [{'featureKey': 'image'}, {'featureKey': 'label'}]
  return {
    'fileFormat': 'tfrecord',
    'name': name,
    'splits': splits,
    'supervisedKeys': {'tuple': {'items': keys}},
    'version': '1.0.0',
  }


def features(shape, num_classes: int) -> dict:
  """features.json as TFDS 4.9 writes it."""
  home = 'tensorflow_datasets.core.features.'
  dimensions = [str(size) for size in shape]
  image = {'dtype': 'uint8', 'shape': {'dimensions': dimensions}}
  image_class = f'{home}image_feature.Image'
  label_class = f'{home}class_label_feature.ClassLabel'
  held = {
    'image': {'image': image, 'pythonClassName': image_class},
    'label': {
      'classLabel': {'numClasses': str(num_classes)},
      'pythonClassName': label_class,
    },
  }
  return {
    'featuresDict': {'features': held},
    'pythonClassName': f'{home}features_dict.FeaturesDict',
  }


def write(
  folder: Path,
  splits: dict[str, list[bytes]],
  *,
  shape=(28, 28, 1),
  num_classes: int = 10,
  shards: int = 1,
  name: str = 'small',
) -> None:
  """A prepared folder of serialized examples, as TFRecord."""
  folder.mkdir(parents=True)
  lengths = {}
  for split, records in splits.items():
    parts = [
      records[i * len(records) // shards : (i + 1) * len(records) // shards]
      for i in range(shards)
    ]
    lengths[split] = [len(part) for part in parts]
    for i, part in enumerate(parts):
      path = folder / f'{name}-{split}.tfrecord-{i:05d}-of-{shards:05d}'
      path.write_bytes(b''.join(map(framed, part)))
  (folder / 'dataset_info.json').write_text(json.dumps(info(name, lengths)))
  (folder / 'features.json').write_text(
    json.dumps(features(shape, num_classes))
  )
