"""Tests of sweeps that grow: what is grown is what is asked for at once."""

import dataclasses
import functools
import pathlib
import tempfile
from unittest import mock

import numpy as np
import optax
import xarray as xr
from absl.testing import parameterized

import ossgd
from ossgd.data import mixtures
from ossgd.engines import cost, kinds, measuring
from ossgd.engines import setup as setups
from ossgd.engines.setup import Setup
from ossgd.machine import lanes
from ossgd.paper import network
from ossgd.paper.types import Params
from ossgd.running import compiled, sweeps
from ossgd.storing import checkpoints, growing

SPEC = mixtures.gaussian(num_classes=3, num_components=1, dim=12)
SMALL = dict(
  widths=(8,),
  num_seeds=2,
  num_steps=7,
  batch_size=4,
  num_train=24,
  num_test=10,
  eval_every=2,
  engine='plain',
)


def chunk_values(chunk):
  """All that an engine is told of a chunk."""
  leaves = [*chunk.arguments, chunk.recorded, chunk.end]
  flat = []
  for leaf in leaves:
    for part in leaf if isinstance(leaf, tuple) else (leaf,):
      parts = part if isinstance(part, tuple) else (part,)
      flat += [np.asarray(one).tolist() for one in parts]
  return flat


class CommonTest(parameterized.TestCase):
  @parameterized.product(
    engine=('plain', 'gram'),
    every_growth=((1, 0.05), (3, 0.3), (5, 0.0), (20, 0.0), (2, 1.0)),
  )
  def test_every_longer_run_begins_with_them(self, engine, every_growth):
    """The same chunks, recorded or not; and all but few of a run's own."""
    every, growth = every_growth
    setup = Setup(
      width=8,
      dim=3,
      num_classes=2,
      num_train=10,
      num_test=5,
      batch_size=64,  # four steps a block
      order='full_batch' if engine == 'plain' else 'epochs',
      eval_every=every,
      eval_growth=growth,
      engine=engine,
    )

    def cut(num_steps):
      one = dataclasses.replace(setup, num_steps=num_steps)
      chunks = list(kinds.make(one).chunks)
      common = compiled.common(chunks, one.shared_step)
      ends = [0, *(chunk.end for chunk in chunks)]
      again = num_steps - ends[common]
      gap = np.diff(one.record_steps).max()
      self.assertLessEqual(again, gap + 4)  # a chunk, and a shorter gap
      return [chunk_values(chunk) for chunk in chunks], common

    cuts = {steps: cut(steps) for steps in range(1, 70)}
    for steps, (chunks, common) in cuts.items():
      for longer in range(steps, 70):
        self.assertEqual(cuts[longer][0][:common], chunks[:common])


