"""From a command line to a run folder: what every script does in `main`."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging as stdlib_logging
import os
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
from absl import app, logging

from ossgd.paper.types import Split
from ossgd.results import claims
from ossgd.running import hosts, identities, jobs, timing, watching
from ossgd.storing import checkpoints, files, folders, records

from . import (
  company,
  options,
  printing,
  progress_line,
  stopping,
)

if TYPE_CHECKING:
  import xarray as xr
  from matplotlib.figure import Figure

# How work is grouped, on which devices: the same work in any way.
_GROUPING = ('mesh', 'seeds_at_once')


class Experiment(NamedTuple):
  """A script, as data."""

  name: str
  config: type  # frozen dataclass of options
  presets: Mapping[str, Mapping[str, Any]]
  run: Callable[..., xr.Dataset]  # of a config and a progress function
  figures: Callable[[xr.Dataset], Mapping[str, Figure]]
  table: Callable[[xr.Dataset], str]  # Markdown
  claims: Callable[[xr.Dataset], list[claims.Claim]]
  # Of a config, if it may name files: the data to train on, or several.
  data: Callable[..., Any] | None = None

  def main(self, argv: list[str] | None = None) -> None:
    """Flags in, run folder out."""
    main(self, argv)


def main(experiment: Experiment, argv: list[str] | None = None) -> None:
  """Runs a script with the flags of the command line, or of argv."""
  doc = sys.modules[experiment.run.__module__].__doc__
  app.run(
    lambda call: _at_precision(experiment, call),
    argv=argv,
    flags_parser=lambda args: options.parse(
      experiment.name, experiment.config, experiment.presets, args, doc
    ),
  )


def _cache_compilations() -> None:
  """Keeps compiled programs for the next process, if no one else has chosen."""
  config: Any = jax.config  # its options are attributes made at run time
  if config.jax_compilation_cache_dir is None:
    chosen = os.environ.get('XDG_CACHE_HOME', '')
    try:  # a relative one is to be ignored, says its specification
      home = Path(chosen if os.path.isabs(chosen) else '~/.cache').expanduser()
    except RuntimeError:
      if jax.process_index() == 0:
        logging.warning(
          'no home folder: what is compiled is not kept; XDG_CACHE_HOME may '
          'name a place for it'
        )
      return
    jax.config.update('jax_compilation_cache_dir', str(home / 'ossgd'))
  jax.config.update('jax_persistent_cache_min_compile_time_secs', 0.1)


def _at_precision(experiment: Experiment, call: options.Call) -> None:
  """The precision is the script's, not that of what runs after it."""
  stdlib_logging.getLogger('jax').setLevel(stdlib_logging.WARNING)
  try:
    with (
      stopping.at_once(),
      jax.default_matmul_precision(call.matmul_precision),
      company.joined(*call.hosts),
    ):
      try:
        config = _config(experiment, call)
      except (ValueError, OSError) as error:
        options.fail(str(error))
      _check_same(config, call)
      _cache_compilations()
      if jax.process_index() == 0:
        _execute(experiment, call, config)
      else:
        _assist(experiment, call, config)
  except watching.Stopped as stopped:
    printing.warn(f'stopped by {stopped}; to go on: {call.command}')
    sys.exit(128 + signal.Signals[str(stopped)])


def _check_same(config: Mapping, call: options.Call) -> None:
  """Ends all processes if one has other settings: they would not fit."""
  try:
    grouping = [getattr(call.config, name, '') for name in _GROUPING]
    hosts.check_same(json.dumps([config, grouping]))
  except ValueError as error:
    options.fail(str(error))


def _assist(
  experiment: Experiment, call: options.Call, config: Mapping
) -> None:
  """Computes what the first process computes, and leaves nothing."""
  if hosts.told_by_first(False):
    return
  store = _store(call)
  begun = False

  def tell(fraction, label):
    del fraction, label
    nonlocal begun
    begun = True

  watch = watching.Watch(tell, store)
  with stopping.at_next_chunk(store):
    try:
      experiment.run(call.config, watch)
    except ValueError as error:
      # Later than the first step it is no input: another host may have gone.
      if begun:
        raise
      options.fail(str(error))


