"""Run folders before the work: who may write there, and what may stay.

A folder is held by one process at a time. Results of other settings, versions
or sources are refused, with the difference; what the same command left
unfinished stays in CHECKPOINTS, to be gone on with.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType

import filelock

from ossgd import records
from ossgd.records import CHECKPOINTS, CONFIG, RESULTS, RecordError

_LOCK = '.lock'


@contextlib.contextmanager
def hold(folder: Path) -> Iterator[None]:
  """Makes a folder, and keeps other processes from writing there.

  The operating system lets go of the lock when its process ends, however it
  does.

  Raises:
    RecordError: the folder cannot be written, or another process holds it.
  """
  lock = filelock.FileLock(folder / _LOCK, timeout=0)
  try:
    folder.mkdir(parents=True, exist_ok=True)
    tempfile.TemporaryFile(dir=folder).close()
    lock.acquire()
  except filelock.Timeout as error:
    raise RecordError(
      f'another process is at work in {folder}; wait for it, or give another '
      'folder with --out'
    ) from error
  except OSError as error:
    raise RecordError(
      f'cannot write to the folder {folder}: {error.strerror}; give another '
      'with --out'
    ) from error
  try:
    _forget_if_idle(folder / CHECKPOINTS)  # what a killed process left
    yield
  finally:
    _forget_if_idle(folder / CHECKPOINTS)
    lock.release()


def prepare(folder: Path, config: Mapping, *, overwrite: bool = False) -> bool:
  """Makes a folder ready for results, before anything is computed.

  Work that another process left unfinished stays in CHECKPOINTS if it is of
  this config.

  Args:
    folder: from `hold`.
    config: what will be given to `records.write_report`.
    overwrite: other results there may be replaced, unfinished ones too.

  Returns:
    Whether the folder already holds the complete results of this config.

  Raises:
    RecordError: it holds other results, or unfinished ones of another config.
  """
  unfinished = folder / CHECKPOINTS
  if (unfinished / CONFIG).exists():
    _keep_if_same(unfinished, config, overwrite)
  elif (folder / CONFIG).exists() and not overwrite:
    _refuse_other(folder, config)
    if _intact(folder):
      shutil.rmtree(unfinished, ignore_errors=True)  # killed while it went
      return True
  elif (folder / RESULTS).exists() and not overwrite:
    raise RecordError(
      f'{folder} holds the {RESULTS} of an interrupted run, without {CONFIG}; '
      f'{records.REMEDY}'
    )
  unfinished.mkdir(exist_ok=True)
  records.write_config(unfinished, config)
  return False


def code_digest(*packages: ModuleType) -> str:
  """What the sources of packages are told by: 32 digits of their SHA-256."""
  digest = hashlib.sha256()
  for package in packages:
    for path in sorted(Path(package.__path__[0]).glob('*.py')):
      digest.update(path.name.encode() + path.read_bytes())
  return digest.hexdigest()[:32]


def _forget_if_idle(unfinished: Path) -> None:
  """Removes a folder in which nothing was done that is worth keeping."""
  if unfinished.is_dir() and all(
    path.name == CONFIG or path.suffix == '.part'
    for path in unfinished.iterdir()
  ):
    shutil.rmtree(unfinished, ignore_errors=True)


def _keep_if_same(unfinished: Path, config: Mapping, overwrite: bool) -> None:
  """Unfinished work of this config stays; other work is refused, or removed.

  A config that is damaged is set aside: each file of the work says whose it is.
  """
  try:
    records.read_config(unfinished)
  except RecordError as error:
    _set_aside(unfinished / CONFIG, str(error.__cause__))
    return
  try:
    _refuse_other(unfinished, config)
  except RecordError:
    if not overwrite:
      raise
    shutil.rmtree(unfinished)


def _refuse_other(folder: Path, config: Mapping) -> None:
  """Raises unless the folder's config is this one."""
  previous = records.read_config(folder)
  for key in (records.SECONDS, records.DIGEST):
    previous.pop(key, None)
  difference = _difference(previous, config)
  if difference:
    raise RecordError(
      f'{folder} holds other results ({difference}); {records.REMEDY}'
    )


def _intact(folder: Path) -> bool:
  """Whether results.nc is what was written; else it is set aside."""
  path = folder / RESULTS
  expected = records.read_config(folder).get(records.DIGEST)
  if path.exists() and expected in (None, records.sha256(path)):
    return True
  if path.exists():
    _set_aside(path, 'it is damaged')
  return False


def _set_aside(path: Path, reason: str) -> None:
  aside = path.with_suffix('.damaged')
  path.replace(aside)
  logging.warning('cannot use %s: %s. Set aside as %s.', path, reason, aside)


def _difference(previous: Mapping, config: Mapping) -> str:
  """The settings that differ, `name: there, here`."""
  flat, flat_previous = _flat(config), _flat(previous)
  names = [
    n for n in flat | flat_previous if flat.get(n) != flat_previous.get(n)
  ]
  return '; '.join(
    f'{n}: {flat_previous.get(n)} there, {flat.get(n)} here' for n in names
  )


def _flat(config: Mapping, prefix: str = '') -> dict[str, str]:
  """Nested settings as one level of printable ones."""
  flat: dict[str, str] = {}
  for name, value in config.items():
    if isinstance(value, Mapping):
      flat |= _flat(value, f'{prefix}{name}.')
    else:
      flat[prefix + name] = json.dumps(value)
  return flat
