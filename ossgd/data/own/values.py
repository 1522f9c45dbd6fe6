"""Arrays of any library as NumPy's.

No library is imported for its arrays: tensors, frames and sparse matrices are
known by their methods, and asked through these.
"""

import logging
import math
from typing import Any, Protocol, runtime_checkable

import jax
import numpy as np
from jaxtyping import Float32, Shaped
from numpy.typing import ArrayLike

from ossgd.machine import memory


@runtime_checkable
class HasShape(Protocol):
  """An array of a library that NumPy does not know, such as a sparse one."""

  @property
  def shape(self) -> Any:
    """Of its axes."""


Anything = ArrayLike | HasShape

# Of the inputs, float32, while they are scaled to unit norm: 4.2 at 360 MB.
_COPIES = 4


def inputs(name: str, given: Any) -> Float32[np.ndarray, 'n d']:
  """Numbers of any type, (n, ...), as (n, d) float32.

  Args:
    name: what an error calls them.
    given: an array, tensor, sparse matrix, frame or nested list.

  Raises:
    ValueError: they are no real numbers, or have no rows; or values are
      masked, or are too many to be made dense.
  """
  if hasattr(given, 'iloc') and len(given.shape) == 2:
    return _of_frame(name, given)
  x = plain(name, given)
  if x.dtype.kind not in 'buif':
    mend = {
      'O': ' Pass x.astype(float) if they are numbers.',
      'U': ' Pass x.astype(float) if they are numbers.',
      'V': ' Pass numpy.lib.recfunctions.structured_to_unstructured(x).',
    }.get(x.dtype.kind, '')
    raise ValueError(
      f'{name} has type {x.dtype!s:.100}, expected real numbers.{mend}'
    )
  if x.ndim < 2:
    raise ValueError(
      f'{name} has shape {x.shape}, expected (n, d) or (n, ...). '
      'Reshape a single feature to (n, 1).'
    )
  x = x.reshape(len(x), math.prod(x.shape[1:]))
  with np.errstate(over='ignore'):  # too large for float32: inf, found later
    # What JAX holds does not change; another library's memory is its own.
    return x.astype(np.float32, copy=not isinstance(given, jax.Array))


def plain(name: str, given: Any) -> Shaped[np.ndarray, '...']:
  """An array of any library, of numbers or of anything else, as NumPy has it.

  Floating-point numbers that NumPy has no type for become float32, and
  integers int32.

  Raises:
    ValueError: it is no array, has masked values, or is too large to be made
      dense.
  """
  if isinstance(given, list | tuple):
    if any(np.ma.isMaskedArray(part) for part in given):
      given = np.ma.stack(given)
    elif any(isinstance(part, str) for part in given):
      # NumPy would make texts of numbers and of what is missing.
      given = np.array(given, object)
  if np.ma.isMaskedArray(given):
    return _unmasked(name, given)
  is_tensor = hasattr(given, 'element_size') and hasattr(given, 'detach')
  if hasattr(given, 'nnz') and hasattr(given, 'toarray'):
    return _of_sparse(name, given)
  if is_tensor and str(given.layout) != 'torch.strided':
    _check_room(name, given.shape)
    given = given.to_dense()
  try:
    array = _of_tensor(given) if is_tensor else np.asarray(given)
  except jax.errors.JAXTypeError:
    raise  # traced: JAX says it best
  except (TypeError, ValueError, RuntimeError, OverflowError) as error:
    cause = ' '.join(str(error).split()) or type(error).__name__
    raise ValueError(
      f'{name} cannot be read as an array: {cause:.300}'
    ) from error
  if array.dtype.isbuiltin == 2:  # of ml_dtypes: bfloat16, float8, int4, ...
    if jax.dtypes.issubdtype(array.dtype, np.floating):
      return array.astype(np.float32)
    if jax.dtypes.issubdtype(array.dtype, np.integer):
      return array.astype(np.int32)
  return array


def _of_frame(name: str, given: Any) -> Float32[np.ndarray, 'n d']:
  """A table of numbers and booleans; what is missing is NaN."""
  found = np.empty(given.shape, np.float32)
  for i, title in enumerate(given.columns):
    column = given.iloc[:, i]
    if column.dtype.kind not in 'buif':
      raise ValueError(
        f'{name} has column {title!r:.50} of type {column.dtype}, expected '
        'numbers. Encode it, for example by pandas.get_dummies of both sets '
        'together, or leave it out.'
      )
    with np.errstate(over='ignore'):
      found[:, i] = column.to_numpy(np.float32, na_value=np.nan)
  return found


def _unmasked(name: str, given: np.ma.MaskedArray) -> np.ndarray:
  mask = np.atleast_1d(np.ma.getmaskarray(given))
  if mask.dtype != bool:  # of several fields, which are no numbers
    return np.asarray(given)
  rows = np.flatnonzero(mask.any(axis=tuple(range(1, mask.ndim))))
  if rows.size:
    raise ValueError(
      f'{name} has masked values, first in row {rows[0]} ({rows.size} rows in '
      'all). Remove these rows, or fill them with .filled(VALUE).'
    )
  return np.asarray(given.data)


def _of_sparse(name: str, given: Any) -> np.ndarray:
  """A sparse matrix of SciPy."""
  _check_room(name, given.shape)
  with np.errstate(over='ignore'):
    if given.dtype.kind in 'iuf' and given.dtype.itemsize > 4:
      given = given.astype(np.float32)
    return given.toarray()


def _check_room(name: str, shape: tuple[int, ...]) -> None:
  """Raises ValueError if what is sparse does not fit in memory when dense."""
  needed = 4 * _COPIES * math.prod(shape)
  free = memory.free()
  if needed > free:
    raise ValueError(
      f'{name} is sparse, of shape {tuple(shape)}, and networks need it dense: '
      f'about {needed / 1e9:.3g} GB, but {free / 1e9:.3g} GB are free. Take '
      'fewer columns, for example by sklearn.decomposition.TruncatedSVD.'
    )
  logging.info('%s: sparse, made dense, %s', name, tuple(shape))


def _of_tensor(given: Any) -> np.ndarray:
  """A tensor of PyTorch, on any device, whether it wants gradients or not."""
  if given.is_floating_point() and given.element_size() < 4:
    given = given.float()  # NumPy has no bfloat16, and no float8
  return given.numpy(force=True)
