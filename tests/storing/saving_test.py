"""Tests of saving: what a session leaves, and has again."""

import pathlib
import tempfile
from unittest import mock

import xarray as xr
from absl.testing import parameterized

import ossgd
from ossgd.data import mixtures
from ossgd.machine import sources
from ossgd.running import sweeps, watching
from ossgd.storing import checkpoints, records
from tests.storing import records_test


class SavingTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    root = self.enter_context(tempfile.TemporaryDirectory())
    self.folder = pathlib.Path(root, 'mine')
    self.results = records_test.make_results()

  def test_there_and_back(self):
    """With all that a script leaves but figures; again is no error."""
    for _ in range(2):
      ossgd.save(self.results, self.folder)
      xr.testing.assert_identical(ossgd.load(self.folder), self.results)
    config = records.read_config(self.folder)
    self.assertEqual(config['settings']['target'], 0.98)
    self.assertEqual(config['settings']['seed'], [4, 5, 6])
    self.assertIn('jax', config['environment'])
    names = {path.name for path in self.folder.iterdir()}
    self.assertEqual(
      names - {'.lock'}, {'results.nc', 'config.json', 'report.md'}
    )

  def test_other_results(self):
    """They are refused, and replaced only when asked."""
    ossgd.save(self.results, self.folder)
    other = self.results.assign_attrs(target=0.5)
    with self.assertRaisesRegex(records.RecordError, r'target: 0\.98 there'):
      ossgd.save(other, self.folder)
    moved = other.test_accuracy + 0.1
    with self.assertRaisesRegex(records.RecordError, 'digests.test_accuracy'):
      ossgd.save(self.results.assign(test_accuracy=moved), self.folder)
    ossgd.save(other, self.folder, overwrite=True)
    xr.testing.assert_identical(ossgd.load(self.folder), other)

  def test_not_ours(self):
    """A folder with a file of the user's is left as it is."""
    self.folder.mkdir()
    (self.folder / 'thesis.tex').write_text('x')
    with self.assertRaisesRegex(records.RecordError, 'thesis.tex'):
      ossgd.save(self.results, self.folder)
    with self.assertRaises(records.RecordError):
      ossgd.load(self.folder)

  @parameterized.parameters(('nothing', 'not there'), ('results.nc', 'a file'))
  def test_no_folder(self, name, what):
    """Nothing is to be moved away."""
    ossgd.save(self.results, self.folder)
    for read in (ossgd.load, lambda path: ossgd.merge([path])):
      with self.assertRaisesRegex(
        records.RecordError, f'{name} is {what}; expected a run folder'
      ):
        read(self.folder / name)

  def test_unfinished_work_of_other_sources(self):
    """What was made before an edit is not shown among what came after."""
    unfinished = self.folder / records.CHECKPOINTS
    unfinished.mkdir(parents=True)
    records.write_config(unfinished, {'experiment': 'toy', 'settings': {}})
    spec = mixtures.gaussian(num_classes=2, num_components=1, dim=5)
    small = dict(widths=(4,), num_steps=2, num_train=16, num_test=8)
    for code, seeds in (('old', 3), ('new', 1)):
      store = checkpoints.Store(unfinished, 1e9)
      with mock.patch.object(sources, 'code', return_value=code):
        sweeps.sweep(
          spec,
          **small,
          num_seeds=seeds,
          progress=watching.Watch(lambda *_: None, store),
        )
      found = ossgd.load(self.folder)
      self.assertEqual(found.unfinished, f'{seeds} runs are finished')
