"""The engines side by side: how each trains and measures one run.

`plain` is the definition. `blocked` and `gram` give its numbers, to float32
rounding, for plain SGD on the true gradient.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, PartitionSpec

from ossgd.compact import weights
from ossgd.engines import (
  blocked,
  gram,
  measuring,
  meshes,
  optimizers,
  sgd,
)
from ossgd.engines.interface import Chunk, Engine, Numbers, Stage
from ossgd.engines.setup import Setup
from ossgd.paper.types import Dataset, Params, Split
from ossgd.recording.recorders import DISTANCE


def make(
  setup: Setup, mesh: Mesh | None = None, numbers: Numbers | None = None
) -> Engine:
  """The engine of a setup, one that was chosen.

  Args:
    setup: with the name of an engine.
    mesh: over which the units are split, if any.
    numbers: the setup's if not given; they may be traced.
  """
  engine: Engine
  numbers = numbers or setup.numbers
  method = setup.method(numbers)
  if setup.engine == 'gram':
    engine = gram.OnGram(setup, mesh, numbers)
  elif setup.engine == 'blocked':
    advance = functools.partial(
      blocked.advance,
      rate=numbers.rate,
      output_rate=numbers.output_rate,
    )
    engine = OnWeights(setup, mesh, method, advance)
  else:
    engine = OnWeights(setup, mesh, method, sgd.advance)
  if setup.engine != 'plain' and setup.used_columns is not None:
    return SkippingZeros(engine, np.array(setup.used_columns))
  return engine


def without_numbers(setup: Setup) -> Setup:
  """What programs depend on, besides shapes and the numbers they are told."""
  aside: dict[str, Any] = {'eval_every': 1, 'eval_growth': 0.0}
  if setup.engine != 'gram':  # which knows the batch of every step
    aside['num_steps'] = 1
  if isinstance(setup.model.start, str):
    aside['init_scale'] = 0.0
  if optimizers.is_linear(setup.optimizer):
    aside |= {'lr_times_width': 0.0, 'output_lr_times_width': None}
  return dataclasses.replace(setup, **aside)


@dataclasses.dataclass(frozen=True)
class OnWeights:
  """The state has w: one chunk from a recorded step to the next."""

  setup: Setup
  mesh: Mesh | None
  method: sgd.Method  # of the setup; an optimizer is made once
  advance: Callable  # as `sgd.advance`

  @property
  def chunks(self) -> Sequence[Chunk]:
    """Each trains up to its recorded step, and measures there."""
    ends = self.setup.record_steps
    begins = np.append(0, ends[:-1])
    return [
      Chunk(((begin, end), ()), np.array([True]), int(end))
      for begin, end in zip(begins, ends, strict=True)
    ]

  @property
  def stages(self) -> Mapping[str, Stage]:
    """Steps, then a measurement."""
    return {'train': self._train, 'measure': self._measure}

  def start(self, key, params, split):
    """State: `sgd.WeightState`. Begin: order key, `measuring.Reference`."""
    a = params.a if self.setup.model.layers == 'both' else None
    number = split.train.x.shape[0]
    state = sgd.initial_state(key, params.w, number, self.method, a)
    begin = measuring.reference(
      params,
      split,
      num_train_eval=self.setup.num_train_eval,
      shards=meshes.shards(self.mesh)[1],
      recorders=self.setup.measured,
    )
    return state, (key, begin)

  def _train(self, state, begin, split, first, end):
    key, begin = begin
    state = self.advance(
      key,
      state,
      begin.params,
      split.train,
      first,
      end,
      method=self.method,
    )
    return state, ()

  def _measure(self, state, begin, split):
    record = measuring.measure(
      self.weights(self.kept(state), begin[1].params, split),
      begin[1],
      split,
      num_train_eval=self.setup.num_train_eval,
      of_g=sgd.trains_g(self.setup.gradient_fn),
      mesh=self.mesh,
      recorders=self.setup.measured,
      model=self.setup.model,
    )
    return state, (record,)

  def kept(self, state):
    """w, a where it is trained, and averages that are to be judged."""
    return state.w, state.a, optimizers.averages(state.optimizer)

  def weights(self, kept, params, split):
    """They are there, or follow from their averages."""
    del split
    w, a, averages = kept
    if a is None:
      return Params(optimizers.judged(averages, w), params.a)
    return optimizers.judged(averages, Params(w, a))

  def rows(self, kept, params, split):
    """Of the weights, which are there."""
    w = self.weights(kept, params, split).w

    return functools.partial(weights.part, w)

  def layout(self, state):
    """What an optimizer keeps of each weight lies where the weight does."""
    (w, a), whole = (state.w, state.a), meshes.WHOLE

    def of(leaf):
      if leaf.shape[-2:] == w.shape[-2:]:
        several = (None,) * (leaf.ndim - w.ndim)  # as L-BFGS remembers
        return PartitionSpec(*several, *meshes.ROWS)
      of_outputs = a is not None and leaf.shape == a.shape
      return meshes.COLUMNS if of_outputs else whole

    return jax.tree.map(of, state)


@dataclasses.dataclass(frozen=True)
class SkippingZeros:
  """The same without coordinates that are zero in every example.

  The gradient is zero there, so those weights stay as they were drawn; they
  count in ||w(0)|| and in w(T), and in nothing else.
  """

  engine: Engine  # for plain SGD
  columns: np.ndarray  # the other coordinates

  @property
  def chunks(self) -> Sequence[Chunk]:
    """The engine's."""
    return self.engine.chunks

  @property
  def stages(self) -> Mapping[str, Stage]:
    """The engine's, with distances relative to all of w(0)."""
    return {
      name: functools.partial(self._stage, stage)
      for name, stage in self.engine.stages.items()
    }

  def _narrow(self, params: Params, split: Split) -> tuple[Params, Split]:
    train, test = (
      Dataset(data.x[:, self.columns], data.y)
      for data in (split.train, split.test)
    )
    return Params(params.w[:, self.columns], params.a), Split(train, test)

  def start(self, key, params, split):
    """The engine's, of the columns that are used."""
    fewer, used = self._narrow(params, split)
    state, begin = self.engine.start(key, fewer, used)
    share = jnp.linalg.norm(fewer.w) / jnp.linalg.norm(params.w)
    return state, (begin, used, share)

  def _stage(self, stage: Stage, state, begin, split, *others):
    del split  # begin has the part that is used
    begin, used, share = begin
    state, passed = stage(state, begin, used, *others)
    return state, tuple(
      value | {DISTANCE: share * value[DISTANCE]}
      if isinstance(value, dict)  # a Record
      else value
      for value in passed
    )

  def kept(self, state):
    """The engine's."""
    return self.engine.kept(state)

  def weights(self, kept, params, split):
    """The engine's, beside those that stayed as they were."""
    used = self.engine.weights(kept, *self._narrow(params, split))
    return Params(params.w.at[:, self.columns].set(used.w), used.a)

  def rows(self, kept, params, split):
    """The same of some units at a time."""
    used = self.engine.rows(kept, *self._narrow(params, split))

    def of_units(first, number):
      w = weights.part(params.w, first, number)
      return w.at[:, self.columns].set(used(first, number))

    return of_units

  def layout(self, state):
    """The engine's."""
    return self.engine.layout(state)
