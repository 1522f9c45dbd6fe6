"""Reads one file after another in this process, and says how each went.

HDF5 may never return from a damaged file, or end the process: whoever started
this one waits for a line `inspecting`, one `reading` if the inspection passed,
and one with the outcome.
"""

import importlib
import pathlib
import sys
import tracemalloc
from unittest import mock

import xarray as xr

from ossgd.storing import netcdf


def main(paths: list[str]) -> None:
  def inspect(path):
    netcdf.inspect(path)
    tell('reading')

  # Imported before memory is measured, as all else.
  importlib.import_module('h5netcdf')
  xr.backends.list_engines()
  tracemalloc.start()
  with mock.patch.object(netcdf, '_inspect_elsewhere', inspect):
    for path in map(pathlib.Path, paths):
      tell('inspecting')
      tracemalloc.reset_peak()
      begin = tracemalloc.get_traced_memory()[0]
      try:
        netcdf.read(path)
        outcome = 'read'
      except Exception as error:
        outcome = f'refused {type(error).__name__}'
      tell(f'{outcome} {tracemalloc.get_traced_memory()[1] - begin}')


def tell(line: str) -> None:
  print(line, flush=True)


if __name__ == '__main__':
  main(sys.argv[1:])
