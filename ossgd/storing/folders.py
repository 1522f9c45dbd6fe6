"""Run folders before the work: who may write there, and what may stay.

A folder is held by one process at a time. Results of other settings or data are
refused, with the difference, and so is a folder with anything that this program
did not write. What the same command left unfinished stays in CHECKPOINTS, to be
gone on with; results are shown whichever versions and sources made them. A
config with a SIZE is of a folder that may grow: it is none of the settings.
"""

from __future__ import annotations

import contextlib
import logging
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import filelock

from ossgd.data import paths
from ossgd.machine import files
from ossgd.running import jobs
from ossgd.storing import checkpoints, records
from ossgd.storing.records import CHECKPOINTS, CONFIG, RESULTS, RecordError

_LOCK = '.lock'
_WRITTEN = r'results\.nc|config\.json|report\.md|[^/]+\.png'  # beside it
# What may be of another version than the results that are shown.
_VERSIONS = ('ossgd', 'jax', 'jaxlib', 'numpy', 'python', 'device')


@contextlib.contextmanager
def hold(folder: Path) -> Iterator[None]:
  """Makes a folder, and keeps other processes from writing there.

  The operating system lets go of the lock when its process ends, however it
  does.

  Raises:
    RecordError: the folder cannot be written, or another process holds it.
  """
  try:
    paths.check_local(folder)
    folder.mkdir(parents=True, exist_ok=True)
    tempfile.TemporaryFile(dir=folder).close()
  except OSError as error:
    raise RecordError(
      f'cannot write to the folder {folder}: {error.strerror}; give another '
      'folder (experiments.report shows what is complete there)'
    ) from error
  except ValueError as error:
    raise RecordError(f'the folder: {error}') from error
  lock = filelock.FileLock(folder / _LOCK, timeout=0)
  try:
    lock.acquire()
  except filelock.Timeout as error:
    raise RecordError(
      f'another process is at work in {folder}; wait for it, or give another '
      'folder (without locks it may have been killed: then remove '
      f'{folder / _LOCK}, which says which it was)'
    ) from error
  except OSError as error:
    raise RecordError(
      f'{folder} is on a file system that gives no locks ({error}), so two '
      'processes could write there at once; give a folder of a local disk and '
      'copy it later, or have locks enabled (NFS: lockd, Lustre: the '
      'option flock)'
    ) from error
  try:
    # What a killed process left.
    checkpoints.forget_halves(folder, _WRITTEN)
    _forget_if_idle(folder)
    yield
  finally:
    _forget_if_idle(folder)
    lock.release()


def prepare(
  folder: Path, config: Mapping, *, overwrite: bool | None = None
) -> bool:
  """Makes a folder ready for results, before anything is computed.

  Work that another process left unfinished stays in CHECKPOINTS if it is of
  this config; each file of it says with which versions it was done.

  Args:
    folder: from `hold`.
    config: what will be given to `records.write_report`.
    overwrite: other results there may be replaced, unfinished ones too; None
      where nobody can ask for it.

  Returns:
    Whether the folder already holds the results of this config.

  Raises:
    RecordError: it holds other results, or unfinished ones of another config,
      or something that this program did not write.
  """
  made = _made(folder, overwrite)
  others = difference(made, config) if made else ''
  if others and not overwrite:
    raise RecordError(
      f'{folder} holds other results ({others}); give another folder'
      + ('' if overwrite is None else ', or overwrite what is there')
    )
  unfinished = (folder / CHECKPOINTS / CONFIG).exists()
  intact = bool(made) and _intact(folder, made, unfinished=unfinished)
  same = not others and made.get(records.SIZE) == config.get(records.SIZE)
  if intact and same and (unfinished or not overwrite):
    made_with = moved(made, config)
    if made_with:
      again = '' if overwrite is None else '; overwrite it to compute again'
      logging.info(
        '%s was made with other versions or sources (%s)%s',
        *(folder, made_with, again),
      )
    if not unfinished and records.SIZE not in config:
      records.forget_unfinished(folder)  # killed while it went
    return True
  foreign = _foreign(folder)
  if foreign:
    raise RecordError(
      f'{folder} holds {", ".join(foreign):.400}, which this program did not '
      'write or does not know any more; give an empty folder'
    )
  known = records.read_notes(folder).get(records.KNOWN)
  if others:
    records.forget_unfinished(folder)
  (folder / CHECKPOINTS).mkdir(exist_ok=True)
  more = {records.KNOWN: known} if known else {}
  records.write_config(folder / CHECKPOINTS, {**config, **more})
  return False


