"""Work units: one width with a block of seeds, planned and compiled.

Here is the edge where `jit` lives. `execution` runs a unit from one chunk of
steps to the next, so that memory stays that of one block, and all blocks of a
width share one compilation.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import numpy as np
import optax
from jax.sharding import Mesh

from ossgd.engines import cost, interface, measuring, meshes, sgd
from ossgd.paper.types import Params, Split
from ossgd.running import hosts


class Plan(NamedTuple):
  """What all units of a sweep share; `sweeps.sweep` says what each means."""

  num_classes: int
  num_train: int
  draw: Callable[[jax.Array], Split]  # the data of a block of seeds, compiled
  shared: Split | None  # the data of all seeds, if they have the same
  num_steps: int
  eval_every: int
  eval_growth: float
  batch_size: int
  lr_times_width: float
  init_scale: float
  order: sgd.Order
  optimizer: Callable[[float], optax.GradientTransformation]
  gradient_fn: sgd.GradientFn
  num_train_eval: int | None
  seeds_at_once: int  # one means no vmap
  extra: measuring.Extra | None
  engine: str  # auto, plain, fast, or a name of `engines.ENGINES`
  dim: int
  num_test: int
  columns: np.ndarray | None  # those with a number in them, if not all
  mesh: Mesh | None = None  # of several devices

  @property
  def examples_per_step(self) -> int:
    """B as engines and costs have it: N with full batches."""
    return sgd.examples_per_step(self.order, self.num_train, self.batch_size)

  @property
  def record_steps(self) -> np.ndarray:
    """0, then gaps of eval_every that double in proportion to the step."""
    steps = [0]
    while steps[-1] < self.num_steps:
      gap = self.eval_every
      while 2 * gap <= self.eval_growth * steps[-1]:
        gap *= 2
      steps.append(min(steps[-1] + gap, self.num_steps))
    return np.array(steps)


def choose_engine(plan: Plan, width: int) -> str:
  """The engine of one width: the fastest that is exact, allowed, and fits.

  Raises:
    ValueError: no engine is both allowed and exact, or none fits in memory.
  """
  exact = plan.optimizer is optax.sgd and plan.gradient_fn is sgd.true_gradient
  allowed = {
    'auto': ('gram', 'blocked', 'plain') if exact else ('plain',),
    'fast': ('gram', 'blocked') if exact else (),
    'plain': ('plain',),
    'blocked': ('blocked',) if exact else (),
    'gram': ('gram',) if exact else (),
  }
  if plan.engine not in allowed:
    raise ValueError(
      f'engine is {plan.engine!r}; expected one of {", ".join(allowed)}'
    )
  if not allowed[plan.engine]:
    raise ValueError(
      f'engine {plan.engine} is for optax.sgd on the true gradient; expected '
      'these, or the engine auto or plain'
    )
  shape = cost.Shape(
    width=width,
    dim=plan.dim if plan.columns is None else len(plan.columns),
    num_classes=plan.num_classes,
    num_train=plan.num_train,
    num_test=plan.num_test,
    num_train_eval=plan.num_train_eval or plan.num_train,
    batch_size=plan.examples_per_step,
    seeds_at_once=plan.seeds_at_once,
  )
  return cost.choose(
    allowed[plan.engine],
    shape,
    plan.record_steps,
    hosts.least(cost.available()),
    shards=meshes.shards(plan.mesh),
  )


class Unit(NamedTuple):
  """The compiled functions of one width, over a block of seeds."""

  chunks: list[interface.Chunk]
  draw: Callable  # (seeds, split) -> Params at w(0)
  start: Callable  # (Params at w(0), seeds, split) -> state, begin
  # (state, passed, seeds, begin, split, argument) -> state, passed
  stages: dict[str, Callable]
  kept: Callable  # state -> what of it the weights follow from
  weights: Callable  # (kept, Params at w(0), split) -> w(T)
  finish: Callable  # (w(T), Params at w(0), split) -> arrays by name
  layout: Callable  # state -> the PartitionSpecs of its arrays on a mesh


def compile_unit(plan: Plan, width: int) -> Unit:
  """What a block of seeds needs at one width; compiled when first called.

  The plan's engine is one that was chosen. The data are an argument, not
  constants of the program.
  """
  # A NumPy float would make gradients float64 in JAX's 64-bit mode.
  step_size = float(plan.lr_times_width / width)
  method = sgd.Method(
    plan.optimizer(step_size),
    plan.examples_per_step,
    plan.order,
    plan.gradient_fn,
  )
  settings = interface.Settings(
    method,
    width,
    step_size,
    plan.record_steps,
    plan.num_train_eval,
    plan.mesh,
  )
  engine = interface.ENGINES[plan.engine](settings)
  if plan.engine != 'plain' and plan.columns is not None:
    engine = interface.skipping_zeros(engine, plan.columns)

  def draw(seed, split):
    return measuring.init_params(
      measuring.seed_keys(seed).init,
      width=width,
      dim=split.train.x.shape[1],
      num_classes=plan.num_classes,
      scale=plan.init_scale,
    )

  def start(params, seed, split):
    return engine.start(measuring.seed_keys(seed).order, params, split)

  over_seeds = functools.partial(
    jax.vmap, spmd_axis_name=None if plan.mesh is None else meshes.SEED
  )
  constrain = functools.partial(
    meshes.constrain, mesh=plan.mesh, of_seeds=plan.seeds_at_once > 1
  )

  def drawn(seeds, split):
    laid_out = Params(meshes.ROWS, meshes.COLUMNS)
    return constrain(draw(seeds, split), laid_out)

  def started(params, seeds, split):
    state, begin = start(params, seeds, split)
    return constrain(state, engine.layout(state)), begin

  def compiled(stage):
    def of_seed(state, passed, seed, begin, split, argument):
      key = measuring.seed_keys(seed).order
      return stage(key, state, passed, begin, split, argument)

    if plan.seeds_at_once > 1:
      of_seed = over_seeds(of_seed, (0, 0, 0, 0, axis, None))

    def of_block(*arguments):
      state, passed = of_seed(*arguments)
      return constrain(state, engine.layout(state)), passed

    return jax.jit(of_block, donate_argnums=0)

  weights = engine.weights
  finish = functools.partial(measuring.finish, extra=plan.extra, mesh=plan.mesh)
  axis = 0 if plan.shared is None else None
  if plan.seeds_at_once > 1:
    draw = over_seeds(draw, (0, axis))
    start = over_seeds(start, (0, 0, axis))
    weights = over_seeds(weights, (0, 0, axis))
    finish = over_seeds(finish, (0, 0, axis))
  return Unit(
    engine.chunks,
    jax.jit(drawn),
    jax.jit(started),
    {name: compiled(stage) for name, stage in engine.stages.items()},
    engine.kept,
    jax.jit(weights),
    jax.jit(finish),
    engine.layout,
  )
