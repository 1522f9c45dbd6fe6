"""The benchmark in its smallest form: same work, same results, honest sums."""

import pathlib
import resource
import tempfile
from unittest import mock

import numpy as np
import psutil
from absl.testing import parameterized

from experiments import benchmark
from experiments.common.speed import floor, growth
from ossgd.running import watching
from ossgd.storing import checkpoints
from tests import oracles

SMALL = benchmark.Config(
  widths=(64,), num_steps=20, repetitions=2, growing_widths=(32, 64)
)
# PyTorch is no dependency of the tests; its script has the same interface.
NO_TORCH = {
  name: contender
  for name, contender in benchmark.CONTENDERS.items()
  if 'torch' not in name
}
GROWN = {'seconds': np.array(0.5), 'bytes': np.array(1e9)}


class BenchmarkTest(parameterized.TestCase):
  def test_same_work_same_results(self):
    """Contenders agree; times, limits and floors are there for every work."""
    fractions = []
    with (
      mock.patch.dict(benchmark.CONTENDERS, NO_TORCH, clear=True),
      mock.patch.object(growth, 'measure', return_value=GROWN),
    ):
      results = benchmark.run(
        SMALL, lambda fraction, _: fractions.append(fraction)
      )
    self.assertEqual(
      list(results.work.values),
      [
        'synthetic, every step, m = 64',
        'synthetic, m = 64',
        'MNIST shape, m = 64',
      ],
    )
    self.assertLess(float(results.disagreement.max()), 1e-4)
    for name in ('seconds', 'cold_seconds', 'matmul_flops', 'flops', 'bytes'):
      self.assertGreater(float(results[name].min()), 0)
    self.assertEqual(fractions, sorted(fractions))
    self.assertEqual(fractions[-1], 1.0)
    table = benchmark.table(results)
    for work in results.work.values:
      self.assertEqual(table.count(f'| {work} '), len(NO_TORCH))
    self.assertIn('width = 64, dim = 1000', table)
    self.assertIn('growth', growth.figures(results))

  def test_unavoidable(self):
    """Counted by hand for Section 7's sizes at m = 4000."""
    case = benchmark.case_of('synthetic, every step', 4000, 400)
    flops, bytes_ = floor.unavoidable(case)
    steps = 2 * 2000 * 4000 * (16 + 10) * 400
    ends = 2 * 1000 * (2000 * 4000 + 1000 * 2000 + 1000 * 4000)
    self.assertEqual(flops, steps + ends)
    self.assertEqual(bytes_, 2 * 4 * 2000 * 4000 * 400 / 16)

  def test_rivals_descend(self):
    """The plain loop in JAX is eq. (1), by NumPy."""
    case = benchmark.case_of('synthetic', 16, 3)
    w = np.asarray(case.params.w, np.float64)
    for batch in case.rows():
      x, y = case.split.train.x[batch], case.split.train.y[batch]
      w = w - case.step_size * oracles.gradient(w, case.params.a, x, y)
    moved = NO_TORCH['jax loop'](case)() - case.params.w
    self.assertLess(oracles.relative_error(moved, w - case.params.w), 1e-4)

  def test_growth_in_a_process(self):
    """A second process, its time and its memory."""
    settings = dict(width=16, dim=20, num_train=40, num_seeds=1, devices=2)
    found = growth.measure(settings, 4)
    self.assertGreater(found['seconds'], 0)
    self.assertBetween(found['bytes'], 1e8, 1e10)

  def test_what_does_not_fit_is_left_out(self):
    """A width that memory has no room for costs nothing of the rest."""
    settings = dict(width=2**40, dim=20, num_train=40, num_seeds=1, devices=1)
    with self.assertLogs(level='WARNING') as logs:
      found = growth.measure(settings, 4)
    self.assertIn(f'm = {2**40} is left out', logs.output[0])
    self.assertIn('GB are free', logs.output[0])
    self.assertTrue(np.isnan([*found.values()]).all())

  def test_goes_on_where_it_was(self):
    """After a failure what was measured is there, and is not done again."""
    done, failing = [], [True]

    def measure(settings, steps):
      done.append(settings['width'])
      if failing and settings['dim'] == 250:
        raise OSError('the machine is gone')
      return GROWN

    folder = pathlib.Path(self.enter_context(tempfile.TemporaryDirectory()))
    with (
      mock.patch.dict(benchmark.CONTENDERS, NO_TORCH, clear=True),
      mock.patch.object(growth, 'measure', measure),
    ):
      for error in (OSError, None):
        watch = watching.Watch(
          lambda *told: None, checkpoints.Store(folder, 60.0)
        )
        if error:
          with self.assertRaises(error):
            benchmark.run(SMALL, watch)
          failing.clear()
        else:
          results = benchmark.run(SMALL, watch)
    self.assertEqual(done.count(32), 1)
    self.assertEqual(results.sizes['growth'], len(done) - 1)

  def test_peak(self):
    """By each system's own count: Linux, Windows, macOS."""
    linux = growth.peak()
    self.assertBetween(linux, psutil.Process().memory_info().rss, 1e11)
    maximum = mock.Mock(ru_maxrss=5e9)
    with mock.patch.object(pathlib.Path, 'exists', return_value=False):
      with mock.patch.object(resource, 'getrusage', return_value=maximum):
        self.assertEqual(growth.peak(), 5e9)
      memory = mock.Mock(peak_wset=2_000_000)
      process = mock.Mock(memory_info=mock.Mock(return_value=memory))
      with mock.patch.object(psutil, 'Process', return_value=process):
        self.assertEqual(growth.peak(), 2e6)
