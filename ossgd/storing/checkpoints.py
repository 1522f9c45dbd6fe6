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
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ossgd.data import idx
from ossgd.running import jobs
from ossgd.storing import files

_IDENTITY = 'identity'
_NAME = r'[A-Za-z0-9=._-]+\.[0-9a-f]{16}\.npz'


class Store:
  """A folder of finished jobs and of those begun.

  A file is known by what it holds and by its job's digest, both in its name:
  two jobs that differ in anything at all never meet.
  """

  def __init__(self, folder: Path, every: float):
    """Opens a store; its folder is there.

    Args:
      folder: for the files, of no other use.
      every: seconds between two saved states of a job.
    """
    self._folder, self._every = folder, every
    self._saved = time.monotonic()
    self.stopping = ''  # why to save the state and stop, at the next chunk
    self.data: set[str] = set()  # digests of the fixed data that were used
    forget_halves(folder)

  def due(self) -> bool:
    """Whether what is begun should save its state now."""
    late = time.monotonic() - self._saved > self._every
    return bool(self.stopping) or late

  def load(self, name: str, job: jobs.Job) -> dict[str, np.ndarray] | None:
    """The arrays that were saved of a job under a name, or None."""
    path = self.path(name, job)
    if not path.is_file():
      self._tell_of_others(path, name, job)
      return None
    try:
      arrays = idx.read_archive(path)
      identity = bytes(arrays.pop(_IDENTITY, np.zeros(0, np.uint8)))
      if identity != _identity(name, job, arrays):
        raise ValueError(f'it is not what was saved as {name}')
    except ValueError as error:
      self.set_aside(path, f'{path} is damaged: {error.__cause__ or error}.')
      return None
    return arrays

  def save(
    self, name: str, job: jobs.Job, arrays: Mapping[str, np.ndarray]
  ) -> None:
    """Replaces what is saved of a job under a name.

    Raises:
      SaveError: the disk is full or not to be written.
    """
    identity = np.frombuffer(_identity(name, job, arrays), np.uint8)
    members: dict[str, Any] = {_IDENTITY: identity, **arrays}
    with (
      files.replacing(self.path(name, job)) as temporary,
      temporary.open('wb') as file,
    ):
      np.savez(file, **members)
    self._saved = time.monotonic()

  def remove(self, name: str, job: jobs.Job) -> None:
    """Forgets what was saved of a job under a name, if anything was."""
    self.path(name, job).unlink(missing_ok=True)

  def set_aside(self, path: Path, reason: str) -> None:
    """Renames a file that cannot be used, and says so."""
    aside = files.set_aside(path)
    logging.warning('%s Set aside as %s, to be done again.', reason, aside)

  def path(self, name: str, job: jobs.Job) -> Path:
    """Where a job's file of this name is."""
    return self._folder / f'{_plain(name)}.{job.digest()}.npz'

  def _tell_of_others(self, path: Path, name: str, job: jobs.Job) -> None:
    """Says why work of this name that is there is not this job's."""
    plain = path.name.removesuffix(f'.{job.digest()}.npz')
    for other in sorted(self._folder.glob(f'{glob.escape(plain)}.*.npz')):
      with contextlib.suppress(Exception):  # as damage has it
        _, there = _saved_as(other)
        logging.info(
          '%s is to do: %s is not of the same (%s), and stays as it is.',
          name,
          other,
          jobs.difference(there, job.description()),
        )


def may_be_ours(name: str) -> bool:
  """Whether a file in a store's folder has a name that a store gives."""
  return re.fullmatch(_NAME, name) is not None


def is_ours(path: Path) -> bool:
  """Whether a file says itself that a store has written it, as what."""
  if not may_be_ours(path.name):
    return False
  try:
    name, _ = _saved_as(path)
  except Exception:  # as damage, or another's file, has it
    return False
  return path.name.startswith(f'{_plain(name)}.')


def _saved_as(path: Path) -> tuple[str, dict[str, Any]]:
  """The name and the job that a file says it was saved as and for."""
  with np.load(path) as archive:
    name, job, _ = json.loads(bytes(archive[_IDENTITY]))
  return name, job


def forget_halves(folder: Path) -> None:
  """Removes what a process that was killed had half written."""
  for path in folder.glob('.*.part'):
    if re.fullmatch(rf'\.({_NAME}|config\.json)\.\d+\.part', path.name):
      path.unlink()


def _plain(name: str) -> str:
  """As a part of a file's name."""
  return re.sub(r'[^A-Za-z0-9=._-]+', '_', name)


def _identity(
  name: str, job: jobs.Job, arrays: Mapping[str, np.ndarray]
) -> bytes:
  return json.dumps([name, job.description(), sorted(arrays)]).encode()
