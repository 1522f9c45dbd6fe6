"""Where the time of a sweep goes, told to whoever listens."""

import contextlib
import time
from collections.abc import Callable, Iterator

import jax

PREFIX = '/ossgd/'


@contextlib.contextmanager
def part(name: str) -> Iterator[Callable]:
  """Times a part of the work, for listeners of `jax.monitoring`.

  The event is PREFIX and the name, its value seconds. What the context manager
  gives is a function that waits until its argument has been computed.
  """
  begin = time.monotonic()
  yield jax.block_until_ready
  seconds = time.monotonic() - begin
  jax.monitoring.record_event_duration_secs(PREFIX + name, seconds)
