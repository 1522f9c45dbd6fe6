"""Tests of progress_line: a bar on a terminal, else a line now and then."""

import contextlib
import gc
import io
import weakref
from concurrent import futures
from unittest import mock

import jax
from absl.testing import absltest

from experiments.common import progress_line
from tests.experiments.command_test import Terminal


class StopwatchTest(absltest.TestCase):
  def test_threads_share_the_time(self):
    """Parts add up to what a clock shows, whoever works at the same time."""
    now = self.enter_context(mock.patch.object(progress_line, 'time')).monotonic
    now.return_value = 1000
    stopwatch = progress_line.Stopwatch()
    backend = '/jax/core/compile/backend_compile_duration'

    def ends(event, end, seconds, thread=None):
      now.return_value = 1000 + end
      tell = jax.monitoring.record_event_duration_secs
      if thread is None:
        tell(event, seconds)
      else:
        thread.submit(tell, event, seconds).result()

    with futures.ThreadPoolExecutor(1) as lane:
      with futures.ThreadPoolExecutor(1) as compiler:
        ends(backend, 5.0, 4.0, compiler)  # ahead: nobody waits
      ends('/ossgd/train', 10.0, 6.0)  # 4 to 10
      ends('/ossgd/compile', 8.0, 2.0, lane)
      ends('/ossgd/measure', 12.0, 6.0, lane)  # 6 to 12, but 6 to 8
      ends(backend, 14.0, 1.0)
    now.return_value = 1020
    self.assertEqual(
      stopwatch.report(),
      {'train': 4.0, 'compile': 2.0, 'measure': 3.0, 'other': 11.0},
    )
    self.assertEqual(stopwatch.total(), 20)

  def test_it_ends_with_its_owner(self):
    """JAX keeps no stopwatch of scripts that a session has run before."""
    stopwatch = progress_line.Stopwatch()
    jax.monitoring.record_event_duration_secs('/ossgd/train', 1.0)
    self.assertEqual(stopwatch.seconds(), {'train': 1.0})
    left = weakref.ref(stopwatch)
    del stopwatch
    gc.collect()
    self.assertIsNone(left())


class ProgressTest(absltest.TestCase):
  def setUp(self):
    super().setUp()
    self.time = self.enter_context(mock.patch.object(progress_line, 'time'))
    self.time.monotonic.return_value = 1000
    self.progress = progress_line.Progress()

  def told(self, *works: tuple[float, float], stderr=None) -> str:
    """What is on stderr after so many seconds, with so much done."""
    with contextlib.redirect_stderr(stderr or io.StringIO()) as err:
      for now, fraction in works:
        self.time.monotonic.return_value = 1000 + now
        self.progress(fraction, f'm={now}')
      self.progress.close()
    return err.getvalue()

  def test_log_lines(self):
    """Not on a terminal: a line each 15 s at most, with the time left."""
    with self.assertLogs('absl', 'INFO') as logs:
      printed = self.told(
        (0, 0.0),
        (10, 0.125),  # too early
        (16, 0.25),
        (20, 0.3),  # too early after the last
        (31, 0.31),  # 15 s sharp
        (32, 0.5),
        (64, 1.0),
      )
    self.assertEmpty(printed)
    self.assertEqual(
      [record.getMessage() for record in logs.records],
      [
        ' 25 % done, 48 s left (m=16)',
        ' 50 % done, 32 s left (m=32)',
        '100 % done, 0 s left (m=64)',
      ],
    )

  def test_compilation_is_over(self):
    """A minute of it, then 1 % a second: 90 s are left, not 700."""
    with self.assertLogs('absl', 'INFO') as logs:
      self.told((0, 0.0))
      self.time.monotonic.return_value = 1060
      jax.monitoring.record_event_duration_secs(
        '/jax/core/compile/backend_compile_duration', 60.0
      )
      self.told((70, 0.1))
    self.assertEqual(
      logs.records[0].getMessage(), ' 10 % done, 90 s left (m=70)'
    )

  def test_nothing_done_yet(self):
    """After long compilation no rate is known: no line, no division by 0."""
    with self.assertNoLogs('absl', 'INFO'):
      self.told((100, 0.0))
    self.assertTrue(self.progress.started)

  def test_taken_up_again(self):
    """Half was done by another process: the pace is that of this one."""
    works = [(now, 0.5 + now / 1000 if now else 0.0) for now in range(101)]
    printed = self.told(*works, stderr=Terminal())
    self.assertIn('06:40 left', printed.split('\r')[-1])

  def test_bar(self):
    """On a terminal: nothing before the first call, all there at the end."""
    self.assertEmpty(self.told(stderr=Terminal()))
    self.assertFalse(self.progress.started)
    with self.assertNoLogs('absl', 'INFO'):
      printed = self.told((0, 0.0), (9, 0.5), (99, 1.0), stderr=Terminal())
    last = printed.split('\r')[-1]
    self.assertRegex(last, r'\A100% ?\|.*\| .* left, m=99 *\n\Z')
