"""Whether other programs read results.nc: `python -m tests.readers [FILE ...]`.

Every array and every attribute of a file is read by ncdump, by R's ncdf4, by
Python's netCDF4 and by Octave's netcdf, and compared with what xarray has.
Those that are not here are told: Debian has them as netcdf-bin, r-cran-ncdf4,
python3-netcdf4, octave and octave-netcdf; the tests do without. Without FILE a
small one is made, of each kind of number and text.
"""

import os
import pathlib
import re
import subprocess
import sys
import tempfile
from typing import NamedTuple

import numpy as np
import xarray as xr

from ossgd.storing import netcdf
from tests.storing import netcdf_test

# Each prints a line for each array, `name<TAB>values`, and one for each
# attribute of the file, `@name<TAB>value`, the file's last dimension running
# fastest; and its version in a line of the name `#`.
R = r"""
library(ncdf4)
file <- nc_open(commandArgs(TRUE)[1])
cat('#\tncdf4', as.character(packageVersion('ncdf4')), '\n')
for (name in c(names(file$var), names(file$dim))) {
  if (name %in% names(file$var) || file$dim[[name]]$dimvarid$id >= 0) {
    values <- ncvar_get(file, name)
    between <- if (is.character(values)) '' else ' '
    if (is.numeric(values)) values <- sprintf('%.17g', values)
    cat(name, '\t', sep='')
    cat(values, sep=between)
    cat('\n')
  }
}
attributes <- suppressWarnings(ncatt_get(file, 0))
for (name in names(attributes)) {
  value <- attributes[[name]]
  cat('@', name, '\t', sep='')
  cat(if (is.character(value)) value else sprintf('%.17g', value))
  cat('\n')
}
"""
OCTAVE = r"""
pkg load netcdf
path = argv(){1};
here = pkg('list', 'netcdf'){1};
printf('#\tnetcdf %s of Octave %s\n', here.version, version);
evalc('ncdisp(path)');
info = ncinfo(path);
function show(name, value)
  if ischar(value)
    printf('%s\t%s\n', name, value(value != 0)(:));
  else
    printf('%s\t%s\n', name, sprintf('%.17g ', double(value(:))));
  end
end
for variable = info.Variables
  show(variable.Name, ncread(path, variable.Name));
end
for attribute = info.Attributes
  show(['@' attribute.Name], ncreadatt(path, '/', attribute.Name));
end
"""
PYTHON = r"""
import sys
import netCDF4
file = netCDF4.Dataset(sys.argv[1])
file.set_auto_mask(False)
def show(name, value):
  text = isinstance(value, str)
  print(name, value if text else ' '.join(map(str, value)), sep='\t')
show('#', 'netCDF4 ' + netCDF4.__version__)
for name, variable in file.variables.items():
  values = variable[...].ravel().tolist()
  text = variable.dtype in (str, 'S1')
  show(name, ''.join(values) if text else values)
for name in file.ncattrs():
  value = file.getncattr(name)
  several = isinstance(value, str) or getattr(value, 'shape', ())
  show('@' + name, value if several else [value])
"""


class Reader(NamedTuple):
  """Another program: how it is started, and what it is part of."""

  command: tuple[str, ...]
  ending: str  # of the file of its program
  program: str


# Python's is the system's, where Debian's package is.
READERS = {
  'R': Reader(('Rscript',), '.R', R),
  'Octave': Reader(('octave-cli', '--quiet'), '.m', OCTAVE),
  'Python': Reader(('/usr/bin/python3',), '.py', PYTHON),
}


class Contents(NamedTuple):
  """What a program has read, and which one it was."""

  version: str
  arrays: dict[str, str]
  attributes: dict[str, str]


def by_program(reader: Reader, path: pathlib.Path) -> Contents:
  """What one of READERS has read.

  Raises:
    FileNotFoundError: it is not here.
    ValueError: it could not read the file.
  """
  with tempfile.TemporaryDirectory() as folder:
    program = pathlib.Path(folder, f'program{reader.ending}')
    program.write_text(reader.program)
    found: dict[str, str] = {}
    for line in _run(*reader.command, program, path).split('\n'):
      name, tab, value = line.partition('\t')
      if tab:
        found[name] = value.strip()
  version = found.pop('#')
  attributes = {n[1:]: v for n, v in found.items() if n.startswith('@')}
  arrays = {n: v for n, v in found.items() if not n.startswith('@')}
  return Contents(version, arrays, attributes)


