"""What is asked of w(T) beside recorders: refused before any training."""

import re
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ossgd.paper.types import Params
from ossgd.recording import shapes
from ossgd.recording.recorders import Recorder

# Variables and dims of `keep`.
_OF_A_WIDTH = re.compile(r'((initial|final|output)_weights|unit)_\d+')
_SPECTRUM = 'singular_values_'  # what has dim rank


def check(
  extra: Callable,
  split: Any,
  measured: Sequence[Recorder],
  *sizes: shapes.Sizes,
) -> None:
  """Raises ValueError for more of w(T) than the results can hold.

  Args:
    extra: a user's.
    split: shapes and dtypes of the data.
    measured: what recorders measure besides.
    *sizes: of the widths of a sweep.
  """
  found, *others = [_returned(extra, split, one) for one in sizes]
  if any(_told(other) != _told(found) for other in others):
    raise ValueError(
      f'extra returned {_told(found)} at width {sizes[0].width}, but not at '
      'every other; expected the same names and shapes'
    )
  names, taken = shapes.names, {*shapes.RESULTS}
  for recorder in measured:
    taken.update(names(recorder.name, shapes.shape(recorder, sizes[0])))
  for name, value in found.items():
    own = [name] if name.startswith(_SPECTRUM) else names(name, value)
    clash = next((n for n in own if n in taken or _OF_A_WIDTH.fullmatch(n)), '')
    if clash:
      raise ValueError(
        f'extra returned {name}, but {clash} is a name of the results; '
        'expected another'
      )
    taken.update(own)


def _told(found: dict[str, Any]) -> str:
  """Names and shapes, where all widths have the same."""
  return ', '.join(
    name if name.startswith(_SPECTRUM) else f'{name} {list(value.shape)}'
    for name, value in sorted(found.items())
  )


def _returned(
  extra: Callable, split: Any, sizes: shapes.Sizes
) -> dict[str, Any]:
  """What it returns at a width."""
  of_units = (sizes.width, sizes.dim), (sizes.num_classes, sizes.width)
  arrays: list[Any] = [jax.ShapeDtypeStruct(v, jnp.float32) for v in of_units]
  params = Params(*arrays)
  try:
    found = jax.eval_shape(shapes.afresh(extra), params, params, split)
  except Exception as error:  # whatever a function of the user's may raise
    raise ValueError(
      f'extra at width {sizes.width} raises {shapes.first_line(error)}; '
      'expected a function of JAX arrays (params, params at initialisation, '
      'split) that returns a dict of arrays by name'
    ) from error
  if not isinstance(found, dict):
    raise ValueError(
      f'extra returned {_kind(found)}; expected a dict of arrays by name'
    )
  rank = min(sizes.width, sizes.dim)
  for name, value in found.items():
    if not (isinstance(name, str) and name) or '/' in name:
      raise ValueError(
        f'extra returned {name!r}; expected names that are texts without a /'
      )
    if not _is_number(value):
      raise ValueError(
        f'extra returned {name} {_kind(value)}; expected an array of numbers '
        'as NumPy has them'
      )
    is_spectrum = value.shape == (rank,) and value.dtype.kind == 'f'
    if name.startswith(_SPECTRUM) and not is_spectrum:
      raise ValueError(
        f'extra returned {name} {_kind(value)} at width {sizes.width}; '
        f'expected float32[{rank}], or another name'
      )
  return found


def _is_number(value: Any) -> bool:
  """Or a truth value; without keys and the types that no file has."""
  dtype = getattr(value, 'dtype', None)
  return isinstance(dtype, np.dtype) and dtype.kind in 'biufc'


def _kind(value: Any) -> str:
  is_array = isinstance(value, jax.ShapeDtypeStruct)
  return shapes.text(value) if is_array else type(value).__name__
