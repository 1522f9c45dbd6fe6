"""CSV and Parquet: tables of named columns, one of them of labels.

pandas and pyarrow read them. Of Parquet's metadata only the number of rows and
the names and types of columns are used.
"""

import csv
import importlib
import io
import math
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ossgd.data.files import opening

# What a column of labels is called, in capitals or not.
_LABELS = ('label', 'labels', 'class', 'target', 'y')
_LONGEST_LABEL = 200  # characters
_BATCH = 4096  # rows of Parquet that are unpacked at once
_NUMBER = re.compile(rf'\s*{opening.NUMBER}\s*')
Columns = dict[Any, np.ndarray]  # by name


def read_csv(train: Sequence[Path], test: Sequence[Path]) -> opening.Four:
  """Tables whose first line names their columns, one of them of labels.

  The fields of a row are kept apart by commas, semicolons or tabs.

  Args:
    train: of rows to train on, several if they were too many for one file.
    test: of rows to test with, of the same columns in any order.

  Raises:
    ValueError: it is no such file, or which column has the labels cannot be
      told, or another one has no numbers.
  """
  return _labelled(_csv, train, test)


def read_parquet(train: Sequence[Path], test: Sequence[Path]) -> opening.Four:
  """As `read_csv`, or tables of encoded images of one size and labels.

  Raises:
    ImportError: pyarrow is not installed.
    ValueError: as `read_csv`.
  """
  try:
    importlib.import_module('pyarrow.parquet')
  except ImportError as error:
    raise ImportError(
      f'{train[0]} is Parquet, which pyarrow reads: pip install pyarrow'
    ) from error
  return _labelled(_parquet, train, test)


def _csv(path: Path) -> Columns:
  import pandas as pd

  text = opening.text(path)
  first, _, rows = text.lstrip(b'\r\n').partition(b'\n')
  line = first[: 2**20].decode('utf-8-sig')
  separator = max(',;\t', key=line.count)
  fields = next(csv.reader([line], delimiter=separator), [])
  has_names = _are_names(fields, separator, rows)
  if has_names and '' in fields:
    raise ValueError(
      f'its column {1 + fields.index("")} has no name: name it, or leave it '
      'out if it only counts the rows.'
    )
  frame = pd.read_csv(
    io.BytesIO(text),
    sep=separator,
    header=0 if has_names else None,
    encoding='utf-8-sig',
    skipinitialspace=True,
    low_memory=False,
  )
  if frame.empty:
    raise ValueError('it holds no rows.')
  if not isinstance(frame.index, pd.RangeIndex):
    raise ValueError('its rows have more fields than its first line.')
  names = [str(name).strip() if has_names else name for name in frame.columns]
  columns = [frame.iloc[:, i].to_numpy() for i in range(len(names))]
  if not has_names and any(
    _is_text(values) and (values == values[0]).sum() == 1 for values in columns
  ):
    raise ValueError(
      f'is its first line, {line.strip():.80}, one of names or a row? If of '
      'names, call the column of labels "label" in it.'
    )
  return _by_name(names, columns)


def _are_names(fields: Sequence[str], separator: str, rows: bytes) -> bool:
  """Whether the first line of a table has names of columns, and is no row.

  Names may be numbers, as pandas makes them, if one is that of the labels: a
  row may have y for yes in that place, but then it is not the only one.
  """
  if not any(_NUMBER.fullmatch(field) for field in fields):
    return True
  called = [field for field in fields if field.strip().lower() in _LABELS]
  again = '|'.join(map(re.escape, called))
  ends = rf'[{separator}"\s]'
  alone = rf'(\A|{ends})({again})({ends}|\Z)'
  return bool(called) and not re.search(alone.encode(), rows)


def _parquet(path: Path) -> Columns:
  import pyarrow as pa
  import pyarrow.parquet as pq

  with pq.ParquetFile(path) as file:
    names = file.schema_arrow.names
    num_rows = file.metadata.num_rows
    opening.check_memory(8 * num_rows * len(names))
    batches, size = [], 0
    for batch in file.iter_batches(batch_size=_BATCH):
      batches.append(batch)
      size += batch.nbytes
      opening.check_memory(2 * size)
    table = pa.Table.from_batches(batches, schema=file.schema_arrow)
  if table.num_rows != num_rows or not num_rows:
    raise ValueError(f'it promises {num_rows} rows, it holds {table.num_rows}.')
  columns = zip(names, table.columns, strict=True)
  return _by_name(names, [_parquet_values(*column) for column in columns])


