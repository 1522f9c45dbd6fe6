"""Widths at work: their jobs in blocks of seeds, each run chunk by chunk.

Between chunks progress can be told, the states be saved, and the work stopped,
all of it or single jobs; what a store has of a job already is not done again.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from ossgd.engines import measuring
from ossgd.engines.setup import Setup
from ossgd.machine import lanes, timing
from ossgd.running import blocks, compiled, jobs, states, watching
from ossgd.running.blocks import Arrays, Row
from ossgd.running.compiled import Grouping
from ossgd.running.datasets import Source

TOLD = 'told_'
STOPPED = 'stopped_at'  # among the last step's arrays, where jobs may stop


class Work(NamedTuple):
  """What all widths of a sweep share, besides their setup."""

  source: Source
  grouping: Grouping
  basis: str  # of the jobs
  extra: measuring.Extra | None
  seeds: list[int]
  callback: watching.Callback | None
  # What else a store keeps of a finished job, under names that begin with TOLD:
  # for who reads it without knowing how the job came to be.
  told: Callable[[Setup, jobs.Job, Row], Arrays]

  def job(self, setup: Setup, seed: int | None = None) -> jobs.Job:
    """Of a width and a seed, or of what the seeds of a width share."""
    return jobs.Job(setup.width, seed, setup.engine, self.basis)


def with_engine(setup: Setup, work: Work, watch: watching.Watch) -> Setup:
  """With the engine that a width was begun with, or the best one today.

  Raises:
    ValueError: it does not fit in memory, and there is work left for it.
  """
  whole = work.extra is not None
  begun = watch.load(jobs.ENGINE, work.job(setup))
  if begun is None:
    today = compiled.choose_engine(setup, work.grouping, whole=whole)
    return dataclasses.replace(setup, engine=today)
  name = bytes(begun[jobs.ENGINE]).decode()
  setup = dataclasses.replace(setup, engine=name)
  of_width = (work.job(setup, seed) for seed in work.seeds)
  if any(watch.load(job.named(jobs.FINISHED), job) is None for job in of_width):
    try:
      compiled.choose_engine(setup, work.grouping, whole=whole)
    except ValueError as error:
      raise ValueError(
        f'{error}; it was begun with engine {name} and goes on with it: its '
        'work waits until there is room'
      ) from error
  return setup


@dataclasses.dataclass
class _Width:
  """A width at work."""

  asked: Setup  # by this the store knows with which engine it was begun
  setup: Setup  # with that engine
  watch: watching.Watch
  programs: compiled.Programs
  of_width: list[jobs.Job]
  done: dict[jobs.Job, Arrays]  # what finished jobs leave
  # Measurements of those that a callback stopped.
  stops: dict[jobs.Job, int] = dataclasses.field(default_factory=dict)
  lock: threading.Lock = dataclasses.field(default_factory=threading.Lock)
  begun: bool = False

  def begin(self, work: Work) -> None:
    """Has its programs compiled by threads, once, whichever thread asks."""
    with self.lock:
      if not self.begun:
        missing = len(self.of_width) - len(self.done)
        with timing.part('compile'):
          compiled.prepare(self.programs, work.source, missing)
        self.begun = True


def run(
  asked: Sequence[Setup],
  chosen: Sequence[Setup],
  watches: Sequence[watching.Watch],
  work: Work,
  tell: Callable[[float, str], None],
) -> list[Row]:
  """All jobs of all widths, each done once.

  A job that a callback stops is not finished: its state stays in the store.
  Blocks of seeds that fit side by side run in threads of their own, and no
  number depends on it.

  Args:
    asked: the setup of each width, by which the store knows it.
    chosen: those from `with_engine`.
    watches: a part of the work each.
    work: what they share.
    tell: of all the work.

  Returns:
    Of each width measurements (seed, step), and arrays (seed, ...) of the last
    step.
  """
  widths = [
    _width(*of_width, work)
    for of_width in zip(asked, chosen, watches, strict=True)
  ]
  parts = [(width, *one) for width in widths for one in _blocks(width)]
  total = sum(width.setup.width for width in widths) * len(work.seeds)
  told = watching.together(
    tell,
    [width.setup.width * len(block) / total for width, block, _ in parts],
    [steps / width.setup.num_steps for width, _, steps in parts],
  )
  following = [*(width for width, _, _ in parts[1:]), None][: len(parts)]
  works = [
    functools.partial(_run_block, width, after, block, work, own)
    for (width, block, _), after, own in zip(
      parts, following, told, strict=True
    )
  ]
  at_once = compiled.side_by_side(
    chosen, work.grouping, callback=work.callback is not None
  )
  lanes.run(works, at_once)
  return [_row(width, work) for width in widths]


def _width(
  asked: Setup, setup: Setup, watch: watching.Watch, work: Work
) -> _Width:
  """A width, with what the store has of its finished jobs."""
  programs = compiled.programs(setup, work.grouping, work.extra)
  of_width = [work.job(setup, seed) for seed in work.seeds]
  done = {}
  for job in of_width:
    arrays = watch.load(job.named(jobs.FINISHED), job)
    if arrays is not None:
      ours = (name for name in arrays if not name.startswith(TOLD))
      done[job] = {name: arrays[name] for name in ours}
  return _Width(asked, setup, watch, programs, of_width, done)


def _row(width: _Width, work: Work) -> Row:
  """What its jobs leave, together."""
  done = [width.done[job] for job in width.of_width]
  record, last = _as_row(
    {name: np.concatenate([one[name] for one in done]) for name in done[0]}
  )
  if work.callback is not None:
    at = width.setup.record_steps
    steps = {job: at[number - 1] for job, number in width.stops.items()}
    last[STOPPED] = np.array([steps.get(job, np.nan) for job in width.of_width])
  return record, last


def _run_block(
  width: _Width,
  following: _Width | None,
  block: list[jobs.Job],
  work: Work,
  told: Callable[[float, str], None],
  go_on: Callable[[], None],
) -> None:
  """Does a block of a width's jobs, and saves what each of them leaves.

  The width of the block that follows is compiled while this one trains.
  """
  watch = width.watch
  watch.check()
  width.begin(work)
  if following is not None:
    following.begin(work)
  begun = {jobs.ENGINE: np.frombuffer(width.setup.engine.encode(), np.uint8)}
  with width.lock:  # it is one file
    watch.once(jobs.ENGINE, work.job(width.asked), lambda: begun)
  ends = dict.fromkeys([block[0].seed, block[-1].seed])
  name = f'm={width.setup.width} seed=' + '-'.join(map(str, ends))

  def tell(fraction):
    told(fraction, name)
    go_on()

  row, stopped = blocks.run(
    width.programs, work.source, work.callback, block, watch, tell
  )
  width.stops.update(stopped)
  arrays = _as_arrays(row)
  for i, job in enumerate(block):
    own = {name: v[i : i + 1] for name, v in arrays.items()}
    width.done[job] = own
    if watch.store is not None and job not in stopped:
      more = work.told(width.setup, job, _as_row(own))
      watch.save(job.named(jobs.FINISHED), job, own | more)
  states.forget(watch, [job for job in block if job not in stopped])


def _as_arrays(row: Row) -> Arrays:
  record, last = row
  of_last = {f'last_{name}': value for name, value in last.items()}
  return states.arrays_of(record) | of_last


def _as_row(arrays: Arrays) -> Row:
  last = {
    name.removeprefix('last_'): value
    for name, value in arrays.items()
    if name.startswith('last_')
  }
  return states.records_of(arrays), last


def _blocks(width: _Width) -> Iterator[tuple[list[jobs.Job], int]]:
  """Jobs that go on from the same step, at most so many at once, and the step.

  Those that were begun come first, however they were grouped before.
  """
  at_once = width.programs.grouping.seeds_at_once

  def begun(job):
    saved = states.load(width.watch, job, width.programs.common)
    return 0 if saved is None else int(saved['done'])

  at = {job: begun(job) for job in width.of_width if job not in width.done}
  order = sorted(at, key=at.__getitem__, reverse=True)
  for done, group in itertools.groupby(order, at.__getitem__):
    steps = width.programs.chunks[done - 1].end if done else 0
    together = list(group)
    for first in range(0, len(together), at_once):
      yield together[first : first + at_once], steps