def _config(experiment: Experiment, call: options.Call) -> dict[str, Any]:
  """What was asked for, and what the numbers depend on besides."""
  settings = dataclasses.asdict(call.config)
  for name in _GROUPING:
    settings.pop(name, None)
  config = {'experiment': experiment.name, 'settings': settings}
  if experiment.data is not None:
    found = experiment.data(call.config)
    several = found if isinstance(found, Iterator) else iter([found])
    # A mixture is what the settings say; files may be other ones tomorrow.
    digests = [jobs.data_digest(d) for d in several if isinstance(d, Split)]
    if digests:
      config['data'] = digests
  return config | {
    'environment': records.environment(),
    'code': identities.code(experiment.run.__module__),
  }


def _store(call: options.Call) -> checkpoints.Store:
  folder = call.out / records.CHECKPOINTS
  return checkpoints.Store(folder, 60 * call.checkpoint_every)


def _execute(
  experiment: Experiment, call: options.Call, config: Mapping
) -> None:
  """Runs, saves, draws and reports; or shows again what is already there."""
  logging.set_verbosity(logging.INFO)
  progress = progress_line.Progress()
  try:
    with contextlib.ExitStack() as failing:
      # Else other processes would wait for what they are told in _fill.
      failing.callback(hosts.told_by_first, True)
      with folders.hold(call.out):
        _fill(experiment, call, config, progress, failing)
  except (records.RecordError, files.SaveError) as error:
    kept = f'; what is finished is kept, to go on: {call.command}'
    options.fail(f'{error}{kept if progress.started else ""}')
  except (ValueError, OSError) as error:
    # Before the first step, what is wrong is the input; later, it is us.
    if progress.started:
      raise
    options.fail(str(error))
  except (jax.errors.JaxRuntimeError, MemoryError) as error:
    starved = isinstance(error, MemoryError)
    if not starved and 'RESOURCE_EXHAUSTED' not in str(error):
      raise
    reason, *_ = str(error).splitlines() or ['']
    options.fail(
      f'out of memory: {reason}; lower --seeds_at_once, --num_test or --widths'
    )
  finally:
    progress.close()


def _fill(
  experiment: Experiment,
  call: options.Call,
  config: Mapping,
  progress: progress_line.Progress,
  failing: contextlib.ExitStack,
) -> None:
  """Leaves a complete run folder, and only then prints what is in it."""
  stopwatch = progress_line.Stopwatch()
  done = folders.prepare(call.out, config, overwrite=call.overwrite)
  failing.pop_all()
  hosts.told_by_first(done)
  if done:
    logging.info('%s holds these results already', call.out)
    results, config = records.read_measured(call.out)
  else:
    store = _store(call)
    with stopping.at_next_chunk(store):
      results = experiment.run(call.config, watching.Watch(progress, store))
    progress.close()
    _check_data(store, config)
    results.attrs['config'] = json.dumps(config)
    results.attrs['command'] = call.command
    results.attrs['seconds'] = progress.seconds()
    records.write_results(call.out, results)
  table = experiment.table(results)
  findings = [
    claims.judge(claim, results) for claim in experiment.claims(results)
  ]
  report = f'# {experiment.name}\n\n{table}\n{claims.report(findings)}'
  with timing.part('plot'):
    records.write_figures(call.out, experiment.figures(results))
  seconds = stopwatch.report(progress.seconds())
  if done:
    seconds = config.get(records.SECONDS, {'other': results.attrs['seconds']})
  records.write_report(call.out, config, report=report, seconds=seconds)
  if not done:
    parts = ', '.join(f'{part} {value:.1f}' for part, value in seconds.items())
    logging.info('%.1f s: %s', progress.seconds(), parts)
  printing.say(f'\n{table}\n{claims.summary(findings)}')
  printing.say(f'see {call.out}')


def _check_data(store: checkpoints.Store, config: Mapping) -> None:
  """Refuses results of data that were replaced while the script ran."""
  if store.data - set(config.get('data', store.data)):
    raise records.RecordError(
      'the data were replaced while this ran, so its results would be of both; '
      'put back those that it began with, or give another folder with --out'
    )
