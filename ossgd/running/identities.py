"""What functions, modules and arrays are told from others by.

A function is known by its module, name, bytecode and all that it refers to, a
module by its sources without comments and docstrings, an array by its content.
"""

import ast
import contextlib
import dataclasses
import functools
import hashlib
import importlib.metadata
import importlib.util
import inspect
import json
import re
import sys
import types
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

_OURS = ('ossgd', 'experiments')  # installed or not
# Packages and modules that make no number: what they say is part of no job.
NO_NUMBERS = (
  'ossgd.storing',
  'ossgd.results',
  'ossgd.machine',
  *(f'ossgd.running.{n}' for n in ('identities', 'jobs', 'caching')),
  'ossgd.running.watching',
  'ossgd.engines.cost',
  *(
    f'experiments.common.{name}'
    for name in (
      *('options', 'printing', 'stopping', 'progress_line', 'command'),
      *('company', 'fits', 'publishing'),
    )
  ),
)


@functools.cache
def code(*names: str) -> str:
  """A digest of modules and of what they import of their own packages.

  Comments, docstrings and the modules of NO_NUMBERS do not count. Read once a
  process: what was imported is what runs.
  """
  waiting, found = list(names), {}
  while waiting:
    name = waiting.pop()
    if not _is_own(name.partition('.')[0]):
      continue
    name, path = _located(name)
    known_as = _checked_out(name)
    if path is None or known_as in found or not _makes_numbers(known_as):
      continue
    tree = ast.parse(path.read_bytes())
    found[known_as] = ast.dump(_without_docstrings(tree))
    for node in ast.walk(tree):
      if isinstance(node, ast.Import):
        waiting += [alias.name for alias in node.names]
      elif isinstance(node, ast.ImportFrom):
        origin = '.' * node.level + (node.module or '')
        home = name if path.stem == '__init__' else name.rpartition('.')[0]
        parent = importlib.util.resolve_name(origin, home)
        waiting += [parent, *(f'{parent}.{a.name}' for a in node.names)]
  return sha256(json.dumps(sorted(found.items())))[:32]


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
    return [inside(item) for item in value]
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
  full, path = _located(home or 'builtins')
  full = _checked_out(full if is_module else f'{full}.{title}')
  if path is None and full.partition('.')[0] != '__main__':
    return full  # Python's own
  if path is not None and full.partition('.')[0] == 'ossgd':
    return [full, code(home)]
  if not _is_own(full.partition('.')[0]):
    return [full, _version(full.partition('.')[0])]
  if id(value) in seen or is_module:
    return full
  seen |= {id(value)}
  if isinstance(value, types.FunctionType):
    return [full, _function(value, name, seen)]
  if isinstance(value, type):
    own = {
      n: _identity(v, name, seen)
      for n, v in vars(value).items()
      if isinstance(v, types.FunctionType)
    }
    return [full, own]
  return [full, _identity(wrapped, name, seen)]


def _function(
  function: types.FunctionType, name: str, seen: frozenset[int]
) -> dict[str, Any]:
  """Its code as it runs, what it holds, and the globals that it names."""
  of_modules, names = [], _names(function.__code__)
  everywhere = function.__globals__
  held = {n: everywhere[n] for n in sorted(names & set(everywhere))}
  for module in list(held.values()):
    # Of a module of the user's own, what is taken from it.
    if isinstance(module, types.ModuleType):
      inside = (
        vars(module) if _is_own(module.__name__.partition('.')[0]) else {}
      )
      of_modules.append({n: inside[n] for n in sorted(names & set(inside))})
  defaults = [function.__defaults__, function.__kwdefaults__]
  everything = [defaults, _closure(function), held, of_modules]
  return {
    'code': sha256(json.dumps(_code(function.__code__))),
    'holds': [_identity(part, name, seen) for part in everything],
  }


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


@functools.cache
def _located(module: str) -> tuple[str, Path | None]:
  """A module's name, also if it is the one that runs, and its source file."""
  main = sys.modules['__main__']
  if module == '__main__' and main.__spec__ is not None:
    module = main.__spec__.name
  elif module == '__main__':
    path = getattr(main, '__file__', None)
    return module, None if path is None else Path(path)
  try:
    spec = importlib.util.find_spec(module)
  except (ImportError, AttributeError, ValueError):  # a name in a module
    spec = None
  if spec is None or module.partition('.')[0] in sys.stdlib_module_names:
    return module, None
  path = Path(spec.origin or '')
  return module, path if path.suffix == '.py' else None


def _checked_out(name: str) -> str:
  """The scripts' name in a checkout, which an installation has below ours."""
  return re.sub(r'^ossgd\.(?=experiments\b)', '', name)


def _makes_numbers(module: str) -> bool:
  return not any(f'{module}.'.startswith(f'{name}.') for name in NO_NUMBERS)


def _is_own(package: str) -> bool:
  """Whether its sources may change under the same version."""
  path = _located(package)[1]
  places = {'site-packages', 'dist-packages'}
  outside = path is not None and places.isdisjoint(path.parts)
  return outside or package in _OURS or package == '__main__'


@functools.cache
def _version(package: str) -> str:
  """Of what a package was installed from, if that is known."""
  sources = importlib.metadata.packages_distributions().get(package, ())
  return ' '.join(f'{d} {importlib.metadata.version(d)}' for d in sources)


def _without_docstrings(tree: ast.Module) -> ast.Module:
  kinds = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
  for node in ast.walk(tree):
    if isinstance(node, kinds) and ast.get_docstring(node) is not None:
      node.body = node.body[1:]
  return tree


def array_digest(array: Any) -> str:
  """Of type, shape and content; 64 hexadecimal digits."""
  if jax.dtypes.issubdtype(array.dtype, jax.dtypes.prng_key):
    array = jax.random.key_data(array)
  array = np.ascontiguousarray(array)
  about = hashlib.sha256(f'{array.dtype} {array.shape}'.encode())
  about.update(array.data)
  return about.hexdigest()


def sha256(text: str) -> str:
  """Of a text, in hexadecimal."""
  return hashlib.sha256(text.encode()).hexdigest()
