"""From a command line to a run folder: what every script does in `main`."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging as stdlib_logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import tqdm
from absl import app, logging

from experiments import options
from ossgd import checkpoints, claims, hosts, records, timing

if TYPE_CHECKING:
  import xarray as xr
  from matplotlib.figure import Figure

_SECONDS_BETWEEN_LOG_LINES = 15
_SILENCE = 30  # seconds until another process counts as dead
_COMPILING = (
  '/jax/core/compile/jaxpr_to_mlir_module_duration',
  '/jax/core/compile/backend_compile_duration',
)


class Experiment(NamedTuple):
  """A script, as data."""

  name: str
  config: type  # frozen dataclass of options
  presets: Mapping[str, Mapping[str, Any]]
  run: Callable[..., xr.Dataset]  # of a config and a progress function
  figures: Callable[[xr.Dataset], Mapping[str, Figure]]
  table: Callable[[xr.Dataset], str]  # Markdown
  claims: Callable[[xr.Dataset], list[claims.Claim]]


def main(experiment: Experiment, argv: list[str] | None = None) -> None:
  """Runs a script with the flags of the command line, or of argv."""
  app.run(
    lambda call: _at_precision(experiment, call),
    argv=argv,
    flags_parser=lambda args: options.parse(
      experiment.name, experiment.config, experiment.presets, args
    ),
  )


class Progress:
  """A bar with the time left on a terminal, a log line now and then if not.

  Nothing is shown before the first call: until then an error may end the
  script, and its message gets a line of its own.
  """

  def __init__(self):
    self.started = False
    self._begin = self._logged = time.monotonic()
    self._bar = None

  def __call__(self, fraction: float, label: str) -> None:
    """Shows that this fraction of the work is done."""
    now = time.monotonic()
    if not self.started and sys.stderr.isatty():
      self._bar = tqdm.tqdm(
        total=1.0,
        bar_format='{percentage:3.0f}% |{bar}| {elapsed}, {remaining} left'
        '{postfix}',
      )
    self.started = True
    if self._bar is not None:
      self._bar.set_postfix_str(label, refresh=False)
      self._bar.update(fraction - self._bar.n)
    elif fraction > 0 and now - self._logged > _SECONDS_BETWEEN_LOG_LINES:
      self._logged = now
      left = (now - self._begin) * (1 / fraction - 1)
      logging.info(
        '%3.0f %% done, %.0f s left (%s)', 100 * fraction, left, label
      )

  def seconds(self) -> float:
    """Since it was made."""
    return time.monotonic() - self._begin

  def close(self) -> None:
    """Leaves the terminal on a line of its own."""
    if self._bar is not None:
      self._bar.close()


class Stopwatch:
  """Seconds of each part of the work, compilation apart from the rest.

  Parts come from `jax.monitoring`: ossgd's own, and JAX's compilations, which
  happen inside of them.
  """

  def __init__(self):
    self.seconds: dict[str, float] = {}
    self._compiled: list[tuple[float, float]] = []  # when done, how long
    jax.monitoring.register_event_duration_secs_listener(self._hear)

  def _hear(self, event: str, duration_secs: float, **details: Any) -> None:
    now = time.monotonic()
    if event in _COMPILING:
      self._compiled.append((now, duration_secs))
      self._add('compile', duration_secs)
    elif event.startswith(timing.PREFIX):
      begin = now - duration_secs
      inside = sum(s for done, s in self._compiled if done > begin)
      name = event.removeprefix(timing.PREFIX)
      self._add(name, max(0.0, duration_secs - inside))
      self._compiled.clear()

  def _add(self, part: str, seconds: float) -> None:
    self.seconds[part] = self.seconds.get(part, 0.0) + seconds

  def report(self, total: float) -> dict[str, float]:
    """Seconds by part; what is in none of them is `other`."""
    parts = self.seconds | {'other': total - sum(self.seconds.values())}
    return {part: round(seconds, 2) for part, seconds in parts.items()}


def _cache_compilations() -> None:
  """Keeps compiled programs for the next process, if no one else has chosen."""
  config: Any = jax.config  # its options are attributes made at run time
  if config.jax_compilation_cache_dir is None:
    home = os.environ.get('XDG_CACHE_HOME') or Path.home() / '.cache'
    jax.config.update('jax_compilation_cache_dir', str(Path(home) / 'ossgd'))
  jax.config.update('jax_persistent_cache_min_compile_time_secs', 0.1)


def _at_precision(experiment: Experiment, call: options.Call) -> None:
  """The precision is the script's, not that of what runs after it."""
  _join(*call.hosts)
  with jax.default_matmul_precision(call.matmul_precision):
    if jax.process_index() == 0:
      _execute(experiment, call)
    else:
      _assist(experiment, call)


