"""Compiled programs: what a block of seeds needs at one width.

Here is the edge where `jit` lives. `execution` goes from one chunk of steps to
the next with them; all blocks of a width share one compilation.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
from jax.sharding import Mesh

from ossgd.compact import normals, weights
from ossgd.engines import cost, gram, kinds, measuring, meshes
from ossgd.engines.interface import Chunk, Engine
from ossgd.engines.setup import Setup
from ossgd.machine import memory
from ossgd.paper.types import Params
from ossgd.running import hosts


class Grouping(NamedTuple):
  """Which seeds run side by side, and where; no number depends on it."""

  seeds_at_once: int  # one means no vmap
  mesh: Mesh | None  # of several devices
  shared: bool  # whether all seeds have the same data


def group(
  mesh: str | Mesh,
  widths: Sequence[int],
  num_seeds: int,
  seeds_at_once: int | None,
  *,
  shared: bool,
) -> Grouping:
  """Devices, and as many seeds at once as suit them; see `sweeps.sweep`."""
  devices = meshes.make(
    mesh, widths=widths, num_seeds=num_seeds, seeds_at_once=seeds_at_once
  )
  # Batched matmuls are slower than a loop over seeds on a CPU.
  one_by_one = jax.default_backend() == 'cpu'
  fewest = meshes.shards(devices)[0]
  at_once = seeds_at_once or (fewest if one_by_one else num_seeds)
  return Grouping(at_once, devices, shared)


def choose_engine(
  setup: Setup, grouping: Grouping, *, whole: bool = False
) -> str:
  """The engine of one width: the fastest that is exact, allowed, and fits.

  Args:
    setup: of each run.
    grouping: of the seeds.
    whole: w(T) is asked for, not its singular values alone.

  Raises:
    ValueError: no engine is both allowed and exact, or none fits in memory.
  """
  return cost.choose(
    setup,
    hosts.least(memory.of_device()),
    grouping.seeds_at_once,
    meshes.shards(grouping.mesh),
    whole=whole,
  )


class Programs(NamedTuple):
  """The compiled functions of one width, over a block of seeds."""

  setup: Setup
  grouping: Grouping
  chunks: list[Chunk]
  common: int  # chunks that every longer run begins with
  draw: Callable  # (seeds, split) -> Params at w(0)
  start: Callable  # (Params at w(0), seeds, split) -> state, begin
  # (state, begin, split, passed, told) -> state, passed
  stages: dict[str, Callable]
  kept: Callable  # state -> what of it the weights follow from
  finish: Callable  # (kept, Params at w(0), split) -> arrays by name
  layout: Callable  # state -> the PartitionSpecs of its arrays on a mesh


def programs(
  setup: Setup, grouping: Grouping, extra: measuring.Extra | None = None
) -> Programs:
  """What a block of seeds needs at one width; compiled when first called."""
  engine = kinds.make(setup, grouping.mesh)
  chunks = list(engine.chunks)
  constrain = functools.partial(
    meshes.constrain,
    mesh=grouping.mesh,
    of_seeds=grouping.seeds_at_once > 1,
  )
  over_seeds = _over_seeds(grouping)
  split_axis = None if grouping.shared else 0

  def draw(seed, split):
    return measuring.draw_params(
      measuring.seed_keys(seed).init,
      width=setup.width,
      dim=split.train.x.shape[1],
      num_classes=setup.num_classes,
      scale=setup.init_scale,
      model=setup.model,
      # Devices would each draw all pieces.
      normal=normals.draw if grouping.mesh is None else jax.random.normal,
    )

  def drawn(seeds, split):
    params = over_seeds(draw, (0, split_axis))(seeds, split)
    return constrain(params, Params(meshes.ROWS, meshes.COLUMNS))

  return Programs(
    setup,
    grouping,
    chunks,
    common(chunks, setup.shared_step),
    jax.jit(drawn),
    _start(engine, setup, grouping, constrain),
    _stages(engine, constrain, over_seeds, split_axis),
    engine.kept,
    jax.jit(over_seeds(_finish(engine, grouping, extra), (0, 0, split_axis))),
    engine.layout,
  )


def _start(
  engine: Engine, setup: Setup, grouping: Grouping, constrain: Callable
) -> Callable:
  """Begins from w(0), or from a few rows of it at a time where H is large."""
  over_seeds = _over_seeds(grouping)
  axes = (0, 0, None if grouping.shared else 0)

  def whole(params, seed, split):
    return engine.start(measuring.seed_keys(seed).order, params, split)

  def started(params, seeds, split):
    state, begin = over_seeds(whole, axes)(params, seeds, split)
    return constrain(state, engine.layout(state)), begin

  one_device = grouping.mesh is None and isinstance(engine, gram.OnGram)
  if not one_device or not cost.from_rows(setup):
    return jax.jit(started)
  begin: Any = engine

  def of_rows(a, seed, split):
    keys = measuring.seed_keys(seed)
    rows = weights.drawn(
      jax.random.fold_in(keys.init, setup.width),
      width=setup.width,
      dim=split.train.x.shape[1],
      scale=setup.init_scale,
    )
    return begin.start_from_rows(keys.order, rows, a, split)

  from_rows = jax.jit(over_seeds(of_rows, axes))

  def start(params, seeds, split):
    params.w.delete()  # H has to have its memory
    return from_rows(params.a, seeds, split)

  return start


def _finish(
  engine: Engine, grouping: Grouping, extra: measuring.Extra | None
) -> Callable:
  """What is measured at the end, of a few rows of w(T) at a time if it can."""

  def finish(kept, begun, split):
    if extra is None and grouping.mesh is None:
      return weights.spectra(engine.rows(kept, begun, split), begun)
    trained = engine.weights(kept, begun, split)
    return measuring.finish(
      trained, begun, split, extra=extra, mesh=grouping.mesh
    )

  return finish


def common(chunks: list[Chunk], shared_step: int) -> int:
  """How many chunks all runs begin with that record this step and go on.

  An open chunk before it was followed by another shape, there as here.
  """
  within = [chunk for chunk in chunks if chunk.end <= shared_step]
  grows = within and within[-1].end == shared_step and within[-1].open
  return len(within) - bool(grows)


def _over_seeds(grouping: Grouping) -> Callable:
  """`vmap`, unless seeds go one by one."""
  if grouping.seeds_at_once == 1:
    return lambda function, in_axes: function
  name = None if grouping.mesh is None else meshes.SEED
  return functools.partial(jax.vmap, spmd_axis_name=name)


def _stages(
  engine: Engine, constrain: Callable, over_seeds: Callable, split_axis
) -> dict[str, Callable]:
  """The engine's, each a program: what the chunk tells is of all seeds."""

  def compiled(stage):
    def of_block(state, begin, split, passed, told):
      axes = (0, 0, split_axis, *[0] * len(passed), *[None] * len(told))
      state, passed = over_seeds(stage, axes)(
        state, begin, split, *passed, *told
      )
      return constrain(state, engine.layout(state)), passed

    return jax.jit(of_block, donate_argnums=0)

  return {name: compiled(stage) for name, stage in engine.stages.items()}
