"""What checks of meshes on eight devices have in common."""

import functools
import re

import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from ossgd.data import mixtures
from ossgd.engines import meshes
from ossgd.engines.setup import Setup
from ossgd.recording.recorders import Recorder
from ossgd.running import compiled, datasets, sweeps, watching
from ossgd.storing import checkpoints

M, D, K, N, NUM_TEST, BATCH = 48, 10, 3, 30, 16, 7
SPEC = mixtures.gaussian(num_classes=K, num_components=2, dim=D)
COLLECTIVE = re.compile(r'= (.*?) (all-\w+|collective-\w+|reduce-scatter)\(')
momentum = functools.partial(optax.sgd, momentum=0.9)
# The least over units is zero where one that pads tiles is counted.
RECORDERS = (
  Recorder('margin', of_units=lambda h, h0, a: jnp.abs(h).min(1), reduce='min'),
  Recorder('moved', of_units=lambda h, h0, a: jnp.sum((h - h0) ** 2)),
  Recorder(
    'active',
    of_units=lambda h, h0, a: jnp.sum(h >= 0, dtype=jnp.int32),
    examples='train',
  ),
  Recorder('f', lambda f, y: f),
)


def sweep(mesh, data=SPEC, **settings):
  defaults = dict(
    widths=(M,),
    num_seeds=4,
    num_steps=6,
    batch_size=BATCH,
    eval_every=2,
    num_train=N,
    num_test=NUM_TEST,
    engine='plain',
  )
  return sweeps.sweep(data, mesh=mesh, **(defaults | settings))


@functools.cache
def on_one_device():
  return sweep('seed:1,unit:1')


@functools.cache
def source() -> datasets.Source:
  """Made when the devices are there."""
  return datasets.source(SPEC, N, NUM_TEST, None)


def setup_of(engine, width=M) -> Setup:
  return Setup(
    width=width,
    **source().sizes,
    num_steps=6,
    eval_every=2,
    eval_growth=0.0,
    batch_size=BATCH,
    lr_times_width=1.0,
    optimizer=momentum if engine == 'plain' else optax.sgd,
    engine=engine,
  )


def two_seeds(mesh) -> compiled.Grouping:
  return compiled.Grouping(2, mesh, shared=False)


def make(asked, **settings) -> Mesh | None:
  defaults = dict(widths=(M,), num_seeds=4, seeds_at_once=None)
  return meshes.make(asked, **(defaults | settings))


def begun(engine, mesh, width=M):
  """Programs of seeds 0 and 1, their arguments, the state before a step."""
  programs = compiled.programs(setup_of(engine, width), two_seeds(mesh))
  seeds = meshes.put(jnp.arange(2), mesh, of_seeds=True)
  split = meshes.put(source().draw(seeds), mesh, of_seeds=True)
  params = programs.draw(seeds, split)
  state, begin = programs.start(params, seeds, split)
  return programs, seeds, split, params, state, begin


def watch(folder, told, stop_at=2.0) -> watching.Watch:
  """Keeps what it is told, and stops the work past a fraction."""
  store = checkpoints.Store(folder, 0)

  def tell(fraction, label):
    told.append((fraction, label))
    if fraction > stop_at:
      store.stopping = 'SIGTERM'

  return watching.Watch(tell, store)


def collectives(compiled) -> set[tuple[str, str]]:
  """What devices send each other: kinds, and shapes without layouts."""
  found = COLLECTIVE.findall(compiled.as_text())
  return {(kind, re.sub(r'\{[^}]*\}', '', shape)) for shape, kind in found}
