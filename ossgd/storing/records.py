"""Run folders: what an experiment leaves on disk, each file whole or absent.

  results.nc    the measurements (netCDF4)
  config.json   every setting, and the versions that the numbers depend on
  report.md     the claims the experiment bears on
  *.png         the figures

config.json is written last, with the SHA-256 of the others: a folder that has
one is complete. Until then `checkpoints/` holds what is done, the config that
it was done with, and the SHA-256 of what is there already; see `folders`. What
is done stays there in a folder that may grow. A
file that is known by neither is not ours: it is never replaced nor removed.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ossgd.machine.files import replacing, sha256
from ossgd.running import jobs
from ossgd.storing import checkpoints, netcdf

if TYPE_CHECKING:
  import xarray as xr
  from matplotlib.figure import Figure

RESULTS, CONFIG, REPORT = 'results.nc', 'config.json', 'report.md'
SECONDS, FILES, KNOWN = 'seconds', 'files', 'known'  # in config.json
SIZE = 'size'  # there, of a folder that may grow: what is there of its runs
CHECKPOINTS = 'checkpoints'
environment = jobs.environment  # what is in a config besides settings


class RecordError(ValueError):
  """A run folder cannot be written or read; the message says what to do."""


def write_results(folder: Path, results: xr.Dataset) -> None:
  """Writes results.nc: call it before anything is made of the results.

  Whatever goes wrong in a report or a figure, the measurements are safe.

  Args:
    folder: from `folders.prepare`; no longer complete, until `write_report`.
    results: the measurements.

  Raises:
    RecordError: there is a results.nc that this program did not write.
  """
  if not is_known(folder, RESULTS):
    raise RecordError(
      f'{folder / RESULTS} was not written by this program; move it away'
    )
  _put(folder, RESULTS, netcdf.content(results))
  (folder / CONFIG).unlink(missing_ok=True)


def write_figures(folder: Path, figures: Mapping[str, Figure]) -> None:
  """Writes figures as PNG, by name without the ending."""
  for name, figure in figures.items():
    content = io.BytesIO()
    figure.savefig(content, format='png', dpi=150)
    _put(folder, f'{name}.png', content.getvalue())


def write_report(
  folder: Path,
  config: Mapping[str, Any],
  *,
  report: str,
  seconds: Mapping[str, float],
) -> None:
  """Writes the report, and last what makes a folder complete.

  Figures of earlier results that were not drawn again are removed.

  Args:
    folder: with the results and figures.
    config: JSON values, as given to `folders.prepare`.
    report: Markdown.
    seconds: of each part of the work; two runs of one config differ in them.
  """
  _put(folder, REPORT, report.encode())
  written = listed(read_notes(folder))
  earlier = _known(folder).keys() - written.keys()
  for path in folder.iterdir():
    if path.name in earlier and is_known(folder, path.name):
      path.unlink()
  write_config(folder, {**config, SECONDS: seconds, FILES: written})
  if SIZE in config:  # its jobs stay
    (folder / CHECKPOINTS / CONFIG).unlink()
  else:
    forget_unfinished(folder)


def forget_unfinished(folder: Path) -> None:
  """Removes what a store and this module left in CHECKPOINTS, and no more."""
  unfinished = folder / CHECKPOINTS
  # What is left of it, if this process is killed now, counts for nothing.
  (unfinished / CONFIG).unlink(missing_ok=True)
  for path in unfinished.glob('*.npz'):
    if checkpoints.is_ours(path):
      path.unlink()
  checkpoints.forget_halves(unfinished)
  with contextlib.suppress(OSError):  # something else is there
    unfinished.rmdir()


def write_config(folder: Path, config: Mapping[str, Any]) -> None:
  """Writes config.json."""
  with replacing(folder / CONFIG) as path:
    text = json.dumps(config, indent=2)
    path.write_text(text + '\n', encoding='utf-8')


def is_known(folder: Path, name: str) -> bool:
  """Whether a file is what this program wrote there, or is not there."""
  path = folder / name
  if not path.is_file():
    return not path.exists()
  return sha256(path) in _known(folder).get(name, [])


def found(folder: Path) -> dict[str, Any]:
  """The config of a folder; {} if there is none that can be read."""
  try:
    return read_config(folder)
  except RecordError:
    return {}


def read_notes(folder: Path) -> dict[str, Any]:
  """The config in CHECKPOINTS and what was written since; {} if none."""
  return found(folder / CHECKPOINTS)


def listed(config: Mapping[str, Any]) -> dict[str, str]:
  """SHA-256 by name, of the files that a config is the config of."""
  files = config.get(FILES)
  return files if isinstance(files, dict) else {}


def _known(folder: Path) -> dict[str, list[str]]:
  """Every SHA-256 that a file may have and be ours, by name."""
  known = read_notes(folder).get(KNOWN, {})
  for name, digest in listed(found(folder)).items():
    known[name] = sorted({*known.get(name, []), str(digest)})
  return known


def _put(folder: Path, name: str, content: bytes) -> None:
  """Writes a file unless there is another's.

  Its digest is noted before, so that a process that is killed at any time
  leaves no file that is not known.
  """
  notes, known, path = read_notes(folder), _known(folder), folder / name
  if not notes:  # complete: shown again
    notes = found(folder)
    notes[FILES] = {n: d for n, d in listed(notes).items() if n == RESULTS}
  ours, digest = is_known(folder, name), hashlib.sha256(content).hexdigest()
  if ours:
    notes[FILES] = {**listed(notes), name: digest}
    known[name] = sorted({*known.get(name, []), digest})
  (folder / CHECKPOINTS).mkdir(parents=True, exist_ok=True)
  write_config(folder / CHECKPOINTS, {**notes, KNOWN: known})
  if not ours:
    logging.warning(
      '%s was not written by this program, or was changed since; it is left '
      'as it is.',
      path,
    )
  elif not path.exists() or sha256(path) != digest:
    with replacing(path) as temporary:
      temporary.write_bytes(content)


def read(folder: Path) -> tuple[xr.Dataset, dict[str, Any]]:
  """The results and the config of a complete run folder.

  Raises:
    RecordError: a file is missing or is not what it should be.
  """
  config = read_config(folder)
  return _read_results(folder, config), config


def _read_results(folder: Path, config: Mapping[str, Any]) -> xr.Dataset:
  path = folder / RESULTS
  try:
    # HDF5 would read many flipped bits as good, and hang in some.
    if listed(config).get(RESULTS) not in (None, sha256(path)):
      raise ValueError(f'it is not the one that {CONFIG} was written for')
    return netcdf.read(path)
  except Exception as error:  # HDF5's depend on which bytes are damaged
    raise RecordError(
      f'cannot read {path}: {error!s:.400}; move it away and do the '
      'same again, or give another folder'
    ) from error


def read_measured(folder: Path) -> tuple[xr.Dataset, dict[str, Any]]:
  """The same of a folder for which `folders.prepare` says it has them.

  Report and figures may be missing, and config.json with them.
  """
  config = read_notes(folder) or read_config(folder)
  config.pop(KNOWN, None)
  return _read_results(folder, config), config


def read_config(folder: Path) -> dict[str, Any]:
  """config.json of a run folder.

  Raises:
    RecordError: it is missing or is not a JSON object.
  """
  path = folder / CONFIG
  try:
    config = json.loads(path.read_text(encoding='utf-8'))
    if not isinstance(config, dict):
      raise ValueError('it is not a JSON object')
  except (OSError, ValueError, RecursionError) as error:
    raise RecordError(
      f'cannot read {path}: {error!s:.400}; give another folder, or move '
      f'{path.parent} away'
    ) from error
  return config
