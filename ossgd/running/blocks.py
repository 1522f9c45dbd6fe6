"""A block of seeds at work: begun, run chunk by chunk, and measured at its end.

Between chunks progress can be told, the states be saved, and the work stopped,
all of it or single jobs.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ossgd.engines import meshes
from ossgd.machine import hosts, lanes, timing
from ossgd.recording import divergence
from ossgd.recording.recorders import Record
from ossgd.running import jobs, states, watching
from ossgd.running.compiled import Programs
from ossgd.running.datasets import Source

Arrays = dict[str, np.ndarray]
Row = tuple[Record, Arrays]  # what one or more seeds of a width leave


def run(
  programs: Programs,
  source: Source,
  callback: watching.Callback | None,
  block: list[jobs.Job],
  watch: watching.Watch,
  tell: Callable[[float], None],
) -> tuple[Row, dict[jobs.Job, int]]:
  """A block of seeds: arrays (seed, step), and (seed, ...) of the last step.

  Their states are saved now and then, and go on from there: the numbers are
  those of seeds that were never stopped. Where devices want more seeds than
  there are, the last one is there several times.

  Returns:
    Measurements and the last step's arrays; and of jobs that a callback has
    stopped, how many measurements they have.
  """
  setup, grouping = programs.setup, programs.grouping
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
  with timing.part('start') as wait, lanes.one_blas_thread():
    split = source.shared or put(source.draw(seeds))
    params = programs.draw(seeds, split)
    saved.check(params, split, shared=grouping.shared)
    given = params
    if programs.from_rows:
      given = params.a
      params.w.delete()  # H has to have its memory
    state, begin = wait(programs.start(given, seeds, split))
    del params, given
  state, records, done = saved.resume(state)
  stops = watching.Stops(callback, block)
  kept = _train(
    programs, state, begin, split, records, done, saved, stops, tell
  )
  del state, begin  # a wide network needs their memory at the end
  with timing.part('spectrum'), lanes.one_blas_thread():
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
  tell: Callable[[float], None],
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
    try:
      tell(chunk.end / programs.setup.num_steps)
    except lanes.Abandoned:
      saved.write(state, records, i + 1, going)
      raise
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
