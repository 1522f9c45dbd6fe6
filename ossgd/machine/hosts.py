"""Several processes at one sweep: all compute, the first one writes.

All run the same program on the same data; only arrays on a mesh are split.
"""

import hashlib
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils


def fetch(values: Any) -> Any:
  """Arrays as NumPy arrays: those on a mesh are whole in every process."""

  def whole(value):
    if isinstance(value, jax.Array) and not value.is_fully_addressable:
      return multihost_utils.process_allgather(value, tiled=True)
    return value

  return jax.device_get(jax.tree.map(whole, values))


def gathered(value: Any) -> np.ndarray:
  """What each process says of an array or number, one after the other."""
  if jax.process_count() == 1:
    return np.asarray(value)[None]
  return multihost_utils.process_allgather(np.asarray(value))


def least(value: int) -> int:
  """The smallest of what the processes say."""
  return int(gathered(float(value)).min())


def told_by_first(flag: bool) -> bool:
  """What the first process says; the others wait for it."""
  return bool(multihost_utils.broadcast_one_to_all(np.array(flag)))


def check_same(settings: str) -> None:
  """Raises ValueError in all processes unless all have the same settings."""
  digest = hashlib.sha256(settings.encode()).digest()
  said = gathered(np.frombuffer(digest, np.uint32))
  others = np.flatnonzero((said != said[0]).any(axis=1))
  if others.size:
    raise ValueError(
      'other settings, versions or sources than in process 0: in process '
      f'{", ".join(map(str, others))}; start all with the same flags but '
      '--process_id'
    )
