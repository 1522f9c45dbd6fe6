"""Compiled functions: kept from call to call, and compiled ahead by threads.

What is kept is bounded, and holds no data of a user's: functions that hold
arrays, and all that cannot be told from others, are made anew every time.
"""

import dataclasses
import functools
import json
import os
import sys
import types
from collections.abc import Callable, Hashable
from concurrent import futures
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from ossgd.machine import lanes, timing
from ossgd.running import identities

# How much LLVM optimises, 0 to 3: at 1 compiling takes a sixth less and steps
# take no longer; at 0 they take twice as long.
_LEVEL = 'xla_backend_optimization_level'
_MOST = 32  # of what is kept: all programs of one width, or those of data
# Their functions do not change while a process runs.
_LIBRARIES = ('ossgd', 'jax', 'optax', 'numpy')


def jit(function: Callable[..., Any], **options: Any) -> Any:
  """`jax.jit`, on a CPU compiled faster unless JAX was told how."""
  told = _LEVEL in os.environ.get('XLA_FLAGS', '')
  if jax.default_backend() == 'cpu' and not told:
    little = jax.config.read('jax_disable_most_optimizations')
    options['compiler_options'] = {_LEVEL: 0 if little else 1}
  return jax.jit(function, **options)


class Program:
  """A compiled function, told something of its own after its arguments."""

  def __init__(self, function: Any, told: Any = None):
    """Takes a function of `jit`, and its last argument."""
    self._function, self._told = function, told
    self._ahead: list[futures.Future] = []
    self._shapes: dict[Hashable, Any] = {}

  def telling(self, told: Any) -> 'Program':
    """The same, compiled once for both, with another last argument."""
    other = Program(self._function, told)
    other._ahead, other._shapes = self._ahead, self._shapes
    return other

  def __call__(self, *arguments: Any) -> Any:
    """Waits for what is compiled ahead, which `jax.jit` then finds done."""
    if self._ahead:
      with timing.part('compile'):
        futures.wait(self._ahead)
      self._ahead.clear()
    return self._function(*arguments, self._told)

  def trace(self, *arguments: Any) -> Any:
    """As functions of `jax.jit` have it."""
    return self._function.trace(*arguments, self._told)

  def lower(self, *arguments: Any) -> Any:
    """As functions of `jax.jit` have it."""
    return self._function.lower(*arguments, self._told)

  def shapes(self, *arguments: Any) -> Any:
    """Of what it returns; JAX lets no other function trace one with options."""
    return jax.eval_shape(self._function, *arguments, self._told)

  def prepare(self, *arguments: Any) -> Any:
    """Has it compiled by another thread, once for arguments of these shapes.

    Returns:
      The shapes of what it returns.
    """
    leaves, tree = jax.tree.flatten((arguments, self._told))
    key = tree, *((np.shape(v), v.dtype) for v in leaves)
    if key not in self._shapes:
      lowered = self.lower(*arguments)
      self._ahead.append(_compilers().submit(lowered.compile))
      self._shapes[key] = self.shapes(*arguments)
    return self._shapes[key]


@functools.cache
def _compilers() -> futures.Executor:
  return futures.ThreadPoolExecutor(lanes.number(), 'compiling')


def remembered(make: Callable[..., Any], *settings: Any) -> Any:
  """What is made of settings, or what was made before of such settings.

  Functions of a user's are such if their code is, and all that it refers to:
  one that reads another global by now is another one.
  """
  try:
    # Which generator keys are of is no part of JAX's own key.
    config: Any = jax.config  # its options are attributes made at run time
    key = config.jax_default_prng_impl, _known_by((make, settings))
  except (ValueError, RecursionError):
    return make(*settings)
  return _kept(_Asked(key, make, settings))


def forget() -> None:
  """Has all programs made again when they are asked for."""
  _kept.cache_clear()


@dataclasses.dataclass(frozen=True)
class _Asked:
  key: Hashable
  make: Callable = dataclasses.field(compare=False)
  settings: tuple = dataclasses.field(compare=False)


@functools.lru_cache(maxsize=_MOST)
def _kept(asked: _Asked) -> Any:
  return asked.make(*asked.settings)


def _known_by(value: Any) -> Hashable:
  """What a setting is told from others by in this process.

  Raises:
    ValueError: it cannot be, or holds arrays.
  """
  if value is None or isinstance(value, bool | int | float | str | Mesh):
    return type(value), value
  if isinstance(value, tuple):
    return type(value), *map(_known_by, value)
  if isinstance(value, functools.partial):
    keywords = tuple(sorted(value.keywords.items()))
    return 'partial', *map(_known_by, (value.func, value.args, keywords))
  if isinstance(value, types.FunctionType):
    return _function(value)
  if isinstance(value, type) and _is_library(value):
    return value
  if dataclasses.is_dataclass(value) and _is_library(type(value)):
    fields = (getattr(value, f.name) for f in dataclasses.fields(value))
    return type(value), *map(_known_by, fields)
  wrapped = getattr(value, '__wrapped__', None)
  if isinstance(wrapped, types.FunctionType):  # of `jax.jit`, say
    return value, _function(wrapped)
  of_module = isinstance(getattr(value, '__self__', None), types.ModuleType)
  if of_module or (callable(value) and _is_library(type(value))):
    return value
  raise ValueError(f'{value!r:.100} cannot be told from others')


def _function(function: types.FunctionType) -> Hashable:
  if _is_library(function):
    home = sys.modules.get(function.__module__)
    if getattr(home, function.__name__, None) is function:
      return function  # it is kept by its module
  cells = [cell.cell_contents for cell in function.__closure__ or ()]
  named = (function.__kwdefaults__ or {}).items()
  held = _known_by((*cells, *(function.__defaults__ or ()), *named))
  if _is_library(function):
    return function.__module__, function.__code__, held
  text = json.dumps(identities.of(function))
  if '"array ' in text:  # it would be a part of what is compiled
    raise ValueError(f'{function.__name__} refers to arrays')
  return held, text


def _is_library(value: Any) -> bool:
  home = getattr(value, '__module__', None) or ''
  return home.partition('.')[0] in _LIBRARIES
