"""Who work reports to: how far it is, what is kept, and whether to stop."""

from __future__ import annotations

import functools
import itertools
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import jax
import numpy as np

from ossgd.running import jobs

# (job, measured so far) -> whether this job is to stop here
Callback = Callable[[jobs.Job, dict[str, np.ndarray]], Any]


class Stopped(BaseException):
  """The work was asked to stop: no failure that anyone may take for one."""


class Store(Protocol):
  """What keeps the arrays of jobs: in a folder, or anywhere else."""

  stopping: str  # why to save what is begun and stop; empty: go on
  keeps: bool  # whether states stay, for longer runs to go on from
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


def together(
  tell: Callable[[float, str], None],
  shares: Sequence[float],
  begun: Sequence[float],
) -> list[Callable[[float, str], None]]:
  """Tells of works that go on at the same time as of one.

  Args:
    tell: of all the work.
    shares: of all the work; what they lack to 1 is done.
    begun: fraction of each that is done.
  """
  lock = threading.Lock()
  told = [share * done for share, done in zip(shares, begun, strict=True)]

  def one(i, fraction, label):
    with lock:
      told[i] = shares[i] * fraction
      tell(1 - (sum(shares) - sum(told)), label)

  return [functools.partial(one, i) for i in range(len(shares))]


class Stops:
  """Which jobs of a block a callback has stopped, where, and as what."""

  def __init__(self, callback: Callback | None, block: Sequence[jobs.Job]):
    self._callback = callback
    self._jobs = list(dict.fromkeys(block))  # by their first places in arrays
    self._kept: dict[jobs.Job, Any] = {}
    self._told = 0
    self.at: dict[jobs.Job, int] = {}  # measurements until it was stopped

  @property
  def all(self) -> bool:
    """Whether not one job goes on."""
    return len(self.at) == len(self._jobs)

  def ask(
    self, records: list[dict[str, np.ndarray]], *, at_the_end: bool = False
  ) -> list[jobs.Job]:
    """Those jobs that stop here, if anything was measured since the last time.

    Args:
      records: of consecutive chunks, arrays (seed, step, ...) by name.
      at_the_end: there is nothing left to stop.
    """
    if self._callback is None or not records:
      return []
    number = sum(next(iter(record.values())).shape[1] for record in records)
    if number == self._told:
      return []
    self._told = number
    stopped = []
    for i, job in enumerate(self._jobs):
      if job not in self.at:
        names = records[0]
        own = {n: np.concatenate([r[n][i] for r in records]) for n in names}
        if self._callback(job, own) and not at_the_end:
          stopped.append(job)
    self.at |= dict.fromkeys(stopped, number)
    return stopped

  def remember(self, stopped: Sequence[jobs.Job], kept: Any) -> None:
    """What jobs are whose block goes on: arrays with an axis of seeds."""
    for job in stopped:
      i = self._jobs.index(job)
      self._kept[job] = jax.tree.map(lambda v, i=i: v[i], kept)

  def restored(self, kept: Any) -> Any:
    """Such arrays at the end, with stopped jobs as they were."""
    for job, own in self._kept.items():
      i = self._jobs.index(job)
      kept = jax.tree.map(lambda v, o, i=i: v.at[i].set(o), kept, own)
    return kept

  def marked(self, record: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Without measurements of stopped jobs that came after; zero for counts."""
    record = {name: values.copy() for name, values in record.items()}
    for job, number in self.at.items():
      for values in record.values():
        is_float = np.issubdtype(values.dtype, np.floating)
        values[self._jobs.index(job), number:] = np.nan if is_float else 0
    return record


def watch(progress: Callable[[float, str], None]) -> Watch:
  """A progress function as a watch without a store; a watch as it is."""
  return progress if isinstance(progress, Watch) else Watch(progress)
