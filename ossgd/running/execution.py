"""A width at work: its jobs in blocks of seeds, each run chunk by chunk.

Between chunks progress can be told, the states be saved, and the work stopped,
all of it or single jobs; what a store has of a job already is not done again.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import threadpoolctl

from ossgd.engines import divergence, measuring, meshes
from ossgd.engines.setup import Setup
from ossgd.recording.recorders import Record
from ossgd.running import compiled, hosts, jobs, states, timing, watching
from ossgd.running.compiled import Grouping, Programs
from ossgd.running.datasets import Source

Arrays = dict[str, np.ndarray]
Row = tuple[Record, Arrays]  # what one or more seeds of a width leave
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
  begun, whole = watch.load('engine', work.job(setup)), work.extra is not None
  if begun is None:
    today = compiled.choose_engine(setup, work.grouping, whole=whole)
    return dataclasses.replace(setup, engine=today)
  name = bytes(begun['engine']).decode()
  setup = dataclasses.replace(setup, engine=name)
  of_width = (work.job(setup, seed) for seed in work.seeds)
  if any(watch.load(_finished(job), job) is None for job in of_width):
    try:
      compiled.choose_engine(setup, work.grouping, whole=whole)
    except ValueError as error:
      raise ValueError(
        f'{error}; it was begun with engine {name} and goes on with it: its '
        'work waits until there is room'
      ) from error
  return setup


def run_width(
  asked: Setup, setup: Setup, watch: watching.Watch, work: Work
) -> Row:
  """All jobs of a width, each done once, with the setup from `with_engine`.

  By what was asked for the store knows with which engine a width was begun. A
  job that a callback stops is not finished: its state stays in the store.

  Returns:
    Measurements (seed, step), and arrays (seed, ...) of the last step.
  """
  begun = {'engine': np.frombuffer(setup.engine.encode(), np.uint8)}
  watch.once('engine', work.job(asked), lambda: begun)
  programs = compiled.programs(setup, work.grouping, work.extra)
  of_width = [work.job(setup, seed) for seed in work.seeds]
  done: dict[jobs.Job, Arrays] = {}
  for job in of_width:
    arrays = watch.load(_finished(job), job)
    if arrays is not None:
      ours = (name for name in arrays if not name.startswith(TOLD))
      done[job] = {name: arrays[name] for name in ours}
  pending = [job for job in of_width if job not in done]
  stops: dict[jobs.Job, int] = {}
  for block in _blocks(pending, programs, watch):
    watch.check()
    ends = dict.fromkeys([block[0].seed, block[-1].seed])
    part = watch.part(
      len(done) / len(of_width),
      (len(done) + len(block)) / len(of_width),
      'seed=' + '-'.join(map(str, ends)),
    )
    block_row, stopped = run_block(programs, work, block, watch, part.tell)
    stops |= stopped
    arrays = _as_arrays(block_row)
    for i, job in enumerate(block):
      done[job] = {name: v[i : i + 1] for name, v in arrays.items()}
      if watch.store is not None and job not in stopped:
        told = work.told(setup, job, _as_row(done[job]))
        watch.save(_finished(job), job, done[job] | told)
    states.forget(watch, [job for job in block if job not in stopped])
  record, last = _as_row(
    {
      name: np.concatenate([done[job][name] for job in of_width])
      for name in done[of_width[0]]
    }
  )
  if work.callback is not None:
    steps = {job: setup.record_steps[n - 1] for job, n in stops.items()}
    last[STOPPED] = np.array([steps.get(job, np.nan) for job in of_width])
  return record, last


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


def _finished(job: jobs.Job) -> str:
  return f'seed={job.seed} finished'


def _blocks(
  pending: Sequence[jobs.Job], programs: Programs, watch: watching.Watch
) -> Iterator[list[jobs.Job]]:
  """Jobs that go on from the same chunk, at most so many at once.

  Those that were begun come first, however they were grouped before.
  """
  at_once = programs.grouping.seeds_at_once

  def begun(job):
    saved = states.load(watch, job, programs.common)
    return 0 if saved is None else int(saved['done'])

  at = {job: begun(job) for job in pending}
  order = sorted(pending, key=at.__getitem__, reverse=True)
  for _, group in itertools.groupby(order, at.__getitem__):
    together = list(group)
    for first in range(0, len(together), at_once):
      yield together[first : first + at_once]


def run_block(
  programs: Programs,
  work: Work,
  block: list[jobs.Job],
  watch: watching.Watch,
  tell: Callable[[float, str], None],
) -> tuple[Row, dict[jobs.Job, int]]:
  """A block of seeds: arrays (seed, step), and (seed, ...) of the last step.

  Their states are saved now and then, and go on from there: the numbers are
  those of seeds that were never stopped. Where devices want more seeds than
  there are, the last one is there several times.

  Returns:
    Measurements and the last step's arrays; and of jobs that a callback has
    stopped, how many measurements they have.
  """
  setup, grouping, source = programs.setup, programs.grouping, work.source
  one = grouping.seeds_at_once == 1
  block = block + block[-1:] * (-len(block) % meshes.shards(grouping.mesh)[0])
  saved = states.SavedStates(
    watch,
    block,
    programs.layout,
    of_seeds=not one,
    common=programs.common,
  )
  put = functools.partial(meshes.put, mesh=grouping.mesh, of_seeds=not one)
  seeds = np.array([job.seed for job in block])
  seeds = put(jnp.asarray(seeds[0] if one else seeds))
  with timing.part('start') as wait:
    split = source.shared or put(source.draw(seeds))
    params = programs.draw(seeds, split)
    saved.check(params, split, shared=grouping.shared)
    state, begin = wait(programs.start(params, seeds, split))
    del params
  state, records, done = saved.resume(state)
  stops = watching.Stops(work.callback, block)
  kept = _train(
    programs, state, begin, split, records, done, saved, stops, tell
  )
  del state, begin  # a wide network needs their memory at the end
  # LAPACK's own threads and XLA's wait for each other on a busy machine: one
  # decomposition was seen to take 10 s instead of 0.1 s.
  with (
    timing.part('spectrum'),
    threadpoolctl.threadpool_limits(1, user_api='blas'),
  ):
    begun = programs.draw(seeds, split)
    last = hosts.fetch(programs.finish(kept, begun, split))
  if one:
    last = jax.tree.map(lambda v: v[None], last)
  record = _padded(states.joined(records), len(setup.record_steps))
  return (stops.marked(record), last), stops.at


def _train(
  programs: Programs,
  state: Any,
  begin: Any,
  split: Any,
  records: list[Record],
  done: int,
  saved: states.SavedStates,
  stops: watching.Stops,
  tell: Callable[[float, str], None],
) -> Any:
  """Goes from so many chunks on to the end, or to where all jobs stop.

  What is measured is added to the records.

  Returns:
    What the weights follow from.
  """
  found = programs.setup.record_shapes
  shapes = {name: one.shape for name, one in found.items()}
  for i, chunk in enumerate(programs.chunks[done:], start=done):
    newly = stops.ask(records)
    saved.write(state, records, i, newly)
    if stops.all:
      break
    stops.remember(newly, programs.kept(state))
    passed: tuple[Any, ...] = ()
    stages = zip(programs.stages.items(), chunk.arguments, strict=True)
    for (stage_name, stage), told in stages:
      with timing.part(stage_name) as wait:
        state, passed = wait(stage(state, begin, split, passed, told))
    records.append(
      _at_recorded(passed[0], shapes, len(saved.block), chunk.recorded)
    )
    if divergence.everywhere(records[-1]):
      break  # not one seed is left
    going = [job for job in saved.block if job not in stops.at]
    saved.save(state, records, i + 1, going)
    tell(chunk.end / programs.setup.num_steps, '')
  else:
    stops.ask(records, at_the_end=True)
  return stops.restored(programs.kept(state))


def _padded(record: Record, number: int) -> Record:
  """Measurements of a block that stopped early, NaN where there are none.

  Counts have no NaN: they are zero there, beside a loss that is NaN.
  """

  def one(values):
    missing = number - values.shape[1]
    none = np.nan if np.issubdtype(values.dtype, np.floating) else 0
    ends = [(0, 0), (0, missing)] + [(0, 0)] * (values.ndim - 2)
    return np.pad(values, ends, constant_values=none)

  return jax.tree.map(one, record)


def _at_recorded(
  record: Record,
  shapes: dict[str, tuple[int, ...]],
  num_seeds: int,
  recorded: np.ndarray,
) -> Record:
  """Arrays (seed, step, ...) of a block's measurements, fetched."""
  pieces = (num_seeds, len(recorded))
  return {
    name: np.reshape(v, (*pieces, *shapes.get(name, ())))[:, recorded]
    for name, v in hosts.fetch(record).items()
  }
