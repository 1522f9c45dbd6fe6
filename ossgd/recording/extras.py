"""What is asked of w(T) beside recorders: refused before any training."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from ossgd.paper.types import Params
from ossgd.recording import shapes
from ossgd.recording.recorders import Recorder

# Variables and dims of `keep`, with a width behind.
_WEIGHTS = ('initial_weights', 'final_weights', 'output_weights', 'unit_')


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
    if name.startswith(_WEIGHTS):
      raise ValueError(
        f"extra returned {name}, a name of keep='weights'; expected another"
      )
    for own in taken.intersection(names(name, value)):
      raise ValueError(
        f'extra returned {name}, but the results have {own} already; expected '
        'other names'
      )
    taken.update(names(name, value))


def _told(found: dict[str, Any]) -> str:
  return ', '.join(f'{n} {shapes.text(v)}' for n, v in sorted(found.items()))


def _returned(
  extra: Callable, split: Any, sizes: shapes.Sizes
) -> dict[str, Any]:
  """What it returns at a width."""
  of_units = (sizes.width, sizes.dim), (sizes.num_classes, sizes.width)
  arrays: list[Any] = [jax.ShapeDtypeStruct(v, jnp.float32) for v in of_units]
  params = Params(*arrays)
  try:
    found = jax.eval_shape(extra, params, params, split)
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
  for name, value in found.items():
    if not (isinstance(name, str) and name.isidentifier()):
      raise ValueError(
        f'extra returned {name!r}; expected names of letters, digits and _'
      )
    is_array = isinstance(value, jax.ShapeDtypeStruct)
    if not (is_array and shapes.is_number(value.dtype)):
      raise ValueError(
        f'extra returned {name} {_kind(value)}; expected an array of bool, '
        'integers, float32 or float64'
      )
  return found


def _kind(value: Any) -> str:
  is_array = isinstance(value, jax.ShapeDtypeStruct)
  return shapes.text(value) if is_array else type(value).__name__
