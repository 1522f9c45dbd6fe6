"""Tests of sweeps with a store: every job once, however they are grouped."""

import functools
import pathlib
import shutil
import tempfile
import threading
from concurrent import futures
from typing import ClassVar
from unittest import mock

import jax.numpy as jnp
import numpy as np
import xarray as xr
from absl.testing import parameterized

from ossgd.data import mixtures
from ossgd.engines import cost, setup
from ossgd.engines.setup import Setup
from ossgd.machine import files, lanes, memory
from ossgd.recording.recorders import Recorder
from ossgd.running import blocks, caching, compiled, jobs, sweeps, watching
from ossgd.storing import checkpoints

SETTINGS = dict(
  data=mixtures.gaussian(num_classes=3, num_components=1, dim=12),
  widths=(16,),
  num_seeds=4,
  num_steps=12,
  batch_size=4,
  num_train=24,
  num_test=10,
  eval_every=2,
  eval_growth=0.0,
  engine='plain',
)


SIZES = dict(width=16, dim=12, num_classes=3, num_train=24, num_test=10)


class Transform:
  """Of a kind that nothing is known of."""

  def __call__(self, key, split):
    return split


def num_active(h, h0, a, *, least):
  del h0, a
  return jnp.sum(h >= least, dtype=jnp.int32)


