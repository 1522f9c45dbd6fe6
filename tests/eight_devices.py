"""Checks of meshes on eight devices of a CPU, run by `meshes_test`.

They want a process of their own: python -m tests.eight_devices.
"""

import functools
import itertools
import re
import shutil
import tempfile
from pathlib import Path
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import optax
from absl.testing import absltest, parameterized
from jax.sharding import Mesh

from experiments import kernel, precision, processes
from experiments.common import section7, seeds
from experiments.common.lemmas import (
  coupled_units,
  falling_loss,
  large_gradients,
)
from ossgd.data import mixtures
from ossgd.engines import cost, measuring, meshes, sgd, tiles
from ossgd.engines.setup import Setup
from ossgd.paper import network
from ossgd.paper.types import Dataset, Split
from ossgd.recording.recorders import Recorder
from ossgd.running import compiled, datasets, free_memory, sweeps, watching
from ossgd.storing import checkpoints
from tests import agreement

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


SOURCE = datasets.source(SPEC, N, NUM_TEST, None)


def setup_of(engine, width=M) -> Setup:
  return Setup(
    width=width,
    **SOURCE.sizes,
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
  split = meshes.put(SOURCE.draw(seeds), mesh, of_seeds=True)
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


class ResultsTest(parameterized.TestCase):
  def check(self, mesh, found, expected):
    """All that is measured, to float32 rounding, and on that mesh."""
    self.assertEqual(found.mesh, mesh)
    self.assertEqual(found.sizes, expected.sizes)
    self.assertGreater(expected.pattern_difference.max(), 0)
    for name in expected:
      np.testing.assert_allclose(
        found[name], expected[name], rtol=2e-5, atol=2e-6, err_msg=name
      )

  @parameterized.parameters(
    ('plain', 'seed:2,unit:4'),
    ('blocked', 'seed:4,unit:2'),
    ('blocked', 'seed:1,unit:3'),
    ('gram', 'seed:2,unit:4'),
  )
  def test_engines(self, engine, mesh):
    """Seeds and units split in several ways, by one device's definition."""
    self.check(mesh, sweep(mesh, engine=engine), on_one_device())

  def test_optimizer_and_gradient(self):
    """An optimizer's own state lies where the weights do; own recorders."""
    settings = dict(
      optimizer=momentum,
      gradient_fn=sgd.pseudo_gradient,
      order='full_batch',
      recorders=RECORDERS,
    )
    expected = sweep('unit:1', **settings)
    self.check('seed:2,unit:3', sweep('seed:2,unit:3', **settings), expected)

  def test_shared_data(self):
    """Of which some coordinates are not used; `extra` sees whole arrays."""

    def extra(params, initial, split):
      moved = params.w - initial.w
      p = network.pattern(params.w, split.test.x)
      return {'norms': jnp.linalg.norm(moved, axis=1), 'active': p.mean(1)}

    x = np.random.default_rng(0).normal(size=(N + NUM_TEST, D))
    x[:, [1, 4]] = 0
    x, y = jnp.asarray(x, jnp.float32), jnp.arange(len(x)) % K
    data = Split(Dataset(x[:N], y[:N]), Dataset(x[N:], y[N:]))
    settings = dict(data=data, num_seeds=2, engine='gram', extra=extra)
    expected = sweep('unit:1', **settings)
    self.check('seed:1,unit:8', sweep('unit:8', **settings), expected)

  def test_padding_of_tiles(self):
    """Units that a device's tiles have no use for are not dropped."""
    settings = dict(
      widths=(3 * 521,), num_seeds=1, engine='gram', recorders=RECORDERS
    )
    self.assertNotEqual(521 % tiles.width(521), 0)
    expected = sweep('unit:1', **settings)
    self.check('seed:1,unit:3', sweep('unit:3', **settings), expected)

  def test_agreement(self):
    """Against float64, and that units missing from a sum would be seen."""
    shape = agreement.Shape(
      *(20, 9, 7, 3, 12, 3, 'epochs', 8.0, 20, -1, 2, 'seed:2,unit:4')
    )
    configuration = agreement.Configuration(shape, 40, 20, 0.0, 5)
    self.addCleanup(agreement.forget)
    self.assertEmpty(agreement.disagreements(configuration)[0])
    agreement.forget()

    with mock.patch.object(jax.lax, 'psum', jax.lax.pmax):
      wrong, _ = agreement.disagreements(configuration)
    self.assertIn('gram', ' '.join(wrong))

  @parameterized.parameters(
    dict(engine='plain'), dict(engine='gram', widths=(2084,), num_steps=80)
  )
  def test_goes_on_elsewhere(self, **settings):
    """A run that was stopped ends on fewer or more devices.

    Tiles pad 2084 units to other widths on one device and on four.
    """
    folder = Path(self.create_tempdir().full_path)
    settings |= dict(seeds_at_once=2)
    expected = sweep('unit:1', **settings)
    told: list = []
    with self.assertRaises(watching.Stopped):
      sweep('unit:4', progress=watch(folder, told, stop_at=0.3), **settings)
    for mesh in ('seed:2,unit:4', 'seed:2,unit:1', 'seed:1,unit:1'):
      again: list = []
      with tempfile.TemporaryDirectory() as copy:
        shutil.copytree(folder, copy, dirs_exist_ok=True)
        found = sweep(mesh, progress=watch(Path(copy), again), **settings)
      self.assertGreater(again[0][0], told[-1][0])
      self.check(mesh, found, expected)

  def test_fewer_are_left_than_fit(self):
    """One seed begun on a mesh of four: copies fill up, and are dropped."""
    folder = Path(self.create_tempdir().full_path)
    sweep('unit:1', num_seeds=3, progress=watch(folder, []))
    last = dict(num_seeds=1, seed=3)
    with self.assertRaises(watching.Stopped):
      sweep('unit:1', progress=watch(folder, [], stop_at=0.3), **last)
    told: list = []
    found = sweep('seed:4', progress=watch(folder, told))
    self.check('seed:4,unit:1', found, on_one_device())
    self.assertEqual({label for _, label in told}, {f'm={M} seed=3'})
    self.assertGreater(told[0][0], 0.8)


class LayoutTest(parameterized.TestCase):
  @parameterized.parameters(
    ('plain', (2, 4)), ('blocked', (1, 8)), ('gram', (2, 4))
  )
  def test_what_devices_send(self, engine, sizes):
    """In a step the (batch, k) logits of each seed, and no weights ever."""
    mesh = make('seed:{},unit:{}'.format(*sizes))
    of_seeds = 2 // sizes[0]
    programs, seeds, split, _, state, begin = begun(engine, mesh)
    self.assertEmpty(collectives(programs.draw.lower(seeds, split).compile()))
    passed = ()
    for (name, stage), told in zip(
      programs.stages.items(), programs.chunks[-1].arguments, strict=True
    ):
      arguments = begin, split, passed, told
      sent = collectives(stage.lower(state, *arguments).compile())
      self.assertEqual({kind for kind, _ in sent}, {'all-reduce'})
      if name == 'train':
        logits = f'f32[{of_seeds},{BATCH},{K}]'
        self.assertIn(('all-reduce', logits), sent)
        self.assertLen(sent, 2 if engine == 'gram' else 1)
      before = jax.tree.map(lambda v: v.sharding, state)
      state, passed = stage(state, *arguments)
      # Else the next chunk would be compiled again.
      after = jax.tree.map(lambda v: v.sharding, state)
      self.assertEqual(before, after)
    for v in jax.tree.leaves(state):
      if M in v.shape:
        self.assertEqual(v.addressable_shards[0].data.size * 8, v.size)

  def test_batches_of_an_evaluation(self):
    """As many examples as fit with a device's share of the units."""
    with mock.patch.object(measuring, 'EVALUATED_AT_ONCE', 5 * M // 4):
      programs, _, split, _, state, begin = begun(
        'plain', make('seed:2,unit:4')
      )
      measure = programs.stages['measure']
      lowered = measure.lower(state, begin, split, (), ())
      sent = collectives(lowered.compile())
    self.assertIn(f'f32[1,5,1,{K}]', ' '.join(shape for _, shape in sent))

  def test_spectra_send_triangles(self):
    """Where a device has more units than there are coordinates."""
    programs, _, split, params, _, _ = begun('plain', make('unit:4'))
    sent = collectives(programs.finish.lower(params, params, split).compile())
    self.assertEqual(sent, {('all-gather', f'f32[2,{4 * D},{D}]')})


class RandomTest(parameterized.TestCase):
  def test_to_the_bit(self):
    """Initialisation, order and data are those of one device."""
    one, *others = (
      begun('gram', make(mesh))
      for mesh in ('unit:1', 'unit:8', 'seed:2,unit:4')
    )
    _, _, split, params, _, begin = one
    for _, _, split_too, params_too, _, begin_too in others:
      jax.tree.map(
        np.testing.assert_array_equal,
        (params, begin.rows, split.train.y),
        (params_too, begin_too.rows, split_too.train.y),
      )
      # What is computed of random numbers may round otherwise.
      np.testing.assert_allclose(split.train.x, split_too.train.x, rtol=1e-6)


POINTS = dict(
  widths=(M,), num_seeds=1, num_classes=K, num_components=2, dim=D, num_steps=3
)
TRAINED = dict(
  widths=(M,),
  num_seeds=1,
  num_classes=K,
  dim=D,
  num_steps=4,
  batch_size=BATCH,
  num_train=N,
  num_test=4,
)
STEPS = np.array([0, 1, 4])
COUPLING = coupled_units.Config(**POINTS, batch_size=2, num_test=5)
CONVERGENCE = falling_loss.Config(
  **POINTS | {'widths': (10 * M,)},
  horizon=5.0,
  step_sizes=(1.0, 30.0),
  batch_sizes=(2,),
  num_test=5,
)
GRADIENTS = large_gradients.Config(**POINTS, num_samples=2)
PROCESSES = processes.Config(**TRAINED)
PRECISION = precision.Config(**TRAINED)


class ScriptsTest(parameterized.TestCase):
  """Those that train without a sweep, one seed after another."""

  def check(self, found, expected):
    """To rounding, which a small margin of Lemma A.1 enlarges."""
    self.assertEqual(found.keys(), expected.keys())
    for name, values in expected.items():
      np.testing.assert_allclose(
        found[name], values, rtol=1e-4, atol=1e-5, err_msg=name
      )

  @parameterized.named_parameters(
    ('coupling', COUPLING, coupled_units.measure, 'general'),
    ('convergence', CONVERGENCE, falling_loss.measure),
    ('gradient_norm', GRADIENTS, large_gradients.simplified),
    ('processes', PROCESSES, processes._train, STEPS),
    ('precision', PRECISION, precision._train, 7, STEPS),
  )
  def test_programs(self, config, function, *settings):
    """Devices send each other no array (n, m) or (m, d)."""
    function = jax.jit(functools.partial(function, config, *settings))
    width, sent = 10 * M, set()

    def measure(*arguments):
      compiled = function.lower(*arguments).compile()
      sent.update(collectives(compiled))
      return compiled(*arguments)

    def found(mesh):
      measured = measure
      if isinstance(config, section7.Config):
        measured = section7.with_data(config, measure, mesh)
      return seeds.over_seeds(
        config, measured, lambda *told: None, width=width, mesh=mesh
      )

    results = [found(make(mesh)) for mesh in ('unit:1', 'unit:8')]
    self.check(*results)
    self.assertNotEmpty(sent)
    for kind, shapes in sent:
      for shape in re.findall(r'\w+\[([\d,]*)\]', shapes):
        sizes = [int(size) for size in shape.split(',') if size]
        # Lengths of m gradients, of four kinds, are sorted.
        self.assertLessEqual(np.prod(sizes), 4 * width, (kind, shapes))

  def test_kernel(self):
    """The whole script, whose Lanczos iteration is on the host."""
    shapes, measure = [], kernel._measure

    def seen(params, *data):
      shapes.append(params.w.addressable_shards[0].data.shape)
      return measure(params, *data)

    with mock.patch.object(kernel, '_measure', seen):
      found, expected = (
        kernel.run(kernel.Config(**TRAINED, mesh=mesh))
        for mesh in ('auto', 'unit:1')
      )
    self.check(found, expected)
    self.assertEqual(found.mesh, 'seed:1,unit:8')
    self.assertGreater(found.drift.max(), 0)
    half = len(shapes) // 2
    self.assertEqual(shapes, [(M // 8, D)] * half + [(M, D)] * half)


class MakeTest(parameterized.TestCase):
  @parameterized.parameters(
    (dict(), (4, 2)),
    (dict(num_seeds=16), (8, 1)),
    (dict(num_seeds=5), (1, 8)),
    (dict(num_seeds=5, widths=(10,)), (5, 1)),  # five either way
    (dict(num_seeds=3, widths=(4, 6)), (3, 2)),
    (dict(num_seeds=7, widths=(11,)), (7, 1)),
    (dict(seeds_at_once=1), (1, 8)),
    (dict(seeds_at_once=6), (2, 4)),
  )
  def test_auto(self, settings, sizes):
    """Most devices, and of those most along seed."""
    self.assertEqual(meshes.shards(make('auto', **settings)), sizes)

  def test_asked_for(self):
    for asked, sizes in (
      ('seed:2,unit:4', (2, 4)),
      ('unit:4, seed:2', (2, 4)),
      ('unit:3', (1, 3)),
      ('seed:4', (4, 1)),
    ):
      mesh = make(asked)
      self.assertEqual(meshes.shards(mesh), sizes)
      self.assertIs(make(mesh), mesh)
      self.assertEqual(meshes.shards(make(meshes.text(mesh))), sizes)
    self.assertIsNone(make('seed:1,unit:1'))

  @parameterized.parameters(
    ('seed:3', 'seed:3, which does not divide .* one of 1, 2, 4$'),
    ('unit:5', 'unit:5, which does not divide .*widths 48.* 1, 2, 3, 4, 6'),
    ('seed:4,unit:4', 'needs 16 devices; there are 8: ask for fewer'),
    *itertools.product(
      ('', 'seed', 'unit:0', 'unit:-2', 'unit:2,unit:2', 'rows:2', 'unit:²'),
      ('mesh is .*expected auto, or',),
    ),
  )
  def test_refused(self, asked, message):
    with self.assertRaisesRegex(ValueError, message):
      make(asked)
    with self.assertRaisesRegex(ValueError, 'expected .*seed.*unit'):
      make(jax.make_mesh((2, 4), ('data', 'model')))

  def test_memory_is_of_a_device(self):
    """What does not fit one device may fit eight."""
    with (
      mock.patch.object(free_memory, 'of_device', return_value=1e5),
      mock.patch.object(cost, 'RUNTIME', 0),
    ):
      wide = setup_of('plain', 10 * M)
      with self.assertRaisesRegex(ValueError, 'GB'):
        compiled.choose_engine(wide, two_seeds(None))
      compiled.choose_engine(wide, two_seeds(make('seed:2,unit:4')))


if __name__ == '__main__':
  jax.config.update('jax_num_cpu_devices', 8)
  jax.config.update('jax_disable_most_optimizations', True)  # compiles faster
  absltest.main()
