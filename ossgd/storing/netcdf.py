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
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
  import xarray as xr


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
