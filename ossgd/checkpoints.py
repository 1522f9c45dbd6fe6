"""Work that is done, kept on disk while the rest is not.

A store is a folder of npz files, one a unit of work: what a finished unit
measured, or the state of the one in flight. Each is written whole, or not at
all, and says which work it belongs to. A file that is damaged, or belongs
elsewhere, is set aside under another name and its work done again.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import logging
import os
import re
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ossgd import idx

_IDENTITY = 'identity'


class Stopped(BaseException):
  """The work was asked to stop: no failure that anyone may take for one."""


class SaveError(Exception):
  """Work cannot be saved; what was saved before is still there."""


class Store:
  """A folder of finished units and of the unit in flight."""

  def __init__(self, folder: Path, config: Mapping, every: float):
    """Opens a store; its folder is there.

    Args:
      folder: for the files, of no other use.
      config: JSON values; files of another config are set aside.
      every: seconds between two saved states of a unit.
    """
    self._folder, self._every = folder, every
    text = json.dumps(config, sort_keys=True)
    self._config = hashlib.sha256(text.encode()).hexdigest()
    self._saved = time.monotonic()
    self.stopping = ''  # why to save the state and stop, at the next chunk
    for path in folder.glob('.*.part'):
      path.unlink()  # of a process that was killed while it wrote

  def due(self) -> bool:
    """Whether the unit in flight should save its state now."""
    late = time.monotonic() - self._saved > self._every
    return bool(self.stopping) or late

  def load(self, name: str) -> dict[str, np.ndarray] | None:
    """The arrays that were saved under a name, or None."""
    path = self._path(name)
    if not path.is_file():
      return None
    try:
      arrays = idx.read_archive(path)
      identity = bytes(arrays.pop(_IDENTITY, np.zeros(0, np.uint8)))
      if identity != self._identity(name, arrays):
        raise ValueError(f'{path} is not what was saved as {name}.')
    except ValueError as error:
      self.set_aside(name, str(error))
      return None
    return arrays

  def save(self, name: str, arrays: Mapping[str, np.ndarray]) -> None:
    """Replaces what is saved under a name.

    Raises:
      SaveError: the disk is full or not to be written.
    """
    path = self._path(name)
    temporary = path.with_name(f'.{path.name}.part')
    identity = np.frombuffer(self._identity(name, arrays), np.uint8)
    members: dict[str, Any] = {_IDENTITY: identity, **arrays}
    try:
      with temporary.open('wb') as file:
        np.savez(file, **members)
        file.flush()
        os.fsync(file.fileno())
      temporary.replace(path)
    except OSError as error:
      reason = error.strerror or error
      raise SaveError(f'cannot write {path}: {reason}') from error
    finally:
      temporary.unlink(missing_ok=True)
    self._saved = time.monotonic()

  def remove(self, name: str) -> None:
    """Forgets what was saved under a name, if anything was."""
    self._path(name).unlink(missing_ok=True)

  def set_aside(self, name: str, reason: str) -> None:
    """Renames a file that cannot be used, and says so."""
    path = self._path(name)
    aside = path.with_suffix('.damaged')
    path.replace(aside)
    logging.warning('%s Set aside as %s, to be done again.', reason, aside)

  def _path(self, name: str) -> Path:
    return self._folder / f'{re.sub(r"[^A-Za-z0-9=._-]+", "_", name)}.npz'

  def _identity(self, name: str, arrays: Mapping[str, np.ndarray]) -> bytes:
    return json.dumps([name, self._config, sorted(arrays)]).encode()


class Watch:
  """Who a script's work reports to: progress, and a store if there is one."""

  def __init__(
    self,
    tell: Callable[[float, str], None],
    store: Store | None = None,
    prefix: str = '',
  ):
    self.tell, self.store, self.prefix = tell, store, prefix

  def __call__(self, fraction: float, label: str) -> None:
    """Tells how much is done, where there is nothing to save.

    Raises:
      Stopped: the work was asked to stop.
    """
    self.tell(fraction, label)
    if self.store is not None and self.store.stopping:
      raise Stopped(self.store.stopping)

  def part(self, begin: float, end: float, name: str) -> Watch:
    """A part of the work: from one fraction to another, with a name."""

    def tell(fraction, label):
      self.tell(begin + (end - begin) * fraction, f'{name} {label}'.strip())

    return Watch(tell, self.store, f'{self.prefix}{name} ')

  def parts(self, works: Iterable[tuple[str, float]]) -> list[Watch]:
    """The parts of the work, one a name, each in proportion to its size."""
    names, sizes = zip(*works, strict=True)
    ends = (np.cumsum([0, *sizes]) / sum(sizes)).tolist()
    spans = zip(names, itertools.pairwise(ends), strict=True)
    return [self.part(begin, end, name) for name, (begin, end) in spans]

  def once(
    self,
    name: str,
    compute: Callable[..., dict[str, np.ndarray]],
    *arguments: Any,
  ) -> dict[str, np.ndarray]:
    """What a unit of work computes, or what it computed before.

    Raises:
      Stopped: it is still to do, and the work was asked to stop.
    """
    if self.store is None:
      return compute(*arguments)
    done = self.store.load(self.prefix + name)
    if done is None:
      if self.store.stopping:
        raise Stopped(self.store.stopping)
      done = compute(*arguments)
      self.store.save(self.prefix + name, done)
    return done


def watch(progress: Callable[[float, str], None]) -> Watch:
  """A progress function as a watch without a store; a watch as it is."""
  return progress if isinstance(progress, Watch) else Watch(progress)