class Case(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    self.folder = pathlib.Path(
      self.enter_context(tempfile.TemporaryDirectory())
    )
    self.told: list[tuple[float, str]] = []

  def sweep(self, stop_at=np.inf, folder=None, **settings) -> xr.Dataset | None:
    """Results, or None if it was stopped at a fraction of the work."""
    store = checkpoints.Store(folder or self.folder, 0.0)
    self.told = []

    def tell(fraction, label):
      self.told.append((fraction, label))
      if fraction >= stop_at:
        store.stopping = 'SIGTERM'

    try:
      return sweeps.sweep(
        progress=watching.Watch(tell, store), **SETTINGS | settings
      )
    except watching.Stopped:
      return None

  def names(self) -> list[str]:
    return sorted(path.name for path in self.folder.iterdir())


class IdentityTest(Case):
  def test_others_in_one_store(self):
    """Each sweep gets its own numbers, and nothing of the other's is lost."""
    asked = [dict(lr_times_width=lr, num_seeds=1) for lr in (1.0, 50.0)]
    for seed in (0, 1):  # other data of the same shape
      x = np.random.default_rng(seed).normal(size=(24, 5))
      y = np.arange(24) % 3
      asked.append(dict(data=(x, y, x[:6], y[:6]), num_seeds=1))
    for least in (0.0, 0.5):  # other functions of the same name
      active = functools.partial(num_active, least=least)
      recorder = Recorder('active', of_units=active)
      asked.append(dict(recorders=(recorder,), num_seeds=1))
    expected = [sweeps.sweep(**SETTINGS | settings) for settings in asked]
    for again in (False, True):
      for settings, numbers in zip(asked, expected, strict=True):
        xr.testing.assert_identical(self.sweep(**settings), numbers)
        self.assertEqual(not self.told, again)

  def test_a_function_that_cannot_be_told(self):
    """It is refused where something is stored, and only there."""
    settings = dict(transform=Transform(), num_seeds=1)
    with self.assertRaisesRegex(ValueError, 'transform holds.*partial'):
      self.sweep(**settings)
    sweeps.sweep(**SETTINGS | settings)

  def test_what_does_not_count(self):
    """Other seeds, widths and targets leave finished jobs as they are.

    So does it that there might have been recorders.
    """
    with mock.patch.object(jobs, 'basis', wraps=jobs.basis) as basis:
      self.sweep()
    self.assertNotIn('recorders', basis.call_args.args[0])
    self.assertLen(self.names(), 1 + 4)
    self.sweep(widths=(16, 32), num_seeds=2, seed=1, target=0.5)
    labels = {label for _, label in self.told}
    self.assertEqual(labels, {'m=32 seed=1', 'm=32 seed=2'})
    self.assertLen(self.names(), 2 + 4 + 2)


class GroupingTest(Case):
  @parameterized.parameters((4, 3), (4, 1), (2, 4), (1, 2), (2, 2))
  def test_goes_on_in_other_groups(self, begun, goes_on):
    """From the step that each seed is at."""
    whole = sweeps.sweep(**SETTINGS)
    self.assertIsNone(self.sweep(stop_at=0.6, seeds_at_once=begun))
    stopped, _ = self.told[-1]
    found = self.sweep(seeds_at_once=goes_on)
    xr.testing.assert_allclose(found, whole, rtol=1e-4, atol=1e-5)
    done = {4: 0, 2: 0.5, 1: 0.5}[begun]
    first, _ = self.told[0]
    self.assertGreaterEqual(first, done)
    self.assertLen(self.names(), 1 + 4)
    if begun == goes_on:
      self.assertGreater(first, stopped)

  def test_seeds_at_different_steps(self):
    """A process that was killed between the files of two seeds."""
    whole = sweeps.sweep(**SETTINGS)
    early, late = self.folder / 'early', self.folder / 'late'
    for folder, stop_at in ((early, 0.1), (late, 0.4)):
      folder.mkdir()
      self.sweep(stop_at=stop_at, folder=folder, seeds_at_once=4)
    for path in late.glob('*seed=[12]_*'):
      shutil.copy(path, early)
    found = self.sweep(folder=early, seeds_at_once=4)
    labels = list(dict.fromkeys(label for _, label in self.told))
    self.assertEqual(labels, ['m=16 seed=1-2', 'm=16 seed=0-3'])
    xr.testing.assert_allclose(found, whole, rtol=1e-4, atol=1e-5)


class LanesTest(Case):
  """Seeds in threads of their own, however many cores this machine has."""

  def sweep(self, number=3, **settings):
    with mock.patch.object(lanes, 'number', return_value=number):
      return super().sweep(**settings)

  @parameterized.parameters('plain', 'blocked', 'gram')
  def test_no_bit_is_another(self, engine):
    """Of two widths at once; the fraction that is done only grows, to 1."""
    asked = dict(engine=engine, widths=(16, 20))
    for name in ('one', 'three'):
      (self.folder / name).mkdir()
    one = self.sweep(1, folder=self.folder / 'one', **asked)
    threads = set()
    run = blocks.run

    def noted(*arguments):
      threads.add(threading.get_ident())
      return run(*arguments)

    with mock.patch.object(blocks, 'run', noted):
      three = self.sweep(folder=self.folder / 'three', **asked)
    xr.testing.assert_identical(three, one)
    self.assertBetween(len(threads), 2, 3)
    self.assertNotIn(threading.get_ident(), threads)
    fractions = [fraction for fraction, _ in self.told]
    self.assertEqual(fractions, sorted(fractions))
    self.assertEqual(fractions[-1], 1)

  def test_stopped_and_taken_up(self):
    """All that is at work saves its state, and goes on from there."""
    whole = sweeps.sweep(**SETTINGS)
    self.assertIsNone(self.sweep(stop_at=0.3))
    begun = [name for name in self.names() if 'begun' in name]
    self.assertGreater(len(begun), 1)
    stopped, _ = self.told[-1]
    xr.testing.assert_identical(self.sweep(), whole)
    first, _ = self.told[0]
    self.assertGreaterEqual(first, stopped)

  def test_an_error_of_one(self):
    """It is raised as it is; the others keep what they have."""
    save = checkpoints.Store.save

    def fails(store, name, job, arrays):
      if 'seed=1 finished' in name:
        raise files.SaveError('cannot write')
      save(store, name, job, arrays)

    whole = sweeps.sweep(**SETTINGS)
    with (
      mock.patch.object(checkpoints.Store, 'save', fails),
      self.assertRaisesRegex(files.SaveError, 'cannot write'),
    ):
      self.sweep(2)
    self.assertNotEmpty([name for name in self.names() if 'seed=0' in name])
    xr.testing.assert_identical(self.sweep(), whole)

  @parameterized.parameters(
    (dict(callback=lambda job, step, record: False),),
    (dict(seeds_at_once=2),),
  )
  def test_in_this_thread(self, settings):
    """A callback is called by no two threads; a group is all that is asked."""
    with mock.patch.object(futures, 'ThreadPoolExecutor') as pool:
      self.sweep(num_steps=2, **settings)
    pool.assert_not_called()

  def test_memory(self):
    """As many as fit, one at least."""
    needed = cost.memory('plain', Setup(**SIZES, engine='plain'))
    for free, expected in ((0.5, 1), (2.5, 2), (9.0, 3)):
      of_device = int(cost.RUNTIME + free * needed)
      with (
        mock.patch.object(memory, 'of_device', return_value=of_device),
        mock.patch.object(lanes, 'number', return_value=3),
      ):
        found = compiled.side_by_side(
          [Setup(**SIZES, engine='plain')],
          compiled.Grouping(1, None, shared=True),
          callback=False,
        )
      self.assertEqual(found, expected)


class WideTest(Case):
  """What a wide network keeps in bits, in one that is not."""

  def setUp(self):
    super().setUp()
    self.expected = sweeps.sweep(**SETTINGS | self.asked)
    caching.forget()
    self.addCleanup(caching.forget)
    self.enter_context(mock.patch.object(setup, '_WIDE', 0))

  asked: ClassVar = dict(engine='gram', num_steps=40, keep='weights')

  def test_stopped_and_taken_up(self):
    """To the bit those of a run that was not; others' to rounding."""
    whole = sweeps.sweep(**SETTINGS | self.asked)
    self.assertIsNone(self.sweep(stop_at=0.2, **self.asked))
    self.assertNotEmpty([name for name in self.names() if 'begun' in name])
    xr.testing.assert_identical(self.sweep(**self.asked), whole)
    xr.testing.assert_allclose(whole, self.expected, rtol=1e-4, atol=1e-5)

  @parameterized.parameters(1, 2)
  def test_callback(self, seeds_at_once):
    """A run that it stops leaves the weights of that step."""

    def stop(job, step, record):
      return job.seed == 1 and step >= 6

    asked = self.asked | dict(callback=stop, seeds_at_once=seeds_at_once)
    found = sweeps.sweep(**SETTINGS | asked)
    with mock.patch.object(setup, '_WIDE', 2**62):
      caching.forget()
      expected = sweeps.sweep(**SETTINGS | asked)
    xr.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    self.assertEqual(np.isfinite(found.stopped_at.values).sum(), 1)


class EngineTest(Case):
  def test_is_that_of_the_beginning(self):
    """Whatever would be chosen by the memory that is free today."""
    with mock.patch.object(cost, 'choose', return_value='blocked'):
      self.assertIsNone(self.sweep(stop_at=0.3, engine='auto'))
    chosen = sweeps.sweep(**SETTINGS | dict(engine='auto'))
    self.assertNotEqual(chosen.engine, 'blocked')
    found = self.sweep(engine='auto')
    self.assertEqual(found.engine, 'blocked')
    self.assertGreater(self.told[0][0], 0.2)
    expected = sweeps.sweep(**SETTINGS | dict(engine='blocked'))
    xr.testing.assert_identical(found, expected)

  def test_no_room_today(self):
    """It is refused with the bytes, and all that is there stays."""
    self.assertIsNone(self.sweep(stop_at=0.3, engine='gram'))
    before = self.names()
    with (
      mock.patch.object(memory, 'of_device', return_value=1000),
      self.assertRaisesRegex(ValueError, 'GB.*begun with engine gram'),
    ):
      self.sweep(engine='gram')
    self.assertEqual(self.names(), before)
    self.assertIsNotNone(self.sweep(engine='gram'))
    with mock.patch.object(memory, 'of_device', return_value=1000):
      self.assertIsNotNone(self.sweep(engine='gram'), 'nothing is left to do')
