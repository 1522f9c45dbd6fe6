"""NumPy archives as arrays: whole, as they were written, or refused.

Nothing is unpickled, and no name in an archive is a path.
"""

import zipfile
from pathlib import Path

import numpy as np

from ossgd.data.files import opening
from ossgd.data.idx import Arrays


def read_sets(path: Path) -> Arrays:
  """A NumPy archive of x_train, y_train, x_test and y_test, any numbers.

  Raises:
    FileNotFoundError: there is no such file.
    ValueError: it is no such archive, cut short or damaged.
  """
  if not path.is_file():
    raise FileNotFoundError(
      f'there is no file {path}; expected an archive of x_train, y_train, '
      'x_test and y_test: check the name'
    )
  return Arrays(**read(path, Arrays._fields))


def read(path: Path, names: tuple[str, ...] = ()) -> dict[str, np.ndarray]:
  """Arrays of a NumPy archive, by name: these, or if none are given all.

  Raises:
    ValueError: it is no such archive, cut short or damaged.
  """
  with opening.named(path), zipfile.ZipFile(path) as archive:
    held = _members(archive)
    if {*names} - {*held}:
      raise ValueError(
        f'it holds {", ".join(held):.200}; expected arrays named '
        f'{", ".join(names)}.'
      )
    return {name: _read_member(archive, name) for name in names or held}


def names(path: Path) -> list[str]:
  """Names of the arrays in a NumPy archive.

  Raises:
    ValueError: as `read`.
  """
  with opening.named(path), zipfile.ZipFile(path) as archive:
    return _members(archive)


def _members(archive: zipfile.ZipFile) -> list[str]:
  held = [name.removesuffix('.npy') for name in archive.namelist()]
  if len({*held}) < len(held):
    raise ValueError('it holds several arrays of one name.')
  if not held:  # a few bytes at its end say so
    raise ValueError('it holds nothing.')
  return held


def _read_member(archive: zipfile.ZipFile, name: str) -> np.ndarray:
  """One array, read to its end: there zipfile compares its checksum."""
  with archive.open(f'{name}.npy') as stream:
    array = np.lib.format.read_array(stream, allow_pickle=False)
    if stream.read(1):
      raise ValueError(f'{name} holds more than its header promises.')
  if array.dtype.kind not in 'buif':
    raise ValueError(f'{name} has type {array.dtype}, expected real numbers.')
  return array
