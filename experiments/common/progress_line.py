"""What a script tells while it works, and where the time went."""

import collections
import functools
import sys
import threading
import time
import weakref
from typing import Any

import jax
import numpy as np
import tqdm
from absl import logging

from ossgd.machine import timing

_SECONDS_BETWEEN_LOG_LINES = 15
_RECENT = 60  # seconds of work that say how fast it goes on
_COMPILING = (
  '/jax/core/compile/jaxpr_to_mlir_module_duration',
  '/jax/core/compile/backend_compile_duration',
  f'{timing.PREFIX}compile',  # waiting for other threads to do it
)


class Stopwatch:
  """Seconds of each part of the work, compilation apart from the rest.

  Parts come from `jax.monitoring`: ossgd's own, and JAX's compilations, which
  happen inside of them. While several threads are at work, each of their parts
  has its share of the time: all parts add up to what a clock shows. What is
  compiled ahead takes no time before it is waited for.
  """

  def __init__(self):
    self.compiling = 0.0  # seconds in which anyone has waited for it
    self._begin = self._compiled = time.monotonic()
    self._main = threading.get_ident()
    # By thread what has ended: when it began, when it ended, and its name.
    self._spans: dict[int, list[tuple[float, float, str]]] = {self._main: []}
    _listen()
    _STOPWATCHES.add(self)

  def hear(self, event: str, duration_secs: float) -> None:
    """An event of `jax.monitoring` that has just ended."""
    end, thread = time.monotonic(), threading.get_ident()
    ours = event.startswith(timing.PREFIX)
    compiles = event in _COMPILING
    if not ours and not (compiles and thread in self._spans):
      return  # other threads compile ahead
    if compiles:
      since = max(self._compiled, end - duration_secs)
      self.compiling += max(0.0, end - since)
      self._compiled = end
    name = 'compile' if compiles else event.removeprefix(timing.PREFIX)
    spans = self._spans.setdefault(thread, [])
    spans.append((end - duration_secs, end, name))

  def total(self) -> float:
    """Seconds since it was made."""
    return time.monotonic() - self._begin

  def seconds(self) -> dict[str, float]:
    """Seconds by part."""
    threads = [spans for spans in self._spans.values() if spans]
    spans = [span for own in threads for span in own]
    names = list(dict.fromkeys(name for _, _, name in spans))
    times = np.unique([time for span in spans for time in span[:2]])
    at_work = np.full((len(threads), max(0, len(times) - 1)), -1)
    for row, own in zip(at_work, threads, strict=True):
      # Compilations are inside of parts, and come after them here.
      for begin, end, name in sorted(own, key=lambda s: s[2] == 'compile'):
        first, last = np.searchsorted(times, (begin, end))
        row[first:last] = names.index(name)
    shares = np.diff(times) / np.maximum(1, np.sum(at_work >= 0, axis=0))
    return {
      name: float(np.sum(shares * np.sum(at_work == i, axis=0)))
      for i, name in enumerate(names)
    }

  def report(self) -> dict[str, float]:
    """Seconds by part; what is in none of them is `other`."""
    parts = self.seconds()
    parts['other'] = self.total() - sum(parts.values())
    return {part: round(seconds, 2) for part, seconds in parts.items()}


# Those that someone still has: a session may run many scripts, and JAX 0.8 has
# no public way to take a listener off, so there is one for all.
_STOPWATCHES: weakref.WeakSet[Stopwatch] = weakref.WeakSet()


@functools.cache
def _listen() -> None:
  def tell(event: str, duration_secs: float, **details: Any) -> None:
    for stopwatch in list(_STOPWATCHES):
      stopwatch.hear(event, duration_secs)

  jax.monitoring.register_event_duration_secs_listener(tell)


class Progress:
  """A bar with the time left on a terminal, a log line now and then if not.

  Nothing is shown before the first call: until then an error may end the
  script, and its message gets a line of its own.
  """

  def __init__(self):
    self.started = False
    self.stopwatch = Stopwatch()
    self._logged = time.monotonic()
    self._bar = None
    self._recent: collections.deque[tuple[float, float]] = collections.deque()

  def __call__(self, fraction: float, label: str) -> None:
    """Shows that this fraction of the work is done."""
    now = time.monotonic()
    on_terminal = sys.stderr is not None and sys.stderr.isatty()
    if not self.started and on_terminal and jax.process_index() == 0:
      self._bar = tqdm.tqdm(
        total=1.0,
        bar_format='{percentage:3.0f}% |{bar}| {elapsed}{postfix}',
      )
    self.started = True
    left = self._left(now, fraction)
    if self._bar is not None:
      told = '?' if left is None else tqdm.tqdm.format_interval(left)
      self._bar.set_postfix_str(f'{told} left, {label}', refresh=False)
      self._bar.update(fraction - self._bar.n)
    elif left is not None and now - self._logged > _SECONDS_BETWEEN_LOG_LINES:
      self._logged = now
      logging.info(
        '%3.0f %% done, %.0f s left (%s)', 100 * fraction, left, label
      )

  def _left(self, now: float, fraction: float) -> float | None:
    """Seconds at the recent pace, compilation and work done before apart."""
    worked = now - self.stopwatch.compiling
    recent = self._recent
    recent.append((worked, fraction))
    while len(recent) > 2 and worked - recent[1][0] > _RECENT:
      recent.popleft()
    begin, before = recent[0]
    if fraction <= before:
      return None
    return (1 - fraction) * (worked - begin) / (fraction - before)

  def close(self) -> None:
    """Leaves the terminal on a line of its own."""
    if self._bar is not None:
      self._bar.close()
