"""Work side by side in threads: what one waits for, another can use.

A seed's program leaves a core idle wherever it hands a small piece of work from
one thread to another, and LAPACK runs on one. Two seeds fill those gaps.
"""

import contextlib
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent import futures
from typing import Any

import jax
import psutil
import threadpoolctl


class Abandoned(BaseException):
  """Work that is not to go on, for other work has failed or was stopped."""


def number() -> int:
  """How many threads have a core of their own: those this process may use."""
  process = psutil.Process()
  if hasattr(process, 'cpu_affinity'):  # not on macOS
    return len(process.cpu_affinity())
  return psutil.cpu_count() or 1


def run(
  works: Sequence[Callable[[Callable[[], None]], None]], at_once: int
) -> None:
  """Runs each once, in order, so many at a time; in this thread if it is one.

  Works are given a function to call now and then: it raises Abandoned when
  another one has raised something, which is then raised here.
  """
  if at_once == 1 or len(works) < 2:
    for work in works:
      work(lambda: None)
    return
  failed = threading.Event()

  def go_on():
    if failed.is_set():
      raise Abandoned

  settings = _settings()

  def one(work):
    go_on()
    try:
      with settings():
        work(go_on)
    except BaseException:
      failed.set()
      raise

  with futures.ThreadPoolExecutor(at_once) as pool:
    begun = [pool.submit(one, work) for work in works]
    try:
      errors = [future.exception() for future in futures.as_completed(begun)]
    except BaseException:  # a signal, in this thread
      failed.set()
      raise
  for error in errors:
    if error is not None and not isinstance(error, Abandoned):
      raise error


def _settings() -> Callable[[], contextlib.AbstractContextManager]:
  """JAX's settings of this thread that numbers depend on, for other threads."""
  config: Any = jax.config  # its options are attributes made at run time
  values: dict[Any, Any] = {
    jax.enable_x64: config.jax_enable_x64,
    jax.default_matmul_precision: config.jax_default_matmul_precision,
    jax.default_prng_impl: config.jax_default_prng_impl,
    jax.threefry_partitionable: config.jax_threefry_partitionable,
  }

  @contextlib.contextmanager
  def entered():
    with contextlib.ExitStack() as stack:
      for setting, value in values.items():
        stack.enter_context(setting(value))
      yield

  return entered


class _OneThread:
  """Has BLAS and LAPACK on one thread while anyone in the process asks so."""

  def __init__(self):
    self._lock = threading.Lock()
    self._asking = 0
    self._limits: Any = None

  @contextlib.contextmanager
  def __call__(self) -> Iterator[None]:
    with self._lock:
      if not self._asking:
        self._limits = threadpoolctl.threadpool_limits(1, user_api='blas')
      self._asking += 1
    try:
      yield
    finally:
      with self._lock:
        self._asking -= 1
        if not self._asking:
          self._limits.restore_original_limits()


# LAPACK's own threads and XLA's wait for each other on a busy machine: one
# decomposition was seen to take 10 s instead of 0.1 s.
one_blas_thread = _OneThread()
