"""netCDF files as xarray's data sets, also those that nobody vouches for.

HDF5 believes what it reads: damage may keep it busy for ever or end the
process, a few bytes may claim terabytes, and a name may lead to another file.
So a file is inspected in a process of its own before it is opened in this one.
"""

from __future__ import annotations

import io
import math
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
  import xarray as xr

_PATIENCE = 30  # seconds; it takes a third of one
_ROOM = 1 << 16  # bytes; what a small file may hold beyond its size


def content(results: xr.Dataset) -> bytes:
  """A netCDF4 file; HDF5 that meets a full disk may end the process."""
  import h5netcdf
  from xarray import backends

  file = io.BytesIO()
  with h5netcdf.File(file, 'w') as writer:
    results.dump_to_store(backends.H5NetCDFStore(writer))
  return file.getvalue()


def read(path: Path) -> xr.Dataset:
  """The contents of a file of variables without groups.

  Raises:
    Exception: of any kind, if the file is damaged.
  """
  import xarray as xr

  _inspect_elsewhere(path)
  with xr.open_dataset(path, engine='h5netcdf') as results:
    return results.load()


def inspect(path: Path) -> None:
  """Reads all there is, having checked what it claims.

  Raises:
    ValueError: it is no plain file, claims more than it can hold, or leads to
      another file.
    Exception: h5py's or h5netcdf's.
  """
  import h5netcdf
  import h5py

  if not path.is_file():  # opening a pipe would wait for ever
    raise ValueError('it is not a file.')
  size = path.stat().st_size
  with h5py.File(path, 'r') as file:
    claimed = sum(_claims(file))
  # What is written is not compressed, so that it fits into its file.
  if claimed > 4 * size + _ROOM:
    raise ValueError(f'it claims {claimed} bytes, the file has {size}.')
  with h5netcdf.File(path, 'r') as file:
    for variable in (file, *file.variables.values()):
      dict(variable.attrs)
    for variable in file.variables.values():
      _ = variable.dimensions, variable[...]


def _claims(file: Any) -> Iterator[int]:
  """The bytes that each variable and attribute claims to have."""
  import h5py

  for name in file:
    if not isinstance(file.get(name, getlink=True), h5py.HardLink):
      raise ValueError(f'{name!r} leads elsewhere.')
    data = file[name]
    if not isinstance(data, h5py.Dataset):
      raise ValueError(f'{name!r} is not a variable.')
    if data.external or data.is_virtual:
      raise ValueError(f'{name!r} is kept in another file.')
    yield data.nbytes
  for owner in (file, *file.values()):
    for name in owner.attrs:
      attribute = owner.attrs.get_id(name)
      yield math.prod(attribute.shape or ()) * attribute.dtype.itemsize


def _inspect_elsewhere(path: Path) -> None:
  # -P: the folder of this file is none to import from.
  command = [sys.executable, '-P', __file__, str(path)]
  try:
    done = subprocess.run(
      command,
      stdin=subprocess.DEVNULL,
      capture_output=True,
      text=True,
      errors='replace',
      timeout=_PATIENCE,
      check=False,
    )
  except subprocess.TimeoutExpired:
    raise ValueError(f'HDF5 was not done with it in {_PATIENCE} s.') from None
  if done.returncode:
    *_, reason = done.stderr.splitlines() or ['']
    raise ValueError(reason or f'HDF5 ended with {done.returncode}.')


if __name__ == '__main__':
  inspect(Path(sys.argv[1]))
