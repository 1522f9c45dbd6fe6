"""Tests of records: files whole or absent, folders never mixed up."""

import json
import pathlib
import platform
import random
import struct
import tempfile
import tomllib
from unittest import mock

import h5py
import jax
import jax.numpy as jnp
import jaxlib
import numpy as np
import xarray as xr
from absl.testing import parameterized
from matplotlib.figure import Figure

import ossgd
from ossgd.machine import files
from ossgd.storing import folders, netcdf, records
from tests import mutations

SETTINGS = {'widths': (8, 32), 'num_seeds': 3, 'order': 'epochs'}
CONFIG = {
  'experiment': 'toy',
  'settings': SETTINGS,
  'environment': {'jax': '0.0.1'},
}


def make_results() -> xr.Dataset:
  """Each kind of value that a sweep has, NaN included."""
  rng = np.random.default_rng(0)
  spectrum = rng.uniform(size=(2, 3, 5))
  spectrum[0, :, 4:] = np.nan
  accuracy = rng.uniform(size=(2, 3, 4)).astype(np.float32)
  return xr.Dataset(
    {
      'test_accuracy': (('width', 'seed', 'step'), accuracy),
      'singular_values': (('width', 'seed', 'rank'), spectrum),
      'steps_to_accuracy': (('width', 'seed'), [[1.0, np.nan, 3], [2, 2, 0]]),
    },
    {'width': [8, 32], 'seed': [4, 5, 6], 'step': [0, 1, 7, 9]},
    {'target': 0.98, 'num_patterns': 20, 'config': '{"a": "b"}'},
  ).assign_coords(rank=np.arange(1, 6))


class Interrupted:
  """Results, a figure or a report that break after a few bytes are written."""

  def __init__(self, error: BaseException):
    self.error = error

  def savefig(self, file, **_):
    file.write(b'half')
    raise self.error

  def dump_to_store(self, store, encoder):
    raise self.error


