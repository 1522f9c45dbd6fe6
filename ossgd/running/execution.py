"""A width at work: its jobs in blocks of seeds, each run chunk by chunk.

Between chunks progress can be told, the states be saved, and the work stopped;
what a store has of a job already is not done again.
"""

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


class Work(NamedTuple):
  """What all widths of a sweep share, besides their setup."""

  source: Source
  grouping: Grouping
  basis: str  # of the jobs
  extra: measuring.Extra | None
  seeds: list[int]

  def job(self, setup: Setup, seed: int | None = None) -> jobs.Job:
    """Of a width and a seed, or of what the seeds of a width share."""
    return jobs.Job(setup.width, seed, setup.engine, self.basis)


def with_engine(setup: Setup, work: Work, watch: watching.Watch) -> Setup:
  """With the engine that a width was begun with, or the best one today.

  Raises:
    ValueError: it does not fit in memory, and there is work left for it.
  """
  begun = watch.load('engine', work.job(setup))
  if begun is None:
    today = compiled.choose_engine(setup, work.grouping)
    return dataclasses.replace(setup, engine=today)
  name = bytes(begun['engine']).decode()
  setup = dataclasses.replace(setup, engine=name)
  of_width = (work.job(setup, seed) for seed in work.seeds)
  if any(watch.load(_finished(job), job) is None for job in of_width):
    try:
      compiled.choose_engine(setup, work.grouping)
    except ValueError as error:
      raise ValueError(
        f'{error}; it was begun with engine {name} and goes on with it: its '
        'work waits until there is room'
      ) from error
  return setup


def run_width(
  asked: Setup, setup: Setup, watch: watching.Watch, work: Work
) -> tuple[Record, Arrays]:
  """All jobs of a width, each done once, with the setup from `with_engine`.

  By what was asked for the store knows with which engine a width was begun.

  Returns:
    Measurements (seed, step), and arrays (seed, ...) of the last step.
  """
  begun = {'engine': np.frombuffer(setup.engine.encode(), np.uint8)}
  watch.once('engine', work.job(asked), lambda: begun)
  programs = compiled.programs(setup, work.grouping, work.extra)
  of_width = [work.job(setup, seed) for seed in work.seeds]
  finished: dict[jobs.Job, Arrays] = {}
  for job in of_width:
    arrays = watch.load(_finished(job), job)
    if arrays is not None:
      finished[job] = arrays
  pending = [job for job in of_width if job not in finished]
  for block in _blocks(pending, work.grouping, watch):
    watch.check()
    ends = dict.fromkeys([block[0].seed, block[-1].seed])
    part = watch.part(
      len(finished) / len(of_width),
      (len(finished) + len(block)) / len(of_width),
      'seed=' + '-'.join(map(str, ends)),
    )
    record, last = run_block(programs, work.source, block, watch, part.tell)
    arrays = states.arrays_of(record)
    arrays |= {f'last_{name}': value for name, value in last.items()}
    for i, job in enumerate(block):
      finished[job] = {name: v[i : i + 1] for name, v in arrays.items()}
      watch.save(_finished(job), job, finished[job])
    states.forget(watch, block)
  together = {
    name: np.concatenate([finished[job][name] for job in of_width])
    for name in finished[of_width[0]]
  }
  last = {
    name.removeprefix('last_'): value
    for name, value in together.items()
    if name.startswith('last_')
  }
  return states.records_of(together), last


def _finished(job: jobs.Job) -> str:
  return f'seed={job.seed} finished'


def _blocks(
  pending: Sequence[jobs.Job], grouping: Grouping, watch: watching.Watch
) -> Iterator[list[jobs.Job]]:
  """Jobs that go on from the same chunk, at most so many at once.

  Those that were begun come first, however they were grouped before.
  """

  def begun(job):
    saved = states.load(watch, job)
    return 0 if saved is None else int(saved['done'])

  at = {job: begun(job) for job in pending}
  order = sorted(pending, key=at.__getitem__, reverse=True)
  for _, group in itertools.groupby(order, at.__getitem__):
    together = list(group)
    for first in range(0, len(together), grouping.seeds_at_once):
      yield together[first : first + grouping.seeds_at_once]


def run_block(
  programs: Programs,
  source: Source,
  block: list[jobs.Job],
  watch: watching.Watch,
  tell: Callable[[float, str], None],
) -> tuple[Record, Arrays]:
  """A block of seeds: arrays (seed, step), and (seed, ...) of the last step.

  Their states are saved now and then, and go on from there: the numbers are
  those of seeds that were never stopped. Where devices want more seeds than
  there are, the last one is there several times.
  """
  setup, grouping = programs.setup, programs.grouping
  one = grouping.seeds_at_once == 1
  block = block + block[-1:] * (-len(block) % meshes.shards(grouping.mesh)[0])
  saved = states.SavedStates(watch, block, programs.layout, of_seeds=not one)
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
  passed: tuple[Any, ...] = ()
  shapes = {name: found.shape for name, found in setup.record_shapes.items()}
  for i, chunk in enumerate(programs.chunks[done:], start=done):
    passed = ()
    stages = zip(programs.stages.items(), chunk.arguments, strict=True)
    for (stage_name, stage), told in stages:
      with timing.part(stage_name) as wait:
        state, passed = wait(stage(state, begin, split, passed, told))
    records.append(_at_recorded(passed[0], shapes, len(block), chunk.recorded))
    if divergence.everywhere(records[-1]):
      break  # not one seed is left
    saved.save(state, records, i + 1)
    tell(chunk.end / setup.num_steps, '')
  kept = programs.kept(state)
  del state, begin, passed  # a wide network needs their memory at the end
  # LAPACK's own threads and XLA's wait for each other on a busy machine: one
  # decomposition was seen to take 10 s instead of 0.1 s.
  with (
    timing.part('spectrum'),
    threadpoolctl.threadpool_limits(1, user_api='blas'),
  ):
    begun = programs.draw(seeds, split)
    trained = programs.weights(kept, begun, split)
    del kept
    last = hosts.fetch(programs.finish(trained, begun, split))
  if one:
    last = jax.tree.map(lambda v: v[None], last)
  return _padded(states.joined(records), len(setup.record_steps)), last


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
