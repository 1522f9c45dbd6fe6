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
from collections.abc import Iterator, Mapping
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
_MISSING = object()
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
  found = list(_differences(previous, config))
  told = [_told(*one) for one in found[:_MOST]]
  if len(found) > _MOST:
    told.append(f'and {len(found) - _MOST} more')
  return '; '.join(told)


def _differences(
  there: Any, here: Any, path: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], str, str]]:
  """Where nested settings have what else; _MISSING if one has nothing there."""
  of_there, of_here = _parts(there), _parts(here)
  if of_there is not None and of_here is not None:
    for key in of_here | of_there:  # where it is in a list is not told
      inner = path if isinstance(key, int) else (*path, key.strip('"'))
      pair = of_there.get(key, _MISSING), of_here.get(key, _MISSING)
      yield from _differences(*pair, inner)
    return
  then, now = (
    'None' if value is _MISSING else json.dumps(value)
    for value in (there, here)
  )
  if then != now:
    yield path, then, now


def _parts(value: Any) -> dict[str | int, Any] | None:
  """Of a mapping or a list of more than plain values, which is one setting."""
  if isinstance(value, Mapping):
    return {str(key): part for key, part in value.items()}
  if isinstance(value, list | tuple) and any(
    isinstance(part, Mapping | list | tuple) for part in value
  ):
    return dict(enumerate(value))
  return None


def _told(path: tuple[str, ...], there: str, here: str) -> str:
  name = _cut(json.dumps('.'.join(path))[1:-1])
  if _DIGEST.fullmatch(there) and _DIGEST.fullmatch(here):
    return f'{name} differs'
  return f'{name}: {_cut(there)} there, {_cut(here)} here'


def _cut(text: str) -> str:
  """Its ends, where it is long: values may differ in either."""
  half = _LONGEST // 2
  return text if len(text) <= _LONGEST else f'{text[:half]}...{text[-half:]}'
