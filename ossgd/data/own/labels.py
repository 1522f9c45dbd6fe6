"""Labels as people have them, read as the classes 0..k-1, or refused.

The training labels say what the classes are; the test labels are read by them.
"""

import logging
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int64, Integer

from ossgd.data.own import values

Array = np.ndarray
Label = int | str | bytes

_BY_NAME = (
  ' If they are names rather than numbers, pass y.astype(str), in both sets '
  'alike.'
)
_QUANTITY = (
  ' Cut a quantity into classes first, for example y > numpy.median(y_train).'
)
_MANY = 20  # classes; of more it is said that they may be a quantity


class _Labels(NamedTuple):
  """The labels of one set, one for each example."""

  values: list[Label]
  kind: str  # 'numbers', 'text', or 'one-hot rows of K'
  described: str  # what they were given as; empty for integers (n,)
  columns: int = 0  # of one-hot rows


def read(
  y_train: Any,
  y_test: Any,
  num_train: int,
  num_test: int,
  num_classes: int | None = None,
) -> tuple[Int64[Array, ' n'], Int64[Array, ' n_test']]:
  """Labels of both sets as 0..k-1; a log line says so if they were others.

  Labels are integers, booleans, whole numbers of any type or text, of shape
  (n,) or (n, 1); or one-hot rows (n, k) of 0 and 1. The classes are those of
  the training set:

  - numbers 0..k-1 are themselves, 1..k are one less, -1 and 1 are 0 and 1;
  - text is numbered in its order, which is that of the numbers where all of
    it is written numbers;
  - one-hot rows are the column of the 1.

  Args:
    y_train: labels of the training set.
    y_test: labels of the test set, of the same kind.
    num_train: n.
    num_test: n_test.
    num_classes: k where it is known: labels are then numbers of 0..k-1, some
      of which may be left out.

  Raises:
    ValueError: labels are none of these, one is missing, there is one class
      only or one is left out, both sets are not of one kind, or the test set
      has a class that the training set has not. Numbers that leave out
      others are refused, for a class may have been lost.
  """
  train = _labels('train y', y_train, num_train)
  test = _labels('test y', y_test, num_test)
  if train.kind != test.kind:
    raise ValueError(
      f'train y holds {train.kind}, but test y {test.kind}; pass both sets '
      'alike.'
    )
  known = num_classes is not None
  classes = _classes(train) if num_classes is None else [*range(num_classes)]
  places = {label: i for i, label in enumerate(classes)}
  for name, given in (('train', train), ('test', test)):
    for row, label in enumerate(given.values):
      if label not in places:
        raise ValueError(
          f'{name} y has label {label!r:.50} at row {row}, expected the '
          f'{"" if known else "training "}classes {_listed(classes)}.'
        )
  if train.described or test.described or classes[0] != 0:
    logging.info(
      'labels%s read as classes 0..%d%s',
      train.described or test.described,
      len(classes) - 1,
      _readings(classes),
    )
  return (
    np.array([places[label] for label in train.values], np.int64),
    np.array([places[label] for label in test.values], np.int64),
  )


def check(
  y_train: Integer[Array, ' n'],
  y_test: Integer[Array, ' n_test'],
  num_classes: int | None = None,
) -> None:
  """That labels are 0..k-1 as they stand, with k the training set's.

  Args:
    y_train: labels of the training set.
    y_test: labels of the test set.
    num_classes: k where it is known: a set may then lack a class.

  Raises:
    ValueError: they are not.
  """
  found = np.unique(y_train)
  if num_classes is None:
    _check_several(found.tolist())
    _check_classes(found)
    num_classes = found.size
  for name, y in (('train', y_train), ('test', y_test)):
    wrong = np.flatnonzero((y < 0) | (y >= num_classes))
    if wrong.size:
      raise ValueError(
        f'{name} y has label {y[wrong[0]]} at row {wrong[0]}, expected the '
        f'training classes 0..{num_classes - 1}.'
      )


def _labels(name: str, given: Any, number: int) -> _Labels:
  """The labels of one set, whatever they are called, one for each example."""
  y = values.plain(name, given)
  if y.ndim not in (1, 2) or len(y) != number or y.size < number:
    mend = ' Pass y.reshape(-1).' if y.size == number and y.ndim > 1 else ''
    raise ValueError(
      f'{name} has shape {y.shape}, expected one label for each of the '
      f'{number} rows of x: ({number},).{mend}'
    )
  told = f'{y.dtype}' if y.ndim == 1 else f'{y.dtype} of shape {y.shape}'
  plainly = y.ndim == 1 and y.dtype.kind in 'iu'
  if y.dtype.kind in 'OT':
    y = _of_objects(name, y)
  if y.ndim == 2 and y.shape[1] > 1:
    kind = f'one-hot rows of {y.shape[1]}'
    described = f' as {kind}, {told},'
    return _Labels(_columns(name, y).tolist(), kind, described, y.shape[1])
  y = y.reshape(-1)
  if y.dtype.kind in 'OUS':
    kind = 'text'
    if 'nan' in (texts := y.tolist()):
      raise ValueError(
        f'{name} has the text nan in row {texts.index("nan")}, which NumPy and '
        'pandas write for what is missing. Remove the example, or rename the '
        'class.'
      )
  elif y.dtype.kind in 'iubf':
    y, kind = _whole(name, y), 'numbers'
  else:
    raise ValueError(
      f'{name} has type {y.dtype!s:.100}, expected integers 0..k-1, one-hot '
      'rows or text. Pass y.astype(str) if each value is a class.'
    )
  return _Labels(y.tolist(), kind, '' if plainly else f', {told},')


