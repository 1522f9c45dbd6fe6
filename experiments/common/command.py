"""From a command line to a run folder: what every script does in `main`."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging as stdlib_logging
import signal
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
from absl import app, logging

from ossgd.machine import compilations, files, hosts, sources, timing
from ossgd.paper.types import Split
from ossgd.results import claims
from ossgd.results.claims import Finding
from ossgd.running import jobs, watching
from ossgd.storing import checkpoints, folders, records

from . import company, options, printing, progress_line, scripts, stopping

if TYPE_CHECKING:
  import xarray as xr
  from matplotlib.figure import Figure


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
  # Markdown below the table, of the findings.
  verdicts: Callable[[xr.Dataset, Sequence[Finding]], str] | None = None

  def judged(self, results: xr.Dataset) -> tuple[str, list[Finding]]:
    """What a report holds: tables, and every claim judged, once."""
    table = self.table(results)
    found = [claims.judge(claim, results) for claim in self.claims(results)]
    if self.verdicts:
      table += self.verdicts(results, found)
    return table, found

  def main(self, argv: list[str] | None = None) -> None:
    """Flags in, run folder out."""
    main(self, argv)


def main(experiment: Experiment, argv: list[str] | None = None) -> None:
  """Runs a script with the flags of the command line, or of argv."""
  doc = sys.modules[experiment.run.__module__].__doc__
  app.run(
    lambda call: _take_part(experiment, call),
    argv=argv,
    flags_parser=lambda args: options.parse(
      experiment.name, experiment.config, experiment.presets, args, doc
    ),
  )


def _take_part(experiment: Experiment, call: options.Call) -> None:
  """Executes a call in this process, one of several or the only one."""
  stdlib_logging.getLogger('jax').setLevel(stdlib_logging.WARNING)
  try:
    with (
      stopping.at_once(),
      # The precision is the script's, not that of what runs after it.
      jax.default_matmul_precision(call.matmul_precision),
      company.joined(call.coordinator, call.num_processes, call.process_id),
      compilations.kept(),
    ):
      _execute(experiment, call)
  except watching.Stopped as stopped:
    printing.warn(f'stopped by {stopped}; to go on: {call.command}')
    sys.exit(128 + signal.Signals[str(stopped)])


def _execute(experiment: Experiment, call: options.Call) -> None:
  """Runs, saves, draws and reports; or shows again what is already there."""
  progress = progress_line.Progress()
  try:
    config = _config(experiment, call)
    # Others must have the same, and the same grouping, which is not in there.
    hosts.check_same(json.dumps(config) + repr(call.config))
    if jax.process_index() == 0:
      logging.set_verbosity(logging.INFO)
    with _folder(call, config) as done:
      results = None
      if not done:
        results = _compute(experiment, call, config, progress)
      if jax.process_index() == 0:
        _complete(experiment, call, config, results, progress)
  except (records.RecordError, files.SaveError) as error:
    told = str(error)
    if isinstance(error, records.RecordError):
      told += ' (--out, --overwrite)'  # the library speaks of a folder
    if progress.started:
      told += f'; what is finished is kept, to go on: {call.command}'
    options.fail(told)
  except (ValueError, OSError) as error:
    # Before the first step, what is wrong is the input; later, it is us, or
    # another host has gone.
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


def _config(experiment: Experiment, call: options.Call) -> dict[str, Any]:
  """What was asked for, and what the numbers depend on besides."""
  settings = dataclasses.asdict(call.config)
  for name in scripts.GROUPING:
    settings.pop(name, None)
  for name, default in scripts.LATER.items():
    if settings.get(name) == default:
      del settings[name]
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
    'code': sources.code(experiment.run.__module__),
  }


@contextlib.contextmanager
def _folder(call: options.Call, config: Mapping) -> Iterator[bool]:
  """The first process holds the run folder; whether all is there already."""
  if jax.process_index() > 0:
    yield hosts.told_by_first(False)
    return
  with contextlib.ExitStack() as stack:
    done = True  # where there is no folder the others have nothing to do
    try:
      stack.enter_context(folders.hold(call.out))
      done = folders.prepare(call.out, config, overwrite=call.overwrite)
    finally:
      hosts.told_by_first(done)
    yield done


def _compute(
  experiment: Experiment,
  call: options.Call,
  config: Mapping,
  progress: progress_line.Progress,
) -> xr.Dataset:
  """Runs an experiment, or goes on with it."""
  folder = call.out / records.CHECKPOINTS
  store = checkpoints.Store(folder, 60 * call.checkpoint_every)
  with stopping.at_next_chunk(store):
    results = experiment.run(call.config, watching.Watch(progress, store))
  progress.close()
  if store.data - set(config.get('data', store.data)):
    raise records.RecordError(
      'the data were replaced while this ran, so its results would be of both; '
      'put back those that it began with, or give another folder'
    )
  return results.assign_attrs(
    config=json.dumps(config),
    command=call.command,
    seconds=progress.stopwatch.total(),
  )


def _complete(
  experiment: Experiment,
  call: options.Call,
  config: Mapping,
  computed: xr.Dataset | None,
  progress: progress_line.Progress,
) -> None:
  """Leaves a complete run folder, and only then prints what is in it."""
  if computed is None:
    logging.info('%s holds these results already', call.out)
    results, config = records.read_measured(call.out)
  else:
    results = computed
    records.write_results(call.out, results)
  table, findings = experiment.judged(results)
  report = f'# {experiment.name}\n\n{table}\n{claims.report(findings)}'
  with timing.part('plot'):
    records.write_figures(call.out, experiment.figures(results))
  if computed is None:
    seconds = config.get(records.SECONDS, {'other': results.attrs['seconds']})
  else:
    seconds = progress.stopwatch.report()
    parts = ', '.join(f'{part} {value:.1f}' for part, value in seconds.items())
    logging.info('%.1f s: %s', progress.stopwatch.total(), parts)
  records.write_report(call.out, config, report=report, seconds=seconds)
  printing.say(f'\n{table}\n{claims.summary(findings)}')
  printing.say(f'see {call.out}')
