"""Run folders: what an experiment leaves on disk, each file whole or absent.

  results.nc    the measurements (netCDF4)
  config.json   every setting, and the versions that the numbers depend on
  report.md     the claims the experiment bears on
  *.png         the figures

config.json is written last: a folder that has one is complete. Until then
`checkpoints/` holds what is done, and the config that it was done with.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import json
import logging
import os
import platform
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import filelock
import jax

import ossgd
from ossgd import netcdf

if TYPE_CHECKING:
  import xarray as xr
  from matplotlib.figure import Figure

RESULTS, CONFIG, REPORT = 'results.nc', 'config.json', 'report.md'
SECONDS, DIGEST = 'seconds', 'results_sha256'  # in config.json
CHECKPOINTS, _LOCK = 'checkpoints', '.lock'
_LARGEST_CONFIG, _DEEPEST_CONFIG = 1 << 20, 20  # bytes; ours have 3000, and 4
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
    yield
  finally:
    left = folder / CHECKPOINTS
    if left.is_dir() and [path.name for path in left.iterdir()] == [CONFIG]:
      shutil.rmtree(left)  # nothing was done that is worth keeping
    lock.release()


def prepare(folder: Path, config: Mapping, *, overwrite: bool = False) -> bool:
  """Makes a folder ready for results, before anything is computed.

  Work that another process left unfinished stays in CHECKPOINTS if it is of
  this config and code.

  Args:
    folder: from `hold`.
    config: what will be given to `write_report`.
    overwrite: other results there may be replaced, unfinished ones too.

  Returns:
    Whether the folder already holds the complete results of this config.

  Raises:
    RecordError: it holds other results, or unfinished ones of another config.
  """
  begun = {**config, 'code': code_digest()}
  unfinished = folder / CHECKPOINTS
  if (unfinished / CONFIG).exists():
    _keep_if_same(unfinished, begun, overwrite)
  elif (folder / CONFIG).exists() and not overwrite:
    _refuse_other(folder, config)
    if _intact(folder):
      return True
  elif (folder / RESULTS).exists() and not overwrite:
    raise RecordError(
      f'{folder} holds the {RESULTS} of an interrupted run, without {CONFIG}; '
      f'{_REMEDY}'
    )
  unfinished.mkdir(exist_ok=True)
  with replacing(unfinished / CONFIG) as path:
    path.write_text(json.dumps(begun, indent=2), encoding='utf-8')
  return False


def code_digest() -> str:
  """SHA-256 of the sources of ossgd: unfinished work goes on with the same."""
  digest = hashlib.sha256()
  for path in sorted(Path(ossgd.__file__).parent.glob('*.py')):
    digest.update(path.name.encode() + path.read_bytes())
  return digest.hexdigest()


def _keep_if_same(unfinished: Path, config: Mapping, overwrite: bool) -> None:
  """Unfinished work of this config stays; other work is refused, or removed."""
  try:
    _refuse_other(unfinished, config)
  except RecordError:
    if not overwrite:
      raise
    shutil.rmtree(unfinished)


def _refuse_other(folder: Path, config: Mapping) -> None:
  """Raises unless the folder's config is this one."""
  previous = read_config(folder)
  for key in (SECONDS, DIGEST):
    previous.pop(key, None)
  difference = _difference(previous, config)
  if difference:
    raise RecordError(f'{folder} holds other results ({difference}); {_REMEDY}')


def _intact(folder: Path) -> bool:
  """Whether results.nc is what was written; else it is set aside."""
  path = folder / RESULTS
  expected = read_config(folder).get(DIGEST)
  if path.exists() and expected in (None, _sha256(path)):
    return True
  if path.exists():
    aside = path.with_suffix('.damaged')
    path.replace(aside)
    logging.warning('%s is damaged. Set aside as %s.', path, aside)
  return False


def _sha256(path: Path) -> str:
  with path.open('rb') as file:
    return hashlib.file_digest(file, 'sha256').hexdigest()


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
  more = {SECONDS: seconds, DIGEST: _sha256(folder / RESULTS)}
  with replacing(folder / CONFIG) as path:
    text = json.dumps({**config, **more}, indent=2)
    path.write_text(text + '\n', encoding='utf-8')
  shutil.rmtree(folder / CHECKPOINTS, ignore_errors=True)


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
    if config.get(DIGEST) not in (None, _sha256(path)):
      raise ValueError(f'it is not the one that {CONFIG} was written for')
    return netcdf.read(path), config
  except Exception as error:  # HDF5's depend on which bytes are damaged
    raise RecordError(f'cannot read {path}: {error}; {_REMEDY}') from error


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
    _check_depth(config)
  except (OSError, ValueError, RecursionError) as error:
    raise RecordError(f'cannot read {path}: {error}; {_REMEDY}') from error
  if not isinstance(config, dict):
    raise RecordError(f'{path} is not a JSON object; {_REMEDY}')
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


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
  """A temporary path that takes the place of `path` if all goes well.

  Raises:
    RecordError: the operating system does not let it be written.
  """
  temporary = path.with_name(f'.{path.name}.{os.getpid()}.part')
  try:
    yield temporary
    temporary.replace(path)
  except OSError as error:
    if error.errno is None:  # not of the operating system
      raise
    raise RecordError(f'cannot write {path}: {error.strerror}') from error
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
