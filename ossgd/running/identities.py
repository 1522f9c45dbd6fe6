"""What functions, modules and arrays are told from others by.

A function is known by its module, name, bytecode and all that it refers to, a
module by its sources without comments and docstrings, an array by its content.
"""

import contextlib
import dataclasses
import dis
import enum
import functools
import hashlib
import importlib
import importlib.util
import inspect
import json
import types
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from ossgd.machine import sources


def of(value: Any, name: str = 'value') -> Any:
  """What a setting is told from others by, as a JSON value.

  Numbers and texts stand for themselves, arrays for their digest, functions
  for their module, name and code, and for all that they refer to.

  Raises:
    ValueError: it cannot be told from others.
  """
  return _identity(value, name, frozenset())


def modules(function: Callable) -> set[str]:
  """The modules of a function and of the functions it holds."""
  waiting: list[Any] = [function]
  found, seen = set(), set()
  while waiting:
    one = waiting.pop()
    if id(one) in seen or not callable(one):
      continue
    seen.add(id(one))
    if isinstance(one, functools.partial):
      waiting += [one.func, *one.args, *one.keywords.values()]
    elif isinstance(one, types.FunctionType):
      found.add(one.__module__)
      for held in _closure(one).values():
        waiting += held if isinstance(held, list | tuple) else [held]
    else:
      waiting.append(getattr(one, '__wrapped__', None))
  return found


def _identity(value: Any, name: str, seen: frozenset[int]) -> Any:
  if isinstance(value, enum.Enum):
    of_class = _identity(type(value), name, seen)
    return [of_class, value.name, _identity(value.value, name, seen)]
  if value is None or isinstance(value, bool | int | float | str):
    return value
  inside = functools.partial(_identity, name=name, seen=seen)
  if isinstance(value, np.generic):
    return value.item()
  if isinstance(value, np.ndarray | jax.Array):
    return f'array {array_digest(value)}'
  if isinstance(value, bytes | complex | Path | np.dtype | types.EllipsisType):
    return repr(value)
  if isinstance(value, list | tuple):
    items = [inside(item) for item in value]
    named = hasattr(value, '_fields')  # two NamedTuples may do different things
    return [inside(type(value)), items] if named else items
  if isinstance(value, set | frozenset):
    return sorted(json.dumps(inside(i), sort_keys=True) for i in value)
  if isinstance(value, Mapping):
    return {json.dumps(inside(k)): inside(v) for k, v in value.items()}
  if dataclasses.is_dataclass(value) and not isinstance(value, type):
    fields = dataclasses.fields(value)
    own = {field.name: inside(getattr(value, field.name)) for field in fields}
    return [inside(type(value)), own]
  if isinstance(value, functools.partial):
    return [inside(v) for v in (value.func, value.args, value.keywords)]
  if isinstance(value, types.MethodType):
    return [inside(value.__func__), inside(value.__self__)]
  return _named_identity(value, name, seen)


def _named_identity(value: Any, name: str, seen: frozenset[int]) -> Any:
  """Of a function, class or module."""
  is_module = isinstance(value, types.ModuleType)
  home = value.__name__ if is_module else getattr(value, '__module__', None)
  title = getattr(value, '__qualname__', getattr(value, '__name__', None))
  wrapped = getattr(value, '__wrapped__', None)
  if title is None:
    raise ValueError(
      f'{name} holds {value!r:.100}, which cannot be told from others, so what '
      'is stored could be taken for its work; expected a function of a module, '
      'or a functools.partial of one'
    )
  full, path = sources.located(home or 'builtins')
  full = sources.checked_out(full if is_module else f'{full}.{title}')
  package = full.partition('.')[0]
  if path is None and package != '__main__':
    return full  # Python's own
  if not sources.is_own(package):
    return [full, sources.version(package)]
  if path is not None and (package == 'ossgd' or is_module):
    return [full, sources.code(home)]
  if id(value) in seen:
    return full
  seen |= {id(value)}
  if isinstance(value, types.FunctionType):
    return [full, _function(value, name, seen)]
  if is_module:
    return full
  if isinstance(value, type):
    bases = [_identity(base, name, seen) for base in value.__bases__]
    return [full, _members(vars(value), name, seen), bases]
  # Of `jax.jit` or `jax.custom_jvp`, say: with its rules.
  members = _members(getattr(value, '__dict__', {}), name, seen)
  return [full, _identity(wrapped, name, seen), members]


