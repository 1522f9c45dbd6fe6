"""A unit of work in flight: its state on disk, and taken up again."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ossgd import checkpoints, hosts, runs

_REMEDY = 'remove the folder checkpoints, or give another one with --out'


class Flight:
  """The saved state of one unit; without a store it does nothing."""

  def __init__(self, store: checkpoints.Store | None, name: str):
    self._store, self._name = store, name
    self._saved = store.load(name) if store else None
    self._drawn = np.zeros(0, np.uint32)

  def check(self, params: Any, split: Any) -> None:
    """Compares what keys give with what the saved state began from.

    Raises:
      ValueError: they give other numbers now.
    """
    if self._store is None:
      return
    checksum = jax.jit(_checksum, static_argnums=1)
    # Data on another number of devices may round otherwise; weights do not.
    sums = [checksum(params, 0), checksum(split, 8)]
    self._drawn = np.array(hosts.fetch(sums))
    if self._saved is None:
      return
    bounds = np.array([0, sum(v.size for v in jax.tree.leaves(split)) // 32])
    moved = (self._drawn - self._saved['drawn']).astype(np.int32)
    if np.any(np.abs(moved) > bounds):
      raise ValueError(
        f'{self._name}: its seeds give other random numbers than those it '
        f'began from; {_REMEDY}'
      )

  def resume(self, state: Any) -> tuple[Any, list[runs.Record], int]:
    """State, records and number of chunks done; of a start if none is saved.

    Args:
      state: at the start; says how a state is put together.
    """
    saved = self._saved
    if saved is None:
      return state, [], 0
    leaves, tree = jax.tree.flatten(state)
    again = []
    for i, leaf in enumerate(leaves):
      value = saved[f'state_{i}']
      if (value.shape, value.dtype) != (leaf.shape, leaf.dtype):
        raise ValueError(
          f'{self._name}: its state has {value.dtype} {value.shape} where '
          f'{leaf.dtype} {leaf.shape} was expected; {_REMEDY}'
        )
      again.append(jax.device_put(value, leaf.sharding))
    self._saved = None
    return (
      jax.tree.unflatten(tree, again),
      records_of(saved),
      int(saved['done']),
    )

  def save(self, state: Any, records: list[runs.Record], done: int) -> None:
    """Saves the state after so many chunks, if it is time to.

    Raises:
      Stopped: the work was asked to stop, and this state is saved.
    """
    if self._store is None or not self._store.due():
      return
    leaves = hosts.fetch(jax.tree.leaves(state))
    arrays = {f'state_{i}': leaf for i, leaf in enumerate(leaves)}
    arrays |= {'drawn': self._drawn, 'done': np.array(done)}
    self._store.save(self._name, arrays | arrays_of(records))
    if self._store.stopping:
      raise checkpoints.Stopped(self._store.stopping)

  def end(self) -> None:
    """Forgets the state: the unit is finished."""
    if self._store is not None:
      self._store.remove(self._name)


def joined(records: list[runs.Record]) -> runs.Record:
  """Measurements of consecutive chunks as one, (seed, step)."""
  return jax.tree.map(lambda *v: np.concatenate(v, axis=1), *records)


def arrays_of(records: list[runs.Record]) -> dict[str, np.ndarray]:
  """Measurements as arrays by name."""
  return {f'record_{n}': v for n, v in joined(records)._asdict().items()}


def records_of(arrays: dict[str, np.ndarray]) -> list[runs.Record]:
  """The measurements among arrays by name."""
  names = runs.Record._fields
  return [runs.Record._make(arrays[f'record_{name}'] for name in names)]


def _checksum(tree: Any, dropped: int) -> jax.Array:
  """The sum of float32 arrays' bits but the last few, modulo 2^32.

  With eight dropped, rounding moves it by a part of the arrays' size, other
  numbers by anything.
  """
  total = jnp.zeros((), jnp.uint32)
  for leaf in jax.tree.leaves(tree):
    if leaf.dtype == jnp.float32:
      bits = jax.lax.bitcast_convert_type(leaf, jnp.uint32)
      total += jnp.sum(bits >> dropped, dtype=jnp.uint32)
  return total
