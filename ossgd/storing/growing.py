"""Sweeps in a folder, which grow: what is missing is done, and nothing else."""

from __future__ import annotations

import inspect
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax

from ossgd.machine import sources
from ossgd.paper.types import Split
from ossgd.running import asking, datasets, identities, jobs, sweeps, watching
from ossgd.storing import checkpoints, folders, records, saving
from ossgd.storing.records import CHECKPOINTS, CONFIG, SIZE, RecordError

if TYPE_CHECKING:
  import xarray as xr

_SAVED_EVERY = 600.0  # seconds between two states of an unfinished run
# Arguments that no number depends on, and those that are of the size.
_ASIDE = ('data', 'progress', 'callback', 'mesh', 'seeds_at_once')
_OF_SIZE = ('widths', 'seed', 'num_seeds', 'num_steps', 'keep', 'target')
_SIGNATURE = inspect.signature(sweeps.sweep)


def sweep(
  data: Any,
  *,
  folder: str | os.PathLike[str] | None = None,
  keep_states: bool = True,
  **settings: Any,
) -> xr.Dataset:
  """`sweeps.sweep` with its arguments, and two more.

  Args:
    folder: keeps on disk what is done, while it is done: the same call goes on
      from there after a kill, and shows finished results again; with more
      seeds, widths or steps it does what is missing and nothing else. The
      numbers are those of a sweep that is asked for all at once: to the bit
      where seeds go one by one, as on a CPU. More steps go on from the last
      state that every longer run has, at most one chunk before the end; where
      another engine is the fastest for so many, they begin again, with a
      warning. What is less than the folder has is given back, and leaves
      `results.nc` as it is. Other settings, data, functions or versions are
      refused. `ossgd.load` reads it, during the work too.
    keep_states: whether `checkpoints/` in the folder keeps those states: of
      each run 4 m d bytes, with what an optimizer has of each weight, or where
      the engine is gram 4 m (2 N + N_test), and 4 m min(d, N) in runs of more
      than 16 epochs. Without them more steps begin again.

  Raises:
    RecordError: the folder holds something else; a ValueError as well.
    SaveError: the disk is full, say; what was kept before still is.
  """
  if folder is None:
    return sweeps.sweep(data, **settings)
  given = _SIGNATURE.bind(data, **settings)
  given.apply_defaults()
  place = Path(folder).expanduser()
  if jax.process_count() > 1:
    raise ValueError(
      'folder= is for one process; leave it out and save the results, or use '
      'the scripts, whose folders several processes share'
    )
  config = _config(given.arguments)
  with folders.hold(place):
    there = folders.measured(place)
    grows = not there or folders.covers(
      config[SIZE], there.get(SIZE, config[SIZE])
    )
    if not grows and not folders.difference(there, config):
      (place / CHECKPOINTS).mkdir(exist_ok=True)
      return _run(place, given.arguments, keep_states)
    if there.get(SIZE) != config[SIZE]:
      _check_versions(place, there, config)
    if folders.prepare(place, config):
      results, config = records.read_measured(place)
    else:
      results = _run(place, given.arguments, keep_states)
      if 'stopped_at' in results and results.stopped_at.notnull().any():
        # Not what was asked for: the same call goes on.
        config[SIZE]['stopped'] = True
        folders.prepare(place, config)
      records.write_results(place, results)
    saving.complete(place, config)
  return results


def _documented() -> None:
  """Gives `sweep` the arguments of `sweeps.sweep` as well, and their words."""
  own = inspect.signature(sweep).parameters
  ours = [p for p in own.values() if p.kind is p.KEYWORD_ONLY]
  theirs = _SIGNATURE.parameters.values()
  function: Any = sweep  # whose signature is an attribute made at run time
  function.__signature__ = _SIGNATURE.replace(parameters=[*theirs, *ours])
  # Without the indentation, which Python 3.13 and newer leave out.
  text, words = map(str, map(inspect.getdoc, (sweeps.sweep, sweep)))
  arguments, _, errors = words.partition('Args:\n')[2].partition('\n\nRaises:')
  text = text.replace('\n\nReturns:', f'\n{arguments}\n\nReturns:', 1)
  function.__doc__ = text.rstrip() + errors


_documented()


def _run(
  place: Path, arguments: Mapping[str, Any], keep_states: bool
) -> xr.Dataset:
  """The sweep, with what it does kept in the folder."""
  store = checkpoints.Store(
    place / CHECKPOINTS, _SAVED_EVERY, keeps=keep_states
  )
  told = False

  def tell(fraction, label):
    nonlocal told
    told = True
    arguments['progress'](fraction, label)

  others = {n: v for n, v in arguments.items() if n != 'progress'}
  try:
    results = sweeps.sweep(**others, progress=watching.Watch(tell, store))
  except ValueError:
    if not told and folders.measured(place) == records.found(place):
      # Of what cannot be done nothing is unfinished.
      (place / CHECKPOINTS / CONFIG).unlink(missing_ok=True)
    raise
  kept = sum(
    path.stat().st_size
    for path in checkpoints.files_with(place / CHECKPOINTS, jobs.KEPT)
  )
  if kept:
    logging.info(
      '%s keeps %.3g GB of states, for more steps to go on from.',
      place,
      kept / 1e9,
    )
  return results


def _config(arguments: Mapping[str, Any]) -> dict[str, Any]:
  """What a sweep is known by, and its size."""
  settings = {}
  for name, value in arguments.items():
    if name not in (*_ASIDE, *_OF_SIZE):
      is_default = value is _SIGNATURE.parameters[name].default
      # Versions of what is not asked for are told with the others.
      plain = getattr(value, '__name__', value) if is_default else value
      settings[name] = identities.of(plain, name)
  data = datasets.checked(arguments['data'])
  settings['data'] = identities.of(asking.content(data), 'data')
  if isinstance(data, Split):  # which is as large as it is
    for name in ('num_train', 'num_test'):
      settings.pop(name)
  size = {
    'widths': list(asking.widths(arguments['widths'])),
    'seeds': [int(arguments['seed']), int(arguments['num_seeds'])],
    **{
      name: identities.of(arguments[name], name)
      for name in ('num_steps', 'keep', 'target')
    },
  }
  return {
    'experiment': 'sweep',
    'settings': settings,
    SIZE: size,
    'environment': records.environment(),
    'code': sources.code(sweeps.__name__),
  }


def _check_versions(
  place: Path, there: Mapping[str, Any], config: Mapping[str, Any]
) -> None:
  """Raises RecordError where what grows was made by others than today's.

  Its runs cannot be gone on with, and would be replaced.
  """
  if not there or folders.difference(there, config):
    return  # to be refused for more than that
  difference = folders.moved(there, config)
  if difference:
    raise RecordError(
      f'{place} was made with other versions or sources ({difference}), whose '
      'runs cannot be gone on with; give another folder'
    )
