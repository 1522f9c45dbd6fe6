"""Arrays of any library to a checked Split: what one's own data must satisfy.

The checks run on the host, before anything is compiled: inside `jit` a label
out of range or a NaN goes unnoticed.
"""

from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float32, Shaped

from ossgd.data.own import containers, labels, values
from ossgd.data.own.values import Anything
from ossgd.paper.types import Dataset, Split

Preprocess = Literal[
  'unit_norm', 'standardised_unit_norm', 'centred_unit_norm', 'raw'
]


def to_split(
  x_train: Anything,
  y_train: Anything,
  x_test: Anything,
  y_test: Anything,
  *,
  normalize: bool = True,
  preprocess: Preprocess | None = None,
  num_classes: int | None = None,
) -> Split:
  """Four arrays as a checked Split, of unit norm (A2) by default.

  Arrays are NumPy's, JAX's or PyTorch's of any real type and on any device,
  pandas' frames of numbers and booleans, SciPy's sparse matrices if there is
  room for them, or lists. Every example is flattened, and prepared as
  `preprocess` says; bytes of images are numbers as others are, which unit norm
  makes no difference to, and 'raw' leaves in 0..255:

  - 'unit_norm': x / ||x||_2, of each example alone.
  - 'standardised_unit_norm': x - c, then the same. c is one number, the mean
    of all training inputs; MNIST's is 0.1307. That the usual
    (x - 0.1307) / 0.3081 divides by their standard deviation makes no
    difference to what has unit norm afterwards.
  - 'centred_unit_norm': x - c, then the same. c is the mean training example.
  - 'raw': x.

  Only c crosses examples, and only training examples have a say in it: the
  test set tells the training set nothing.

  Labels are numbered by the training set's, and a log line says so where they
  were not 0..k-1 already: from 1 (1..k), -1 and 1, booleans, text in its
  order, whole numbers of any type, of shape (n, 1), or one-hot rows (n, k).

  Args:
    x_train: training inputs, (n, ...) numbers.
    y_train: their labels, (n,), (n, 1) or one-hot (n, k), no class left out.
    x_test: test inputs, (n_test, ...), of as many coordinates; frames have
      the same columns in the same order.
    y_test: their labels, of the same kind and of the training set's classes.
    normalize: False asks for 'raw'.
    preprocess: how inputs are prepared; if None, as `normalize` says.
    num_classes: k where it is known: labels are then whole numbers of 0..k-1
      that may leave some out; if None, the training set says it.

  Returns:
    Split of x (n, d) float32 and y (n,) int32.

  Raises:
    ValueError: a set is empty, shapes or columns disagree, a value is masked,
      missing or not finite, or labels can be read in no way or in several; or
      an example is zero, or becomes zero when c is taken away, and has no unit
      norm; or `preprocess` is unknown, or asks for the unit norm that
      `normalize` forbids.
  """
  how = _preprocess(normalize, preprocess)
  containers.check_order(x_train, y_train, x_test, y_test)
  train = values.inputs('train x', x_train)
  test = values.inputs('test x', x_test)
  _check_sizes(train, test)
  _check_finite(train, test)
  y_train, y_test = labels.read(
    y_train, y_test, len(train), len(test), num_classes
  )
  if how in ('standardised_unit_norm', 'centred_unit_norm'):
    axis = 0 if how == 'centred_unit_norm' else None
    # Halves, whose difference cannot overflow: the direction is the same.
    half = (train.mean(axis, np.float64) / 2).astype(np.float32)
    train, test = train / 2 - half, test / 2 - half
  if how != 'raw':
    train = _directions('train', train, how)
    test = _directions('test', test, how)
  return Split(
    Dataset(_placed(x_train, train, how), jnp.asarray(y_train, jnp.int32)),
    Dataset(_placed(x_test, test, how), jnp.asarray(y_test, jnp.int32)),
    num_classes=num_classes,
  )


def validate(split: Split, num_classes: int | None = None) -> None:
  """Checks that a split can be trained on and tested with as it stands.

  Args:
    split: x (n, d) and y (n,), on any device.
    num_classes: k where it is known: a set may then lack a class.

  Raises:
    ValueError: a set is empty, shapes disagree, a value is not finite, a
      label is not an integer in 0..k-1, or the training labels leave out a
      class or know only one.
  """
  check_shapes(split)
  _check_finite(np.asarray(split.train.x), np.asarray(split.test.x))
  labels.check(np.asarray(split.train.y), np.asarray(split.test.y), num_classes)


def check_shapes(split: Split) -> None:
  """Checks all of a split that needs no number of it.

  Args:
    split: arrays, or shapes and types as `jax.eval_shape` finds them.

  Raises:
    ValueError: a set is empty, shapes disagree, inputs are not real numbers,
      or labels no integers.
  """
  _check_sizes(split.train.x, split.test.x)
  for name, (x, y) in (('train', split.train), ('test', split.test)):
    real = np.floating, np.integer, np.bool_
    if not any(jax.dtypes.issubdtype(x.dtype, kind) for kind in real):
      raise ValueError(f'{name} x has type {x.dtype}, expected real numbers.')
    if y.shape != x.shape[:1]:
      raise ValueError(
        f'{name} y has shape {y.shape}, expected one label for each of the '
        f'{x.shape[0]} rows of x: ({x.shape[0]},).'
      )
    if not jax.dtypes.issubdtype(y.dtype, np.integer):
      raise ValueError(
        f'{name} y has type {y.dtype}, expected integers. If its values are '
        'whole numbers, pass y.astype(int).'
      )


def _preprocess(normalize: bool, preprocess: str | None) -> str:
  """What two arguments say together."""
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
  return preprocess


def _placed(
  given: Any, x: Float32[np.ndarray, 'n d'], how: str
) -> Float32[jax.Array, 'n d']:
  """As JAX has it; what is as it should be stays where it is."""
  unchanged = how == 'raw' and isinstance(given, jax.Array)
  if unchanged and (given.shape, given.dtype) == (x.shape, x.dtype):
    return given
  return jnp.asarray(x)


def _check_finite(
  train: Shaped[np.ndarray, 'n d'], test: Shaped[np.ndarray, 'n_test e']
) -> None:
  for name, x in (('train', train), ('test', test)):
    broken = np.flatnonzero(~np.isfinite(x).all(axis=1))
    if broken.size:
      raise ValueError(
        f'{name} x has values that are not finite in float32, first in row '
        f'{broken[0]} ({broken.size} rows in all). Remove or repair them.'
      )


def _check_sizes(train: Any, test: Any) -> None:
  for name, x in (('train', train), ('test', test)):
    if x.ndim != 2 or x.size == 0:
      raise ValueError(
        f'{name} x has shape {x.shape}, expected (n, d) with n, d >= 1.'
      )
  if train.shape[1] != test.shape[1]:
    raise ValueError(
      f'train x has {train.shape[1]} coordinates, test x has '
      f'{test.shape[1]}; both need the same.'
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
      'zero vector cannot have unit norm. Remove them, or leave all inputs as '
      "they are: preprocess='raw' of arrays.to_split or images.load."
    )

  def unit(rows):
    squares = np.cumsum(np.square(rows, dtype=np.float64), axis=1)
    return (rows / np.sqrt(squares[:, -1:])).astype(np.float32)

  parts = np.array_split(x / largest, 1 + x.size // 2**22)
  return np.concatenate([unit(rows) for rows in parts])
