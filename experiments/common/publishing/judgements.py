"""Judgements kept from one report to the next, by all that they follow from.

What a script of today says of results follows from the bytes of results.nc and
config.json, the sources that judge and the versions below them: their digest is
what a judgement is found by. Those of a folder's report are one file in the
user's own cache, never in the folder, which may be anybody's. A damaged file
counts as none, and any may be removed at any time.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
import json
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ossgd
from ossgd.machine import files
from ossgd.storing import records

_BELOW = ('scipy', 'pandas', 'xarray', 'h5py', 'matplotlib')


def key(*parts: Any) -> str:
  """What a judgement is found by.

  Args:
    *parts: JSON values, digests of content among them.
  """
  text = json.dumps([judging(), *parts], sort_keys=True)
  return hashlib.sha256(text.encode()).hexdigest()


def read(folder: Path) -> dict[str, Any]:
  """Those that the last report of a folder left, by key; {} if none did."""
  try:
    content = _place(folder).read_bytes()
    digest, _, text = content.partition(b'\n')
    if digest.decode() == hashlib.sha256(text).hexdigest():
      return dict(json.loads(text))
  except (OSError, ValueError):
    pass
  return {}


def write(folder: Path, judgements: Mapping[str, Any]) -> None:
  """Leaves those of this report for the next, where there is a place.

  Args:
    folder: that the report is of.
    judgements: by key; all that the next will find.
  """
  try:
    place, text = _place(folder), json.dumps(judgements).encode()
    place.parent.mkdir(parents=True, exist_ok=True)
    with files.replacing(place) as path:
      path.write_bytes(hashlib.sha256(text).hexdigest().encode() + b'\n' + text)
  except (OSError, ValueError, TypeError, files.SaveError) as error:
    logging.info('judgements are not kept: %s', error)


def _place(folder: Path) -> Path:
  """Beside compiled programs.

  Raises:
    ValueError: there is no home folder.
  """
  cache = files.cache()
  if cache is None:
    raise ValueError('there is no home folder')
  name = hashlib.sha256(os.fsencode(folder.resolve())).hexdigest()[:32]
  return cache / 'judgements' / f'{name}.json'


@functools.cache
def judging() -> list[Any]:
  """The sources of this checkout or installation, and what they run on.

  All sources: which of them judge is for no list to say. Read once a process.
  """
  content = hashlib.sha256()
  scripts = Path(__file__).parents[2]
  for folder in (Path(ossgd.__file__).parent, scripts):
    for path in sorted(folder.rglob('*.py')):
      content.update(f'\n{path.relative_to(folder).as_posix()}\n'.encode())
      content.update(path.read_bytes())
  versions = {name: importlib.metadata.version(name) for name in _BELOW}
  return [content.hexdigest(), records.environment() | versions]
