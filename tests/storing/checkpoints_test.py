"""Stores: what is saved comes back, and nothing else does."""

import pathlib
import shutil
import tempfile
import time
from unittest import mock

import jax.numpy as jnp
import numpy as np
from absl.testing import parameterized

from ossgd.data import components, mixtures
from ossgd.engines import measuring
from ossgd.running import jobs, sweeps, watching
from ossgd.storing import checkpoints, files

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

  def test_every_flipped_bit(self):
    """Is either seen, or where it changes nothing."""
    self.store.save('one', JOB, self.arrays)
    (path,) = self.folder.iterdir()
    good = path.read_bytes()
    seen = 0
    for place in range(0, len(good), 3):
      bad = bytearray(good)
      bad[place] ^= 1 << place % 8
      path.write_bytes(bad)
      found = self.store.load('one', JOB)
      if found is None:
        seen += 1
        self.assertFalse(path.exists())
        self.assertTrue(path.with_suffix('.damaged').exists())
      else:
        for name, value in self.arrays.items():
          self.assertEqual(found[name].tobytes(), value.tobytes())
    self.assertGreater(seen, 100)

  def test_every_truncation(self):
    self.store.save('one', JOB, self.arrays)
    (path,) = self.folder.iterdir()
    good = path.read_bytes()
    for size in range(0, len(good), 7):
      path.write_bytes(good[:size])
      with self.assertLogs(level='WARNING') as logs:
        self.assertIsNone(self.store.load('one', JOB))
      self.assertIn(str(path), logs.output[0])

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

  def test_whose_a_file_is(self):
    """It says so itself: a name like ours is not enough."""
    self.store.save('m=8 seed=0', JOB, self.arrays)
    (path,) = self.folder.iterdir()
    self.assertTrue(checkpoints.is_ours(path))
    other = path.with_name(f'other.{"0" * 16}.npz')
    shutil.copy(path, other)
    mine = path.with_name(f'mine.{"0" * 16}.npz')
    np.savez(mine, w=np.zeros(3))
    for foreign in (other, mine, path.with_name('nothing.npz')):
      self.assertFalse(checkpoints.is_ours(foreign))

  def test_when_to_save(self):
    self.assertFalse(self.store.due())
    self.store.stopping = 'SIGTERM'
    self.assertTrue(self.store.due())
    often = checkpoints.Store(self.folder, every=0.0)
    time.sleep(0.01)
    self.assertTrue(often.due())


class WatchTest(parameterized.TestCase):
  def test_parts(self):
    """Fractions of fractions, and names of names."""
    told = []
    watch = watching.watch(
      lambda fraction, label: told.append((fraction, label))
    )
    part = watch.part(0.5, 1.0, 'b').part(0.0, 0.5, 'c')
    part(0.5, 'd')
    self.assertEqual(told, [(0.625, 'b c d')])
    self.assertEqual(part.prefix, 'b c ')
    self.assertIs(watching.watch(part), part)
    self.assertEqual(part.once('e', JOB, lambda x: {'x': x}, 3), {'x': 3})

  def test_parts_by_size(self):
    """One begins where the one before it ends, the last at 1 exactly."""
    told = []
    watch = watching.Watch(lambda *part: told.append(part), prefix='a ')
    small, large = watch.parts([('small', 1), ('large', 3)])
    for part, fraction in ((small, 0.5), (large, 0.0), (large, 1.0)):
      part(fraction, '')
    self.assertEqual(told, [(0.125, 'small'), (0.25, 'large'), (1.0, 'large')])
    self.assertEqual(large.prefix, 'a large ')

  def test_stop_between_units(self):
    """What is done is still there to be had; nothing more is begun."""
    with tempfile.TemporaryDirectory() as folder:
      store = checkpoints.Store(pathlib.Path(folder), every=60.0)
      watch = watching.Watch(lambda *_: None, store)
      one = {'x': np.ones(2)}
      watch.once('first', JOB, lambda: one)
      store.stopping = 'SIGTERM'
      np.testing.assert_array_equal(watch.once('first', JOB, self.fail)['x'], 1)
      with self.assertRaisesRegex(watching.Stopped, 'SIGTERM'):
        watch.once('second', JOB, self.fail)


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
    {'engine': 'plain'},
    {'engine': 'blocked'},
    {'engine': 'gram'},
    {'engine': 'gram', 'seeds_at_once': 2},
  )
  def test_bit_for_bit(self, **settings):
    settings |= dict(
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
    expected = sweeps.sweep(**settings)
    found, times = self.stopped_everywhere(**settings)
    self.assertGreater(times, 1)
    for name in expected:
      self.assertEqual(
        found[name].values.tobytes(), expected[name].values.tobytes(), name
      )

  def test_other_random_numbers(self):
    """A state that began elsewhere is refused."""
    settings = dict(
      data=mixtures.gaussian(num_classes=2, num_components=1, dim=5),
      widths=(8,),
      num_seeds=1,
      num_steps=8,
      batch_size=4,
      num_train=12,
      num_test=6,
      eval_every=2,
    )
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

    with (
      mock.patch.object(measuring, 'draw_params', other),
      self.assertRaisesRegex(ValueError, 'other random numbers'),
    ):
      sweeps.sweep(progress=watching.Watch(lambda *_: None, store), **settings)
    self.assertIsInstance(settings['data'], components.Spec)