class Case(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    root = self.enter_context(tempfile.TemporaryDirectory())
    self.folder = pathlib.Path(root, 'mine')
    self.chunks = 0

  def sweep(self, data=SPEC, **settings) -> xr.Dataset:
    """In the folder, unless another is named; `chunks` is what was done."""
    self.chunks = 0
    settings = SMALL | dict(folder=self.folder) | settings
    inside = settings.pop('progress', lambda *told: None)

    def count(*told):
      self.chunks += 1
      inside(*told)

    return ossgd.sweep(data, progress=count, **settings)

  def assert_same(self, found: xr.Dataset, expected: xr.Dataset) -> None:
    """To the bit, labels and attributes too."""
    xr.testing.assert_identical(found, expected)
    for name in expected:
      self.assertEqual(
        found[name].values.tobytes(), expected[name].values.tobytes(), name
      )


class GrowingTest(Case):
  @parameterized.parameters(
    dict(steps=(8, 13), optimizer=functools.partial(optax.sgd, momentum=0.9)),
    dict(steps=(5, 6), engine='blocked', eval_every=4, order='one_pass'),
    dict(steps=(7, 11), seeds_at_once=2),
    dict(steps=(21, 25, 47), engine='gram', eval_every=1, num_seeds=1),
    # C is folded, in coordinates of its own or in those of 24 examples.
    dict(steps=(40, 90, 250), engine='gram', num_seeds=1),
    dict(
      steps=(90, 130, 250),
      engine='gram',
      num_seeds=1,
      data=mixtures.gaussian(num_classes=3, num_components=1, dim=40),
    ),
    dict(steps=(9, 14), engine='gram', order='full_batch', num_seeds=1),
  )
  def test_more_steps(self, steps, **settings):
    """What was done is not done again, and no bit is another."""
    for number in steps:
      found = self.sweep(num_steps=number, **settings)
    grown = self.chunks
    expected = self.sweep(num_steps=steps[-1], folder=None, **settings)
    self.assert_same(found, expected)
    self.assert_same(ossgd.load(self.folder), expected)
    self.assertBetween(grown, 1, self.chunks - 1)

  @parameterized.parameters((35, 40), (40, 35))
  def test_other_steps_of_a_wide_network(self, *steps):
    """Which keeps something of each visit, and has more of them or fewer."""
    settings = dict(engine='gram', num_seeds=1, eval_growth=0.0)
    with mock.patch.object(setups, '_WIDE', 0):
      for number in steps:
        found = self.sweep(num_steps=number, **settings)
      expected = self.sweep(num_steps=steps[-1], folder=None, **settings)
    self.assert_same(found, expected)

  def test_more_seeds_and_widths(self):
    """Each once; then the same again, with nothing done."""
    first = self.sweep()
    expected = sweeps.sweep(SPEC, **SMALL | dict(widths=(8, 16), num_seeds=3))
    self.assert_same(
      first, expected.sel(width=[8], seed=[0, 1]).isel(rank=slice(8))
    )
    told = []
    more = dict(widths=(8, 16), num_seeds=3)
    found = self.sweep(**more, progress=lambda _, label: told.append(label))
    done = {'m=8 seed=2', 'm=16 seed=0', 'm=16 seed=1', 'm=16 seed=2'}
    self.assertEqual(set(told), done)
    self.assert_same(found, expected)
    self.assert_same(self.sweep(**more), expected)
    self.assertEqual(self.chunks, 0)
    # Less is given back, and the folder keeps what it has.
    self.assert_same(self.sweep(), first)
    self.assertEqual(self.chunks, 0)
    self.assert_same(ossgd.load(self.folder), expected)
    # Another target is no other work.
    other = self.sweep(**more, target=0.5)
    self.assertEqual(self.chunks, 0)
    self.assert_same(other, self.sweep(**more, target=0.5, folder=None))
    self.assert_same(ossgd.load(self.folder), other)

  def test_killed_between(self):
    """While it grew: what was done is there, and no bit is another."""
    settings = dict(num_steps=20, eval_every=10)

    class Killed(BaseException):
      pass

    def kill(fraction, label):
      if fraction > 0.6:
        raise Killed

    self.sweep(**settings)
    settings |= dict(num_steps=40)
    with (
      mock.patch.object(checkpoints.Store, 'due', return_value=True),
      mock.patch.object(lanes, 'number', return_value=1),
    ):
      for _ in range(2):
        with self.assertRaises(Killed):
          self.sweep(**settings, progress=kill)
    found = self.sweep(**settings)
    self.assertLess(self.chunks, 3)
    self.assert_same(found, self.sweep(**settings, folder=None))

  def test_what_cannot_go_on(self):
    """Another engine's state is of no use: said, and begun again."""
    settings = dict(engine='auto', num_seeds=1)
    with mock.patch.object(cost, 'choose', return_value='blocked'):
      self.sweep(**settings)
    with (
      mock.patch.object(cost, 'choose', return_value='plain'),
      self.assertLogs(level='WARNING') as logs,
    ):
      found = self.sweep(**settings, num_steps=9)
    self.assertIn('engine: "blocked" there, "plain" here', logs.output[0])
    again = self.chunks
    expected = self.sweep(num_seeds=1, num_steps=9, folder=None)
    self.assertEqual(again, self.chunks)
    # And without a kept state.
    self.assert_same(found, expected)
    folder = self.folder / 'other'
    for steps in (7, 9):
      settings = dict(num_seeds=1, num_steps=steps, folder=folder)
      self.sweep(**settings, keep_states=False)
    self.assertEqual(again, self.chunks)
    self.assertEmpty(list(folder.glob('*/*kept*')))

  def test_weights(self):
    """w(0) and w(T), asked for later: the steps are not taken again."""
    self.sweep(num_steps=8)
    found = self.sweep(num_steps=8, widths=(8, 16), keep='weights')
    w0, w = found.initial_weights_8, found.final_weights_8
    self.assertEqual(w.dims, ('seed', 'unit_8', 'input'))
    self.assertEqual(found.output_weights_16.shape, (2, 3, 16))
    distance = np.linalg.norm(w - w0, axis=(1, 2))
    distance /= np.linalg.norm(w0, axis=(1, 2))
    expected = found.relative_distance.sel(width=8).isel(step=-1)
    np.testing.assert_allclose(distance, expected, rtol=1e-5)
    params = Params(*(v[0].values for v in (w, found.output_weights_8)))
    split = mixtures.sample(
      measuring.seed_keys(0).data, SPEC, num_train=24, num_test=10
    )
    loss = network.loss(network.logits(params, split.test.x), split.test.y)
    told = found.test_loss.sel(width=8, seed=0).isel(step=-1)
    np.testing.assert_allclose(loss, told, rtol=1e-5)
    self.assert_same(ossgd.load(self.folder), found)
    # Less is given back.
    self.assertNotIn('final_weights_8', self.sweep(num_steps=8))
    self.assert_same(ossgd.load(self.folder), found)
    with self.assertRaisesRegex(ValueError, "keep is 'all'.*'weights'"):
      self.sweep(keep='all')
    self.assert_same(ossgd.load(self.folder), found)


class CallbackTest(Case):
  @parameterized.parameters(1, 2)
  def test_stop_and_go_on(self, at_once):
    """A stopped run keeps what it has, is labelled, and can go on."""
    told = []
    # After every chunk: what goes on says nothing of what has stopped.
    self.enter_context(mock.patch.object(growing, '_SAVED_EVERY', 0.0))

    def stop(job, step, record):
      told.append((job.width, job.seed, step))
      self.assertLen(record['test_loss'], 1 + step // 2 + step % 2)
      self.assertBetween(record['test_accuracy'].max(), 0, 1)
      return step >= 2 + 2 * job.seed

    settings = dict(num_steps=9, keep='weights', seeds_at_once=at_once)
    whole = self.sweep(**settings, folder=None)
    for folder in (None, self.folder, self.folder):
      told.clear()
      found = self.sweep(**settings, callback=stop, folder=folder)
      self.assertEqual(found.stopped_at.values.tolist(), [[2, 4]])
      self.assertTrue(found.diverged_at.isnull().all())
      for seed, step in ((0, 2), (1, 4)):
        ours, theirs = found.sel(seed=seed), whole.sel(seed=seed)
        for name in ('test_loss', 'train_accuracy', 'relative_distance'):
          np.testing.assert_array_equal(
            ours[name], theirs[name].where(whole.step <= step)
          )
        w, w0 = ours.final_weights_8, ours.initial_weights_8
        np.testing.assert_allclose(
          np.linalg.norm(w - w0) / np.linalg.norm(w0),
          ours.relative_distance.sel(step=step).item(),
          rtol=1e-5,
        )
        np.testing.assert_allclose(
          ours.singular_values_update[0, :8],
          np.linalg.svd(w - w0)[1],
          atol=1e-5,
        )
    self.assertEqual(self.chunks, 0)  # it was asked before any step
    self.assertCountEqual(told, [(8, 0, 2), (8, 1, 4)])
    self.assert_same(ossgd.load(self.folder), found)
    gone_on = self.sweep(**settings)
    if at_once == 1:
      self.assert_same(gone_on, whole)
    else:  # one by one now, since they are at different steps
      xr.testing.assert_allclose(gone_on, whole, rtol=1e-4, atol=1e-5)
    self.assert_same(ossgd.load(self.folder), gone_on)

  def test_end(self):
    """What it says of the last step stops nothing; what it raises, all."""

    def at_the_end(job, step, record):
      return step == 7

    found = self.sweep(callback=at_the_end)
    self.assertTrue(found.stopped_at.isnull().all())
    self.assert_same(found.drop_vars('stopped_at'), self.sweep(folder=None))

    def fail(job, step, record):
      raise KeyError(job.seed)

    with self.assertRaisesRegex(KeyError, '2'):
      self.sweep(num_seeds=3, callback=fail)
    self.assertEqual(
      ossgd.load(self.folder).unfinished, '2 of 3 runs are finished'
    )
