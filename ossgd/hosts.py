"""Several processes at one sweep: all compute, the first one writes.

All run the same program on the same data; only arrays on a mesh are split.
"""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from ossgd import checkpoints, jobs


def fetch(values: Any) -> Any:
  """Arrays as NumPy arrays: those on a mesh are whole in every process."""

  def whole(value):
    if isinstance(value, jax.Array) and not value.is_fully_addressable:
      return multihost_utils.process_allgather(value, tiled=True)
    return value

  return jax.device_get(jax.tree.map(whole, values))


def least(value: int) -> int:
  """The smallest of what the processes say."""
  if jax.process_count() == 1:
    return value
  return int(np.min(multihost_utils.process_allgather(np.float32(value))))


def told_by_first(flag: bool) -> bool:
  """What the first process says; the others wait for it."""
  if jax.process_count() == 1:
    return flag
  return bool(multihost_utils.broadcast_one_to_all(np.array(flag)))


def check_same(settings: str) -> None:
  """Raises ValueError in all processes unless all have the same settings."""
  if jax.process_count() == 1:
    return
  digest = hashlib.sha256(settings.encode()).digest()
  said = multihost_utils.process_allgather(np.frombuffer(digest, np.uint32))
  others = np.flatnonzero((said != said[0]).any(axis=1))
  if others.size:
    raise ValueError(
      'other settings, versions or sources than in process 0: in process '
      f'{", ".join(map(str, others))}; start all with the same flags but '
      '--process_id'
    )


class Store(checkpoints.Store):
  """A store in a folder that all processes read and the first one writes."""

  def __init__(self, folder: Path, every: float):
    """As of one process, and as early in all."""
    self._asked = self._agreed = ''
    super().__init__(folder, every)

  @property
  def stopping(self) -> str:
    """Why to stop, once all processes know."""
    return self._agreed

  @stopping.setter
  def stopping(self, reason: str) -> None:
    self._asked = reason

  def due(self) -> bool:
    """Whether it is time in the first process, or any was asked to stop."""
    late = jax.process_index() == 0 and super().due()
    asked = np.array([bool(self._asked), late])
    stop, save = multihost_utils.process_allgather(asked).any(axis=0)
    if stop:
      self._agreed = self._asked or 'SIGTERM'
    return bool(stop or save)

  def load(self, name: str, job: jobs.Job) -> dict[str, np.ndarray] | None:
    """The same, in all processes."""
    found = super().load(name, job)
    done = -1 if found is None else int(found.get('done', 0))
    multihost_utils.assert_equal(
      np.array(done), f'hosts do not see the same {name}: share --out'
    )
    return found

  def save(
    self, name: str, job: jobs.Job, arrays: Mapping[str, np.ndarray]
  ) -> None:
    """The first process does; work without chunks hears here of stopping."""
    if jax.process_index() == 0:
      super().save(name, job, arrays)
    self.due()

  def remove(self, name: str, job: jobs.Job) -> None:
    """The first process does."""
    if jax.process_index() == 0:
      super().remove(name, job)

  def set_aside(self, path: Path, reason: str) -> None:
    """The first process does."""
    if jax.process_index() == 0:
      super().set_aside(path, reason)
