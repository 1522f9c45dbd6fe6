"""Tests of results.nc as other programs see it, and of what comes back."""

import io
import json
import pathlib
import tempfile

import h5netcdf
import h5py
import numpy as np
import xarray as xr
from absl.testing import parameterized
from xarray import backends

from ossgd.storing import netcdf

CONFIG = json.dumps({'widths': [8, 32], 'words': 'naïve', 'half': 0.5})


def make_results() -> xr.Dataset:
  """Each kind of text that results have, beside each kind of number."""
  accuracy = xr.Variable(
    ('width', 'seed'), np.float32([[0.5, np.nan]]), {'long_name': 'Güte'}
  )
  return xr.Dataset(
    {
      'accuracy': accuracy,
      'stable': ('width', [True]),
      'seconds': ('contender', [1.5, 2.0, 2.5]),
    },
    {
      'width': [8],
      'seed': [0, 1],
      'engine': ('width', ['blocked']),
      'contender': ['jax', 'torch', 'numpy'],
      'words': ('contender', ['', 'größer als σ', 'a']),
      'network': 'f',
    },
    {
      'config': CONFIG,
      'unit': 'm',
      'note': '',
      'author': 'Łukasz',
      'target': 0.98,
      'num_seeds': 2,
      'sizes': [1, 2],
    },
  )


class NetcdfTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    folder = self.enter_context(tempfile.TemporaryDirectory())
    self.path = pathlib.Path(folder, 'results.nc')

  def there_and_back(self, results: xr.Dataset) -> xr.Dataset:
    self.path.write_bytes(netcdf.content(results))
    return xr.load_dataset(self.path, engine='h5netcdf')

  def check_read(self):
    """`read` gives what xarray gives, which asks h5netcdf."""
    expected = xr.load_dataset(self.path, engine='h5netcdf')
    found = netcdf.read(self.path)
    xr.testing.assert_identical(found, expected)
    self.assertEqual([*found.coords], [*expected.coords])
    self.assertEqual([*found], [*expected])
    self.assertEqual([*found.attrs], [*expected.attrs])
    for name, variable in expected.variables.items():
      self.assertEqual(found[name].dtype, variable.dtype, name)
    for name, value in expected.attrs.items():
      self.assertIs(type(found.attrs[name]), type(value), name)

  @parameterized.named_parameters(
    ('results', make_results()),
    ('nothing', xr.Dataset()),
    ('no_coordinates', xr.Dataset({'a': (('p', 'q'), np.eye(2, 3))})),
    ('scalars', xr.Dataset({'a': 1.5, 'b': True, 'c': 'text', 'd': ''})),
    (
      'of_a_coordinate',
      xr.Dataset(
        {'a': ('word', [1, 2])},
        {'word': ['x', 'größer'], 'more': (('word', 'n'), np.eye(2))},
        {'several': ['a', 'bc'], 'numbers': [1.5, 2.5], 'flag': np.int8(1)},
      ),
    ),
    ('times', xr.Dataset({'t': ('n', np.array([0, 5], 'datetime64[ns]'))})),
  )
  def test_read(self, results):
    """Each kind of variable and attribute, as xarray reads it."""
    self.path.write_bytes(netcdf.content(results))
    self.check_read()

  def test_read_what_others_wrote(self):
    """Texts, groups and compression of xarray's own."""
    results = make_results()
    chunks = {'accuracy': {'zlib': True, 'chunksizes': (1, 2)}}
    results.to_netcdf(self.path, engine='h5netcdf', encoding=chunks)
    self.check_read()
    results.to_netcdf(self.path, engine='h5netcdf', mode='a', group='more')
    self.check_read()

  def test_read_without_coordinates(self):
    """As h5netcdf 1.6 and netCDF's own C write: of one dimension is its own."""
    self.path.write_bytes(netcdf.content(make_results().drop_vars('contender')))
    with h5py.File(self.path, 'r+') as file:
      for item in file.values():
        if item.ndim == 1 or not item.is_scale:
          item.attrs.pop('_Netcdf4Coordinates', None)
    self.check_read()

  def test_there_and_back(self):
    """Twice: what was read is written as well as what was computed."""
    results = make_results()
    first = self.there_and_back(results)
    xr.testing.assert_identical(results, make_results())
    xr.testing.assert_identical(first, make_results())
    xr.testing.assert_identical(self.there_and_back(first), make_results())
    for name in ('config', 'unit', 'note', 'author'):
      self.assertIs(type(first.attrs[name]), str, name)
    self.assertEqual(json.loads(first.attrs['config'])['words'], 'naïve')
    self.assertIs(type(first.engine.item()), str)

  def test_numbers_keep_their_types(self):
    read = self.there_and_back(make_results())
    for name, variable in make_results().variables.items():
      if variable.dtype.kind != 'U':
        self.assertEqual(read[name].dtype, variable.dtype, name)

  def test_every_text_is_characters(self):
    """Octave gives up a file for one text of variable length (NC_STRING)."""
    self.there_and_back(make_results())
    with h5py.File(self.path) as file:
      seen = {}
      for place, where in [('', file), *file.items()]:
        for name in where.attrs:
          info = h5py.check_string_dtype(where.attrs.get_id(name).dtype)
          if info is not None:
            seen[place, name] = info.length
      self.assertNotIn(None, seen.values())
      self.assertEqual(seen['', 'config'], len(CONFIG))
      # By xarray's conventions, not by us.
      self.assertContainsSubset(
        {('stable', 'dtype'), ('accuracy', 'coordinates')}, seen
      )
      for name, size in {'engine': 7, 'contender': 5, 'words': 15}.items():
        self.assertEqual(file[name].dtype, 'S1', name)
        self.assertEqual(file[name].shape[-1], size, name)
      self.assertEqual(bytes(file['engine'][0]), b'blocked')
      self.assertEqual(file['engine'].attrs['_Encoding'], b'utf-8')

  def test_texts_of_other_lengths(self):
    """Of two files, put together: neither's length is left."""
    narrow = self.there_and_back(make_results())
    wide = narrow.assign_coords(width=[32], engine=('width', ['gram, slowly']))
    both = xr.concat([narrow, wide], 'width', data_vars='minimal')
    engines = self.there_and_back(both).engine.values.tolist()
    self.assertEqual(engines, ['blocked', 'gram, slowly'])

  def test_long_text(self):
    """A page of notes: past what HDF5 keeps in the header of an object."""
    long = make_results().assign_attrs(notes='Łong. ' * 20_000)
    xr.testing.assert_identical(self.there_and_back(long), long)

  def test_earlier_files(self):
    """Texts were h5netcdf's own; such files are read as they were."""
    stream = io.BytesIO()
    with h5netcdf.File(stream, 'w') as file:
      make_results().dump_to_store(backends.H5NetCDFStore(file))
    self.path.write_bytes(stream.getvalue())
    with h5py.File(self.path) as file:
      kind = h5py.check_string_dtype(file['engine'].dtype)
      self.assertIsNone(kind.length)
    earlier = xr.load_dataset(self.path, engine='h5netcdf')
    xr.testing.assert_identical(earlier, make_results())
    self.check_read()
    xr.testing.assert_identical(self.there_and_back(earlier), earlier)
