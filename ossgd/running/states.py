"""States of jobs on disk, one a job, and taken up again.

A state is stored as one device would have it: without the other seeds of its
block, and without the units that only fill up tiles, which are all zero. That
of an unfinished job is forgotten when it is finished; a store that keeps states
has another one of each job, from which longer runs go on: after the last chunk
that all of them begin with.
"""

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ossgd.engines import meshes
from ossgd.machine import hosts
from ossgd.recording.recorders import Record
from ossgd.running import jobs, watching


class SavedStates:
  """The saved states of a block of jobs; without a store it does nothing."""

  def __init__(
    self,
    watch: watching.Watch,
    block: Sequence[jobs.Job],
    layout: Callable[[Any], Any],
    *,
    of_seeds: bool,
    common: int,
  ):
    """Reads what is saved of jobs that are at the same chunk.

    Args:
      watch: with the store.
      block: one job a seed of the arrays; the last may be there several times.
      layout: of an engine.
      of_seeds: whether the arrays have an axis of seeds.
      common: chunks that every longer run begins with.
    """
    self._watch, self.block, self._common = watch, block, common
    self._layout, self._of_seeds = layout, of_seeds
    saved = [load(watch, job, common) for job in block]
    self._saved = [one for one in saved if one is not None]
    self._drawn = np.zeros((len(block), 2), np.uint32)

  def check(self, params: Any, split: Any, *, shared: bool) -> None:
    """Raises ValueError if states began from other parameters or data.

    Args:
      params: at w(0).
      split: the data.
      shared: whether all seeds have these data.
    """
    store = self._watch.store
    if store is None:
      return
    data_of_seeds = self._of_seeds and not shared
    # Data on another number of devices may round otherwise; weights do not.
    sums = hosts.fetch(
      [_checksum(params, 0, self._of_seeds), _checksum(split, 8, data_of_seeds)]
    )
    number = len(self.block)
    self._drawn = np.stack([np.broadcast_to(v, number) for v in sums], axis=1)
    size = sum(v.size for v in jax.tree.leaves(split))
    bounds = [0, size // (number if data_of_seeds else 1) // 32]
    for job, drawn, saved in zip(
      self.block, self._drawn, self._saved, strict=False
    ):
      moved = (drawn - saved['drawn']).astype(np.int32)
      if np.any(np.abs(moved) > bounds):
        name = self._watch.prefix + job.named(jobs.BEGUN)
        path = store.path(name, job)
        if not path.exists():  # it goes on from a shorter run's
          path = store.path(
            self._watch.prefix + job.named(jobs.KEPT), job.of_any_length()
          )
        raise ValueError(
          f'{name}: its seed gives other random numbers than it had; remove '
          f'{path}, or give another folder'
        )

  def resume(self, state: Any) -> tuple[Any, list[Record], int]:
    """State, records and number of chunks done; the start if none is saved."""
    saved, self._saved = self._saved, []
    if not saved:
      return state, [], 0
    leaves, tree = jax.tree.flatten(state)
    if any(
      sum(name.startswith('state_') for name in one) != len(leaves)
      for one in saved
    ):
      return state, [], 0  # that of a shorter run, which kept other arrays
    again = []
    for i, leaf in enumerate(leaves):
      shape = _numbers(leaf).shape[self._of_seeds :]
      if not saved[0][f'state_{i}'].size:  # a shorter run had none of it
        again.append(leaf)
        continue
      parts = [_filled(one[f'state_{i}'], shape) for one in saved]
      value: Any = np.stack(parts) if self._of_seeds else parts[0]
      if _is_key(leaf):
        kind = jax.random.key_impl(leaf)
        value = jax.random.wrap_key_data(jnp.asarray(value), impl=kind)
      again.append(jax.device_put(value, leaf.sharding))
    records = [records_of(one) for one in saved]
    together = jax.tree.map(lambda *v: np.concatenate(v), *records)
    return jax.tree.unflatten(tree, again), [together], int(saved[0]['done'])

  def save(
    self,
    state: Any,
    records: list[Record],
    done: int,
    block: Sequence[jobs.Job],
  ) -> None:
    """Saves these jobs' states after so many chunks, if it is time to.

    Raises:
      Stopped: the work was asked to stop, and these states are saved.
    """
    store = self._watch.store
    if store is None:
      return
    if store.keeps and done == self._common:
      self._keep(state, records, done)
    if store.due():
      self.write(state, records, done, block)
      self._watch.check()

  def write(
    self,
    state: Any,
    records: list[Record],
    done: int,
    block: Sequence[jobs.Job],
  ) -> None:
    """Saves the states of some of the jobs, if there is a store."""
    if self._watch.store is not None and block:
      for job, arrays in self._arrays(state, records, done, block):
        self._watch.save(job.named(jobs.BEGUN), job, arrays)

  def _keep(self, state: Any, records: list[Record], done: int) -> None:
    """Saves the states that longer runs go on from, but where one is longer."""
    for job, arrays in self._arrays(state, records, done, self.block):
      there = self._watch.load(job.named(jobs.KEPT), job.of_any_length())
      if there is None or int(there['done']) < done:
        self._watch.save(job.named(jobs.KEPT), job.of_any_length(), arrays)

  def _arrays(
    self,
    state: Any,
    records: list[Record],
    done: int,
    block: Sequence[jobs.Job],
  ) -> Iterator[tuple[jobs.Job, dict[str, np.ndarray]]]:
    """What is saved of each of these jobs after so many chunks."""
    leaves = hosts.fetch([_numbers(v) for v in jax.tree.leaves(state)])
    record = joined(records)
    specs = jax.tree.leaves(jax.tree.broadcast(self._layout(state), state))
    for job in dict.fromkeys(block):
      i = self.block.index(job)
      arrays = {'drawn': self._drawn[i], 'done': np.array(done)}
      for j, (leaf, spec) in enumerate(zip(leaves, specs, strict=True)):
        value = leaf[i] if self._of_seeds else leaf
        if meshes.UNIT in spec:
          axis = spec.index(meshes.UNIT)
          value = value[(slice(None),) * axis + (slice(job.width),)]
        arrays[f'state_{j}'] = value
      arrays |= arrays_of(jax.tree.map(lambda v, i=i: v[i : i + 1], record))
      yield job, arrays


def load(
  watch: watching.Watch, job: jobs.Job, common: int
) -> dict[str, np.ndarray] | None:
  """What is saved of an unfinished job, or kept of a shorter run.

  How many chunks are done is there under `done`. What a longer run kept is of
  no use: where it is, this one may never have been.

  Args:
    watch: with the store.
    job: not finished.
    common: chunks that every longer run begins with.
  """
  begun = watch.load(job.named(jobs.BEGUN), job)
  if begun is None and watch.store is not None and watch.store.keeps:
    kept = watch.load(job.named(jobs.KEPT), job.of_any_length())
    if kept is not None and int(kept['done']) <= common:
      return kept
  return begun


def forget(watch: watching.Watch, block: Sequence[jobs.Job]) -> None:
  """Removes the states of jobs that are finished."""
  for job in block:
    if watch.store is not None:
      watch.store.remove(watch.prefix + job.named(jobs.BEGUN), job)


def joined(records: list[Record]) -> Record:
  """Measurements of consecutive chunks as one, (seed, step)."""
  return jax.tree.map(lambda *v: np.concatenate(v, axis=1), *records)


def arrays_of(record: Record) -> dict[str, np.ndarray]:
  """Measurements as arrays by name."""
  return {f'record_{name}': values for name, values in record.items()}


def records_of(arrays: dict[str, np.ndarray]) -> Record:
  """The measurements among arrays by name."""
  return {
    name.removeprefix('record_'): values
    for name, values in arrays.items()
    if name.startswith('record_')
  }


def _is_key(leaf: jax.Array) -> bool:
  """Whether an array is of JAX's random keys, as noise in an optimizer has."""
  return jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _numbers(leaf: jax.Array) -> jax.Array:
  """A random key as the numbers it is made of; all else as it is."""
  return jax.random.key_data(leaf) if _is_key(leaf) else leaf


def _filled(value: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
  """With the units again that fill up tiles, and as many visits as it has."""
  if value.shape == shape:
    return value
  # A shorter run has fewer of them: what is cut is still zero here.
  value = value[tuple(map(slice, shape))]
  return np.pad(value, [(0, n) for n in np.subtract(shape, value.shape)])


@functools.partial(jax.jit, static_argnums=(1, 2))
def _checksum(tree: Any, dropped: int, of_seeds: bool) -> jax.Array:
  """The sum of float32 arrays' bits but the last few, modulo 2^32.

  With eight dropped, rounding moves it by a part of the arrays' size, other
  numbers by anything. Of each seed, if the arrays are of several.
  """
  total = jnp.zeros((), jnp.uint32)
  for leaf in jax.tree.leaves(tree):
    if leaf.dtype == jnp.float32:
      bits = jax.lax.bitcast_convert_type(leaf, jnp.uint32) >> dropped
      axes = tuple(range(of_seeds, leaf.ndim))
      total += jnp.sum(bits, axes, dtype=jnp.uint32)
  return total
