"""Tests of experiments.readings and fits: readings, looks, what fits best."""

import itertools
from unittest import mock

import numpy as np
import xarray as xr
from absl.testing import parameterized

from experiments import readings
from experiments.common import fits
from ossgd.results import claims
from ossgd.running import sweeps
from tests.experiments.scripts_test import SMALL, finish, own_data


def oracle(results: xr.Dataset, every: int, reading: str):
  """Steps and distance where the target is first seen: a loop over looks."""
  steps = np.full((results.sizes['width'], results.sizes['seed']), np.nan)
  distances = steps.copy()
  last = int(results.step[-1])
  for i, j in np.ndindex(steps.shape):
    one = results.sel(reading=reading).isel(width=i, seed=j)
    for step in sorted({*range(0, last, every), last}):
      here = one.sel(step=step)
      if here.test_accuracy >= results.target:
        steps[i, j], distances[i, j] = step, here.relative_distance
        break
  return steps, distances


class ReadingsTest(parameterized.TestCase):
  def test_mixture(self):
    """Each reading differs from ours in what it is named for."""
    config = readings.Config(
      **SMALL, widths=(32, 64), num_steps=31, seen_every=(1, 5, 20)
    )
    results = readings.run(config)
    table, found = finish(readings.EXPERIMENT, results)
    self.assertLen(found, 4 * 3 * 5)
    self.assertIn("Away from the paper's set-up", table)
    loss = results.train_loss.isel(step=-1)
    ours = loss.sel(reading='paper')
    for reading in ('raw_inputs', 'variance', 'one_pass'):
      self.assertTrue((loss.sel(reading=reading) != ours).all(), reading)
    # A larger start makes the same path relatively shorter.
    distance = results.relative_distance.isel(step=-1).mean('seed')
    self.assertTrue(
      (distance.sel(reading='variance') < distance.sel(reading='paper')).all()
    )
    for every, reading in itertools.product(
      config.seen_every, results.reading.values
    ):
      seen = results.sel(seen_every=every, reading=reading)
      for name, expected in zip(
        ('steps_to_accuracy', 'distance_at_accuracy'),
        oracle(results, every, reading),
        strict=True,
      ):
        found = seen[name].transpose('width', 'seed')
        np.testing.assert_array_equal(found, expected)
    # Nothing is larger where one looks at less of it.
    largest = results.largest_pattern_difference.max(('reading', 'width'))
    self.assertTrue((largest.diff('seen_every') <= 0).all())
    at_all = results.relative_distance.max('step')
    np.testing.assert_array_equal(
      results.largest_distance.sel(seen_every=1), at_all
    )

  def test_files(self):
    """Data from files are prepared in four ways; one pass is not asked of."""
    with own_data(offset=5) as dataset:
      config = readings.Config(
        dataset=dataset,
        widths=(16, 32),
        num_seeds=2,
        num_steps=20,
        batch_size=8,
        eval_every=2,
        seen_every=(2, 10),
        target=0.9,
        constant=8.0,
      )
      results = readings.run(config)
    _, found = finish(readings.EXPERIMENT, results)
    self.assertLen(found, 5 * 2 * 4)
    start = results.test_loss.isel(step=0, width=0, seed=0)
    self.assertLen(np.unique(start), 5)  # five ways to begin

  @parameterized.parameters(
    dict(seen_every=(1, 3)),
    dict(seen_every=()),
    dict(seen_every=(2, 2)),
    dict(seen_every=(0,)),
    dict(eval_every=0),
    dict(eval_growth=0.1),
  )
  def test_grids_that_are_none(self, **settings):
    """Said before any training."""
    settings = {'eval_every': 2, 'seen_every': (2,)} | settings
    with (
      mock.patch.object(sweeps, 'sweep', side_effect=AssertionError),
      self.assertRaisesRegex(ValueError, 'eval_growth is .* multiples of'),
    ):
      readings.run(readings.Config(**settings))

  def test_presets_are_sound(self):
    """Each names grids that its measurements have."""
    for settings in readings.PRESETS.values():
      readings._check(readings.Config(**settings))


def fit(words, every, constant, verdicts, together=None):
  """One line of the comparison, with nothing but what conclusions need."""
  claim = claims.Claim('', '', '', lambda ds: ds, low=0.0, high=1.0)
  results = xr.Dataset({'v': ('seed', constant + np.array([-1e-3, 0, 1e-3]))})
  some = claims.judge(claim._replace(measure=lambda ds: ds.v), results)
  findings = [some._replace(verdict=v) for v in verdicts]
  return fits.Fit(words, every, findings, together or verdicts)


class ConclusionTest(parameterized.TestCase):
  def test_best_by_how_much_and_what_stays_open(self):
    """By hand: 0.66 misses 2/3 by 1 %, 0.6 by 11 %, 0.5 by 33 %."""
    found = [
      fit('ours', 1, 0.5, ('fails', 'holds')),
      fit('ours', 20, 0.66, ('holds', 'holds')),
      fit('theirs', 1, 0.6, ('undecided', 'holds')),
    ]
    text = fits.conclusion(found, 2 / 3)
    self.assertIn('All 2 numbers hold with: ours, seen every 20 steps.', text)
    self.assertIn(
      'constant 0.667: ours, seen every 20 steps: 0.66 ± 0.001 (0.658 to '
      '0.662) holds, off by 1 %; the next is off by 11 %, ours, seen every 1 '
      'steps by 33 %.',
      text,
    )
    self.assertIn('family-wise: ours, seen every 1 steps.', text)
    self.assertIn(
      'unknown: ours, seen every 20 steps; theirs, seen every 1 steps.', text
    )

  def test_what_is_ruled_out_is_so_together(self):
    """One of many numbers may fail alone: Holm's verdicts rule out."""
    alone = fit('ours', 1, 0.5, ('fails', 'holds'), ('undecided', 'holds'))
    text = fits.conclusion([alone], 2 / 3)
    self.assertIn('stays unknown: ours, seen every 1 steps.', text)
    self.assertNotIn('Ruled out', text)

  def test_survivors_are_not_nearest(self):
    """A mean of some seeds is of no reading, however near."""
    some = fit('ours', 1, 0.66, ('undecided', 'holds'))
    first = some.findings[0]._replace(num_missing=4)
    some = some._replace(findings=[first, *some.findings[1:]])
    other = fit('theirs', 1, 0.6, ('undecided', 'holds'))
    text = fits.conclusion([some, other], 2 / 3)
    self.assertIn('constant 0.667: theirs', text)
    self.assertIn('(4 without)', fits._cell(first))

  def test_nothing_fits(self):
    """None has all numbers, none reached the target: no numbers are made up."""
    found = [fit('ours', n, np.nan, ('fails', 'holds')) for n in (1, 5)]
    text = fits.conclusion(found, 8.0)
    self.assertIn('No reading has all 2 numbers; most, 1, hold', text)
    self.assertNotIn('Nearest', text)
    self.assertIn('ours, seen every 1, 5 steps', text)
    self.assertIn('Each is ruled out', text)

  def test_away_from_the_paper(self):
    """Where nothing can be judged nothing is said to fit."""
    text = fits.conclusion([fit('ours', 1, 0.6, ('measured',) * 2)], 2 / 3)
    self.assertEqual(text, "Away from the paper's set-up: nothing is judged.\n")
