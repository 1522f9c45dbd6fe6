"""Plain arrays to a checked Split: what a user's own data must satisfy.

The checks run on the host, before anything is compiled: inside `jit` a label
out of range or a NaN goes unnoticed.
"""

import math
from typing import Literal, get_args

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float32
from numpy.typing import ArrayLike

from ossgd.paper.types import Dataset, Split

Preprocess = Literal[
  'unit_norm', 'standardised_unit_norm', 'centred_unit_norm', 'raw'
]


def to_split(
  x_train: ArrayLike,
  y_train: ArrayLike,
  x_test: ArrayLike,
  y_test: ArrayLike,
  *,
  normalize: bool = True,
  preprocess: Preprocess | None = None,
  num_classes: int | None = None,
) -> Split:
  """Four plain arrays as a checked Split, of unit norm (A2) by default.

  Every example is flattened, and prepared as `preprocess` says:

  - 'unit_norm': x / ||x||_2, of each example alone.
  - 'standardised_unit_norm': x - c, then the same. c is one number, the mean
    of all training inputs; MNIST's is 0.1307. That the usual
    (x - 0.1307) / 0.3081 divides by their standard deviation makes no
    difference to what has unit norm afterwards.
  - 'centred_unit_norm': x - c, then the same. c is the mean training example.
  - 'raw': x.

  Only c crosses examples, and only training examples have a say in it: the
  test set tells the training set nothing.

  Args:
    x_train: training inputs, (n, ...) numbers.
    y_train: their labels, (n,) integers 0..k-1, none of them left out.
    x_test: test inputs, (n_test, ...), of as many coordinates.
    y_test: their labels, (n_test,) integers in 0..k-1.
    normalize: False asks for 'raw'.
    preprocess: how inputs are prepared; if None, as `normalize` says.
    num_classes: k, of labels that may leave out some of 0..k-1; if None, the
      number of classes in y_train.

  Returns:
    Split of x (n, d) float32 and y (n,) int32.

  Raises:
    ValueError: as `validate`; or an example is zero, or becomes zero when c
      is taken away, and has no unit norm; or `preprocess` is unknown, or asks
      for the unit norm that `normalize` forbids.
  """
  if preprocess is None:
    preprocess = 'unit_norm' if normalize else 'raw'
  if preprocess not in get_args(Preprocess):
    raise ValueError(
      f'preprocess is {preprocess!r}; expected one of '
      + ', '.join(get_args(Preprocess))
    )
  if not normalize and preprocess != 'raw':
    raise ValueError(
      f"normalize=False means preprocess='raw', but it is {preprocess!r}; give "
      'one of them'
    )
  train, y_train = _features('train', x_train), np.asarray(y_train)
  test, y_test = _features('test', x_test), np.asarray(y_test)
  _check(train, y_train, test, y_test, num_classes)
  if preprocess in ('standardised_unit_norm', 'centred_unit_norm'):
    axis = 0 if preprocess == 'centred_unit_norm' else None
    # Halves, whose difference cannot overflow: the direction is the same.
    half = (train.mean(axis, np.float64) / 2).astype(np.float32)
    train, test = train / 2 - half, test / 2 - half
  if preprocess != 'raw':
    train = _directions('train', train, preprocess)
    test = _directions('test', test, preprocess)
  return Split(
    Dataset(jnp.asarray(train), jnp.asarray(y_train, jnp.int32)),
    Dataset(jnp.asarray(test), jnp.asarray(y_test, jnp.int32)),
    num_classes=num_classes,
  )


def validate(split: Split) -> None:
  """Checks that a split can be trained on and tested with.

  Args:
    split: x (n, d) and y (n,), on any device.

  Raises:
    ValueError: a set is empty, shapes disagree, a value is not finite, a
      label is not an integer in 0..k-1, or the training labels know only one
      class or leave one out, unless the split says its number of classes.
  """
  train, test = split.train, split.test
  x, y, x_test, y_test = map(np.asarray, (*train, *test))
  _check(x, y, x_test, y_test, split.num_classes)


