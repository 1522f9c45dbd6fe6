"""What recorders return, found out before anything is trained, or refused."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, get_args

import jax
import jax.numpy as jnp
import numpy as np

from ossgd.recording import recorders
from ossgd.recording.recorders import Examples, Recorder

# What each kind of function is given, for messages.
_ARGUMENTS = {
  'of_logits': 'f (n, k), y (n,)',
  'of_units': 'h (n, b), h0 (n, b), a (k, b)',
  'of_pattern': 'p (n, b), p0 (n, b)',
  'of_weights': 'w (m, d), w0 (m, d)',
}


class Sizes(NamedTuple):
  """Of the arrays that recorders are given."""

  examples: Mapping[Examples, int]  # n of each data set
  num_classes: int  # k
  width: int  # m
  dim: int  # d


def shape(recorder: Recorder, sizes: Sizes) -> jax.ShapeDtypeStruct:
  """Shape and dtype of what is measured at a step; nothing is computed.

  Raises:
    ValueError: the function cannot be traced, or returns what cannot be
      recorded.
  """
  two, three = (_returned(recorder, sizes, units) for units in (2, 3))
  if recorder.kind == 'of_pattern':
    if two.dtype != jnp.bool_ or two.shape != (_examples(recorder, sizes), 2):
      wanted = 'bool of the shape of its arguments'
      raise _refusal(recorder, f'returns {text(two)}', wanted)
    return jax.ShapeDtypeStruct((), jnp.float32)
  if text(two) != text(three):
    raise _refusal(
      recorder,
      f'returns {text(two)} of 2 units and {text(three)} of 3',
      'one shape: add the units up, as jnp.sum(..., axis=1) does',
    )
  is_integer = jnp.issubdtype(two.dtype, jnp.integer)
  if two.dtype not in (jnp.float32, jnp.float64) and not is_integer:
    wanted = 'float32 or integers, as .astype(jnp.float32) gives'
    raise _refusal(recorder, f'returns {two.dtype}', wanted)
  if recorder.mean and (
    recorder.kind != 'of_logits' or text(two) not in ('float32[]', 'int32[]')
  ):
    wanted = 'a float32 or int32 scalar of of_logits'
    raise _refusal(recorder, f'returns {text(two)} and is a mean', wanted)
  return two


def needs_initial(recorder: Recorder, sizes: Sizes) -> bool:
  """Whether a recorder of units looks at the pre-activations at w(0)."""
  arguments = _arguments(recorder, sizes, 2)
  traced = jax.make_jaxpr(afresh(recorder.function))(*arguments)
  initial = traced.jaxpr.invars[1]
  inputs = (v for equation in traced.jaxpr.eqns for v in equation.invars)
  return any(v is initial for v in (*inputs, *traced.jaxpr.outvars))


def check(asked: Sequence[Recorder], *sizes: Sizes) -> None:
  """Raises ValueError for recorders that no run can measure.

  Args:
    asked: a user's, beside those of `recorders.STANDARD`.
    *sizes: of the widths of a sweep.
  """
  if isinstance(asked, Recorder) or not isinstance(asked, Sequence):
    raise ValueError(
      f'recorders is {asked!r:.60}; expected a tuple of ossgd.Recorder'
    )
  known = {*RESULTS, *(recorder.name for recorder in recorders.STANDARD)}
  for recorder in asked:
    _check_fields(recorder)
    found, *others = [shape(recorder, one) for one in sizes]
    if any(other.shape != found.shape for other in others):
      raise _refusal(
        recorder,
        f'returns {text(found)} at width {sizes[0].width} and other shapes at '
        'other widths',
        'one shape',
      )
    own = names(recorder.name, found)
    for name in known.intersection(own):
      raise ValueError(
        f'recorder {recorder.name}: the results have another {name}; expected '
        'a name of its own'
      )
    known.update(own)
    if recorder.kind == 'of_units':
      _check_blocks(recorder, sizes[0])


# Variables and coordinates of the results besides.
RESULTS = (
  *('width', 'seed', 'step', 'rank', 'engine'),
  *('singular_values_update', 'singular_values_weights', 'diverged_at'),
  *('steps_to_accuracy', 'distance_at_accuracy', 'stopped_at'),
  *('input', 'class'),
)


def names(name: str, found: jax.ShapeDtypeStruct) -> list[str]:
  """Of a variable and of the dims that it brings."""
  return [name, *(f'{name}_{i}' for i in range(len(found.shape)))]


def _check_fields(recorder: Any) -> None:
  if not isinstance(recorder, Recorder):
    raise ValueError(
      f'recorders hold {recorder!r:.60}; expected ossgd.Recorder'
    )
  if not (isinstance(recorder.name, str) and recorder.name.isidentifier()):
    raise ValueError(
      f'recorder {recorder.name!r}: expected a name of letters, digits and _, '
      'such as dead_units'
    )
  for field, allowed in (
    ('examples', recorders.EXAMPLES),
    ('reduce', get_args(recorders.Reduction)),
  ):
    value = getattr(recorder, field)
    if value not in allowed:
      raise ValueError(
        f'recorder {recorder.name}: {field} is {value!r}; expected one of '
        f'{", ".join(allowed)}'
      )


def _check_blocks(recorder: Recorder, sizes: Sizes) -> None:
  """Raises ValueError where blocks of units do not make up the whole.

  A mean over units is the trap: its shape is right, but it depends on how the
  units are cut into blocks. Of the units tried some are always active, some
  never, and the first block has another part of them than the second.
  """
  rng = np.random.default_rng(0)
  h, h0 = rng.normal(size=(2, _examples(recorder, sizes), 7))
  h[:, [0, 4]] = -np.abs(h[:, [0, 4]])
  h[:, 5] = np.abs(h[:, 5])
  a = rng.normal(size=(sizes.num_classes, 7))
  parts = [np.float32(v) for v in (h, h0, a)]

  @jax.jit
  def of_blocks(*parts):
    whole, left, right = (
      recorder.function(*(v[:, block] for v in parts))
      for block in (slice(None), slice(2), slice(2, None))
    )
    one, other = ({recorder.name: value} for value in (left, right))
    return whole, recorders.together([recorder], one, other)[recorder.name]

  whole, together = (np.asarray(v, np.float64) for v in of_blocks(*parts))
  size = np.max(np.abs(whole), initial=0, where=np.isfinite(whole))
  if not np.allclose(whole, together, 1e-3, 1e-3 * size, equal_nan=True):
    raise _refusal(
      recorder,
      f'has another value of 7 units than the {recorder.reduce} of its values '
      'of 2 and of 5',
      'a sum over units, which you divide by the width afterwards, or a least '
      "or largest value, with reduce='min' or 'max'",
    )


def _examples(recorder: Recorder, sizes: Sizes) -> int:
  return sizes.examples[recorder.examples]


def _arguments(
  recorder: Recorder, sizes: Sizes, units: int
) -> list[jax.ShapeDtypeStruct]:
  """What its function is given, of a block of so many units."""
  n, k = _examples(recorder, sizes), sizes.num_classes

  def array(*shape, dtype: Any = jnp.float32):
    return jax.ShapeDtypeStruct(shape, dtype)

  return {
    'of_logits': [array(n, k), array(n, dtype=jnp.int32)],
    'of_units': [array(n, units), array(n, units), array(k, units)],
    'of_pattern': [array(n, units, dtype=jnp.bool_)] * 2,
    'of_weights': [array(sizes.width, sizes.dim)] * 2,
  }[recorder.kind]


def _returned(
  recorder: Recorder, sizes: Sizes, units: int
) -> jax.ShapeDtypeStruct:
  """What its function returns, of a block of so many units."""
  try:
    found = jax.eval_shape(
      afresh(recorder.function), *_arguments(recorder, sizes, units)
    )
  except Exception as error:  # whatever a function of the user's may raise
    wanted = f'a function of JAX arrays {_ARGUMENTS[recorder.kind]}'
    raise _refusal(recorder, f'raises {first_line(error)}', wanted) from error
  if not isinstance(found, jax.ShapeDtypeStruct):
    raise _refusal(recorder, f'returns {type(found).__name__}', 'one array')
  return found


def _refusal(recorder: Recorder, found: str, expected: str) -> ValueError:
  return ValueError(
    f'recorder {recorder.name}: {recorder.kind} {found}; expected {expected}'
  )


def first_line(error: Exception) -> str:
  """Kind and first line of what it says."""
  first = str(error).strip().partition('\n')[0]
  return f'{type(error).__name__}: {first}'


def afresh(function: Callable) -> Callable:
  """The same to JAX, which does not trace a function that it knows again.

  A user's may have changed with what it refers to.
  """
  return lambda *arguments: function(*arguments)


def text(found: jax.ShapeDtypeStruct) -> str:
  """As in int32[] or float32[3,4]."""
  return f'{found.dtype}[{",".join(map(str, found.shape))}]'
