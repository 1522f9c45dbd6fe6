"""Tests of ossgd.machine.lanes: threads that work side by side."""

import threading

import jax
import jax.numpy as jnp
import threadpoolctl
from absl.testing import absltest, parameterized

from ossgd.machine import lanes


class RunTest(parameterized.TestCase):
  @parameterized.parameters(1, 2, 5)
  def test_each_once(self, at_once):
    """Never more at a time than asked for, and as many where there are."""
    lock, now, most, done = threading.Lock(), [0], [0], []
    meet = threading.Barrier(at_once)

    def work(i, go_on):
      with lock:
        now[0] += 1
        most[0] = max(most[0], now[0])
      if i < at_once:
        meet.wait(timeout=60)
      go_on()
      with lock:
        now[0] -= 1
        done.append(i)

    works = [lambda go_on, i=i: work(i, go_on) for i in range(7)]
    lanes.run(works, at_once)
    self.assertEqual(most[0], at_once)
    self.assertEqual(sorted(done), list(range(7)))

  def test_an_error_ends_the_others(self):
    """It is raised as it is; who is at work hears of it; none begins anew."""
    both, heard, begun = threading.Barrier(2), [], []

    def fails(go_on):
      both.wait(timeout=60)
      raise KeyError('why')

    def works(go_on):
      both.wait(timeout=60)
      try:
        while True:
          go_on()
      except lanes.Abandoned:
        heard.append(True)
        raise

    with self.assertRaisesRegex(KeyError, 'why'):
      lanes.run([works, fails, lambda go_on: begun.append(True)], 2)
    self.assertEqual((heard, begun), ([True], []))

  @parameterized.parameters(False, True)
  def test_settings(self, x64):
    """What numbers depend on is in threads what it is where they begin."""
    found = []

    def work(go_on):
      one = jnp.ones(2) if not x64 else jnp.ones(2, float)
      config = jax.config
      found.append(
        (
          str(one.dtype),
          config.jax_default_matmul_precision,
          config.jax_threefry_partitionable,
        )
      )

    partitionable = not jax.config.jax_threefry_partitionable
    with (
      jax.enable_x64(x64),
      jax.default_matmul_precision('highest'),
      jax.threefry_partitionable(partitionable),
    ):
      lanes.run([work] * 3, 2)
    kind = 'float64' if x64 else 'float32'
    self.assertEqual(found, [(kind, 'highest', partitionable)] * 3)


class BlasTest(absltest.TestCase):
  def test_limit_outlasts_the_first(self):
    """Two ask for one thread; the last to leave puts back what was."""

    def threads():
      return {
        one['filepath']: one['num_threads']
        for one in threadpoolctl.threadpool_info()
        if one['user_api'] == 'blas'
      }

    with threadpoolctl.threadpool_limits(2, user_api='blas'):
      before = threads()
      self.assertIn(2, before.values())
      first, second = lanes.one_blas_thread(), lanes.one_blas_thread()
      first.__enter__()
      second.__enter__()
      first.__exit__(None, None, None)
      self.assertEqual(set(threads().values()), {1})
      second.__exit__(None, None, None)
      self.assertEqual(threads(), before)


if __name__ == '__main__':
  absltest.main()
