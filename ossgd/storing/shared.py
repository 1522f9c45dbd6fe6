"""A store that several processes share: all read, the first one writes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import jax
import numpy as np
from jax.experimental import multihost_utils

from ossgd.running import jobs
from ossgd.storing import checkpoints


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
