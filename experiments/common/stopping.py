"""SIGTERM and Ctrl-C: a sweep saves its state first, all else stops at once."""

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

from ossgd.running import watching
from ossgd.storing import checkpoints

from . import printing

_SIGNALS = (signal.SIGTERM, signal.SIGINT)


def at_once() -> contextlib.AbstractContextManager[None]:
  """A signal raises `watching.Stopped`, wherever the work is."""
  return _handled(_stop)


def at_next_chunk(
  store: checkpoints.Store,
) -> contextlib.AbstractContextManager[None]:
  """A signal asks a store to save and stop; a second one stops at once."""

  def ask(number, frame):
    store.stopping = signal.Signals(number).name
    for one in _SIGNALS:
      signal.signal(one, _stop)
    printing.warn('stopping at the next chunk; again: at once')

  return _handled(ask)


def _stop(number: int, frame: Any) -> NoReturn:
  raise watching.Stopped(signal.Signals(number).name)


@contextlib.contextmanager
def _handled(handler: Callable) -> Iterator[None]:
  if threading.current_thread() is not threading.main_thread():
    yield  # only the main thread may listen to signals
    return
  before = {n: signal.signal(n, handler) for n in _SIGNALS}
  try:
    yield
  finally:
    for number, previous in before.items():
      signal.signal(number, previous)
