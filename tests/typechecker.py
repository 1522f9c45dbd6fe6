"""How annotations are checked in tests: an int may stand for a float."""

import functools
import typing
from collections.abc import Callable
from typing import Any

import beartype
import beartype.door
import jaxtyping

_CONF = beartype.BeartypeConf(is_pep484_tower=True)
checked = beartype.beartype(conf=_CONF)


def checked_in_depth(function: Callable) -> Callable:
  """And what is returned by its fields; a spec says itself what is wrong."""
  if function.__name__ == '__init__':
    return function
  call = checked(function)

  @functools.wraps(function)
  def checked_call(*args, **kwargs):
    result = call(*args, **kwargs)
    _check_fields(result)
    return result

  return checked_call


def _check_fields(value: Any) -> None:
  """Those of NamedTuples; n is a number of each alone."""
  if not isinstance(value, tuple):
    return
  with jaxtyping.jaxtyped('context'):
    hints = typing.get_type_hints(type(value))
    for name in getattr(value, '_fields', ()):
      beartype.door.die_if_unbearable(getattr(value, name), hints[name])
  for part in value:
    _check_fields(part)
