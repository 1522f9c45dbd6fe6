"""Datasets as netCDF4 that every reader of the format understands.

Text is stored as netCDF's characters, which ncdump, R, Octave and the Python
packages all read: h5netcdf's own strings are variable-length, and Octave gives
up a whole file for one of them. Numbers keep their types, so whole ones are
64-bit: Octave and MATLAB have them as int64, which `double(...)` makes ordinary
numbers, R as doubles.
"""

from __future__ import annotations

import io
from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
  import h5py
  import xarray as xr

# Attributes by which HDF5 and netCDF-4 know dimensions, and no reader's affair.
_STRUCTURE = {
  'CLASS',
  'DIMENSION_LIST',
  'NAME',
  'REFERENCE_LIST',
  '_NCProperties',
  '_Netcdf4Coordinates',
  '_Netcdf4Dimid',
  '_nc3_strict',
}
_NO_VARIABLE = b'This is a netCDF dimension but not a netCDF variable.'


def content(results: xr.Dataset) -> bytes:
  """The bytes of a netCDF4 file of a Dataset.

  Texts, attributes or arrays, are UTF-8 characters: an array of them has one
  more dimension in the file, `string7` where the longest has 7 bytes, and the
  attribute `_Encoding`, by which xarray makes texts of them again. Only a list
  of several texts as an attribute stays what it is, since netCDF has no
  characters for it.
  """
  import h5netcdf
  from xarray import backends

  # In memory: HDF5 that meets a full disk may end the process.
  stream = io.BytesIO()
  with h5netcdf.File(stream, 'w') as file:
    results.dump_to_store(
      backends.H5NetCDFStore(file), encoder=_with_characters
    )
  return stream.getvalue()


def read(path: Path) -> xr.Dataset:
  """The Dataset in a file, all of it in memory.

  What `xarray.load_dataset` gives with h5netcdf, which asks the file for every
  dimension of every variable five times over. A file with more in it than
  `content` leaves, such as groups, is left to that.

  Raises:
    Exception: of the kind that suits the damage.
  """
  import h5py
  import xarray as xr
  from xarray import backends

  with h5py.File(path) as file:
    items = dict(file.items())
    if all(map(_is_plain, items.items())):
      store = backends.InMemoryDataStore(_variables(items), _attributes(file))
      return xr.decode_cf(store).load()
  return xr.load_dataset(path, engine='h5netcdf')


def _is_plain(item: tuple[str, Any]) -> bool:
  """Whether it is a variable or a dimension of netCDF, under its own name."""
  import h5py

  name, found = item
  return bool(
    isinstance(found, h5py.Dataset)
    and not name.startswith('_nc4_non_coord_')
    and (found.dtype.kind != 'O' or h5py.check_string_dtype(found.dtype))
  )


def _variables(items: Mapping[str, h5py.Dataset]) -> dict[str, xr.Variable]:
  """As they are in the file: characters are characters, missing is a number."""
  import h5py
  import xarray as xr

  of_scales = {name: item for name, item in items.items() if item.is_scale}
  scales = {
    int(item.attrs['_Netcdf4Dimid']): name for name, item in of_scales.items()
  }
  found = {}
  for name, item in items.items():
    attrs = item.attrs
    if name in of_scales and attrs['NAME'].startswith(_NO_VARIABLE):
      continue
    if '_Netcdf4Coordinates' in attrs:  # as for netCDF's own C before the next
      dims = [scales[number] for number in attrs['_Netcdf4Coordinates']]
    elif 'DIMENSION_LIST' in attrs:
      # Of several scales of a dimension the last counts, as there.
      refs = [several[-1] for several in attrs['DIMENSION_LIST']]
      dims = [h5py.h5r.get_name(ref, item.id).decode()[1:] for ref in refs]
    else:
      dims = [name] if name in of_scales else []
    is_text = item.dtype.kind == 'O'  # of an earlier version, or a user's own
    values = (item.asstr() if is_text else item)[...]
    encoding = {'dtype': str} if is_text else None
    found[name] = xr.Variable(dims, values, _attributes(item), encoding)
  return found


def _attributes(item: h5py.File | h5py.Dataset) -> dict[str, Any]:
  names = (name for name in item.attrs if name not in _STRUCTURE)
  return {name: _plain(item.attrs[name]) for name in names}


def _plain(value: Any) -> Any:
  """An attribute as Python's text, a number, or a list of several."""
  import h5py

  if isinstance(value, h5py.Empty):
    return ''
  if isinstance(value, bytes):
    return value.decode(errors='surrogateescape')
  if isinstance(value, np.ndarray):
    if value.dtype.kind in 'SO':
      value = [_plain(one) for one in value.flat]
    if len(value) == 1:
      return value[0]
  return value


def _with_characters(
  variables: Mapping[Hashable, xr.Variable], attrs: Mapping[str, Any]
) -> tuple[dict[Hashable, xr.Variable], dict[str, Any]]:
  """What xarray is about to write, without variable-length strings."""
  import xarray as xr

  written = {}
  for name, variable in variables.items():
    # Conventions have texts of their own: names of units, types, coordinates.
    encoded = xr.conventions.encode_cf_variable(variable, name=name)
    dims, values, about = encoded.dims, encoded.values, dict(encoded.attrs)
    if _is_text(values):
      texts = np.char.encode(values.astype(str), 'utf-8')
      about['_Encoding'] = 'utf-8'
      encoded = xr.Variable(dims, texts)
    encoded.attrs = _characters(about)
    written[name] = encoded
  return written, _characters(attrs)


def _is_text(values: np.ndarray) -> bool:
  if values.dtype.kind == 'O':
    return all(isinstance(value, str) for value in values.flat)
  return values.dtype.kind in 'UT'


def _characters(attrs: Mapping[Any, Any]) -> dict[Any, Any]:
  """Attributes whose texts have a fixed length, as netCDF's characters do."""
  return {name: _fixed(value) for name, value in attrs.items()}


def _fixed(value: Any) -> Any:
  import h5py

  if not isinstance(value, str):
    return value
  if not value:
    return h5py.Empty('S1')  # HDF5 has no text of length 0
  encoding = 'ascii' if value.isascii() else 'utf-8'
  text = value.encode()
  return np.array(text, h5py.string_dtype(encoding, len(text)))
