"""States of unfinished jobs on disk, one a job, and taken up again.

A state is stored as one device would have it: without the other seeds of its
block, and without the units that only fill up tiles, which are all zero.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ossgd.engines import measuring, meshes
from ossgd.running import hosts, jobs, watching


class SavedStates:
  """The saved states of a block of jobs; without a store it does nothing."""

  def __init__(
    self,
    watch: watching.Watch,
    block: Sequence[jobs.Job],
    layout: Callable[[Any], Any],
    num_seeds: int,
  ):
    """Reads what is saved of them.

    Args:
      watch: with the store.
      block: jobs of one width that are at the same chunk.
      layout: of an engine.
      num_seeds: how many the arrays are of: as many jobs, and more copies of
        the last one; 0 if they have no axis of seeds.
    """
    self._watch, self._block = watch, block
    self._layout, self._num_seeds = layout, num_seeds
    saved = [load(watch, job) for job in block]
    found = [one for one in saved if one is not None]
    copies = max(1, num_seeds) - len(block)
    self._saved = found + found[-1:] * copies
    self._drawn = np.zeros((len(block), 2), np.uint32)

  def check(self, params: Any, split: Any, *, shared: bool) -> None:
    """Compares what keys give with what the saved states began from.

    Args:
      params: at w(0).
      split: the data.
      shared: whether all seeds have these data.

    Raises:
      ValueError: they give other numbers now.
    """
    if self._watch.store is None:
      return
    of_seeds = self._num_seeds > 0
    data_of_seeds = of_seeds and not shared
    # Data on another number of devices may round otherwise; weights do not.
    sums = hosts.fetch(
      [_checksum(params, 0, of_seeds), _checksum(split, 8, data_of_seeds)]
    )
    shape = (max(1, self._num_seeds),)
    self._drawn = np.stack([np.broadcast_to(v, shape) for v in sums], axis=1)
    size = sum(v.size for v in jax.tree.leaves(split))
    bounds = [0, size // (self._num_seeds if data_of_seeds else 1) // 32]
    for job, drawn, saved in zip(
      self._block, self._drawn, self._saved, strict=False
    ):
      moved = (drawn - saved['drawn']).astype(np.int32)
      if np.any(np.abs(moved) > bounds):
        self._refuse(job, 'its seed gives other random numbers than it had')

  def resume(self, state: Any) -> tuple[Any, list[measuring.Record], int]:
    """State, records and number of chunks done; of a start if none is saved.

    Args:
      state: at the start; says how a state is put together.
    """
    saved, self._saved = self._saved, []
    if not saved:
      return state, [], 0
    leaves, tree = jax.tree.flatten(state)
    again = []
    for i, (leaf, axis) in enumerate(
      zip(leaves, self._axes(state), strict=True)
    ):
      shape = leaf.shape[self._num_seeds > 0 :]
      parts = [self._padded(one[f'state_{i}'], shape, axis) for one in saved]
      value = np.stack(parts) if self._num_seeds else parts[0]
      if value.dtype != leaf.dtype:
        self._refuse(self._block[0], f'it has {value.dtype}, not {leaf.dtype}')
      again.append(jax.device_put(value, leaf.sharding))
    records = [records_of(one) for one in saved]
    together = jax.tree.map(lambda *v: np.concatenate(v), *records)
    return jax.tree.unflatten(tree, again), [together], int(saved[0]['done'])

  def save(
    self, state: Any, records: list[measuring.Record], done: int
  ) -> None:
    """Saves the states after so many chunks, if it is time to.

    Raises:
      Stopped: the work was asked to stop, and these states are saved.
    """
    store = self._watch.store
    if store is None or not store.due():
      return
    leaves = hosts.fetch(jax.tree.leaves(state))
    record = joined(records)
    for i, job in enumerate(self._block):
      arrays = {'drawn': self._drawn[i], 'done': np.array(done)}
      for j, (leaf, axis) in enumerate(
        zip(leaves, self._axes(state), strict=True)
      ):
        value = leaf[i] if self._num_seeds else leaf
        if axis is not None:
          value = value[(slice(None),) * axis + (slice(job.width),)]
        arrays[f'state_{j}'] = value
      arrays |= arrays_of(jax.tree.map(lambda v, i=i: v[i : i + 1], record))
      self._watch.save(_name(job), job, arrays)
    self._watch.check()

  def end(self) -> None:
    """Forgets the states: the jobs are finished."""
    for job in self._block:
      if self._watch.store is not None:
        self._watch.store.remove(self._watch.prefix + _name(job), job)

  def _axes(self, state: Any) -> list[int | None]:
    """Of each array of one seed's state, the axis along which units lie."""
    specs = jax.tree.leaves(jax.tree.broadcast(self._layout(state), state))
    return [
      spec.index(meshes.UNIT) if meshes.UNIT in spec else None for spec in specs
    ]

  def _padded(
    self, value: np.ndarray, shape: tuple[int, ...], axis: int | None
  ) -> np.ndarray:
    if axis is not None and value.ndim == len(shape):
      missing = [(0, 0)] * value.ndim
      missing[axis] = (0, max(0, shape[axis] - value.shape[axis]))
      value = np.pad(value, missing)
    if value.shape != shape:
      self._refuse(self._block[0], f'it has {value.shape}, not {shape}')
    return value

  def _refuse(self, job: jobs.Job, reason: str) -> None:
    name = self._watch.prefix + _name(job)
    path = self._watch.store.path(name, job) if self._watch.store else ''
    raise ValueError(
      f'{name}: {reason}; remove {path}, or give another folder with --out'
    )


def load(watch: watching.Watch, job: jobs.Job) -> dict[str, np.ndarray] | None:
  """What is saved of an unfinished job; how many chunks under `done`."""
  return watch.load(_name(job), job)


def joined(records: list[measuring.Record]) -> measuring.Record:
  """Measurements of consecutive chunks as one, (seed, step)."""
  return jax.tree.map(lambda *v: np.concatenate(v, axis=1), *records)


def arrays_of(record: measuring.Record) -> dict[str, np.ndarray]:
  """Measurements as arrays by name."""
  return {f'record_{name}': values for name, values in record.items()}


def records_of(arrays: dict[str, np.ndarray]) -> measuring.Record:
  """The measurements among arrays by name."""
  return {m.name: arrays[f'record_{m.name}'] for m in measuring.METRICS}


def _name(job: jobs.Job) -> str:
  return f'seed={job.seed} begun'


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
