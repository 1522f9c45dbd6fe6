"""The engines side by side: how each trains and measures one run.

`plain` is the definition. `blocked` and `gram` give its numbers, to float32
rounding, for plain SGD on the true gradient.
"""

import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from ossgd import blocks, gram, runs, sgd


class Chunk(NamedTuple):
  """A stretch of steps, in the form its engine wants it."""

  argument: Any
  recorded: np.ndarray  # which of its measurements are at recorded steps
  end: int  # the step it ends at


class Engine(NamedTuple):
  """Pure functions of one run."""

  chunks: list[Chunk]
  start: Callable  # (params, split) -> state, begin
  advance: Callable  # (key, state, begin, split, chunk) -> state, Record
  kept: Callable  # (state, begin) -> what the weights follow from
  weights: Callable  # (kept, draw, split) -> w(T), Params at w(0)


def plain(
  method: sgd.Method, *, step_size: float, record_steps: np.ndarray, **others
) -> Engine:
  """Any optimizer and gradient."""
  del step_size
  train = functools.partial(sgd.advance, method=method)
  return _on_weights(method, train, record_steps, **others)


def blocked(
  method: sgd.Method, *, step_size: float, record_steps: np.ndarray, **others
) -> Engine:
  """Several steps at a time; the weights are its state as well."""
  train = functools.partial(blocks.advance, method=method, step_size=step_size)
  return _on_weights(method, train, record_steps, **others)


def on_gram(
  method: sgd.Method,
  *,
  step_size: float,
  record_steps: np.ndarray,
  num_train_eval: int | None,
) -> Engine:
  """Pre-activations of all examples are its state."""
  planned = gram.chunks(record_steps, blocks.size(method.batch_size))
  advance = functools.partial(
    gram.advance,
    order=method.order,
    batch_size=method.batch_size,
    step_size=step_size,
    num_train_eval=num_train_eval,
  )

  def weights(c, draw, split):
    params = draw()
    return gram.weights(c, params, split), params

  return Engine(
    [Chunk(c, c.recorded, int(c.steps[-1]) + 1) for c in planned],
    gram.start,
    advance,
    kept=lambda state, begin: state.c,
    weights=weights,
  )


ENGINES: Mapping[str, Callable[..., Engine]] = {
  'plain': plain,
  'blocked': blocked,
  'gram': on_gram,
}


def _on_weights(
  method: sgd.Method,
  train: Callable,
  record_steps: np.ndarray,
  num_train_eval: int | None,
) -> Engine:
  """An engine whose state has w: one chunk from a recorded step to the next."""

  def start(params, split):
    state = sgd.start(params.w, split.train.x.shape[0], method)
    return state, runs.start(params, split)

  begins = np.append(0, record_steps[:-1])
  ends = np.stack([begins, record_steps], axis=1)
  return Engine(
    [Chunk(boundaries, np.array([True]), boundaries[1]) for boundaries in ends],
    start,
    functools.partial(runs.advance, train=train, num_train_eval=num_train_eval),
    kept=lambda state, begin: (state.w, begin.params),
    weights=lambda kept, draw, split: kept,
  )
