"""The sources of modules: what may change under a version, and its digest."""

import ast
import functools
import hashlib
import importlib.metadata
import importlib.util
import json
import re
import sys
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

_OURS = ('ossgd', 'experiments')  # installed or not
# Packages and modules that make no number: what they say is part of no job.
NO_NUMBERS = (
  'ossgd.storing',
  'ossgd.results',
  'ossgd.machine',
  *(f'ossgd.running.{n}' for n in ('asking', 'identities', 'jobs')),
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
    if not is_own(name):
      continue
    name, path = located(name)
    known_as = checked_out(name)
    if path is None or known_as in found or not _makes_numbers(known_as):
      continue
    text = _text(name, path)
    try:
      tree = ast.parse(text)
    except (SyntaxError, ValueError):  # no Python
      found[known_as] = repr(text)
      continue
    found[known_as] = ast.dump(_without_docstrings(tree))
    for node in ast.walk(tree):
      if isinstance(node, ast.Import):
        waiting += [alias.name for alias in node.names]
      elif isinstance(node, ast.ImportFrom):
        origin = '.' * node.level + (node.module or '')
        home = name if path.stem == '__init__' else name.rpartition('.')[0]
        parent = importlib.util.resolve_name(origin, home)
        waiting += [parent, *(f'{parent}.{a.name}' for a in node.names)]
  text = json.dumps(sorted(found.items()))
  return hashlib.sha256(text.encode()).hexdigest()[:32]


@functools.cache
def located(module: str) -> tuple[str, Path | None]:
  """A module's name, also if it is the one that runs, and its source file."""
  main = sys.modules['__main__']
  if module == '__main__' and main.__spec__ is not None:
    module = main.__spec__.name
  elif module == '__main__':
    path = getattr(main, '__file__', None)
    return module, None if path is None else Path(path)
  try:
    spec = _spec(module)
  except (Exception, SystemExit):  # of a package that must run to be known
    spec = None
  if spec is None or module.partition('.')[0] in sys.stdlib_module_names:
    return module, None
  path = Path(spec.origin or '')
  return module, path if path.suffix == '.py' else None


def _text(module: str, path: Path) -> bytes | str:
  """Its source, which may lie in an archive."""
  try:
    return path.read_bytes()
  except NotADirectoryError:
    loader: Any = _spec(module).loader  # type: ignore[union-attr]
    return loader.get_source(module)


def _spec(module: str) -> ModuleSpec | None:
  """As `importlib.util.find_spec`, which would import, and run, its parents."""
  if module in sys.modules:
    return getattr(sys.modules[module], '__spec__', None)
  parent = module.rpartition('.')[0]
  above = _spec(parent) if parent else None
  if above and _says_where(above):
    importlib.import_module(parent)
  places = above.submodule_search_locations if above else None
  if parent in sys.modules:
    places = getattr(sys.modules[parent], '__path__', None)
  if parent and places is None:  # a name in a module
    return None
  finders = (f for f in sys.meta_path if hasattr(f, 'find_spec'))
  try:
    found = (finder.find_spec(module, places) for finder in finders)
    return next(filter(None, found), None)
  except KeyError:  # a folder that finds its own by that of an imported parent
    return importlib.util.find_spec(module)


def _says_where(package: ModuleSpec) -> bool:
  """Whether it is known only when it runs where a package has its modules."""
  if package.origin is None:  # a folder without code
    return True
  if package.submodule_search_locations is None:
    return False
  try:
    return b'__path__' in Path(package.origin).read_bytes()
  except OSError:  # no file of its own, as in an archive
    return False


def checked_out(name: str) -> str:
  """The scripts' name in a checkout, which an installation has below ours."""
  return re.sub(r'^ossgd\.(?=experiments\b)', '', name)


def _makes_numbers(module: str) -> bool:
  return not any(f'{module}.'.startswith(f'{name}.') for name in NO_NUMBERS)


def is_own(module: str) -> bool:
  """Whether its sources may change under the same version."""
  package = module.partition('.')[0]
  path = located(package)[1] or _folder(package)
  places = {'site-packages', 'dist-packages'}
  outside = path is not None and places.isdisjoint(path.parts)
  return outside or package in _OURS or package == '__main__'


@functools.cache
def _folder(package: str) -> Path | None:
  """Of a package that has no file of its own, for want of an __init__.py."""
  spec = None if package == '__main__' else _spec(package)
  if spec is None or spec.origin is not None:
    return None
  return next(map(Path, spec.submodule_search_locations or ()), None)


@functools.cache
def version(package: str) -> str:
  """Of what a package was installed from, if that is known."""
  found = importlib.metadata.packages_distributions().get(package, ())
  return ' '.join(f'{d} {importlib.metadata.version(d)}' for d in found)


def _without_docstrings(tree: ast.Module) -> ast.Module:
  kinds = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
  for node in ast.walk(tree):
    if isinstance(node, kinds) and ast.get_docstring(node) is not None:
      node.body = node.body[1:]
  return tree
