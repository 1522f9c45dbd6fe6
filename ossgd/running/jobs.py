"""Jobs: one width with one seed, and all that its numbers depend on.

What is stored of a job is known by a digest of its description: settings, the
data's content, the user's functions, the sources that make numbers and the
versions below them. How jobs are grouped, and on which devices, is no part of
it; neither is what only draws, judges or stores.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
import json
import platform
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

import ossgd
from ossgd.machine import sources
from ossgd.paper.types import Split
from ossgd.running import identities

# What a message tells of settings: so many, and so many characters of a value.
_MOST, _LONGEST = 20, 200
_DIGEST = re.compile(r'\W*(array )?[0-9a-f]{32,64}\W*')  # alone or in a list
# Settings that no number of an earlier step depends on.
_AT_THE_END = ('num_steps', 'extra', 'keep')

# What a store may have of a job: what it measured, its state, the state that
# longer runs go on from; of a width, which engine it was begun with.
FINISHED, BEGUN, KEPT, ENGINE = 'finished', 'begun', 'kept', 'engine'


class Job(NamedTuple):
  """One width and one seed of some work."""

  width: int
  seed: int | None  # None: what all seeds of the width share
  engine: str
  basis: str  # JSON of all else that the numbers depend on; see `basis`

  def description(self) -> dict[str, Any]:
    """As JSON values."""
    own = {'width': self.width, 'seed': self.seed, 'engine': self.engine}
    return own | json.loads(self.basis)

  def of_any_length(self) -> Job:
    """Without what only the end of a run depends on."""
    basis = json.loads(self.basis)
    for name in _AT_THE_END:
      basis['settings'].pop(name, None)
    return self._replace(basis=json.dumps(basis, sort_keys=True))

  def named(self, what: str) -> str:
    """The name that a store has for it, such as KEPT."""
    return f'seed={self.seed} {what}'

  def digest(self) -> str:
    """What it is known by: 16 hexadecimal digits."""
    text = json.dumps(self.description(), sort_keys=True)
    return identities.sha256(text)[:16]


def basis(settings: Mapping[str, Any], *modules: str) -> str:
  """What the jobs of some work have in common.

  Args:
    settings: all that is asked for, functions and data included.
    modules: those that make the numbers; what they import is looked up.

  Raises:
    ValueError: a function among the settings cannot be told from others.
  """
  below = environment()
  for name in ('ossgd', 'python'):  # sources are in `code`
    del below[name]
  described = {
    'settings': {name: identities.of(v, name) for name, v in settings.items()},
    'environment': below,
    'code': sources.code(*modules),
  }
  return json.dumps(described, sort_keys=True)


def environment() -> dict[str, Any]:
  """What numbers depend on besides the settings, as JSON values."""
  config: Any = jax.config  # its options are attributes made at run time
  device = jax.devices()[0]
  packages = ('jax', 'jaxlib', 'numpy')
  return {
    'ossgd': ossgd.__version__,  # of the code that runs, installed or not
    **{name: _version(name) for name in packages},
    'python': platform.python_version(),
    'prng': config.jax_default_prng_impl,
    'threefry_partitionable': config.jax_threefry_partitionable,
    'device': f'{device.platform}: {device.device_kind}',
    'matmul_precision': config.jax_default_matmul_precision or 'highest',
    'x64': config.jax_enable_x64,
  }


@functools.cache
def _version(package: str) -> str:
  """Of an installed package; reading it takes milliseconds."""
  return importlib.metadata.version(package)


def data_digest(split: Split) -> str:
  """Of all arrays of a Split, as they are trained on and tested with."""
  digest = hashlib.sha256()
  for leaf in jax.tree.leaves(split):
    array = np.asarray(leaf)
    kind = np.float32 if array.dtype.kind == 'f' else np.int64
    digest.update(identities.array_digest(array.astype(kind)).encode())
  return digest.hexdigest()[:32]


def difference(previous: Mapping, config: Mapping) -> str:
  """The settings that differ, `name: there, here`, fit for a message.

  They may be anybody's: what is long is cut, a value and the list. Of two
  digests there is nothing more to tell.
  """
  here, there = dict(_leaves(config)), dict(_leaves(previous))
  inner = {p[:i] for p in here | there for i in range(len(p))}
  paths = [
    path
    for path in here | there
    if here.get(path) != there.get(path)
    # What is empty on one side is told by what the other has in there.
    and not (path in inner and '{}' in (here.get(path), there.get(path)))
  ]
  told = [_told(p, there.get(p), here.get(p)) for p in paths[:_MOST]]
  if len(paths) > _MOST:
    told.append(f'and {len(paths) - _MOST} more')
  return '; '.join(told)


def _told(
  path: tuple[str | int, ...], there: str | None, here: str | None
) -> str:
  """Of one setting; where it is in a list is no part of its name."""
  keys = (key.strip('"') for key in path if isinstance(key, str))
  name = _cut(json.dumps('.'.join(keys))[1:-1])
  if there and here and _DIGEST.fullmatch(there) and _DIGEST.fullmatch(here):
    return f'{name} differs'
  return f'{name}: {_cut(there)} there, {_cut(here)} here'


def _cut(text: str | None) -> str:
  """Its ends, where it is long: values may differ in either."""
  shown, half = str(text), _LONGEST // 2
  if len(shown) <= _LONGEST:
    return shown
  return f'{shown[:half]}...{shown[-half:]}'


def _leaves(
  value: Any, path: tuple[str | int, ...] = ()
) -> Iterator[tuple[tuple[str | int, ...], str]]:
  """Where nested settings have what, as JSON; plain lists are one setting."""
  inner: Iterable[tuple[str | int, Any]]
  if isinstance(value, Mapping) and value:
    inner = value.items()
  elif isinstance(value, list | tuple) and any(
    isinstance(v, Mapping | list | tuple) for v in value
  ):
    inner = enumerate(value)
  else:
    yield path, json.dumps(value)
    return
  for key, part in inner:
    yield from _leaves(part, (*path, key))