def _join(
  coordinator: str, num_processes: int | None, process_id: int | None
) -> None:
  """Makes this process one of several, before it asks for a device."""
  if not coordinator:
    if num_processes is not None or process_id is not None:
      options.fail('--num_processes and --process_id need --coordinator')
    return
  auto = coordinator == 'auto'
  if not auto and (
    num_processes is None or process_id is None or process_id >= num_processes
  ):
    options.fail(
      f'--coordinator={coordinator}: expected --num_processes and a '
      '--process_id below it'
    )
  try:
    jax.distributed.initialize(
      None if auto else coordinator,
      num_processes,
      process_id,
      heartbeat_timeout_seconds=_SILENCE,
    )
  except (RuntimeError, ValueError) as error:
    options.fail(f'--coordinator={coordinator}: {error}')


def _assist(experiment: Experiment, call: options.Call) -> None:
  """Computes what the first process computes, and leaves nothing."""
  _cache_compilations()
  if hosts.told_by_first(False):
    return
  with _stoppable(_store(call, _config(experiment, call))) as store:
    try:
      experiment.run(
        call.config, checkpoints.Watch(lambda fraction, label: None, store)
      )
    except checkpoints.Stopped as stopped:
      sys.exit(128 + signal.Signals[str(stopped)])
    except ValueError as error:
      options.fail(str(error))


def _config(experiment: Experiment, call: options.Call) -> dict[str, Any]:
  """What the numbers depend on."""
  settings = dataclasses.asdict(call.config)
  settings.pop('mesh', None)  # other devices may go on with the same work
  return {
    'experiment': experiment.name,
    'settings': settings,
    'environment': records.environment(),
  }


def _store(call: options.Call, config: Mapping) -> checkpoints.Store:
  kind = hosts.Store if jax.process_count() > 1 else checkpoints.Store
  folder = call.out / records.CHECKPOINTS
  return kind(folder, config, 60 * call.checkpoint_every)


def _execute(experiment: Experiment, call: options.Call) -> None:
  """Runs, saves, draws and reports; or shows again what is already there."""
  logging.set_verbosity(logging.INFO)
  stdlib_logging.getLogger('jax').setLevel(stdlib_logging.WARNING)
  _cache_compilations()
  progress = Progress()
  try:
    with contextlib.ExitStack() as failing:
      # Else other processes would wait for what they are told in _fill.
      failing.callback(hosts.told_by_first, True)
      with records.hold(call.out):
        _fill(experiment, call, progress, failing)
  except checkpoints.Stopped as stopped:
    progress.close()
    print(f'stopped by {stopped}; to go on: {call.command}', file=sys.stderr)
    sys.exit(128 + signal.Signals[str(stopped)])
  except (records.RecordError, checkpoints.SaveError) as error:
    kept = f'; what is finished is kept, to go on: {call.command}'
    options.fail(f'{error}{kept if progress.started else ""}')
  except (ValueError, OSError) as error:
    # Before the first step, what is wrong is the input; later, it is us.
    if progress.started:
      raise
    options.fail(str(error))
  except jax.errors.JaxRuntimeError as error:
    if 'RESOURCE_EXHAUSTED' not in str(error):
      raise
    options.fail(
      f'out of memory: {str(error).splitlines()[0]}; lower --seeds_at_once, '
      '--num_test or --widths'
    )
  finally:
    progress.close()


def _fill(
  experiment: Experiment,
  call: options.Call,
  progress: Progress,
  failing: contextlib.ExitStack,
) -> None:
  """Leaves a complete run folder."""
  stopwatch = Stopwatch()
  config = _config(experiment, call)
  done = records.prepare(call.out, config, overwrite=call.overwrite)
  failing.pop_all()
  hosts.told_by_first(done)
  if done:
    logging.info('%s holds these results already', call.out)
    results, _ = records.read(call.out)
  else:
    with _stoppable(_store(call, config)) as store:
      results = experiment.run(call.config, checkpoints.Watch(progress, store))
    progress.close()
    results.attrs['config'] = json.dumps(config)
    results.attrs['command'] = call.command
    results.attrs['seconds'] = progress.seconds()
    records.write_results(call.out, results)
  table = experiment.table(results)
  findings = [
    claims.judge(claim, results) for claim in experiment.claims(results)
  ]
  report = f'# {experiment.name}\n\n{table}\n{claims.report(findings)}'
  print(f'\n{table}\n{claims.summary(findings)}')
  if not done:
    with timing.part('plot'):
      records.write_figures(call.out, experiment.figures(results))
    total = progress.seconds()
    seconds = stopwatch.report(total)
    records.write_report(call.out, config, report=report, seconds=seconds)
    parts = ', '.join(f'{part} {value:.1f}' for part, value in seconds.items())
    logging.info('%.1f s: %s', total, parts)
  print(f'see {call.out}')


@contextlib.contextmanager
def _stoppable(store: checkpoints.Store) -> Iterator[checkpoints.Store]:
  """SIGTERM and Ctrl-C stop at the next chunk; asked again, at once."""
  if threading.current_thread() is not threading.main_thread():
    yield store  # only the main thread may listen to signals
    return

  def ask(number, frame):
    del frame
    store.stopping = signal.Signals(number).name
    signal.signal(number, before[number])
    print('stopping at the next chunk; again: at once', file=sys.stderr)

  before = {n: signal.signal(n, ask) for n in (signal.SIGTERM, signal.SIGINT)}
  try:
    yield store
  finally:
    for number, handler in before.items():
      signal.signal(number, handler)