def _of_objects(name: str, y: np.ndarray) -> np.ndarray:
  """Python's numbers as NumPy's; text stays as it is."""
  labels = y.reshape(-1).tolist()
  width = y.size // len(y)
  kinds = {_kind(name, i // width, label) for i, label in enumerate(labels)}
  if len(kinds) > 1:
    raise ValueError(
      f'{name} mixes {" and ".join(sorted(kinds))}; pass y.astype(str).'
    )
  if kinds == {'numbers'}:
    return np.array(labels).reshape(y.shape)
  return y.astype(object, copy=False)  # NumPy's strings too


def _kind(name: str, row: int, label: Any) -> str:
  """Of one label of a Python type."""
  if isinstance(label, str):
    return 'text'
  if isinstance(label, bytes):
    return 'bytes'
  missing = type(label).__name__ in ('NoneType', 'NAType', 'NaTType')
  if missing or (isinstance(label, float | np.floating) and label != label):
    raise ValueError(
      f'{name} has no label in row {row}, but {label}. Remove the example.'
    )
  if isinstance(label, bool | int | float | np.bool_ | np.number):
    return 'numbers'
  raise ValueError(
    f'{name} has a {type(label).__name__} in row {row}, expected a number or '
    'text. Pass one integer or text an example.'
  )


def _whole(name: str, y: np.ndarray) -> Integer[Array, ' n']:
  """Numbers as integers, if that is what they are."""
  if y.dtype.kind != 'f':
    return y.astype(np.int64) if y.dtype.kind == 'b' else y
  missing = np.flatnonzero(~np.isfinite(y))
  if missing.size:
    raise ValueError(
      f'{name} has no label in row {missing[0]}, but {y[missing[0]]} '
      f'({missing.size} rows in all). Remove these examples.'
    )
  broken = np.flatnonzero((y != np.rint(y)) | (np.abs(y) > 2**53))
  if broken.size:
    raise ValueError(
      f'{name} has {y[broken[0]]:.6g} in row {broken[0]}, which is no class: '
      f'expected whole numbers.{_QUANTITY}'
    )
  return y.astype(np.int64)


def _columns(name: str, y: np.ndarray) -> Int64[Array, ' n']:
  """Where the 1 of each one-hot row is."""
  one = (y == 1).reshape(y.shape)
  wrong = np.flatnonzero((one.sum(axis=1) != 1) | ((y != 0) != one).any(axis=1))
  if wrong.size:
    raise ValueError(
      f'{name} has shape {y.shape}, expected one label for each row, or '
      f'one-hot rows (one 1, else 0), but row {wrong[0]} is '
      f'{y[wrong[0]]!s:.50}. Pass the column of the labels, or '
      'y.argmax(axis=1) if the largest is meant.'
    )
  return one.argmax(axis=1)


def _classes(train: _Labels) -> list[Label]:
  """What the training labels stand for, in the order of 0..k-1."""
  found: list[Any] = list(set(train.values))
  lost = set(range(train.columns)) - set(found)
  if lost:
    raise ValueError(
      f'train y has {train.columns} columns, but no row with a 1 in column '
      f'{min(lost)}. Leave that column out in both sets: '
      'y[:, y_train.any(axis=0)].'
    )
  _check_several(found)
  if train.kind == 'text':
    return _ordered(found)
  found.sort()
  if found not in ([-1, 1], [*range(1, len(found) + 1)]):
    mend = _BY_NAME + _QUANTITY * (len(found) > _MANY)
    _check_classes(np.array(found), mend)
  return found


def _ordered(found: list[Any]) -> list[Label]:
  """Text in the order of the numbers, if all of it is written numbers."""
  found.sort()
  try:
    numbers = [float(text) for text in found]
  except ValueError:
    return found
  return sorted(found, key=float) if np.isfinite(numbers).all() else found


def _check_several(found: list[Any]) -> None:
  if len(found) == 1:
    raise ValueError(
      f'train y holds one class only, {found[0]!r:.50}; expected at least two.'
    )


def _check_classes(found: np.ndarray, mend: str = '') -> None:
  """Raises ValueError unless sorted classes are 0..k-1."""
  wrong = np.flatnonzero(found != np.arange(found.size))
  if wrong.size:
    raise ValueError(
      f'train y holds {found.size} classes, so its labels must be '
      f'0..{found.size - 1}, but there is {found[wrong[0]]} where {wrong[0]} '
      'is expected. Number the classes from 0 without gaps, in both sets '
      f'alike.{mend}'
    )


def _listed(classes: list[Label]) -> str:
  """Classes for a message."""
  if classes == list(range(len(classes))):
    return f'0..{len(classes) - 1}'
  return f'{", ".join(map(repr, classes)):.200}'


def _readings(classes: list[Label]) -> str:
  """What was read as what, the first few of it, where they differ."""
  if classes == list(range(len(classes))):
    return ''
  told = ', '.join(f'{c!r:.50} as {i}' for i, c in enumerate(classes[:5]))
  return f': {told}' + (', ...' if len(classes) > 5 else '')
