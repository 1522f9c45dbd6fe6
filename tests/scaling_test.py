"""The plan past these machines: its sums by hand, and by compiled programs."""

import os
from unittest import mock

import numpy as np
from absl.testing import absltest, parameterized

from experiments import machines, scaling, virtual
from ossgd import cost

TOY = machines.Machine('toy', 4, 1e12, 1e11, 1e9, 1e10, 1e-5)
SMALL = cost.Shape(
  width=48,
  dim=10,
  num_classes=3,
  num_train=70,
  num_test=16,
  num_train_eval=30,
  batch_size=64,  # four steps a block
  seeds_at_once=2,
)


class SentTest(parameterized.TestCase):
  def test_of_compiled_programs(self):
    """Number and bytes of the all-reduces, and nothing else is sent."""
    cases = [
      virtual.Case('plain', SMALL, 6, 3, (2, 2)),
      virtual.Case('blocked', SMALL, 6, 6, (1, 4)),  # two blocks of four
      virtual.Case('gram', SMALL, 5, 1, (1, 2)),
      virtual.Case('gram', SMALL, 4, 4, (2, 2)),
    ]
    # It compiles faster.
    settings = {'JAX_DISABLE_MOST_OPTIMIZATIONS': '1', 'JAX_PLATFORMS': 'cpu'}
    with mock.patch.dict(os.environ, settings):
      found = virtual.measure(cases, 2)
    for case, seen in zip(cases, found, strict=True):
      steps = np.arange(0, case.num_steps + 1, case.eval_every)
      seeds, units = case.mesh
      model = machines.sent(case.engine, case.shape, steps, units)
      self.assertEqual(seen.kinds, ('all-reduce',))
      self.assertEqual(seen.sent.all_reduces, model.all_reduces)
      self.assertEqual(seen.sent.bytes, model.bytes * 2 // seeds)
      self.assertLen(seen.seconds, 2)
      self.assertGreater(min(seen.seconds), 0)
      self.assertGreater(seen.memory, 4 * SMALL.width * SMALL.dim // units)

  def test_by_hand(self):
    """A step's logits; what is measured at steps 0 and 4."""
    steps = np.array([0, 4])
    logits = 4 * 64 * 3
    self.assertEqual(
      machines.sent('plain', SMALL, steps, 2),
      (4 + 4, 4 * (logits + 2 * ((16 + 30) * 3 + 16 + 2))),
    )
    # Two chunks of four steps, the first in pieces of one.
    measured = 8 * (64**2 + 1) + (4 + 1) * (86 * 3 + 1)
    self.assertEqual(
      machines.sent('gram', SMALL, steps, 2),
      (8 + 4, 4 * (2 * logits + measured)),
    )
    self.assertEqual(machines.sent('plain', SMALL, steps, 1), (0, 0))

  def test_wide_networks_measure_in_batches(self):
    """2^26 pre-activations a device: 16 examples of 2^23 / 2 units."""
    shape = SMALL._replace(width=2**23)
    few = machines.sent('plain', shape, np.array([0]), 2)
    self.assertEqual(few.all_reduces, 1 + 2 - 1 + 1)
    many = machines.sent('plain', shape._replace(width=2**26), np.array([0]), 4)
    self.assertEqual(many.all_reduces, 4 + 8 - 1 + 4)


class StepTest(parameterized.TestCase):
  @parameterized.parameters(
    (machines.H100, 1, 0),
    (machines.H100, 2, 6e-6),
    (machines.H100, 8, 6e-6),
    (machines.V5P, 1, 0),
    (machines.V5P, 2, 2e-6),
    (machines.V5P, 8, 8e-6),
    (machines.V5P, 32, 12e-6),
    (machines.V5P, 256, 20e-6),
  )
  def test_latency(self, machine, units, seconds):
    """A switch is one hop; rings are passed once around in all."""
    self.assertAlmostEqual(machine.all_reduce(units), seconds)

  def test_by_hand(self):
    """`plain` at Section 7's sizes, m = 4000 and two measurements."""
    problem = machines.SYNTHETIC._replace(record_steps=(0, 100))
    step = machines.predict(TOY, problem, 4000, 'plain', (2, 2), 6)
    m, seeds = 2000, 3  # of a device
    passes = 2 / 100 * 2000 * m
    self.assertAlmostEqual(
      step.arithmetic * 1e12,
      seeds * (4 * 16 * 1000 * m + passes * 2 * 1010),
      delta=1,
    )
    moved = 4 * m * (5 * 1000 + 6 * 16) + 2 / 100 * 4 * m * 1000
    self.assertAlmostEqual(
      step.traffic * 1e11, seeds * (moved + 16 * passes), delta=1
    )
    self.assertAlmostEqual(step.latency, 1.04e-5)
    logits = 16 * 10 + 2 / 100 * (2000 * 10 + 1000 + 2)
    self.assertAlmostEqual(step.sent, seeds * 4 * logits)
    self.assertAlmostEqual(step.links, step.sent / 1e10)
    self.assertAlmostEqual(step.time, step.traffic + step.latency + step.links)
    self.assertEqual(step.bound, 'traffic')
    alone = machines.predict(TOY, problem, 4000, 'plain', (4, 1), 4)
    self.assertEqual((alone.latency, alone.links, alone.sent), (0, 0, 0))

  def test_seeds_need_nothing_of_each_other(self):
    """As many seeds as devices: one each, and no all-reduce."""
    step = machines.best(TOY, machines.SYNTHETIC, 4096, 4)
    self.assertEqual((step.mesh, step.latency), ((4, 1), 0))

  def test_latency_ends_the_splitting(self):
    """A slow network is best not split at all; a fast one over all."""
    slow = machines.best(TOY._replace(latency=1.0), machines.SYNTHETIC, 4096, 1)
    fast = machines.best(
      TOY._replace(latency=1e-9), machines.SYNTHETIC, 4096, 1
    )
    self.assertEqual((slow.mesh, fast.mesh), ((1, 1), (1, 4)))
    for machine, step in ((TOY, slow), (TOY._replace(latency=1e-9), fast)):
      units = machines.half(machine, machines.SYNTHETIC, 4096, step)
      split = machines.predict(
        machine, machines.SYNTHETIC, 4096, step.engine, (1, 4), 1
      )
      self.assertAlmostEqual(
        units / 4, split.work / (split.latency + split.links), delta=1e-3
      )

  def test_memory(self):
    """What fits is `cost`'s to say; what does not is told, with a remedy."""
    self.assertIsNone(
      machines.best(machines.H100, machines.SYNTHETIC, 102400000, 1)
    )
    needed = machines.fewest(machines.H100, machines.SYNTHETIC, 102400000)
    self.assertEqual(needed, 32)
    shape = machines.SYNTHETIC.shape._replace(width=102400000)
    for devices, fits in ((needed, True), (needed // 2, False)):
      sizes = [
        cost.memory(engine, shape, 400, (1, devices))
        for engine in ('plain', 'blocked', 'gram')
      ]
      self.assertEqual(min(sizes) <= 80e9, fits)
    small = TOY._replace(memory=2e8)
    step = machines.best(small, machines.SYNTHETIC, 4096, 1000)
    self.assertLess(step.seeds_at_once, 1000)
    self.assertLessEqual(step.memory, 2e8)


class ScriptTest(parameterized.TestCase):
  def test_lines_and_tables(self):
    """An offset and a slope that were put in come out again."""
    config = scaling.Config(
      widths=(10240, 102400000),
      num_seeds=(1,),
      devices=(1, 2),
      measured_widths=(100, 200, 400),
    )

    def measure(cases, repetitions):
      del repetitions
      return [
        virtual.Found(
          ('all-reduce',),
          machines.Sent(1, 7),
          10**6,
          [1e-5 * c.mesh[1] + 1e-6 * c.shape.width] * 3,
        )
        for c in cases
      ]

    with mock.patch.object(virtual, 'measure', measure):
      results = scaling.run(config)
    np.testing.assert_allclose(
      scaling.line(results, 2, 'gram, units split'),
      (2e-5, 1e-6, 0),
      rtol=1e-6,
      atol=1e-9,
    )
    table = scaling.table(results)
    self.assertRegex(table, r'8 x H100 .*1.0e\+08 .* does not fit .* 32 ')
    # Ten microseconds more, for 17 all-reduces in 16 steps.
    self.assertRegex(table, r'plain, units split +\| 2 .* 9 +\|')
    self.assertIn('scaling', scaling.figures(results))

  def test_first_device_is_alone(self):
    with self.assertRaisesRegex(ValueError, 'expected 1 as the first'):
      scaling.run(scaling.Config(devices=(2, 4)))


if __name__ == '__main__':
  absltest.main()
