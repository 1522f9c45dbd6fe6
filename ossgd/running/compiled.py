"""Compiled programs: what a block of seeds needs at one width.

Here is the edge where `jit` lives. `execution` goes from one chunk of steps to
the next with them; all blocks of a width share one compilation.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from ossgd.compact import normals, weights
from ossgd.engines import cost, kinds, measuring, meshes
from ossgd.engines.interface import Chunk, Engine, Numbers
from ossgd.engines.setup import Setup
from ossgd.machine import hosts, lanes, memory
from ossgd.paper.types import Params
from ossgd.running import caching, datasets


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


def side_by_side(
  chosen: Sequence[Setup], grouping: Grouping, *, callback: bool
) -> int:
  """How many seeds run side by side in threads: on a CPU, one a core.

  Where memory is short they run one after the other, and so do groups under
  `vmap`, devices, hosts, and seeds with a callback that all would call.

  Args:
    chosen: the setup of each width, with its engine.
    grouping: of the seeds.
    callback: whether there is one.
  """
  if (
    jax.default_backend() != 'cpu'
    or jax.process_count() > 1
    or grouping.mesh is not None
    or grouping.seeds_at_once > 1
    or callback
  ):
    return 1
  largest = max(cost.memory(one.engine, one) for one in chosen)
  fitting = (memory.of_device() - cost.RUNTIME) // largest
  return max(1, min(lanes.number(), fitting))


class Programs(NamedTuple):
  """The compiled functions of one width, over a block of seeds."""

  setup: Setup
  grouping: Grouping
  chunks: list[Chunk]
  common: int  # chunks that every longer run begins with
  draw: caching.Program  # (seeds, split) -> Params at w(0)
  from_rows: bool  # whether a start draws w(0) again, a few rows at a time
  start: caching.Program  # (Params at w(0), or a, seeds, split) -> state, begin
  # (state, begin, split, passed, told) -> state, passed
  stages: dict[str, caching.Program]
  kept: Callable  # state -> what of it the weights follow from
  # (kept, Params at w(0), split) -> arrays by name
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
    _from_rows(setup, grouping),
    told['start'],
    {name: told[f'stage {name}'] for name in engine.stages},
    engine.kept,
    told['finish'],
    engine.layout,
  )


def _from_rows(setup: Setup, grouping: Grouping) -> bool:
  is_wide = setup.engine == 'gram' and grouping.mesh is None
  return is_wide and cost.from_rows(setup)


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
  given = params.a if programs.from_rows else params
  state, begin = programs.start.prepare(given, seeds, split)
  # Of chunks of as many pieces all arguments have the same shapes.
  for chunk in {len(c.recorded): c for c in programs.chunks}.values():
    passed: tuple[Any, ...] = ()
    stages = zip(programs.stages.values(), chunk.arguments, strict=True)
    for stage, told in stages:
      state, passed = stage.prepare(state, begin, split, passed, told)
  programs.finish.prepare(programs.kept(state), params, split)


def _made(
  setup: Setup, grouping: Grouping, extra: measuring.Extra | None
) -> dict[str, caching.Program]:
  """The programs of all runs that differ in numbers only."""
  block = _Block(setup, grouping, extra)
  functions = block.draw, block.start, block.finish
  found = {one.__name__: caching.jit(one) for one in functions}
  for name in block.engine(None).stages:
    own = functools.partial(block.stage, name)
    found[f'stage {name}'] = caching.jit(own, donate_argnums=0)
  return {name: caching.Program(function) for name, function in found.items()}


@dataclasses.dataclass(frozen=True)
class _Block:
  """A block of seeds as JAX traces it; its numbers are told last."""

  setup: Setup
  grouping: Grouping
  extra: measuring.Extra | None

  def engine(self, numbers: Numbers | None) -> Engine:
    """Of one seed."""
    return kinds.make(self.setup, self.grouping.mesh, numbers)

  def over_seeds(self, one: Callable, *axes: Any) -> Callable:
    """`vmap`, unless seeds go one by one."""
    if self.grouping.seeds_at_once == 1:
      return one
    name = None if self.grouping.mesh is None else meshes.SEED
    return jax.vmap(one, axes, spmd_axis_name=name)

  @property
  def split_axis(self) -> int | None:
    """Of the data, if seeds have their own."""
    return None if self.grouping.shared else 0

  def constrain(self, arrays: Any, specs: Any) -> Any:
    """Arrays where they are to lie."""
    at_once, mesh, _ = self.grouping
    return meshes.constrain(arrays, specs, mesh=mesh, of_seeds=at_once > 1)

  def draw(self, seeds, split, numbers):
    """Params at w(0)."""
    setup = self.setup
    told: dict[str, Any] = {'scale': setup.init_scale}
    if isinstance(setup.model.start, str):  # its std may be traced
      # Devices would each draw all pieces.
      own = normals.draw if self.grouping.mesh is None else normals.whole
      told['normal'] = functools.partial(own, std=numbers.std)
      told['scale'] = setup.width**0.5  # which leaves it as it is

    def one(seed, split):
      return measuring.draw_params(
        measuring.seed_keys(seed).init,
        width=setup.width,
        dim=split.train.x.shape[1],
        num_classes=setup.num_classes,
        model=setup.model,
        **told,
      )

    params = self.over_seeds(one, 0, self.split_axis)(seeds, split)
    return self.constrain(params, Params(meshes.ROWS, meshes.COLUMNS))

  def start(self, given, seeds, split, numbers):
    """State and begin, from w(0) or, where that is drawn again, from a."""
    engine: Any = self.engine(numbers)  # one of them begins from rows

    def one(given, seed, split):
      keys = measuring.seed_keys(seed)
      if isinstance(given, Params):
        return engine.start(keys.order, given, split)
      rows = weights.drawn(
        jax.random.fold_in(keys.init, self.setup.width),
        dim=split.train.x.shape[1],
        std=numbers.std,
      )
      return engine.start_from_rows(keys.order, rows, given, split)

    axes = 0, 0, self.split_axis
    state, begin = self.over_seeds(one, *axes)(given, seeds, split)
    return self.constrain(state, engine.layout(state)), begin

  def stage(self, name, state, begin, split, passed, told, numbers):
    """What the chunk tells is of all seeds."""
    engine = self.engine(numbers)
    axes = 0, 0, self.split_axis, *[0] * len(passed), *[None] * len(told)
    state, passed = self.over_seeds(engine.stages[name], *axes)(
      state, begin, split, *passed, *told
    )
    return self.constrain(state, engine.layout(state)), passed

  def finish(self, kept, params, split, numbers):
    """What is measured of w(T): its spectra need no more than some rows."""
    engine, mesh = self.engine(numbers), self.grouping.mesh

    def one(kept, params, split):
      if self.extra is None and mesh is None:
        return weights.spectra(engine.rows(kept, params, split), params)
      trained = engine.weights(kept, params, split)
      told: dict[str, Any] = {'extra': self.extra, 'mesh': mesh}
      return measuring.finish(trained, params, split, **told)

    return self.over_seeds(one, 0, 0, self.split_axis)(kept, params, split)


def common(chunks: list[Chunk], shared_step: int) -> int:
  """How many chunks all runs begin with that record this step and go on.

  An open chunk before it was followed by another shape, there as here.
  """
  within = [chunk for chunk in chunks if chunk.end <= shared_step]
  grows = within and within[-1].end == shared_step and within[-1].open
  return len(within) - bool(grows)
