"""Run folders: what an experiment leaves on disk, each file whole or absent.

  results.nc    the measurements (netCDF4)
  config.json   every setting, and the versions that the numbers depend on
  report.md     the claims the experiment bears on
  *.png         the figures

config.json is written last: a folder that has one is complete. Until then
`checkpoints/` holds what is done, and the config that it was done with; see
`folders`.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ossgd import netcdf
from ossgd.files import replacing, sha256
from ossgd.jobs import environment

if TYPE_CHECKING:
  import xarray as xr
  from matplotlib.figure import Figure

RESULTS, CONFIG, REPORT = 'results.nc', 'config.json', 'report.md'
SECONDS, DIGEST = 'seconds', 'results_sha256'  # in config.json
CHECKPOINTS = 'checkpoints'
_LARGEST_CONFIG, _DEEPEST_CONFIG = 1 << 20, 20  # bytes; ours have 3000, and 4
REMEDY = (
  'give another folder with --out, or replace what is there with --overwrite'
)


class RecordError(ValueError):
  """A run folder cannot be written or read; the message says what to do."""


def write_results(folder: Path, results: xr.Dataset) -> None:
  """Writes results.nc: call it before anything is made of the results.

  Whatever goes wrong in a report or a figure, the measurements are safe.

  Args:
    folder: from `folders.prepare`; no longer complete, until `write_report`.
    results: the measurements.
  """
  with replacing(folder / RESULTS) as path:
    path.write_bytes(netcdf.content(results))
    (folder / CONFIG).unlink(missing_ok=True)


def write_figures(folder: Path, figures: Mapping[str, Figure]) -> None:
  """Writes figures as PNG, by name without the ending."""
  for name, figure in figures.items():
    with replacing(folder / f'{name}.png') as path:
      figure.savefig(path, format='png', dpi=150)


def write_report(
  folder: Path,
  config: Mapping[str, Any],
  *,
  report: str,
  seconds: Mapping[str, float],
) -> None:
  """Writes the report, and last what makes a folder complete.

  Args:
    folder: with the results and figures.
    config: JSON values, as given to `folders.prepare`.
    report: Markdown.
    seconds: of each part of the work; two runs of one config differ in them.
  """
  with replacing(folder / REPORT) as path:
    path.write_text(report, encoding='utf-8')
  more = {SECONDS: seconds, DIGEST: sha256(folder / RESULTS)}
  write_config(folder, {**config, **more})
  # What is left of it, if this process is killed now, counts for nothing.
  (folder / CHECKPOINTS / CONFIG).unlink(missing_ok=True)
  shutil.rmtree(folder / CHECKPOINTS, ignore_errors=True)


def write_config(folder: Path, config: Mapping[str, Any]) -> None:
  """Writes config.json."""
  with replacing(folder / CONFIG) as path:
    text = json.dumps(config, indent=2)
    path.write_text(text + '\n', encoding='utf-8')


def read(folder: Path) -> tuple[xr.Dataset, dict[str, Any]]:
  """The results and the config of a complete run folder.

  Raises:
    RecordError: a file is missing or is not what it should be.
  """
  config = read_config(folder)
  path = folder / RESULTS
  try:
    if not path.is_file():
      raise ValueError('there is no such file')
    if config.get(DIGEST) not in (None, sha256(path)):
      raise ValueError(f'it is not the one that {CONFIG} was written for')
    return netcdf.read(path), config
  except Exception as error:  # HDF5's depend on which bytes are damaged
    raise RecordError(f'cannot read {path}: {error}; {REMEDY}') from error


def read_config(folder: Path) -> dict[str, Any]:
  """config.json of a run folder.

  Raises:
    RecordError: it is missing or is not a JSON object.
  """
  path = folder / CONFIG
  try:
    if path.exists() and not path.is_file():
      raise ValueError('it is not a file')
    with path.open('rb') as file:
      content = file.read(_LARGEST_CONFIG + 1)
    if len(content) > _LARGEST_CONFIG:
      raise ValueError(f'it has more than {_LARGEST_CONFIG} bytes')
    config = json.loads(content.decode())
    if not isinstance(config, dict):
      raise ValueError('it is not a JSON object')
    _check_depth(config)
  except (OSError, ValueError, RecursionError) as error:
    raise RecordError(f'cannot read {path}: {error}; {REMEDY}') from error
  return config


def _check_depth(value: Any) -> None:
  """Raises if JSON values are nested deeper than recursion may go."""
  level, depth = [value], 0
  while level:
    if depth > _DEEPEST_CONFIG:
      raise ValueError(f'it is nested deeper than {_DEEPEST_CONFIG} levels')
    groups = (
      v.values() if isinstance(v, dict) else v
      for v in level
      if isinstance(v, dict | list)
    )
    level, depth = [item for group in groups for item in group], depth + 1
