"""Stores: what is saved comes back, and nothing else does."""

import logging
import pathlib
import shutil
import tempfile
import time
from unittest import mock

import jax.numpy as jnp
import numpy as np
from absl.testing import parameterized

from ossgd.data import mixtures
from ossgd.engines import measuring
from ossgd.machine import files
from ossgd.recording.recorders import Recorder
from ossgd.running import caching, jobs, sweeps, watching
from ossgd.storing import checkpoints

SETTINGS = dict(
  data=mixtures.gaussian(num_classes=3, num_components=1, dim=12),
  widths=(16,),
  num_seeds=2,
  num_steps=10,
  batch_size=4,
  num_train=24,
  num_test=10,
  eval_every=5,
  eval_growth=0.0,
)
RECORDERS = (
  Recorder('margin', of_units=lambda h, h0, a: jnp.abs(h).min(1), reduce='min'),
  Recorder('moved', of_units=lambda h, h0, a: jnp.sum((h - h0) ** 2)),
  Recorder('f', lambda f, y: f),
)
JOB = jobs.Job(3, 0, 'plain', jobs.basis({'lr': 1.0}, 'ossgd.running.sweeps'))


class StoreTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    self.folder = pathlib.Path(
      self.enter_context(tempfile.TemporaryDirectory())
    )
    self.store = checkpoints.Store(self.folder, every=60.0)
    self.arrays = {
      'w': np.arange(6, dtype=np.float32).reshape(2, 3),
      'step': np.array(4),
      'on': np.array([True, False]),
    }

  def test_round_trip(self):
    """Bits, types and shapes; NaN and infinities too."""
    self.arrays['w'][0] = [np.nan, np.inf, -0.0]
    self.store.save('m=3 seed=0', JOB, self.arrays)
    again = checkpoints.Store(self.folder, every=60.0)
    found = again.load('m=3 seed=0', JOB)
    self.assertEqual(found.keys(), self.arrays.keys())
    for name, value in self.arrays.items():
      self.assertEqual(found[name].tobytes(), value.tobytes())
      self.assertEqual(found[name].dtype, value.dtype)
      self.assertEqual(found[name].shape, value.shape)
    self.assertIsNone(again.load('m=3 seed=1', JOB))
    again.remove('m=3 seed=0', JOB)
    self.assertIsNone(again.load('m=3 seed=0', JOB))

  def test_another_process_removes_the_same(self):
    """What a killed one had half written."""
    half = self.folder / f'.{self.store.path("one", JOB).name}.7.part'
    with mock.patch.object(pathlib.Path, 'glob', return_value=[half]):
      checkpoints.forget_halves(self.folder)  # it is gone already

  def test_every_flipped_bit_and_every_end(self):
    """Is either seen, named and set aside, or where it changes nothing."""
    self.store.save('one', JOB, self.arrays)
    (path,) = self.folder.iterdir()
    good = path.read_bytes()
    flipped = []
    for place in range(0, len(good), 3):
      flipped.append(bytearray(good))
      flipped[-1][place] ^= 1 << place % 8
    ends = [good[:size] for size in range(0, len(good), 7)]
    seen = 0
    for bad in (*flipped, *ends):
      path.write_bytes(bad)
      with self.assertLogs(level='WARNING') as logs:
        logging.warning('begin')
        found = self.store.load('one', JOB)
      if found is None:
        seen += 1
        self.assertIn(str(path), logs.output[1])
        self.assertFalse(path.exists())
        path.with_suffix('.damaged').unlink()
      else:
        self.assertLen(bad, len(good))
        for name, value in self.arrays.items():
          self.assertEqual(found[name].tobytes(), value.tobytes())
    self.assertGreater(seen, len(ends) + 100)

  def test_other_work(self):
    """A file under another's name is not read, and no job takes another's."""
    self.store.save('one', JOB, self.arrays)
    (path,) = self.folder.iterdir()
    other = JOB._replace(basis=jobs.basis({'lr': 50.0}, 'ossgd.running.sweeps'))
    with self.assertLogs(level='INFO') as logs:
      self.assertIsNone(self.store.load('one', other))
    self.assertIn('settings.lr: 1.0 there, 50.0 here', logs.output[0])
    self.store.save('one', other, {'w': np.zeros(3)})
    self.assertEqual(self.store.load('one', JOB).keys(), self.arrays.keys())
    self.assertEqual(self.store.load('one', other).keys(), {'w'})
    shutil.copy(path, path.with_name(path.name.replace('one', 'two')))
    with self.assertLogs(level='WARNING') as logs:
      self.assertIsNone(self.store.load('two', JOB))
    self.assertIn('is not what was saved as two', logs.output[0])

  def test_a_failed_write_leaves_what_was_there(self):
    """And no rubbish; what a killed process left is cleared away."""
    self.store.save('one', JOB, self.arrays)
    with (
      mock.patch.object(np, 'savez', side_effect=OSError(28, 'full')),
      self.assertRaisesRegex(files.SaveError, 'cannot write.*full'),
    ):
      self.store.save('one', JOB, {'w': np.zeros(3)})
    found = self.store.load('one', JOB)
    np.testing.assert_array_equal(found['w'], self.arrays['w'])
    (path,) = self.folder.iterdir()
    (self.folder / f'.{path.name}.1.part').write_bytes(b'half')
    (self.folder / '.config.json.12.part').write_bytes(b'half')
    (self.folder / '.mine.part').write_bytes(b'of the user')
    checkpoints.Store(self.folder, every=60.0)
    names = {one.name for one in self.folder.iterdir()}
    self.assertEqual(names, {path.name, '.mine.part'})

  def test_when_to_save(self):
    self.assertFalse(self.store.due())
    self.store.stopping = 'SIGTERM'
    self.assertTrue(self.store.due())
    often = checkpoints.Store(self.folder, every=0.0)
    time.sleep(0.01)
    self.assertTrue(often.due())