class Case(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    root = pathlib.Path(self.enter_context(tempfile.TemporaryDirectory()))
    self.folder = root / 'runs' / 'toy'

  def write(self, config=CONFIG, report='all well\n', **figures):
    self.folder.mkdir(parents=True, exist_ok=True)
    records.write_results(self.folder, make_results())
    records.write_figures(self.folder, figures)
    records.write_report(
      self.folder, config, report=report, seconds={'train': 1.5}
    )

  def files(self) -> dict[str, bytes]:
    """Those that a reader would look at."""
    found = self.folder.iterdir()
    return {path.name: path.read_bytes() for path in found if path.is_file()}


class WriteTest(Case):
  def test_each_file_is_what_its_name_says(self):
    """For other programs: HDF5, JSON, UTF-8 and PNG at 150 dpi; and for ours.

    Values, dtypes, coords and attrs are those that were written.
    """
    self.write(report='mean ± std', curve=Figure(figsize=(2, 1)))
    self.assertEqual(
      set(self.files()), {'results.nc', 'config.json', 'report.md', 'curve.png'}
    )
    results, config = records.read(self.folder)
    xr.testing.assert_identical(results, make_results())
    with h5py.File(self.folder / 'results.nc') as file:
      for name, variable in make_results().variables.items():
        self.assertEqual(results[name].dtype, variable.dtype, name)
        np.testing.assert_array_equal(file[name], variable)
    self.assertEqual(json.loads(self.files()['config.json']), config)
    self.assertEqual(config['settings'], {**SETTINGS, 'widths': [8, 32]})
    self.assertEqual(config['environment'], CONFIG['environment'])
    self.assertEqual(self.files()['report.md'].decode(), 'mean ± std')
    png = self.files()['curve.png']
    self.assertEqual(png[:8], b'\x89PNG\r\n\x1a\n')
    self.assertEqual(struct.unpack('>II', png[16:24]), (300, 150))

  @parameterized.parameters(ValueError, KeyboardInterrupt)
  def test_results_are_whole_or_absent(self, error):
    """Interrupted in results.nc: the old folder, or none, and no litter."""
    self.folder.mkdir(parents=True)
    with self.assertRaises(error):
      records.write_results(self.folder, Interrupted(error()))
    self.assertEmpty(self.files())
    self.write()
    before = self.files()
    with self.assertRaises(error):
      records.write_results(self.folder, Interrupted(error()))
    self.assertEqual(self.files(), before)

  @parameterized.named_parameters(
    ('figure', {'figures': {'b': Interrupted(OSError())}, 'report': ''}),
    ('report', {'figures': {}, 'report': b'not text'}),
  )
  def test_config_is_written_last(self, broken):
    """A folder with config.json is complete; without, the numbers are safe."""
    self.write()
    records.write_results(self.folder, make_results())
    with self.assertRaises((OSError, AttributeError)):
      records.write_figures(self.folder, broken['figures'])
      records.write_report(
        self.folder, CONFIG, report=broken['report'], seconds={}
      )
    self.assertEqual(set(self.files()), {'results.nc', 'report.md'})
    self.assertTrue(records.is_known(self.folder, 'report.md'))
    results = xr.load_dataset(self.folder / 'results.nc', engine='h5netcdf')
    xr.testing.assert_identical(results, make_results())

  def test_the_old_file_stands_until_the_new_one_is_whole(self):
    """Whoever looks while a file is written sees the old one."""
    self.folder.mkdir(parents=True)
    path = self.folder / 'report.md'
    for text in ('old', 'new'):
      before = self.files()
      with files.replacing(path) as temporary:
        temporary.write_text(text[:1])
        self.assertEqual(
          before, {k: v for k, v in self.files().items() if k != temporary.name}
        )
        temporary.write_text(text)
      self.assertEqual(self.files(), {'report.md': text.encode()})


class ReadTest(Case):
  @parameterized.product(
    name=('config.json', 'results.nc'),
    content=(None, b'', b'{"settings": ', b'\xff\xfe', b'[1]', b'CDF\x01'),
    noted=(True, False),
  )
  def test_damaged_file_is_named(self, name, content, noted):
    """The user learns which file, and what to do about it.

    Results of a version that noted no SHA-256 are left to HDF5.
    """
    self.write()
    if not noted:
      records.write_config(self.folder, CONFIG)
    (self.folder / name).unlink()
    if content is not None:
      (self.folder / name).write_bytes(content)
    path = self.folder / name
    with self.assertRaisesRegex(records.RecordError, f'{path}.*another folder'):
      records.read(self.folder)
    if name == 'config.json' and content is not None:
      with self.assertRaisesRegex(
        records.RecordError, f'{path}.*another folder'
      ):
        folders.prepare(self.folder, CONFIG)
      # Which files are ours is not known any more.
      with self.assertRaisesRegex(records.RecordError, 'holds config.json, re'):
        folders.prepare(self.folder, CONFIG, overwrite=True)

  def test_damage_inside_results(self):
    """config.json has the SHA-256: HDF5, which may hang, does not see it."""
    self.write()
    honest = self.files()['results.nc']
    with mock.patch.object(netcdf, 'read') as load:
      for seed in range(1000):
        content = mutations.damaged(random.Random(seed), honest)
        (self.folder / 'results.nc').write_bytes(content)
        if content != honest:
          with self.assertRaisesRegex(records.RecordError, 'not the one that'):
            records.read(self.folder)
    load.assert_not_called()

  def test_without_a_digest(self):
    """Of a version that left none: read as it is."""
    self.write()
    records.write_config(self.folder, CONFIG)
    results, config = records.read(self.folder)
    xr.testing.assert_identical(results, make_results())
    self.assertEqual(config['experiment'], 'toy')


class EnvironmentTest(parameterized.TestCase):
  def test_versions(self):
    """Of what is imported; ossgd's is pyproject.toml's."""
    environment = records.environment()
    self.assertEqual(json.loads(json.dumps(environment)), environment)
    for module in (jax, jaxlib, np, ossgd):
      self.assertEqual(environment[module.__name__], module.__version__)
    self.assertEqual(environment['python'], platform.python_version())
    project = pathlib.Path(__file__).parents[2] / 'pyproject.toml'
    version = tomllib.loads(project.read_text())['project']['version']
    self.assertEqual(environment['ossgd'], version)

  def test_device_and_numbers(self):
    """As arrays, keys and matmuls made now show them."""
    environment = records.environment()
    (device,) = jnp.zeros(()).devices()
    self.assertIn(device.platform, environment['device'])
    self.assertIn(device.device_kind, environment['device'])
    self.assertEqual(environment['x64'], jnp.zeros(()).dtype == np.float64)
    for name in ('threefry2x32', 'rbg'):
      with jax.default_prng_impl(name):
        self.assertEqual(records.environment()['prng'], name)
        self.assertIn(name, str(jax.random.key_impl(jax.random.key(0))))
    for asked in (None, 'highest', 'bfloat16', 'tensorfloat32'):
      with jax.default_matmul_precision(asked):
        precision = records.environment()['matmul_precision']
        self.assertEqual(precision, asked or 'highest')