def by_ncdump(path: pathlib.Path) -> Contents:
  """The same of ncdump, out of its language for files (CDL)."""
  cdl = _run('ncdump', '-p', '9,17', path)
  header, data = re.split(r'^data:$', cdl, maxsplit=1, flags=re.MULTILINE)
  version = _run('ncdump', '-v', '', check=False)
  version = re.search(r'library version (\S+)', version)
  text = r'\s*((?:"(?:[^"\\]|\\.)*"|[^";])*) ;$'
  arrays = re.findall(rf'^ (\S+) ={text}', data, re.MULTILINE)
  attributes = re.findall(
    rf'^\t\t(?:string )?:(\S+) ={text}', header, re.MULTILINE
  )
  return Contents(
    f'ncdump {version[1]}',
    {name: _plain(value) for name, value in arrays},
    {name: _plain(value) for name, value in attributes},
  )


def _run(*command: str | pathlib.Path, check: bool = True) -> str:
  run = subprocess.run(
    [*map(str, command)],
    capture_output=True,
    text=True,
    env=os.environ | {'LC_ALL': 'C.UTF-8'},
    check=False,
  )
  if check and run.returncode:
    said = run.stderr.strip()
    if re.search('No module named|no package called|not installed', said):
      raise FileNotFoundError(said)
    raise ValueError(f'{command[0]}: {said[-300:]}')
  return run.stdout + ('' if check else run.stderr)


def _plain(value: str) -> str:
  """A value of CDL as the other programs print it."""
  if '"' not in value:
    numbers = (number.strip().rstrip('Lbf') for number in value.split(','))
    return ' '.join('NaN' if n == '_' else n for n in numbers)
  texts = ''.join(re.findall(r'"((?:[^"\\]|\\.)*)"', value))
  unescaped = re.sub(rb'\\(\d{3}|.)', _character, texts.encode())
  return unescaped.decode()


def _character(escape: re.Match[bytes]) -> bytes:
  code = escape[1]
  return bytes([int(code, 8)]) if len(code) == 3 else code


def differences(path: pathlib.Path, found: Contents) -> list[str]:
  """What a program has not read as xarray does; empty if all is the same."""
  expected = xr.load_dataset(path, engine='h5netcdf', decode_times=False)
  arrays = {str(n): v.values.ravel() for n, v in expected.variables.items()}
  pairs = [
    (name, found.arrays.get(name), values) for name, values in arrays.items()
  ] + [
    (f'@{name}', found.attributes.get(str(name)), np.ravel(value))
    for name, value in expected.attrs.items()
  ]
  return [name for name, read, values in pairs if not _same(read, values)]


def _same(read: str | None, values: np.ndarray) -> bool:
  if read is None:
    return False
  if values.dtype.kind in 'UO':
    return read == ''.join(values).strip()
  # 9 digits say which float32 it was, not the same float64.
  kind = np.float32 if values.dtype == np.float32 else np.float64
  numbers = np.array(read.replace('NA ', 'NaN ').split(), kind)
  return np.array_equal(numbers, values.astype(kind), equal_nan=True)


def report(path: pathlib.Path, name: str) -> tuple[bool, str]:
  """Whether a program reads a file whole, or is not here; and a line of it."""
  try:
    if name == 'ncdump':
      found = by_ncdump(path)
    else:
      found = by_program(READERS[name], path)
  except FileNotFoundError:
    return True, 'not here'
  except ValueError as error:
    return False, f'cannot read it: {error}'
  counts = f'{len(found.arrays)} arrays, {len(found.attributes)} attributes'
  wrong = differences(path, found)
  told = f'not as xarray has them: {", ".join(wrong)}' if wrong else 'all right'
  return not wrong, f'{found.version}: {counts}, {told}'


def main(paths: list[str]) -> int:
  """Has every program read every file; 1 if one of them could not, else 0."""
  with tempfile.TemporaryDirectory() as folder:
    if not paths:
      made = pathlib.Path(folder, 'results.nc')
      made.write_bytes(netcdf.content(netcdf_test.make_results()))
      paths = [str(made)]
    failed = False
    for path in paths:
      print(path)
      for name in ('ncdump', *READERS):
        well, line = report(pathlib.Path(path), name)
        failed |= not well
        print(f'  {name}: {line}')
  return int(failed)


if __name__ == '__main__':
  sys.exit(main(sys.argv[1:]))
