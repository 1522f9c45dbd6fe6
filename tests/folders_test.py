"""Tests of ossgd.folders: folders are never mixed up, nor held twice."""

import shutil
import types
from unittest import mock

from absl.testing import absltest, parameterized

from ossgd import folders, records
from tests import records_test
from tests.records_test import CONFIG, SETTINGS


class PrepareTest(records_test.Case):
  def test_fresh_folder(self):
    """Made with its parents, and empty of what the test of it wrote."""
    with folders.hold(self.folder):
      self.assertFalse(folders.prepare(self.folder, CONFIG))
    self.assertEqual(self.files(), {'.lock': b''})

  def test_same_settings_are_done(self):
    """Tuples are lists in JSON: they must not count as a difference."""
    self.write()
    self.assertTrue(folders.prepare(self.folder, CONFIG))
    self.assertFalse(folders.prepare(self.folder, CONFIG, overwrite=True))

  @parameterized.parameters(
    ('settings', {**SETTINGS, 'widths': (8,)}, 'widths', '[8, 32]', '[8]'),
    ('settings', {**SETTINGS, 'order': 'q'}, 'order', '"epochs"', '"q"'),
    ('settings', {**SETTINGS, 'extra': 1}, 'extra', 'None', '1'),
    ('environment', {'jax': '0.0.2'}, 'jax', '"0.0.1"', '"0.0.2"'),
    ('experiment', 'other', 'experiment', '"toy"', '"other"'),
  )
  def test_other_settings_are_refused(self, group, value, name, there, here):
    """The message names the setting, both values and both ways out."""
    self.write()
    before = self.files()
    config = CONFIG | {group: value}
    with self.assertRaises(records.RecordError) as caught:
      folders.prepare(self.folder, config)
    message = str(caught.exception)
    self.assertIn(f'{name}: {there} there, {here} here', message)
    for part in (str(self.folder), '--out', '--overwrite'):
      self.assertIn(part, message)
    self.assertNotIn('num_seeds', message)  # the same in both
    self.assertFalse(folders.prepare(self.folder, config, overwrite=True))
    self.assertEqual(self.files(), before, 'prepare removes nothing')

  def test_missing_setting_is_a_difference(self):
    """Results of a version that had one setting more are other results."""
    self.write({**CONFIG, 'settings': {**SETTINGS, 'extra': 1}})
    with self.assertRaisesRegex(records.RecordError, 'extra: 1 there'):
      folders.prepare(self.folder, CONFIG)

  def test_results_without_config(self):
    """What an interrupted run left is not silently replaced."""
    self.write()
    (self.folder / 'config.json').unlink()
    with self.assertRaisesRegex(
      records.RecordError, 'results.nc.*interrupted.*--out.*--overwrite'
    ):
      folders.prepare(self.folder, CONFIG)
    self.assertFalse(folders.prepare(self.folder, CONFIG, overwrite=True))

  def test_config_without_results(self):
    """With results.nc deleted there is nothing to reuse: run again."""
    self.write()
    (self.folder / 'results.nc').unlink()
    self.assertFalse(folders.prepare(self.folder, CONFIG))

  @parameterized.parameters('file', 'file/below', '/proc', '/proc/below')
  def test_unwritable(self, name):
    """Found before hours of training; root may not be stopped by chmod."""
    self.folder.mkdir(parents=True)
    (self.folder / 'file').touch()
    path = self.folder / name
    with self.assertRaises(records.RecordError) as caught, folders.hold(path):
      self.fail('held')
    self.assertRegex(str(caught.exception), f'write.*{path}: .+--out')

  def test_one_process_at_a_time(self):
    """The second is refused, also from within one process; then it may."""
    with (
      folders.hold(self.folder),
      self.assertRaisesRegex(records.RecordError, 'another process.*--out'),
      folders.hold(self.folder),
    ):
      self.fail('held twice')
    with folders.hold(self.folder):
      pass

  def test_unfinished_work(self):
    """Stays for the same settings and code, is refused or removed for others.

    A folder in which nothing was done is left as it was.
    """
    unit = self.folder / 'checkpoints' / 'unit.npz'
    other = CONFIG | {'experiment': 'other'}
    with folders.hold(self.folder):
      self.assertFalse(folders.prepare(self.folder, CONFIG))
    self.assertFalse(unit.parent.exists())
    with folders.hold(self.folder):
      folders.prepare(self.folder, CONFIG)
      unit.touch()
    for overwrite in (False, True):
      with folders.hold(self.folder):
        folders.prepare(self.folder, CONFIG, overwrite=overwrite)
        self.assertTrue(unit.exists())
    with (
      folders.hold(self.folder),
      self.assertRaisesRegex(
        records.RecordError, 'experiment: "toy" there, .*--overwrite'
      ),
    ):
      folders.prepare(self.folder, other)
    with folders.hold(self.folder):
      folders.prepare(self.folder, other, overwrite=True)
      self.assertFalse(unit.exists())

  def test_killed_before_anything_was_done(self):
    """Other settings are welcome: there is nothing to lose."""
    unfinished = self.folder / 'checkpoints'
    unfinished.mkdir(parents=True)
    records.write_config(unfinished, CONFIG)
    (unfinished / '.unit.npz.part').write_bytes(b'half')
    with folders.hold(self.folder):
      folders.prepare(self.folder, CONFIG | {'experiment': 'other'})
      self.assertEqual(
        [path.name for path in unfinished.iterdir()], ['config.json']
      )

  @parameterized.parameters(b'', b'{"settings": ', b'[1]', b'\xff')
  def test_damaged_config_of_unfinished_work(self, content):
    """Named and set aside; the units say themselves whose they are."""
    unfinished = self.folder / 'checkpoints'
    unfinished.mkdir(parents=True)
    (unfinished / 'unit.npz').touch()
    path = unfinished / 'config.json'
    path.write_bytes(content)
    with self.assertLogs(level='WARNING') as logs:
      self.assertFalse(folders.prepare(self.folder, CONFIG))
    self.assertIn(f'cannot use {path}: ', logs.output[0])
    self.assertEqual((unfinished / 'config.damaged').read_bytes(), content)
    self.assertTrue((unfinished / 'unit.npz').exists())
    self.assertEqual(records.read_config(unfinished)['experiment'], 'toy')

  def test_killed_while_checkpoints_are_removed(self):
    """The folder is complete, whatever is left of them."""
    unfinished = self.folder / 'checkpoints'
    unfinished.mkdir(parents=True)
    records.write_config(unfinished, CONFIG)
    (unfinished / 'unit.npz').touch()
    with mock.patch.object(shutil, 'rmtree'):
      self.write()
    self.assertTrue(folders.prepare(self.folder, CONFIG))
    self.assertFalse(unfinished.exists())

  def test_code_digest(self):
    """Any source that changes, comes or goes is another code."""
    package = types.ModuleType('package')
    package.__path__ = [str(self.folder)]
    self.folder.mkdir(parents=True)
    digests = set()
    for name, text in (('a', 'x'), ('a', 'y'), ('b', 'y'), ('notes.txt', '')):
      path = self.folder / (name if '.' in name else f'{name}.py')
      path.write_text(text)
      digests.add(folders.code_digest(package))
    self.assertLen(digests, 3)
    self.assertNotEqual(
      folders.code_digest(package), folders.code_digest(package, package)
    )


if __name__ == '__main__':
  absltest.main()
