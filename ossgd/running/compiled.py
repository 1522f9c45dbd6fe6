"""Compiled programs: what a block of seeds needs at one width.

Here is the edge where `jit` lives. `execution` goes from one chunk of steps to
the next with them; all blocks of a width share one compilation.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from ossgd.engines import cost, kinds, measuring, meshes
from ossgd.engines.interface import Chunk, Numbers
from ossgd.engines.setup import Setup
from ossgd.machine import memory
from ossgd.paper.types import Params
from ossgd.running import caching, datasets, hosts


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


def choose_engine(setup: Setup, grouping: Grouping) -> str:
  """The engine of one width: the fastest that is exact, allowed, and fits.

  Raises:
    ValueError: no engine is both allowed and exact, or none fits in memory.
  """
  return cost.choose(
    setup,
    hosts.least(memory.of_device()),
    grouping.seeds_at_once,
    meshes.shards(grouping.mesh),
  )


class Programs(NamedTuple):
  """The compiled functions of one width, over a block of seeds."""

  setup: Setup
  grouping: Grouping
  chunks: list[Chunk]
  common: int  # chunks that every longer run begins with
  draw: caching.Program  # (seeds, split) -> Params at w(0)
  start: caching.Program  # (Params at w(0), seeds, split) -> state, begin
  # (state, begin, split, passed, told) -> state, passed
  stages: dict[str, caching.Program]
  kept: Callable  # state -> what of it the weights follow from
  weights: caching.Program  # (kept, Params at w(0), split) -> Params at the end
  # (Params at the end, Params at w(0), split) -> arrays by name
  finish: caching.Program
  layout: Callable  # state -> the PartitionSpecs of its arrays on a mesh


def programs(
  setup: Setup, grouping: Grouping, extra: measuring.Extra | None = None
) -> Programs:
  """What a block of seeds needs at one width; compiled when first called.

  Asked for again, they are those that were compiled before, and so they are
  with other numbers, or with another schedule.
  """
  made = caching.remembered(
    _made, kinds.without_numbers(setup), grouping, extra
  )
  told = {name: one.telling(setup.numbers) for name, one in made.items()}
  engine = kinds.make(setup, grouping.mesh)
  chunks = list(engine.chunks)
  return Programs(
    setup,
    grouping,
    chunks,
    common(chunks, setup.shared_step),
    told['draw'],
    told['start'],
    {name: told[f'stage {name}'] for name in engine.stages},
    engine.kept,
    told['weights'],
    told['finish'],
    engine.layout,
  )


def prepare(
  programs: Programs, source: datasets.Source, num_seeds: int
) -> None:
  """Has the programs of a width compiled by other threads, in their order.

  Nothing waits here: a program that is called waits for itself. It may be asked
  for while another width is at work. Over devices nothing is done: how arrays
  lie is known when their program has been compiled.

  Args:
    programs: of the width.
    source: of the data.
    num_seeds: that are to run.
  """
  at_once = programs.grouping.seeds_at_once
  if programs.grouping.mesh is not None:
    return
  number = min(at_once, num_seeds)
  seeds = jnp.asarray(np.zeros(() if at_once == 1 else number, int))
  split = source.shared or source.draw.prepare(seeds)
  params = programs.draw.prepare(seeds, split)
  state, begin = programs.start.prepare(params, seeds, split)
  # Of chunks of as many pieces all arguments have the same shapes.
  for chunk in {len(c.recorded): c for c in programs.chunks}.values():
    passed: tuple[Any, ...] = ()
    stages = zip(programs.stages.values(), chunk.arguments, strict=True)
    for stage, told in stages:
      state, passed = stage.prepare(state, begin, split, passed, told)
  trained = programs.weights.prepare(programs.kept(state), params, split)
  programs.finish.prepare(trained, params, split)


def _made(
  setup: Setup, grouping: Grouping, extra: measuring.Extra | None
) -> dict[str, caching.Program]:
  """The programs of all runs that differ in numbers only."""
  constrain = functools.partial(
    meshes.constrain,
    mesh=grouping.mesh,
    of_seeds=grouping.seeds_at_once > 1,
  )
  over_seeds = _over_seeds(grouping)
  split_axis = None if grouping.shared else 0

  def engine_of(numbers):
    return kinds.make(setup, grouping.mesh, numbers)

  def draw(seeds, split, numbers):
    one = functools.partial(_draw, setup, numbers)
    params = over_seeds(one, (0, split_axis))(seeds, split)
    return constrain(params, Params(meshes.ROWS, meshes.COLUMNS))

  def start(params, seeds, split, numbers):
    engine = engine_of(numbers)

    def one(params, seed, split):
      return engine.start(measuring.seed_keys(seed).order, params, split)

    state, begin = over_seeds(one, (0, 0, split_axis))(params, seeds, split)
    return constrain(state, engine.layout(state)), begin

  def weights(kept, params, split, numbers):
    found = over_seeds(engine_of(numbers).weights, (0, 0, split_axis))
    return found(kept, params, split)

  def finish(trained, params, split, numbers):
    del numbers
    one = functools.partial(measuring.finish, extra=extra, mesh=grouping.mesh)
    return over_seeds(one, (0, 0, split_axis))(trained, params, split)

  def stage(name, state, begin, split, passed, told, numbers):
    engine = engine_of(numbers)
    axes = (0, 0, split_axis, *[0] * len(passed), *[None] * len(told))
    state, passed = over_seeds(engine.stages[name], axes)(
      state, begin, split, *passed, *told
    )
    return constrain(state, engine.layout(state)), passed

  found = {f.__name__: jax.jit(f) for f in (draw, start, weights, finish)}
  for name in engine_of(None).stages:
    own = functools.partial(stage, name)
    found[f'stage {name}'] = jax.jit(own, donate_argnums=0)
  return {name: caching.Program(function) for name, function in found.items()}


def _draw(setup: Setup, numbers: Numbers, seed: Any, split: Any) -> Params:
  """w(0) and a of a seed; a start of one's own is given the scale."""
  if isinstance(setup.model.start, str):
    size = {'std': numbers.std}
  else:
    size = {'scale': setup.init_scale}
  return measuring.draw_params(
    measuring.seed_keys(seed).init,
    width=setup.width,
    dim=split.train.x.shape[1],
    num_classes=setup.num_classes,
    model=setup.model,
    **size,
  )


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
