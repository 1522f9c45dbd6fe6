"""Checks of meshes on eight devices of a CPU, run by `meshes_test`.

They want a process of their own: python -m tests.eight_devices.
"""

import itertools
import shutil
import tempfile
from pathlib import Path
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
from absl.testing import absltest, parameterized

from ossgd.engines import cost, measuring, meshes, sgd, tiles
from ossgd.engines import setup as setups
from ossgd.machine import memory
from ossgd.paper import network
from ossgd.paper.types import Dataset, Split
from ossgd.running import caching, compiled, watching
from tests import agreement
from tests.devices import (
  BATCH,
  NUM_TEST,
  RECORDERS,
  D,
  K,
  M,
  N,
  begun,
  collectives,
  make,
  momentum,
  on_one_device,
  setup_of,
  sweep,
  two_seeds,
  watch,
)
from tests.eight_devices_scripts import ScriptsTest as ScriptsTest


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

  def test_in_bits(self):
    """What a wide network keeps, where units are split."""
    expected = on_one_device()
    caching.forget()
    self.addCleanup(caching.forget)
    with mock.patch.object(setups, '_WIDE', 0):
      self.check(
        'seed:2,unit:4', sweep('seed:2,unit:4', engine='gram'), expected
      )

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

  @parameterized.parameters(7, 30)
  def test_agreement(self, dim):
    """Against float64, and that units missing from a sum would be seen.

    C is folded, in d coordinates or in N.
    """
    shape = agreement.Shape(
      *(20, 9, dim, 3, 12, 8, 'epochs', 8.0, 20, -1, 2, 'seed:2,unit:4')
    )
    configuration = agreement.Configuration(shape, 60, 20, 0.0, 5)
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
    caching.forget()
    self.addCleanup(caching.forget)
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
    programs, _, split, params, state, _ = begun('plain', make('unit:4'))
    kept = programs.kept(state)
    sent = collectives(programs.finish.lower(kept, params, split).compile())
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
      mock.patch.object(memory, 'of_device', return_value=1e5),
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
