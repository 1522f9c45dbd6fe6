"""The engines side by side: how each trains and measures one run.

`plain` is the definition. `blocked` and `gram` give its numbers, to float32
rounding, for plain SGD on the true gradient.
"""

import functools
from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from ossgd.engines import blocked, gram, measuring, meshes, schedule, sgd
from ossgd.paper.types import Dataset, Params, Split


class Chunk(NamedTuple):
  """A stretch of steps."""

  arguments: tuple  # one for each stage, in the form it wants
  recorded: np.ndarray  # which of its measurements are at recorded steps
  end: int  # the step it ends at


class Engine(NamedTuple):
  """Pure functions of one run."""

  chunks: list[Chunk]
  start: Callable  # (key, params, split) -> state, begin
  # Each (key, state, passed, begin, split, argument) -> state, passed, and a
  # program of its own; the first is passed None, the last returns a Record.
  stages: dict[str, Callable]
  kept: Callable  # state -> what of it the weights follow from
  weights: Callable  # (kept, Params at w(0), split) -> w(T)
  layout: Callable  # state -> the PartitionSpecs of its arrays on a mesh


class Settings(NamedTuple):
  """What an engine is made of."""

  method: sgd.Method
  width: int
  step_size: float  # eta, as the method's optimizer has it
  record_steps: np.ndarray
  num_train_eval: int | None
  mesh: Mesh | None = None


def plain(settings: Settings) -> Engine:
  """Any optimizer and gradient."""
  advance = functools.partial(sgd.advance, method=settings.method)
  return _on_weights(settings, advance)


def in_blocks(settings: Settings) -> Engine:
  """Several steps at a time; the weights are its state as well."""
  advance = functools.partial(
    blocked.advance, method=settings.method, step_size=settings.step_size
  )
  return _on_weights(settings, advance)


def on_gram(settings: Settings) -> Engine:
  """Pre-activations of all examples are its state."""
  method, width, step_size, record_steps, num_train_eval, mesh = settings
  planned = schedule.plan(record_steps, blocked.size(method.batch_size, width))
  start = functools.partial(
    gram.start,
    num_steps=int(record_steps[-1]),
    order=method.order,
    batch_size=method.batch_size,
    shards=meshes.shards(mesh)[1],
  )

  def train(key, state, passed, begin, split, steps):
    del key, passed  # the order is in begin
    return gram.train(state, begin, split, steps, step_size=step_size)

  def measure(key, state, trained, begin, split, recorded):
    del key
    return gram.measure(
      state,
      trained,
      begin,
      split,
      recorded,
      num_train_eval=num_train_eval,
      mesh=mesh,
    )

  return Engine(
    [Chunk((c.steps, c.recorded), c.recorded, c.end) for c in planned],
    start,
    {'train': train, 'measure': measure},
    kept=lambda state: state.c,
    weights=gram.weights,
    layout=gram.layout,
  )


def skipping_zeros(engine: Engine, columns: np.ndarray) -> Engine:
  """The same without coordinates that are zero in every example.

  The gradient is zero there, so those weights stay as they were drawn; they
  count in ||w(0)|| and in w(T), and in nothing else.

  Args:
    engine: for plain SGD.
    columns: the other coordinates.
  """

  def narrow(params, split):
    train, test = (
      Dataset(data.x[:, columns], data.y) for data in (split.train, split.test)
    )
    return Params(params.w[:, columns], params.a), Split(train, test)

  def start(key, params, split):
    fewer, used = narrow(params, split)
    state, begin = engine.start(key, fewer, used)
    share = jnp.linalg.norm(fewer.w) / jnp.linalg.norm(params.w)
    return state, (begin, used, share)

  def on_used(stage):
    def run(key, state, passed, begin, split, argument):
      begin, used, share = begin
      state, passed = stage(key, state, passed, begin, used, argument)
      if isinstance(passed, measuring.Record):
        distance = share * passed.relative_distance
        passed = passed._replace(relative_distance=distance)
      return state, passed

    return run

  def weights(kept, params, split):
    w = engine.weights(kept, *narrow(params, split))
    return params.w.at[:, columns].set(w)

  stages = {name: on_used(stage) for name, stage in engine.stages.items()}
  return engine._replace(start=start, stages=stages, weights=weights)


ENGINES: Mapping[str, Callable[..., Engine]] = {
  'plain': plain,
  'blocked': in_blocks,
  'gram': on_gram,
}


def _on_weights(settings: Settings, advance: Callable) -> Engine:
  """An engine whose state has w: one chunk from a recorded step to the next."""

  shards = meshes.shards(settings.mesh)[1]

  def start(key, params, split):
    del key
    state = sgd.start(params.w, split.train.x.shape[0], settings.method)
    return state, measuring.start(params, split, shards=shards)

  def train(key, state, passed, begin, split, ends):
    del passed
    return advance(key, state, begin.params, split.train, *ends), None

  def measure(key, state, passed, begin, split, ends):
    del key, passed, ends
    return state, measuring.measure(
      state.w,
      begin,
      split,
      num_train_eval=settings.num_train_eval,
      of_g=sgd.trains_g(settings.method.gradient_fn),
      shards=shards,
    )

  def layout(state):
    # What an optimizer keeps of each weight lies where the weight does.
    return jax.tree.map(
      lambda v: meshes.ROWS if v.shape == state.w.shape else meshes.WHOLE,
      state,
    )

  begins = np.append(0, settings.record_steps[:-1])
  return Engine(
    [
      Chunk((ends, None), np.array([True]), int(ends[1]))
      for ends in zip(begins, settings.record_steps, strict=True)
    ],
    start,
    {'train': train, 'measure': measure},
    kept=lambda state: state.w,
    weights=lambda w, params, split: w,
    layout=layout,
  )
