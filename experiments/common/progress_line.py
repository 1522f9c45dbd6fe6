"""What a script tells while it works, and where the time went."""

import collections
import sys
import threading
import time
from typing import Any

import jax
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
  happen inside of them. What other threads compile meanwhile takes no time
  before it is waited for.
  """

  def __init__(self):
    self.seconds: dict[str, float] = collections.defaultdict(float)
    self._begin = time.monotonic()
    self._thread = threading.get_ident()
    self._compiled: list[tuple[float, float]] = []  # when done, how long
    jax.monitoring.register_event_duration_secs_listener(self._hear)

  def _hear(self, event: str, duration_secs: float, **details: Any) -> None:
    now = time.monotonic()
    if threading.get_ident() != self._thread:
      return
    if event in _COMPILING:
      self._compiled.append((now, duration_secs))
      self.seconds['compile'] += duration_secs
    elif event.startswith(timing.PREFIX):
      begin = now - duration_secs
      inside = sum(s for done, s in self._compiled if done > begin)
      name = event.removeprefix(timing.PREFIX)
      self.seconds[name] += max(0.0, duration_secs - inside)
      self._compiled.clear()

  def total(self) -> float:
    """Seconds since it was made."""
    return time.monotonic() - self._begin

  def report(self) -> dict[str, float]:
    """Seconds by part; what is in none of them is `other`."""
    other = self.total() - sum(self.seconds.values())
    parts = self.seconds | {'other': other}
    return {part: round(seconds, 2) for part, seconds in parts.items()}


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
    worked = now - self.stopwatch.seconds.get('compile', 0.0)
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