def measured(folder: Path) -> dict[str, Any]:
  """The config of the results that a folder holds; {} if it holds none."""
  path = folder / RESULTS
  for config in (records.read_notes(folder), records.found(folder)):
    digest = records.listed(config).get(RESULTS)
    if digest is not None and path.is_file() and files.sha256(path) == digest:
      return config
  return {}


def difference(made: Mapping, config: Mapping) -> str:
  """The settings that differ; sizes, versions and sources may."""
  return jobs.difference(asked(made), asked(config))


def covers(size: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
  """Whether runs of one size have all that those of another have."""
  (first, number), (others_first, others) = size['seeds'], other['seeds']
  return (
    set(size['widths']) >= set(other['widths'])
    and first <= others_first
    and first + number >= others_first + others
    and size['num_steps'] >= other['num_steps']
    and other['keep'] in (None, size['keep'])
  )


def is_asked(described: Mapping[str, Any], size: Mapping[str, Any]) -> bool:
  """Whether a job is one of the runs of a size."""
  first, number = size['seeds']
  return (
    described['width'] in size['widths']
    and first <= described['seed'] < first + number
    and described['settings']['num_steps'] == size['num_steps']
    and described['settings'].get('keep') == size['keep']
  )


def _made(folder: Path, overwrite: bool | None) -> dict[str, Any]:
  """The config of what is there, unfinished work first; {} if nothing is.

  A config of unfinished work that is damaged is set aside: each file of the
  work says whose it is.
  """
  unfinished = folder / CHECKPOINTS
  if (unfinished / CONFIG).exists():
    try:
      return records.read_config(unfinished)
    except RecordError as error:
      files.set_aside(unfinished / CONFIG, str(error.__cause__))
  if overwrite or not (folder / CONFIG).exists():
    return records.found(folder)
  return records.read_config(folder)


def asked(config: Mapping) -> dict[str, Any]:
  """What was asked for, of a config; versions and sources were there."""
  aside = (records.SECONDS, records.FILES, records.KNOWN, records.SIZE, 'code')
  asked = {name: v for name, v in config.items() if name not in aside}
  environment = asked.get('environment')
  if isinstance(environment, Mapping):
    modes = {n: v for n, v in environment.items() if n not in _VERSIONS}
    asked['environment'] = modes
  return asked


def moved(made: Mapping, config: Mapping) -> str:
  """The versions and sources that differ."""
  then, now = (
    {**(one.get('environment') or {}), 'code': one.get('code')}
    for one in (made, config)
  )
  return jobs.difference(then, now)


def _foreign(folder: Path) -> list[str]:
  """Names of what this program did not write; hidden files do not count."""

  def is_ours(path):
    if path.name.startswith('.') or '.damaged' in path.name:
      return True
    if path.parent != folder:
      return path.name == CONFIG or checkpoints.may_be_ours(path.name)
    if path.name == CHECKPOINTS and path.is_dir():
      return True
    if path.name == CONFIG:
      return 'experiment' in records.found(folder)
    return records.is_known(folder, path.name)

  paths = [*folder.iterdir(), *(folder / CHECKPOINTS).glob('*')]
  foreign = (path for path in sorted(paths) if not is_ours(path))
  return [str(path.relative_to(folder)) for path in foreign]


def _forget_if_idle(folder: Path) -> None:
  """Forgets CHECKPOINTS in which nothing was done that is worth keeping."""
  notes = records.read_notes(folder)
  if notes and records.KNOWN not in notes:
    there = folder / CHECKPOINTS
    engines = checkpoints.files_with(there, jobs.ENGINE)
    if set(there.glob('*.npz')) <= set(engines):
      records.forget_unfinished(folder)


def _intact(folder: Path, made: Mapping, *, unfinished: bool) -> bool:
  """Whether results.nc is what was written; else it is set aside."""
  path = folder / RESULTS
  expected = records.listed(made).get(RESULTS)
  if expected is None:  # of a version that left no digest, or unfinished
    return path.exists() and not unfinished
  if path.exists() and expected == files.sha256(path):
    return True
  if path.exists() and not records.is_known(folder, RESULTS):
    files.set_aside(path, 'it is damaged')
  return False
