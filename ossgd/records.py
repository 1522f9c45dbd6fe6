"""Run folders: what an experiment leaves on disk, each file whole or absent.

  results.nc    the measurements (netCDF4)
  config.json   every setting, and the versions that the numbers depend on
  report.md     the claims the experiment bears on
  *.png         the figures

config.json is written last: a folder that has one is complete.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import os
import platform
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax

import ossgd

if TYPE_CHECKING:
  import xarray as xr
  from matplotlib.figure import Figure

RESULTS, CONFIG, REPORT = 'results.nc', 'config.json', 'report.md'
SECONDS = 'seconds'  # in config.json
_REMEDY = (
  'give another folder with --out, or replace what is there with --overwrite'
)


class RecordError(ValueError):
  """A run folder cannot be written or read; the message says what to do."""


def environment() -> dict[str, Any]:
  """What numbers depend on besides the settings, as JSON values."""
  config: Any = jax.config  # its options are attributes made at run time
  device = jax.devices()[0]
  packages = ('jax', 'jaxlib', 'numpy')
  return {
    'ossgd': ossgd.__version__,  # of the code that runs, installed or not
    **{name: importlib.metadata.version(name) for name in packages},
    'python': platform.python_version(),
    'prng': config.jax_default_prng_impl,
    'threefry_partitionable': config.jax_threefry_partitionable,
    'device': f'{device.platform}: {device.device_kind}',
    'matmul_precision': config.jax_default_matmul_precision or 'highest',
    'x64': config.jax_enable_x64,
  }


def prepare(folder: Path, config: Mapping, *, overwrite: bool = False) -> bool:
  """Makes a folder ready for results, before anything is computed.

  Args:
    folder: made if it is not there.
    config: what will be given to `write_report`.
    overwrite: other results there may be replaced.

  Returns:
    Whether the folder already holds the complete results of this config.

  Raises:
    RecordError: the folder cannot be written, or holds other results.
  """
  try:
    folder.mkdir(parents=True, exist_ok=True)
    tempfile.TemporaryFile(dir=folder).close()
  except OSError as error:
    raise RecordError(
      f'cannot write to the folder {folder}: {error.strerror}; give another '
      'with --out'
    ) from error
  if overwrite or not any((folder / f).exists() for f in (CONFIG, RESULTS)):
    return False
  if not (folder / CONFIG).exists():
    raise RecordError(
      f'{folder} holds the {RESULTS} of an interrupted run, without {CONFIG}; '
      f'{_REMEDY}'
    )
  previous = read_config(folder)
  previous.pop(SECONDS, None)
  difference = _difference(previous, config)
  if difference:
    raise RecordError(f'{folder} holds other results ({difference}); {_REMEDY}')
  return (folder / RESULTS).exists()


def write_results(folder: Path, results: xr.Dataset) -> None:
  """Writes results.nc: call it before anything is made of the results.

  Whatever goes wrong in a report or a figure, the measurements are safe.

  Args:
    folder: from `prepare`; no longer complete, until `write_report`.
    results: the measurements.
  """
  (folder / CONFIG).unlink(missing_ok=True)
  with replacing(folder / RESULTS) as path:
    results.to_netcdf(path, engine='h5netcdf')


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
    config: JSON values, as given to `prepare`.
    report: Markdown.
    seconds: of each part of the work; two runs of one config differ in them.
  """
  with replacing(folder / REPORT) as path:
    path.write_text(report, encoding='utf-8')
  with replacing(folder / CONFIG) as path:
    text = json.dumps({**config, SECONDS: seconds}, indent=2)
    path.write_text(text + '\n', encoding='utf-8')


def read(folder: Path) -> tuple[xr.Dataset, dict[str, Any]]:
  """The results and the config of a complete run folder.

  Raises:
    RecordError: a file is missing or is not what it should be.
  """
  import xarray as xr

  config = read_config(folder)
  try:
    with xr.open_dataset(folder / RESULTS, engine='h5netcdf') as results:
      return results.load(), config
  except (
    OSError,
    ValueError,
    KeyError,
    RuntimeError,
    AttributeError,
  ) as error:
    # h5py raises any of these, depending on which bytes are damaged.
    raise RecordError(
      f'cannot read {folder / RESULTS}: {error}; {_REMEDY}'
    ) from error


def read_config(folder: Path) -> dict[str, Any]:
  """config.json of a run folder.

  Raises:
    RecordError: it is missing or is not a JSON object.
  """
  path = folder / CONFIG
  try:
    config = json.loads(path.read_text(encoding='utf-8'))
  except (OSError, ValueError) as error:
    raise RecordError(f'cannot read {path}: {error}; {_REMEDY}') from error
  if not isinstance(config, dict):
    raise RecordError(f'{path} is not a JSON object; {_REMEDY}')
  return config


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
  """A temporary path that takes the place of `path` if all goes well."""
  temporary = path.with_name(f'.{path.name}.{os.getpid()}.part')
  try:
    yield temporary
    temporary.replace(path)
  finally:
    temporary.unlink(missing_ok=True)


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
