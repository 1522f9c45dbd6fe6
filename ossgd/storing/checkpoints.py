"""Work that is done, kept on disk while the rest is not.

A store is a folder of npz files, one a job: what a finished job measured, or
the state of one begun. Each is written whole, or not at all, and says
which job it belongs to. A file that is damaged is set aside under another name
and its work done again.
"""

from __future__ import annotations

import contextlib
import glob
import json
import logging
import re
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from ossgd.data import archives
from ossgd.machine import files, hosts
from ossgd.running import jobs

_IDENTITY = 'identity'
_NAME = r'[A-Za-z0-9=._-]+\.[0-9a-f]{16}\.npz'


class _Since(threading.local):
  """When a thread saved last, or began: each has states of its own."""

  def __init__(self):
    self.saved = time.monotonic()


class Store:
  """A folder of finished jobs and of those begun.

  A file is known by what it holds and by its job's digest, both in its name:
  two jobs that differ in anything at all never meet. Of several processes all
  read the folder, and the first one writes.
  """

  def __init__(self, folder: Path, every: float, *, keeps: bool = False):
    """Opens a store; its folder is there.

    Args:
      folder: for the files, of no other use.
      every: seconds between two saved states of a job.
      keeps: whether states stay, for longer runs to go on from.
    """
    self._folder, self._every, self.keeps = folder, every, keeps
    self._since = _Since()
    self._asked = self._agreed = ''
    self._told: set[tuple[str, Path]] = set()
    self.data: set[str] = set()  # digests of the fixed data that were used
    forget_halves(folder)

  @property
  def stopping(self) -> str:
    """Why to save the state and stop, at the next chunk; once all know."""
    return self._agreed if jax.process_count() > 1 else self._asked

  @stopping.setter
  def stopping(self, reason: str) -> None:
    self._asked = reason

  def due(self) -> bool:
    """Whether what is begun should save its state now."""
    late = time.monotonic() - self._since.saved > self._every
    late = late and jax.process_index() == 0
    said = hosts.gathered([bool(self._asked), late])
    stop, late = (bool(column.any()) for column in said.T)
    if stop:
      self._agreed = self._asked or 'SIGTERM'
    return stop or late

  def load(self, name: str, job: jobs.Job) -> dict[str, np.ndarray] | None:
    """The arrays that were saved of a job under a name, or None."""
    found = self._read(name, job)
    done = -1 if found is None else int(found.get('done', 0))
    if np.ptp(hosts.gathered(done)):
      raise ValueError(f'hosts do not see the same {name}: share one folder')
    return found

  def save(
    self, name: str, job: jobs.Job, arrays: Mapping[str, np.ndarray]
  ) -> None:
    """Replaces what is saved of a job under a name.

    Raises:
      SaveError: the disk is full or not to be written.
    """
    if jax.process_index() == 0:
      identity = np.frombuffer(_identity(name, job, arrays), np.uint8)
      members: dict[str, Any] = {_IDENTITY: identity, **arrays}
      with (
        files.replacing(self.path(name, job)) as temporary,
        temporary.open('wb') as file,
      ):
        np.savez(file, **members)
      self._since.saved = time.monotonic()
    if jax.process_count() > 1:  # work without chunks hears here of stopping
      self.due()

  def remove(self, name: str, job: jobs.Job) -> None:
    """Forgets what was saved of a job under a name, if anything was."""
    if jax.process_index() == 0:
      self.path(name, job).unlink(missing_ok=True)

  def path(self, name: str, job: jobs.Job) -> Path:
    """Where a job's file of this name is."""
    plain = re.sub(r'[^A-Za-z0-9=._-]+', '_', name)
    return self._folder / f'{plain}.{job.digest()}.npz'

  def _read(self, name: str, job: jobs.Job) -> dict[str, np.ndarray] | None:
    path = self.path(name, job)
    if not path.is_file():
      self._tell_of_others(path, name, job)
      return None
    try:
      arrays = archives.read(path)
      identity = bytes(arrays.pop(_IDENTITY, np.zeros(0, np.uint8)))
      if identity != _identity(name, job, arrays):
        raise ValueError(f'it is not what was saved as {name}')
    except ValueError as error:
      if jax.process_index() == 0:
        cause = error.__cause__ or error
        files.set_aside(path, f'it is damaged, {cause!s:.400}')
      return None
    return arrays

  def _tell_of_others(self, path: Path, name: str, job: jobs.Job) -> None:
    """Says why work of this name that is there is not this job's."""
    plain = path.name.removesuffix(f'.{job.digest()}.npz')
    for other in sorted(self._folder.glob(f'{glob.escape(plain)}.*.npz')):
      with contextlib.suppress(Exception), np.load(other) as archive:
        _, there, _ = json.loads(bytes(archive[_IDENTITY]))
        kept = name.endswith(jobs.KEPT) and (name, other) not in self._told
        self._told.add((name, other))
        logging.log(
          logging.WARNING if kept else logging.INFO,
          '%s is to do: %s is not of the same (%s), and stays as it is.',
          name.removesuffix(f' {jobs.KEPT}'),
          other,
          jobs.difference(there, job.description()),
        )


def finished(
  folder: Path,
) -> Iterator[tuple[str, dict[str, Any], dict[str, np.ndarray]]]:
  """Of jobs that are finished: names, descriptions and arrays.

  Oldest first. What is damaged, or goes while this looks, is passed over.
  """
  dated = []
  for path in files_with(folder, jobs.FINISHED):
    with contextlib.suppress(OSError):
      dated.append((path.stat().st_mtime_ns, path))
  for _, path in sorted(dated):
    with contextlib.suppress(ValueError, OSError):
      arrays = archives.read(path)
      name, description, _ = json.loads(bytes(arrays.pop(_IDENTITY)))
      yield name, description, arrays


def files_with(folder: Path, what: str) -> list[Path]:
  """The files in a store's folder that have something, such as jobs.KEPT."""
  return [
    path
    for path in folder.glob('*.npz')
    if re.fullmatch(rf'(.*_)?{what}\.[0-9a-f]{{16}}\.npz', path.name)
  ]


def may_be_ours(name: str) -> bool:
  """Whether a file in a store's folder has a name that a store gives."""
  return re.fullmatch(_NAME, name) is not None


def is_ours(path: Path) -> bool:
  """Whether a file says itself that a store has written it."""
  with contextlib.suppress(Exception), np.load(path) as archive:
    return may_be_ours(path.name) and _IDENTITY in archive
  return False


def forget_halves(folder: Path, names: str = rf'{_NAME}|config\.json') -> None:
  """Removes what a process that was killed had half written, of these names."""
  for path in folder.glob('.*.part'):
    if re.fullmatch(rf'\.({names})\.\d+\.part', path.name):
      path.unlink(missing_ok=True)  # another process may be at it


def _identity(
  name: str, job: jobs.Job, arrays: Mapping[str, np.ndarray]
) -> bytes:
  return json.dumps([name, job.description(), sorted(arrays)]).encode()