def _function(
  function: types.FunctionType, name: str, seen: frozenset[int]
) -> dict[str, Any]:
  """Its code as it runs, what it holds, and the globals that it names."""
  defaults = [function.__defaults__, function.__kwdefaults__]
  own = {n: v for n, v in vars(function).items() if n != '__wrapped__'}
  everything = [defaults, own, _closure(function), *_named_globals(function)]
  return {
    'code': sha256(json.dumps(_code(function.__code__))),
    'holds': [_identity(part, name, seen) for part in everything],
  }


def _named_globals(function: types.FunctionType) -> list[dict[str, Any]]:
  """Its globals, and those of modules of the user's own that it goes through.

  Of such a module what is named, not all: another function there may change.
  """
  names = _names(function.__code__)
  waiting, found, seen = [function.__globals__], [], set()
  for imported in _imported(function.__code__, function.__globals__):
    try:
      waiting.append(vars(importlib.import_module(imported)))
    except (Exception, SystemExit):  # as in a branch that is not taken
      found.append({imported: sources.code(imported)})
  for everything in waiting:  # which grows
    if id(everything) in seen:
      continue
    seen.add(id(everything))
    held = {n: everything[n] for n in sorted(names & everything.keys())}
    for n, value in held.items():
      if isinstance(value, types.ModuleType) and sources.is_own(value.__name__):
        waiting.append(vars(value))
        held[n] = value.__name__
    found.append(held)
  return found


def _imported(code: types.CodeType, everything: dict[str, Any]) -> list[str]:
  """Modules of the user's own that are imported when it is called."""
  found: list[str] = []
  last: list[Any] = [0, None]  # constants: a level, and what is asked for
  for instruction in dis.get_instructions(code):
    if instruction.opname == 'EXTENDED_ARG':
      continue
    if instruction.opname == 'IMPORT_NAME':
      level, wanted = last
      origin = '.' * level + instruction.argval
      home = importlib.util.resolve_name(origin, everything.get('__package__'))
      parts = home.split('.')
      named = ['.'.join(parts[: i + 1]) for i in range(len(parts))]
      found += named + [f'{home}.{one}' for one in wanted or ()]
    last = [last[1], instruction.argval]
  for constant in code.co_consts:
    if isinstance(constant, types.CodeType):
      found += _imported(constant, everything)
  return [m for m in found if sources.is_own(m) and sources.located(m)[1]]


def _members(
  attributes: Mapping[str, Any], name: str, seen: frozenset[int]
) -> dict[str, Any]:
  """Of a class, say: its methods, properties and constants."""
  found = {}
  for n, member in attributes.items():
    if isinstance(member, property):
      member = [member.fget, member.fset]
    elif isinstance(member, staticmethod | classmethod):
      member = member.__func__
    elif isinstance(member, functools.cached_property):
      member = member.func
    elif n.startswith('__') and not isinstance(member, types.FunctionType):
      continue
    with contextlib.suppress(ValueError):  # what Python has for fields, say
      found[n] = _identity(member, name, seen)
  return found


def _code(code: types.CodeType) -> list[Any]:
  """Bytecode and constants, without lines and docstring."""
  constants = list(code.co_consts)
  is_function = code.co_flags & inspect.CO_OPTIMIZED and code.co_name[0] != '<'
  if is_function and constants and isinstance(constants[0], str):
    constants[0] = None
  return [
    code.co_code.hex(),
    [_code(c) if isinstance(c, types.CodeType) else of(c) for c in constants],
    [*code.co_names, '', *code.co_varnames, '', *code.co_freevars],
    [code.co_argcount, code.co_kwonlyargcount, code.co_flags],
  ]


def _names(code: types.CodeType) -> set[str]:
  inner = (c for c in code.co_consts if isinstance(c, types.CodeType))
  return set(code.co_names).union(*map(_names, inner))


def _closure(function: types.FunctionType) -> dict[str, Any]:
  found = {}
  cells = function.__closure__ or ()
  for name, cell in zip(function.__code__.co_freevars, cells, strict=True):
    with contextlib.suppress(ValueError):  # empty: not assigned yet
      found[name] = cell.cell_contents
  return found


def array_digest(array: Any) -> str:
  """Of type, shape and content; 64 hexadecimal digits."""
  if jax.dtypes.issubdtype(array.dtype, jax.dtypes.prng_key):
    array = jax.random.key_data(array)
  array = np.ascontiguousarray(array)
  if array.dtype.kind == 'O':  # text that was read back, where it lies
    array = array.astype(str)
  about = hashlib.sha256(f'{array.dtype} {array.shape}'.encode())
  about.update(array.data)
  return about.hexdigest()


def sha256(text: str) -> str:
  """Of a text, in hexadecimal."""
  return hashlib.sha256(text.encode()).hexdigest()
