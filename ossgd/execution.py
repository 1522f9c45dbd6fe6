"""A work unit at work: a block of seeds at one width, run chunk by chunk.

Between chunks progress can be told, the state be saved, and the work stopped;
what a store has of it already is not done again.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import threadpoolctl

from ossgd import checkpoints, divergence, flight, hosts, meshes, runs, timing
from ossgd.units import Plan, Unit


def run_once(
  unit: Unit, plan: Plan, block: np.ndarray, watch: checkpoints.Watch
) -> tuple[runs.Record, dict[str, np.ndarray]]:
  """One work unit, or what a store has of it: see `run_block`."""
  saved = flight.Flight(watch.store, f'{watch.prefix}in flight')

  def compute():
    record, last = run_block(unit, plan, block, watch, saved)
    named = {f'last_{name}': value for name, value in last.items()}
    return flight.arrays_of([record]) | named

  arrays = watch.once('finished', compute)
  saved.end()
  (record,) = flight.records_of(arrays)
  last = {
    name.removeprefix('last_'): value
    for name, value in arrays.items()
    if name.startswith('last_')
  }
  return record, last


def run_block(
  unit: Unit,
  plan: Plan,
  block: np.ndarray,
  watch: checkpoints.Watch,
  saved: flight.Flight,
) -> tuple[runs.Record, dict[str, np.ndarray]]:
  """One work unit: arrays (seed, step), and (seed, ...) of the last step.

  Its state is saved now and then, and the same unit goes on from there: the
  numbers are those of a unit that was never stopped.
  """
  one = plan.seeds_at_once == 1
  put = functools.partial(meshes.put, mesh=plan.mesh, of_seeds=not one)
  seeds = put(jnp.asarray(block[0] if one else block))
  with timing.part('start') as wait:
    split = plan.shared
    if split is None:
      split = put(plan.draw(seeds))
    params = unit.draw(seeds, split)
    saved.check(params, split)
    state, begin = wait(unit.start(params, seeds, split))
    del params
  state, records, done = saved.resume(state)
  passed: Any = None
  for i, chunk in enumerate(unit.chunks[done:], start=done):
    passed = None
    stages = zip(unit.stages.items(), chunk.arguments, strict=True)
    for (stage_name, stage), argument in stages:
      with timing.part(stage_name) as wait:
        state, passed = wait(
          stage(state, passed, seeds, begin, split, argument)
        )
    records.append(_at_recorded(passed, len(block), chunk.recorded))
    if divergence.everywhere(records[-1]):
      break  # not one seed is left
    saved.save(state, records, i + 1)
    watch.tell(chunk.end / plan.num_steps, '')
  kept = unit.kept(state)
  del state, begin, passed  # a wide network needs their memory at the end
  # LAPACK's own threads and XLA's wait for each other on a busy machine: one
  # decomposition was seen to take 10 s instead of 0.1 s.
  with (
    timing.part('spectrum'),
    threadpoolctl.threadpool_limits(1, user_api='blas'),
  ):
    begun = unit.draw(seeds, split)
    w = unit.weights(kept, begun, split)
    del kept
    last = hosts.fetch(unit.finish(w, begun, split))
  if one:
    last = jax.tree.map(lambda v: v[None], last)
  return _padded(flight.joined(records), len(plan.record_steps)), last


def _padded(record: runs.Record, number: int) -> runs.Record:
  """Measurements of a block that stopped early, NaN where there are none.

  Counts have no NaN: they are zero there, beside a loss that is NaN.
  """

  def one(values):
    missing = number - values.shape[1]
    none = np.nan if np.issubdtype(values.dtype, np.floating) else 0
    return np.pad(values, ((0, 0), (0, missing)), constant_values=none)

  return jax.tree.map(one, record)


def _at_recorded(
  record: runs.Record, num_seeds: int, recorded: np.ndarray
) -> runs.Record:
  """Arrays (seed, step) of a block's measurements, fetched."""

  def one(values):
    return np.reshape(values, (num_seeds, -1))[:, recorded]

  return jax.tree.map(one, hosts.fetch(record))
