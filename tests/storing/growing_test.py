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
from ossgd.engines import kinds
from ossgd.engines.setup import Setup
from ossgd.running import compiled, execution, sweeps

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
    dict(steps=(5, 6), order='one_pass', engine='blocked', eval_every=4),
    dict(steps=(21, 25, 47), engine='gram', eval_every=1, num_seeds=1),
    dict(steps=(9, 14), engine='gram', order='full_batch', seeds_at_once=2),
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

  def test_more_seeds_and_widths(self):
    """Each once; then the same again, with nothing done."""
    first = self.sweep()
    expected = sweeps.sweep(SPEC, **SMALL | dict(widths=(8, 16), num_seeds=3))
    self.assert_same(
      first, expected.sel(width=[8], seed=[0, 1]).isel(rank=slice(8))
    )
    done = []
    run_block = execution.run_block
    with mock.patch.object(
      execution,
      'run_block',
      lambda programs, work, block, *others: (
        done.extend((job.width, job.seed) for job in block),
        run_block(programs, work, block, *others),
      )[1],
    ):
      found = self.sweep(widths=(8, 16), num_seeds=3)
      self.assertEqual(done, [(8, 2), (16, 0), (16, 1), (16, 2)])
      self.assert_same(found, expected)
      self.assert_same(self.sweep(widths=(8, 16), num_seeds=3), expected)
      # Less is given back, and the folder keeps what it has.
      self.assert_same(self.sweep(), first)
      self.assert_same(ossgd.load(self.folder), expected)
      # Another target is no other work.
      other = self.sweep(widths=(8, 16), num_seeds=3, target=0.5)
      self.assertLen(done, 4)
    self.assertEqual(ossgd.load(self.folder).target, 0.5)
    xr.testing.assert_identical(
      other,
      sweeps.sweep(
        SPEC, **SMALL | dict(widths=(8, 16), num_seeds=3, target=0.5)
      ),
    )
