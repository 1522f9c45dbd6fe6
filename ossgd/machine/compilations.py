"""Compiled programs that are kept for the next process."""

import contextlib
import glob
import logging
import os
import re
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax

from ossgd.machine import files

_SHORTEST = 'jax_persistent_cache_min_compile_time_secs'


@contextlib.contextmanager
def kept() -> Iterator[None]:
  """Keeps what JAX compiles, where no one else has chosen a place for it."""
  config: Any = jax.config  # its options are attributes made at run time
  folder = files.cache()
  if config.jax_compilation_cache_dir is None and folder is not None:
    jax.config.update('jax_compilation_cache_dir', str(folder))
  place = config.jax_compilation_cache_dir
  if place is None:
    logging.warning(
      'no home folder: what is compiled is not kept; XDG_CACHE_HOME may name a '
      'place for it'
    )
  elif (
    getattr(config, _SHORTEST) == 1.0 and _SHORTEST.upper() not in os.environ
  ):
    jax.config.update(_SHORTEST, 0.1)
  with warnings.catch_warnings():
    if folder is not None and place == str(folder):
      mend(folder)
    yield


def mend(folder: Path) -> None:
  """Deletes what JAX warns is damaged there, before it compiles that again."""
  show = warnings.showwarning

  def instead(message: Warning | str, *args: Any, **kwargs: Any) -> None:
    if program := delete_unread(folder, str(message)):
      logging.info('damaged in %s, compiled again: %s', folder, program)
    else:
      show(message, *args, **kwargs)

  warnings.filterwarnings('always', 'Error reading persistent compilation')
  warnings.showwarning = instead


def delete_unread(folder: Path, warning: str) -> str:
  """The program that JAX warns is damaged, if it is deleted here; or ''.

  What was cut short, on a full disk or by a kill, JAX itself never replaces:
  each process would compile it, and keep nothing.
  """
  unread = re.match(
    r"Error reading persistent compilation cache entry for '([\w.-]+)': ",
    warning,
  )
  if not unread or '[Errno' in warning:  # that one is not damaged
    return ''
  deleted = ''
  for entry in folder.glob(f'{glob.escape(unread[1])}-*'):
    with contextlib.suppress(OSError):  # another process may be faster
      entry.unlink()
      deleted = unread[1]
  return deleted