def _features(name: str, x: ArrayLike) -> Float32[np.ndarray, 'n d']:
  """(n, ...) numbers of any type -> (n, d) float32."""
  x = np.asarray(x)
  if x.dtype.kind not in 'buif':
    raise ValueError(f'{name} x has type {x.dtype}, expected real numbers.')
  if x.ndim < 2:
    raise ValueError(
      f'{name} x has shape {x.shape}, expected (n, d) or (n, ...). '
      'Reshape a single feature to (n, 1).'
    )
  with np.errstate(over='ignore'):  # too large for float32: inf, found later
    return x.reshape(len(x), math.prod(x.shape[1:])).astype(np.float32)


def _check(
  x_train: np.ndarray,
  y_train: np.ndarray,
  x_test: np.ndarray,
  y_test: np.ndarray,
  num_classes: int | None,
) -> None:
  _check_examples('train', x_train, y_train)
  _check_examples('test', x_test, y_test)
  if x_train.shape[1] != x_test.shape[1]:
    raise ValueError(
      f'train x has {x_train.shape[1]} coordinates, test x has '
      f'{x_test.shape[1]}; both need the same.'
    )
  classes = np.unique(y_train)
  if classes.size == 1:
    raise ValueError(
      f'train y holds one class only, {classes[0]}; expected at least two.'
    )
  if num_classes is not None:
    _check_labels('train', y_train, num_classes)
    _check_labels('test', y_test, num_classes)
    return
  expected = f'0..{classes.size - 1}'
  wrong = np.flatnonzero(classes != np.arange(classes.size))
  if wrong.size:
    raise ValueError(
      f'train y holds {classes.size} classes, so its labels must be '
      f'{expected}, but there is {classes[wrong[0]]} where {wrong[0]} is '
      'expected. Number the classes from 0 without gaps, in both sets alike.'
    )
  unknown = np.flatnonzero(~np.isin(y_test, classes))
  if unknown.size:
    raise ValueError(
      f'test y has label {y_test[unknown[0]]} at row {unknown[0]}, expected '
      f'the training classes {expected}.'
    )


def _check_labels(name: str, y: np.ndarray, num_classes: int) -> None:
  """Of a set that says its number of classes, of which it may lack some."""
  unknown = np.flatnonzero((y < 0) | (y >= num_classes))
  if unknown.size:
    raise ValueError(
      f'{name} y has label {y[unknown[0]]} at row {unknown[0]}, expected '
      f'0..{num_classes - 1}: num_classes is {num_classes}.'
    )


def _check_examples(name: str, x: np.ndarray, y: np.ndarray) -> None:
  if x.ndim != 2 or x.size == 0:
    raise ValueError(
      f'{name} x has shape {x.shape}, expected (n, d) with n, d >= 1.'
    )
  if y.shape != x.shape[:1]:
    raise ValueError(
      f'{name} y has shape {y.shape}, expected one label for each of the '
      f'{len(x)} rows of x: ({len(x)},).'
    )
  if not np.issubdtype(y.dtype, np.integer):
    raise ValueError(
      f'{name} y has type {y.dtype}, expected integers. If its values are '
      'whole numbers, pass y.astype(int).'
    )
  broken = np.flatnonzero(~np.isfinite(x).all(axis=1))
  if broken.size:
    raise ValueError(
      f'{name} x has values that are not finite in float32, first in row '
      f'{broken[0]} ({broken.size} rows in all). Remove or repair them.'
    )


def _directions(
  name: str, x: Float32[np.ndarray, 'n d'], preprocess: str
) -> Float32[np.ndarray, 'n d']:
  """x / ||x||_2, by way of x / ||x||_inf, whose square cannot overflow.

  The same bits on every machine, for data are known by their digest: a sum
  in a fixed order, and operations that IEEE 754 leaves no choice in.
  """
  largest = np.abs(x).max(axis=1, keepdims=True)
  zero = np.flatnonzero(largest == 0)
  if zero.size:
    what = 'x' if preprocess == 'unit_norm' else f'x, {preprocess},'
    raise ValueError(
      f'{name} {what} is zero in row {zero[0]} ({zero.size} rows in all): a '
      'zero vector cannot have unit norm. Remove them, or pass '
      "preprocess='raw'."
    )

  def unit(rows):
    squares = np.cumsum(np.square(rows, dtype=np.float64), axis=1)
    return (rows / np.sqrt(squares[:, -1:])).astype(np.float32)

  parts = np.array_split(x / largest, 1 + x.size // 2**22)
  return np.concatenate([unit(rows) for rows in parts])
