"""Runs on virtual devices of a CPU, to hold `machines` against.

JAX splits one CPU into devices that share its cores. What they send and hold is
what real devices would; their time shows what a collective costs, not what
another device gains.
"""

import math
import multiprocessing
import re
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments import machines
from ossgd import blocks, cost, meshes, mixtures, sgd, supply, units

_COLLECTIVE = re.compile(
  r'= (\S.*?) (all-[a-z-]+|collective-[a-z]+|reduce-scatter)\('
)
_SHAPE = re.compile(r'[fs]32\[([\d,]*)\]')


class Case(NamedTuple):
  """A run of a few steps on a mesh, all its seeds side by side."""

  engine: str
  shape: cost.Shape
  num_steps: int
  eval_every: int  # its training and measuring fit in one chunk or batch
  mesh: tuple[int, int]  # seeds, units


class Found(NamedTuple):
  """What is seen of a case."""

  kinds: tuple[str, ...]  # of collectives
  sent: machines.Sent  # by all steps and measurements
  memory: int  # bytes of its largest program on each device, spectra aside
  seconds: list[float]  # of a step and its part of a measurement


def measure(cases: list[Case], repetitions: int) -> list[Found]:
  """Measures in a process of its own, with as many devices as they need.

  The cases take turns: what else the machine does disturbs them alike.
  """
  config: Any = jax.config  # its options are attributes made at run time
  precision = config.jax_default_matmul_precision
  context = multiprocessing.get_context('spawn')
  with context.Pool(1) as pool:
    return pool.apply(_measure, (cases, repetitions, precision))


def _measure(
  cases: list[Case], repetitions: int, precision: str | None
) -> list[Found]:
  devices = max(math.prod(case.mesh) for case in cases)
  jax.config.update('jax_num_cpu_devices', devices)
  jax.config.update('jax_default_matmul_precision', precision)
  prepared = [_prepared(case) for case in cases]
  for _ in range(repetitions):
    for found, again in prepared:
      found.seconds.append(again())
  return [found for found, _ in prepared]


def _prepared(case: Case) -> tuple[Found, Callable[[], float]]:
  """A case whose steps were taken once; takes its last chunk again, timed."""
  plan = _plan(case)
  unit: Any = units.compile_unit(plan, case.shape.width)  # jitted functions
  one = plan.seeds_at_once == 1
  seeds = jnp.asarray(0) if one else jnp.arange(plan.seeds_at_once)
  seeds = meshes.put(seeds, plan.mesh, of_seeds=not one)
  split = meshes.put(plan.draw(seeds), plan.mesh, of_seeds=not one)
  params = unit.draw(seeds, split)
  programs: dict[tuple, jax.stages.Compiled] = {
    ('draw',): unit.draw.lower(seeds, split).compile(),
    ('start',): unit.start.lower(params, seeds, split).compile(),
  }
  state, begin = unit.start(params, seeds, split)
  del params
  collectives: list[tuple[str, int]] = []
  end = 0
  for chunk in unit.chunks:
    stages, passed = [], None
    for name, argument in zip(unit.stages, chunk.arguments, strict=True):
      arguments = passed, seeds, begin, split, argument
      shapes = name, *map(np.shape, jax.tree.leaves(argument))
      if shapes not in programs:
        lowered = unit.stages[name].lower(state, *arguments)
        programs[shapes] = lowered.compile()
      stages.append(programs[shapes])
      loops = _loops(case, chunk.end - end) if name == 'train' else 1
      collectives += loops * _collectives(stages[-1])
      state, passed = stages[-1](state, *arguments)
    steps, end = chunk.end - end, chunk.end

  def again() -> float:
    nonlocal state
    begun, passed = time.perf_counter(), None
    for stage, argument in zip(stages, chunk.arguments, strict=True):
      state, passed = stage(state, passed, seeds, begin, split, argument)
    jax.block_until_ready((state, passed))
    return (time.perf_counter() - begun) / steps

  found = Found(
    tuple({kind for kind, _ in collectives}),
    machines.Sent(len(collectives), sum(size for _, size in collectives)),
    max(map(_held, programs.values())),
    [],
  )
  return found, again


def _plan(case: Case) -> units.Plan:
  shape, mesh = case.shape, case.mesh
  spec = mixtures.gaussian(
    num_classes=shape.num_classes, num_components=2, dim=shape.dim
  )
  return units.Plan(
    num_steps=case.num_steps,
    eval_every=case.eval_every,
    eval_growth=0.0,
    batch_size=shape.batch_size,
    lr_times_width=10.0,
    init_scale=1.0,
    order='epochs',
    optimizer=optax.sgd,
    gradient_fn=sgd.true_gradient,
    num_train_eval=shape.num_train_eval,
    seeds_at_once=shape.seeds_at_once,
    extra=None,
    engine=case.engine,
    mesh=meshes.make(
      f'seed:{mesh[0]},unit:{mesh[1]}',
      widths=(shape.width,),
      num_seeds=shape.seeds_at_once,
      seeds_at_once=None,
    ),
    **supply.of(spec, shape.num_train, shape.num_test, None),
  )


def _loops(case: Case, steps: int) -> int:
  """How often the loop of a training program, if it has one, turns."""
  block = blocks.size(case.shape.batch_size, case.shape.width)
  return {'plain': steps, 'blocked': -(-steps // block), 'gram': 1}[case.engine]


def _collectives(program: jax.stages.Compiled) -> list[tuple[str, int]]:
  """Kind and bytes of each in the program's text, a loop's once."""
  return [
    (kind, sum(map(_bytes, _SHAPE.findall(shapes))))
    for shapes, kind in _COLLECTIVE.findall(program.as_text() or '')
  ]


def _bytes(sizes: str) -> int:
  return 4 * math.prod(int(size) for size in sizes.split(',') if size)


def _held(program: jax.stages.Compiled) -> int:
  """Bytes of arguments, results and temporaries on each device."""
  stats: Any = program.memory_analysis()
  return (
    stats.argument_size_in_bytes
    + stats.output_size_in_bytes
    - stats.alias_size_in_bytes
    + stats.temp_size_in_bytes
  )
