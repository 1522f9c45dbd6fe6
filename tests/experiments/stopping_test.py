"""Tests of stopping: what a signal does, and a second one."""

import concurrent.futures
import contextlib
import io
import pathlib
import signal

from absl.testing import parameterized

from experiments.common import stopping
from ossgd.running import watching
from ossgd.storing import checkpoints

SIGNALS = (signal.SIGTERM, signal.SIGINT)


class StoppingTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    before = list(map(signal.getsignal, SIGNALS))
    self.addCleanup(
      lambda: self.assertEqual(list(map(signal.getsignal, SIGNALS)), before)
    )

  @parameterized.parameters(*SIGNALS)
  def test_at_once(self, number):
    """No `except Exception` can take it for a failure."""
    with (
      self.assertRaisesRegex(watching.Stopped, number.name),
      stopping.at_once(),
      contextlib.suppress(Exception),
    ):
      signal.raise_signal(number)

  @parameterized.product(first=SIGNALS, second=SIGNALS)
  def test_at_next_chunk(self, first, second):
    """The first one asks, the second one does not."""
    store = checkpoints.Store(pathlib.Path('nowhere'), every=60.0)
    with (
      contextlib.redirect_stderr(io.StringIO()) as err,
      self.assertRaisesRegex(watching.Stopped, second.name),
      stopping.at_next_chunk(store),
    ):
      self.assertFalse(store.due())
      signal.raise_signal(first)
      self.assertEqual(store.stopping, first.name)
      self.assertTrue(store.due())
      signal.raise_signal(second)
    self.assertEqual(
      err.getvalue(), 'stopping at the next chunk; again: at once\n'
    )

  def test_other_threads(self):
    """They may not listen to signals, and need not."""

    def work():
      with stopping.at_once():
        return signal.getsignal(signal.SIGINT)

    with concurrent.futures.ThreadPoolExecutor(1) as pool:
      handler = pool.submit(work).result()
    self.assertEqual(handler, signal.getsignal(signal.SIGINT))
