"""Work units: one width with a block of seeds, compiled and run.

Here is the edge where `jit` lives. The compiled step of a unit is called from
one recorded step to the next, so that progress can be told, memory stays that
of one block, and all blocks of a width share one compilation.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import threadpoolctl

from ossgd import runs, sgd
from ossgd.base import Split


class Plan(NamedTuple):
  """What all units of a sweep share; `sweeps.sweep` says what each means."""

  num_classes: int
  num_train: int
  draw: Callable[[jax.Array], Split] | None  # a seed's own data from its key
  fixed: Split | None  # or the same data for every seed
  num_steps: int
  eval_first: int
  eval_every: int
  batch_size: int
  lr_times_width: float
  init_scale: float
  order: sgd.Order
  optimizer: Callable[[float], optax.GradientTransformation]
  gradient_fn: sgd.GradientFn
  num_train_eval: int | None
  seeds_at_once: int  # one means no vmap

  @property
  def record_steps(self) -> np.ndarray:
    """Each step up to eval_first, then every eval_every-th, then the last."""
    first = np.arange(min(self.eval_first, self.num_steps))
    regular = np.arange(0, self.num_steps, self.eval_every)
    return np.union1d(np.union1d(first, regular), self.num_steps)


class Unit(NamedTuple):
  """The compiled functions of one width, over a block of seeds."""

  start: Callable
  advance: Callable
  spectra: Callable


def compile_unit(plan: Plan, width: int) -> Unit:
  """Compiles, on first call, what a block of seeds needs at one width.

  The order's key is a function of the seed, and so is the data unless it is
  fixed; a fixed Split is an argument, not a constant of the program, and is
  shared by the block.
  """
  method = sgd.Method(
    plan.optimizer(plan.lr_times_width / width),
    plan.batch_size,
    plan.order,
    plan.gradient_fn,
  )

  def start(seed, fixed):
    keys = runs.seed_keys(seed)
    split = plan.draw(keys.data) if plan.draw else fixed
    begin = runs.start(
      keys.init,
      split,
      width=width,
      num_classes=plan.num_classes,
      init_scale=plan.init_scale,
    )
    state = sgd.start(begin.params.w, len(split.train.y), method)
    return state, begin, split if plan.draw else None

  def advance(state, seed, begin, split, boundaries):
    return runs.advance(
      runs.seed_keys(seed).order,
      state,
      begin,
      split,
      boundaries,
      method=method,
      num_train_eval=plan.num_train_eval,
    )

  def over_seeds(function, in_axes):
    return jax.vmap(function, in_axes) if plan.seeds_at_once > 1 else function

  split_axis = 0 if plan.draw else None
  return Unit(
    jax.jit(over_seeds(start, (0, None))),
    jax.jit(over_seeds(advance, (0, 0, 0, split_axis, None)), donate_argnums=0),
    jax.jit(over_seeds(runs.spectra, 0)),
  )


def run_block(
  unit: Unit, plan: Plan, block: np.ndarray, tell: Callable[[float], None]
) -> tuple[runs.Record, runs.Spectra]:
  """One work unit: arrays (seed, step) and (seed, rank)."""
  seeds = jnp.asarray(block if plan.seeds_at_once > 1 else block[0])
  state, begin, drawn = unit.start(seeds, plan.fixed)
  split = drawn or plan.fixed
  records = []
  before = 0
  for step in plan.record_steps:
    boundaries = jnp.asarray([before, step])
    state, record = unit.advance(state, seeds, begin, split, boundaries)
    # Fetching the numbers waits for them, so that progress is true.
    records.append(jax.tree.map(lambda v: np.reshape(v, (-1, 1)), record))
    before = step
    tell(step / plan.num_steps)
  # LAPACK's own threads and XLA's wait for each other on a busy machine: one
  # decomposition was seen to take 10 s instead of 0.1 s.
  with threadpoolctl.threadpool_limits(1, user_api='blas'):
    spectra = unit.spectra(state.w, begin.params.w)
    spectra = jax.tree.map(lambda v: np.reshape(v, (len(block), -1)), spectra)
  return jax.tree.map(lambda *v: np.concatenate(v, axis=1), *records), spectra