def _by_name(names: Sequence[Any], values: Sequence[np.ndarray]) -> Columns:
  if len({*names}) < len(names):
    raise ValueError('several of its columns have one name.')
  return dict(zip(names, values, strict=True))


def _parquet_values(name: str, column: Any) -> np.ndarray:
  """Numbers, texts, or the bytes of images."""
  import pyarrow as pa
  import pyarrow.compute as pc

  if column.null_count:
    raise ValueError(f'its column {name!r} lacks {column.null_count} values.')
  if pa.types.is_struct(column.type):  # an image as Hugging Face stores it
    column = pc.struct_field(column, 'bytes')
  return column.to_numpy()


def _labelled(
  read: Callable[[Path], Columns], train: Sequence[Path], test: Sequence[Path]
) -> opening.Four:
  first = _joined(read, train)
  with opening.named(train[0]):
    label = _label_column(first)
    features = [name for name in first if name != label]
    x_train, y_train = _features(first, features), _labels(first[label])
  del first
  second = _joined(read, test)
  with opening.named(test[0]):
    others = sorted({*second} ^ {label, *features}, key=str)
    if others:
      raise ValueError(
        f'its columns are not those of {train[0]}: {others[0]!r} is only in '
        'one of them.'
      )
    x_test, y_test = _features(second, features), _labels(second[label])
  return x_train, y_train, x_test, y_test


def _joined(read: Callable[[Path], Columns], paths: Sequence[Path]) -> Columns:
  parts = []
  for path in paths:
    with opening.named(path):
      parts.append(read(path))
      if [*parts[-1]] != [*parts[0]]:
        raise ValueError(f'its columns are not those of {paths[0]}.')
  return {name: np.concatenate([p[name] for p in parts]) for name in parts[0]}


def _label_column(columns: Columns) -> Any:
  """The one that is called so, or the only one of texts."""
  called = [name for name in columns if str(name).lower() in _LABELS]
  texts = [name for name in columns if _is_text(columns[name])]
  for found in (called, texts):
    if len(found) == 1:
      return found[0]
  if all(isinstance(name, int) for name in columns):
    raise ValueError(
      'its columns have no names: put a line before the first that names them, '
      'the one of labels "label".'
    )
  raise ValueError(
    'which of its columns holds the labels? Name that one "label", and no '
    f'other {", ".join(_LABELS[:-1])} or {_LABELS[-1]}. There are '
    f'{", ".join(map(str, columns)):.200}'
  )


def _is_text(values: np.ndarray) -> bool:
  return values.dtype.kind == 'O' and isinstance(values[0], str)


def _labels(values: np.ndarray) -> np.ndarray:
  if values.dtype.kind != 'O':
    return values
  for i, text in enumerate(values):
    if not isinstance(text, str) or len(text) > _LONGEST_LABEL:
      raise ValueError(
        f'row {i} has {text!r:.40} for a label, expected a number or a word.'
      )
  return values.astype(str)


def _features(columns: Columns, names: Sequence[Any]) -> np.ndarray:
  """(n, d) numbers, or (n, height, width, ...) of one column of images."""
  if len(names) == 1 and isinstance(columns[names[0]][0], bytes):
    return _decoded(columns[names[0]])
  for name in names:
    values = columns[name]
    if values.dtype.kind not in 'buif':
      wrong = [v for v in values if not _NUMBER.fullmatch(str(v))] or values
      raise ValueError(
        f'its column {name!r} holds {wrong[0]!r:.40}, expected numbers: write '
        'it in numbers, or leave it out.'
      )
  if not names:
    raise ValueError('it has no columns but the labels.')
  return np.column_stack([columns[name] for name in names])


def _decoded(encoded: np.ndarray) -> np.ndarray:
  """Images of PNG or JPEG, all of one size, grey or in three colours."""
  images = np.empty(0, np.uint8)
  for i, content in enumerate(encoded):
    with Image.open(io.BytesIO(content), formats=('PNG', 'JPEG')) as image:
      shape = (image.height, image.width, *[3] * (image.mode == 'RGB'))
      alike = i == 0 or shape == images.shape[1:]
      if image.mode not in ('L', 'RGB') or not alike:
        raise ValueError(
          f'image {i} is {image.width} x {image.height}, {image.mode}; '
          'expected all of one size, and grey (L) or coloured (RGB).'
        )
      if i == 0:  # of which only the header has been read
        opening.check_memory(len(encoded) * math.prod(shape))
        images = np.empty((len(encoded), *shape), np.uint8)
      images[i] = np.asarray(image)
  return images
