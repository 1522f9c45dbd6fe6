"""Files that are whole or absent, in folders that this machine has."""

import contextlib
import hashlib
import logging
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

_WINDOWS = sys.platform == 'win32'
# Seconds between tries to rename: there a file that a virus scanner, an indexer
# or another program has open is not replaced, and most have it for a moment.
_WAITS = (0.05, 0.2, 0.75)


class SaveError(Exception):
  """A file cannot be written; what was there before still is."""


def cache() -> Path | None:
  """Our folder for what may be lost; None where there is no home folder."""
  chosen = os.environ.get('XDG_CACHE_HOME', '')
  if not os.path.isabs(chosen):  # to be ignored, says its specification
    chosen = os.path.expanduser('~/.cache')
  return Path(chosen, 'ossgd') if os.path.isabs(chosen) else None


def sha256(path: Path) -> str:
  """Of a file, in hexadecimal."""
  with path.open('rb') as file:
    return hashlib.file_digest(file, 'sha256').hexdigest()


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
  """A temporary path that takes the place of `path` if all goes well.

  Raises:
    SaveError: the operating system does not let it be written.
  """
  temporary = path.with_name(f'.{path.name}.{os.getpid()}.part')
  try:
    yield temporary
    with temporary.open('r+b') as file:  # Windows syncs what may be written
      os.fsync(file.fileno())
    _rename(temporary, path)
    _sync_folder(path.parent)
  except OSError as error:
    if error.errno is None:  # not of the operating system
      raise
    reason = str(error.strerror)
    if _WINDOWS and isinstance(error, PermissionError):
      reason += '; close the programs that have it open'
    raise SaveError(f'cannot write {path}: {reason}') from error
  finally:
    with contextlib.suppress(OSError):  # what went wrong before is told
      temporary.unlink(missing_ok=True)


def set_aside(path: Path, reason: str) -> None:
  """Renames a file that cannot be used, to a name that is free, and says so."""
  aside, count = path.with_suffix('.damaged'), 1
  while aside.exists():
    count += 1
    aside = path.with_suffix(f'.damaged{count}')
  _rename(path, aside)
  logging.warning('cannot use %s: %s. Set aside as %s.', path, reason, aside)


def _rename(path: Path, target: Path) -> None:
  """In place of what is there, at once as every other process sees it."""
  for seconds in _WAITS if _WINDOWS else ():
    try:
      path.replace(target)
      return
    except PermissionError:
      time.sleep(seconds)
  path.replace(target)


def _sync_folder(folder: Path) -> None:
  """A rename outlives a crash of the machine where folders can be synced."""
  with contextlib.suppress(OSError):  # not on Windows, nor on all networks
    number = os.open(folder, os.O_RDONLY)
    try:
      os.fsync(number)
    finally:
      os.close(number)