class WatchTest(parameterized.TestCase):
  def test_parts(self):
    """Fractions of fractions, names of names; the last ends at 1 exactly."""
    told = []
    watch = watching.watch(lambda *part: told.append(part))
    self.assertIs(watching.watch(watch), watch)
    small, large = watch.part(0.5, 1.0, 'a').parts([('b', 1), ('c', 3)])
    for part, fraction in ((small, 0.5), (large, 0.0), (large, 1.0)):
      part(fraction, 'd')
    self.assertEqual(
      told, [(0.5625, 'a b d'), (0.625, 'a c d'), (1.0, 'a c d')]
    )
    self.assertEqual(large.prefix, 'a c ')
    self.assertEqual(large.once('e', JOB, lambda x: {'x': x}, 3), {'x': 3})


class Asked(checkpoints.Store):
  """A store that is asked to stop in every chunk."""

  def due(self):
    self.stopping = 'SIGTERM'
    return super().due()


class SweepTest(parameterized.TestCase):
  """A sweep that is stopped after every chunk ends as one that is not."""

  def stopped_everywhere(self, **settings):
    """The results, and how often it was stopped."""
    folder = pathlib.Path(self.enter_context(tempfile.TemporaryDirectory()))
    for count in range(200):
      store = Asked(folder, every=60.0)
      try:
        return sweeps.sweep(
          progress=watching.Watch(lambda *_: None, store), **settings
        ), count
      except watching.Stopped:
        continue
    raise AssertionError('no end')

  @parameterized.parameters(
    {'engine': 'plain', 'recorders': RECORDERS},
    {'engine': 'blocked'},
    {'engine': 'gram'},
    {'engine': 'gram', 'seeds_at_once': 2, 'recorders': RECORDERS},
    # Where nothing was measured since the state before.
    {'engine': 'gram', 'num_seeds': 1, 'num_steps': 60, 'eval_every': 50},
  )
  def test_bit_for_bit(self, **settings):
    settings = SETTINGS | settings
    expected = sweeps.sweep(**settings)
    found, times = self.stopped_everywhere(**settings)
    self.assertGreater(times, 1)
    for name in expected:
      self.assertEqual(
        found[name].values.tobytes(), expected[name].values.tobytes(), name
      )

  def test_other_random_numbers(self):
    """A state that began elsewhere is refused."""
    settings = SETTINGS | dict(num_seeds=1)
    folder = pathlib.Path(self.enter_context(tempfile.TemporaryDirectory()))
    # Asked after a state was not due: not lost, the next one is saved.
    store = checkpoints.Store(folder, every=60.0)

    def stop(fraction, label):
      store.stopping = 'SIGINT'

    with self.assertRaises(watching.Stopped):
      sweeps.sweep(progress=watching.Watch(stop, store), **settings)
    self.assertLen(list(folder.glob('*begun*')), 1)
    store.stopping = ''
    drawn = measuring.draw_params

    def other(*args, **kwargs):
      params = drawn(*args, **kwargs)
      # One weight, one bit.
      last = jnp.nextafter(params.w[0, 0], jnp.inf)
      return params._replace(w=params.w.at[0, 0].set(last))

    caching.forget()
    self.addCleanup(caching.forget)
    with (
      mock.patch.object(measuring, 'draw_params', other),
      self.assertRaisesRegex(
        ValueError, 'other random numbers.*begun.*another folder'
      ),
    ):
      sweeps.sweep(progress=watching.Watch(lambda *_: None, store), **settings)
