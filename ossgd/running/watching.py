"""Who work reports to: how far it is, what is kept, and whether to stop."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from ossgd.running import jobs


class Stopped(BaseException):
  """The work was asked to stop: no failure that anyone may take for one."""


class Store(Protocol):
  """What keeps the arrays of jobs: in a folder, or anywhere else."""

  stopping: str  # why to save what is begun and stop; empty: go on
  data: set[str]  # digests of the fixed data that were used

  def due(self) -> bool:
    """Whether what is begun should save its state now."""

  def load(self, name: str, job: jobs.Job) -> dict[str, np.ndarray] | None:
    """The arrays that were saved of a job under a name, or None."""

  def save(
    self, name: str, job: jobs.Job, arrays: Mapping[str, np.ndarray]
  ) -> None:
    """Replaces what is saved of a job under a name."""

  def remove(self, name: str, job: jobs.Job) -> None:
    """Forgets what was saved of a job under a name, if anything was."""

  def path(self, name: str, job: jobs.Job) -> Path:
    """Where a job's file of this name is."""


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
    self.check()

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
    job: jobs.Job,
    compute: Callable[..., dict[str, np.ndarray]],
    *arguments: Any,
  ) -> dict[str, np.ndarray]:
    """What is computed of a job, or what was computed before.

    Raises:
      Stopped: it is still to do, and the work was asked to stop.
    """
    done = self.load(name, job)
    if done is None:
      self.check()
      done = compute(*arguments)
      self.save(name, job, done)
    return done

  def load(self, name: str, job: jobs.Job) -> dict[str, np.ndarray] | None:
    """What the store has of a job, if there is a store."""
    if self.store is None:
      return None
    return self.store.load(self.prefix + name, job)

  def save(
    self, name: str, job: jobs.Job, arrays: Mapping[str, np.ndarray]
  ) -> None:
    """Has the store keep something of a job, if there is a store."""
    if self.store is not None:
      self.store.save(self.prefix + name, job, arrays)

  def check(self) -> None:
    """Raises Stopped if the work was asked to stop."""
    if self.store is not None and self.store.stopping:
      raise Stopped(self.store.stopping)


def watch(progress: Callable[[float, str], None]) -> Watch:
  """A progress function as a watch without a store; a watch as it is."""
  return progress if isinstance(progress, Watch) else Watch(progress)
