"""How the Gram engine cuts a run: steps into chunks, chunks into pieces."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from ossgd.engines.interface import Chunk


class Steps(NamedTuple):
  """The S slots of a chunk; one that is not used repeats a step."""

  step: np.ndarray  # (S,) int
  active: np.ndarray  # (S,) bool


def plan(record_steps: np.ndarray, most: int) -> Iterator[Chunk]:
  """Cuts a run at its recorded steps and into chunks of `most` slots.

  Chunks are told their Steps and which of their P pieces end at a recorded
  step, (P,) bool. The gaps between recorded steps decide how many slots a
  piece has: a power of two, so that few shapes are compiled. A chunk is open if
  another piece would have fitted in.
  """
  waiting: list[tuple[np.ndarray, bool]] = []
  size = 1
  begins = np.append(0, record_steps[:-1])
  for begin, end in zip(begins, record_steps, strict=True):
    num_parts = max(1, -(-(end - begin) // most))
    parts = np.array_split(np.arange(begin, end), num_parts)
    for part in parts:
      needed = 1 << max(0, len(part) - 1).bit_length()
      if waiting and (needed != size or len(waiting) * size == most):
        yield _chunk(waiting, size, most)
        waiting = []
      size = needed
      waiting.append((part, part is parts[-1]))
  yield _chunk(waiting, size, most)


def _chunk(
  pieces: list[tuple[np.ndarray, bool]], size: int, most: int
) -> Chunk:
  """Pieces of up to `size` steps, and empty ones to make `most` slots."""
  steps = np.zeros((most // size, size), int)
  active = np.zeros(steps.shape, bool)
  recorded = np.zeros(len(steps), bool)
  last, end = 0, 0
  for i in range(len(steps)):
    part, ends = pieces[i] if i < len(pieces) else (np.arange(0), False)
    active[i, : len(part)] = True
    recorded[i] = ends
    if len(part):
      last, end = part[-1], int(part[-1]) + 1
    steps[i] = last
    steps[i, : len(part)] = part
  slots = Steps(steps.ravel(), active.ravel())
  is_open = len(pieces) * size < most
  return Chunk(((slots,), (recorded,)), recorded, end, is_open)
