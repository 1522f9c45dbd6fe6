"""What an engine is: a way to the numbers of a run, chunk by chunk.

A chunk of steps goes through the engine's stages one after the other; each is a
program of its own, so that a short one need not wait for a long one to compile.
"""

from collections.abc import Callable, Mapping, Sequence
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

  def layout(self, state: Any) -> Any:
    """The PartitionSpecs of a state's arrays on a mesh."""
