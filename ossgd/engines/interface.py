"""What an engine is: a way to the numbers of a run, chunk by chunk.

A chunk of steps goes through the engine's stages one after the other; each is a
program of its own, so that a short one need not wait for a long one to compile.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import jax
import numpy as np

from ossgd.paper.types import Params, Split


class Numbers(NamedTuple):
  """What programs are told of a run: no shape depends on it; float32."""

  std: Any  # of the entries of w(0): init_scale / sqrt(m)
  step_size: Any  # eta
  output_step_size: Any  # that of the output weights
  # Both divided by B, each as it was always rounded: the first in float64.
  rate: Any
  output_rate: Any


class Chunk(NamedTuple):
  """A stretch of steps."""

  arguments: tuple[tuple, ...]  # of each stage, what it is told of the chunk
  recorded: np.ndarray  # which of its measurements are at recorded steps
  end: int  # the step it ends at
  open: bool = False  # whether a longer run has more steps in it


class Steps(NamedTuple):
  """The S slots of a chunk; one that is not used repeats a step."""

  step: np.ndarray  # (S,) int
  active: np.ndarray  # (S,) bool


# (state, begin, split, *passed, *told) -> state, passed: what the stage before
# passed on, and what the chunk tells this one. The last one passes a Record.
Stage = Callable[..., tuple[Any, tuple]]


class Engine(Protocol):
  """Pure functions of one run; `compiled` makes programs of them."""

  @property
  def chunks(self) -> Sequence[Chunk]:
    """All steps of the run."""

  @property
  def stages(self) -> Mapping[str, Stage]:
    """By the name that their time is told under."""

  def start(
    self, key: jax.Array, params: Params, split: Split
  ) -> tuple[Any, Any]:
    """The state before the first step, and what stays as it began.

    Args:
      key: the seed's order key.
      params: at w(0).
      split: the data.
    """

  def kept(self, state: Any) -> Any:
    """What of a state the weights follow from."""

  def weights(self, kept: Any, params: Params, split: Split) -> Params:
    """Those at step t, from that, the parameters at w(0) and the data."""

  def rows(
    self, kept: Any, params: Params, split: Split
  ) -> Callable[[jax.Array | int, int], jax.Array]:
    """w of so many units from the first one on, from the same."""

  def layout(self, state: Any) -> Any:
    """The PartitionSpecs of a state's arrays on a mesh."""


def record_steps(num_steps: int, every: int, growth: float) -> np.ndarray:
  """Steps at which is measured: 0, then by `gap`, and the last one.

  Args:
    num_steps: T.
    every: steps between measurements, at least.
    growth: gaps double while they stay below this fraction of the step.
  """
  steps = [0]
  while steps[-1] < num_steps:
    next_one = steps[-1] + gap(steps[-1], every, growth)
    steps.append(min(next_one, num_steps))
  return np.array(steps)


def gap(step: int, every: int, growth: float) -> int:
  """From a recorded step to the next one, of a run that goes on."""
  found = every
  while 2 * found <= growth * step:
    found *= 2
  return found


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
