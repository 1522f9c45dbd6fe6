"""The benchmark in its smallest form: same work, same results, honest sums."""

import importlib.util
import json
import pathlib
import re
import resource
import tempfile
from unittest import mock

import numpy as np
import psutil
from absl.testing import parameterized

from experiments import benchmark
from experiments.common.speed import agreement, device, floor, growth, rivals
from ossgd.running import watching
from ossgd.storing import checkpoints
from tests import oracles
from tests.experiments.options_test import ended

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
  def test_without_pytorch(self):
    """Said before anything is timed."""
    with (
      mock.patch.object(importlib.util, 'find_spec', return_value=None),
      mock.patch.object(benchmark, 'compare', side_effect=AssertionError),
      self.assertRaisesRegex(ValueError, 'pip install torch'),
    ):
      benchmark.run(SMALL)

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
    # Of one width there is one number.
    self.assertRegex(table, r'^\d+\.\d times the JAX loop, every step measured')
    self.assertIn('growth', growth.figures(results))

  def test_unavoidable(self):
    """Counted by hand for Section 7's sizes at m = 4000."""
    case = rivals.case_of('synthetic, every step', 4000, 400)
    flops, bytes_ = floor.unavoidable(case)
    steps = 2 * 2000 * 4000 * (16 + 10) * 400
    ends = 2 * 1000 * (2000 * 4000 + 1000 * 2000 + 1000 * 4000)
    self.assertEqual(flops, steps + ends)
    self.assertEqual(bytes_, 2 * 4 * 2000 * 4000 * 400 / 16)

  def test_rivals_descend(self):
    """The plain loop in JAX is eq. (1), by NumPy."""
    case = rivals.case_of('synthetic', 16, 3)
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
    seconds = np.zeros((len(NO_TORCH), SMALL.repetitions))
    compare = mock.Mock(return_value={'seconds': seconds})
    with (
      mock.patch.dict(benchmark.CONTENDERS, NO_TORCH, clear=True),
      mock.patch.object(benchmark, 'compare', compare),
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
    self.assertEqual(compare.call_count, 3)
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


class DeviceTest(parameterized.TestCase):
  def test_small(self):
    """One command: limits, agreement and every case, in JSON and a table."""
    with (
      tempfile.TemporaryDirectory() as out,
      mock.patch.object(device, '_WORKS', ('synthetic, every step',)),
      mock.patch.object(device, '_ENGINES', ('plain',)),
      mock.patch.object(rivals, 'fastest', return_value='plain'),
    ):
      sizes = '--widths=16 --num_seeds=2 --num_steps=20 --repetitions=1'
      limits = '--matmul_side=64 --copied=1000 --minutes=5'
      argv = [*sizes.split(), *limits.split(), f'--out={out}']
      code, printed, _ = ended(benchmark.main, ['benchmark', '--device', *argv])
      found = json.loads(pathlib.Path(out, 'device.json').read_text())
      table = pathlib.Path(out, 'device.md').read_text()
    self.assertEqual(code, 0, table)
    self.assertIn(table, printed)
    self.assertIn('no PyTorch with CUDA', table)
    self.assertEqual(found['device']['platform'], 'cpu')
    self.assertGreater(found['machine']['copy_bandwidth'], 0)
    what = [line['what'] for line in found['agreement']]
    for name in ('pattern_difference', 'test_accuracy', 'moved'):
      self.assertIn(f'plain, {name}', what)
    self.assertTrue(any('seed 1 of 2 and alone' in text for text in what))
    self.assertTrue(all(line['within'] for line in found['agreement']), table)
    self.assertEqual(
      [(case['num_seeds'], case['contender']) for case in found['cases']],
      [(1, 'fast'), (1, 'jax loop'), (2, 'fast'), (1, 'plain'), (2, 'plain')],
    )
    for case in found['cases']:
      self.assertGreater(case['seconds'], 0, case)
      self.assertGreater(case['floor_by_bandwidth'], 0)
      line = f'| {case["num_seeds"]} | 16 | {case["contender"]}'
      self.assertIn(line, re.sub(' +', ' ', table))

  def test_what_fails_is_noted(self):
    """So is what the time does not allow; all is told as soon as it is known.

    A clock that a case takes ten seconds of, at twice the width twenty.
    """
    told, now = [], [0.0]
    clock = mock.Mock(side_effect=lambda: now[0])

    def measured(timed, config, machine):
      now[0] += timed.width * timed.num_seeds
      if timed.contender == 'jax loop':
        raise MemoryError('RESOURCE_EXHAUSTED: 9 GB\nand more')
      return {'seconds': 1.0, 'failed': ''}

    config = device.Config(widths=(10, 20), num_seeds=2, minutes=2.0)
    with (
      mock.patch.object(rivals, 'case_of'),
      mock.patch.object(agreement, 'lines', return_value=()),
      mock.patch.object(device, '_measured', measured),
      mock.patch.object(device.time, 'perf_counter', clock),
      mock.patch.object(floor, 'machine', return_value=(1e9, 1e9)),
    ):
      found = device.run(config, lambda all_: told.append(len(all_['cases'])))
    asked = list(device.cases(config, torch=False))
    self.assertEqual(told, list(range(len(asked) + 1)))
    rivals_in_jax = [c for c in found['cases'] if c['contender'] == 'jax loop']
    for case in rivals_in_jax:
      self.assertEqual(case['failed'], 'RESOURCE_EXHAUSTED: 9 GB')
    left_out = [c for c in found['cases'] if 'left_out' in c]
    self.assertNotEmpty(left_out)
    self.assertLess(now[0], 120 + 40)  # a first one of its kind is tried
    self.assertRegex(left_out[-1]['left_out'], r'\d+ s expected, \d+ s left')

  def test_order(self):
    """What is asked for first is there first; PyTorch where it has a device."""
    config = device.Config()
    for torch in (False, True):
      asked = list(device.cases(config, torch))
      self.assertLen(set(asked), len(asked))
      self.assertEqual({c.width for c in asked}, set(config.widths))
      self.assertEqual(torch, any('torch' in c.contender for c in asked))
      of_rivals = [
        c for c in asked if c.contender in ('jax loop', 'torch eager')
      ]
      self.assertEqual({c.num_seeds for c in of_rivals}, {1})
      ours = [i for i, c in enumerate(asked) if c.contender == 'plain']
      self.assertGreater(min(ours), max(map(asked.index, of_rivals)))

  def test_wrong_numbers(self):
    """Rounding to three decimals is found, in losses and in weights."""
    case = rivals.case_of('synthetic, every step', 16, 20)
    exact = agreement._trained(case.arrays, case, 'plain')
    for name, value in exact.items():
      again = agreement._line('', name, value, value)
      self.assertTrue(again['within'])
      rounded = np.asarray(value) * np.float64(1 + 1e-3)
      wrong = agreement._line('', name, rounded, value)
      self.assertEqual(wrong['within'], 'accuracy' in name or name == 'moved')
      broken = np.full_like(value, np.nan, np.float64)
      self.assertFalse(agreement._line('', name, broken, value)['within'])
