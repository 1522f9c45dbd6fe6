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
  draw: Callable[[jax.Array], Split]  # the data of a block of seeds, compiled
  shared: bool  # whether all seeds have the same data, without a seed axis
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
  """What a block of seeds needs at one width; compiled when first called.

  The data are an argument, not constants of the program.
  """
  method = sgd.Method(
    plan.optimizer(plan.lr_times_width / width),
    plan.batch_size,
    plan.order,
    plan.gradient_fn,
  )

  def start(seed, split):
    begin = runs.start(
      runs.seed_keys(seed).init,
      split,
      width=width,
      num_classes=plan.num_classes,
      init_scale=plan.init_scale,
    )
    return sgd.start(begin.params.w, plan.num_train, method), begin

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

  axis = None if plan.shared else 0
  if plan.seeds_at_once > 1:
    start = jax.vmap(start, (0, axis))
    advance = jax.vmap(advance, (0, 0, 0, axis, None))
    spectra = jax.vmap(runs.spectra)
  else:
    spectra = runs.spectra
  return Unit(
    jax.jit(start), jax.jit(advance, donate_argnums=0), jax.jit(spectra)
  )


def run_block(
  unit: Unit, plan: Plan, block: np.ndarray, tell: Callable[[float], None]
) -> tuple[runs.Record, runs.Spectra]:
  """One work unit: arrays (seed, step) and (seed, rank)."""
  seeds = jnp.asarray(block if plan.seeds_at_once > 1 else block[0])
  split = plan.draw(seeds)
  state, begin = unit.start(seeds, split)
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
