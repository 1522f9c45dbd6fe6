"""Tests of folders: folders are never mixed up, nor held twice."""

import errno
import fcntl
import logging
import os
import pathlib
import warnings
from unittest import mock

import numpy as np
from absl.testing import parameterized
from matplotlib.figure import Figure

from ossgd.running import jobs
from ossgd.storing import checkpoints, folders, records
from tests.storing import records_test
from tests.storing.records_test import CONFIG, SETTINGS

OTHER = CONFIG | {'experiment': 'other'}
JOB = jobs.Job(3, 0, 'plain', '{}')
UNIT = f'unit.{JOB.digest()}.npz'


def finish(folder: pathlib.Path) -> None:
  """A job, as far as its store in a folder knows."""
  checkpoints.Store(folder, 60.0).save('unit', JOB, {'w': np.zeros(2)})


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
    ('settings', {'num_seeds': 3}, 'widths', '[8, 32]', 'None'),
    ('environment', {'x64': True}, 'x64', 'None', 'true'),
    ('data', ['cd'], 'data', 'None', '["cd"]'),
    ('experiment', 'other', 'experiment', '"toy"', '"other"'),
  )
  def test_other_settings_are_refused(self, group, value, name, there, here):
    """The message names the setting, both values and both ways out."""
    self.write()
    before = self.files()
    config = CONFIG | {group: value}
    with self.assertRaises(records.RecordError) as caught:
      folders.prepare(self.folder, config, overwrite=False)
    message = str(caught.exception)
    self.assertIn(f'{name}: {there} there, {here} here', message)
    for part in (str(self.folder), 'another folder', 'or overwrite'):
      self.assertIn(part, message)
    with self.assertRaises(records.RecordError) as caught:
      folders.prepare(self.folder, config)
    self.assertNotIn('overwrite', str(caught.exception), 'nobody can')
    self.assertNotIn('num_seeds', message)  # the same in both
    self.assertFalse(folders.prepare(self.folder, config, overwrite=True))
    self.assertEqual(self.files(), before, 'prepare removes nothing')

  @parameterized.parameters(
    'report.md', 'curve.png', 'photo.png', 'checkpoints/model.pt', 'data/x'
  )
  def test_what_is_not_ours(self, name):
    """It is named, before any work and whatever the flags, and stays."""
    self.write(curve=Figure(figsize=(1, 1)))
    path = self.folder / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b'mine')
    with self.assertRaisesRegex(
      records.RecordError,
      f'holds {name.split("/x")[0]}, which.*an empty folder',
    ):
      folders.prepare(self.folder, OTHER, overwrite=True)
    self.assertTrue(folders.prepare(self.folder, CONFIG), 'may be shown')
    self.assertEqual(path.read_bytes(), b'mine')

  def test_what_is_nobodys(self):
    """Hidden files are the system's; what was set aside was ours."""
    self.write()
    inside = self.folder / 'checkpoints'
    inside.mkdir()
    others = [self.folder / '.DS_Store', self.folder / 'results.damaged']
    others.append(inside / '.mine.part')
    for path in others:
      path.touch()
    with folders.hold(self.folder):
      self.assertFalse(folders.prepare(self.folder, OTHER, overwrite=True))
      self.write(OTHER)
    for path in others:
      self.assertTrue(path.exists())

  def test_foreign_folder(self):
    """A folder of someone else's is refused at once; results.nc too."""
    self.folder.mkdir(parents=True)
    for name in ('results.nc', 'config.json'):
      (self.folder / name).write_text('{"hidden_size": 3}')
    for overwrite in (False, True):
      with self.assertRaises(records.RecordError):
        folders.prepare(self.folder, CONFIG, overwrite=overwrite)
    (self.folder / 'config.json').unlink()
    for overwrite in (False, True):
      with self.assertRaisesRegex(records.RecordError, 'holds results.nc, whi'):
        folders.prepare(self.folder, CONFIG, overwrite=overwrite)

  def test_killed_before_the_results(self):
    """Those of other settings are still there, and still ours."""
    self.write()
    others = records_test.make_results().assign_attrs(target=0.5)
    with folders.hold(self.folder):
      folders.prepare(self.folder, OTHER, overwrite=True)
      with (
        mock.patch.object(pathlib.Path, 'write_bytes', side_effect=SystemExit),
        self.assertRaises(SystemExit),
      ):
        records.write_results(self.folder, others)
    with folders.hold(self.folder):
      self.assertFalse(folders.prepare(self.folder, OTHER))
      self.write(OTHER)
      self.assertTrue(folders.prepare(self.folder, OTHER))

  def test_killed_after_the_results(self):
    """They are there, and so is what is ours, at any later moment."""
    figures = {'curve': Figure(figsize=(1, 1))}
    with folders.hold(self.folder):
      folders.prepare(self.folder, CONFIG)
      records.write_results(self.folder, records_test.make_results())
    steps = [
      lambda: None,
      lambda: records.write_figures(self.folder, figures),
      lambda: records.write_report(
        self.folder, CONFIG, report='well', seconds={}
      ),
    ]
    for step in steps:
      with folders.hold(self.folder):
        self.assertTrue(folders.prepare(self.folder, CONFIG))
        found, _ = records.read_measured(self.folder)
        self.assertEqual(found.sizes['seed'], 3)
        step()
    self.assertFalse((self.folder / 'checkpoints').exists())

  def test_figures_that_are_not_drawn_any_more(self):
    """Go with the results they were of; another's does not."""
    self.write(old=Figure(figsize=(1, 1)), kept=Figure(figsize=(1, 1)))
    with folders.hold(self.folder):
      folders.prepare(self.folder, OTHER, overwrite=True)
      self.write(OTHER, kept=Figure(figsize=(2, 1)))
    self.assertEqual(
      set(self.files()),
      {'results.nc', 'report.md', 'config.json', 'kept.png', '.lock'},
    )

  @parameterized.parameters(
    ('environment', {'jax': '0.0.2'}, 'jax: "0.0.1" there, "0.0.2" here'),
    ('code', 'ef', 'code: "ab" there, "ef" here'),
  )
  def test_other_versions_are_shown(self, group, value, message):
    """With what the results were made with, and how to make them again."""
    self.write(CONFIG | {'code': 'ab'})
    config = CONFIG | {'code': 'ab', group: value}
    for overwrite, words in ((None, r'\)$'), (False, 'overwrite it')):
      with self.assertLogs(level='INFO') as logs:
        done = folders.prepare(self.folder, config, overwrite=overwrite)
      self.assertTrue(done)
      self.assertRegex(logs.output[0], f'made with .*{message}.*{words}')
    self.assertFalse(folders.prepare(self.folder, config, overwrite=True))

  @parameterized.parameters(
    ({'jax': 'x' * 10**6}, 'made with other versions'),
    ({'jax': '\u2028' * 10**6}, 'made with other versions'),
    ({'x64': ['x'] * 10**6}, 'holds other results'),
    ({'\u2028' * 10**6: 1}, 'holds other results'),
    ({f'x{i}': i for i in range(10**5)}, 'and 99980 more'),
  )
  def test_what_others_wrote_is_cut(self, environment, part):
    """A config.json of megabytes is told of in a line that can be read."""
    self.write(CONFIG | {'environment': environment})
    with self.assertLogs(level='INFO') as logs:
      try:
        self.assertTrue(folders.prepare(self.folder, CONFIG))
      except records.RecordError as error:
        logging.info('%s', error)
    self.assertIn(part, logs.output[0])
    self.assertLess(len(logs.output[0]), 3000)
    self.assertTrue(logs.output[0].isprintable())

  def test_names_like_ours(self):
    """In checkpoints/: what does not say itself that it is ours stays."""
    theirs = self.folder / 'checkpoints' / f'my_weights.{"0" * 16}.npz'
    theirs.parent.mkdir(parents=True)
    np.savez(theirs, w=np.zeros(3))
    before = theirs.read_bytes()
    with folders.hold(self.folder):
      folders.prepare(self.folder, CONFIG)
      self.write()
    self.assertEqual(theirs.read_bytes(), before)

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
    self.assertRegex(str(caught.exception), f'write.*{path}: .+another folder')

  @parameterized.parameters('gs://bucket/run', 's3:/bucket')
  def test_address(self, name):
    """Of a bucket: Python would make a local folder of that name."""
    with (
      self.assertRaisesRegex(records.RecordError, f'{name[:4]}.*mount.*copy'),
      folders.hold(pathlib.Path(name)),
    ):
      self.fail('held')
    self.assertNotIn(pathlib.Path(name).parts[0], os.listdir())

  @parameterized.parameters(errno.ENOLCK, errno.EOPNOTSUPP)
  def test_no_locks(self, number):
    """The file system is at fault, and said to be."""
    error = OSError(number, os.strerror(number))
    with (
      mock.patch.object(fcntl, 'flock', side_effect=error),
      self.assertRaisesRegex(
        records.RecordError, f'file system.*{os.strerror(number)}.*local disk'
      ),
      folders.hold(self.folder),
    ):
      self.fail('held')

  def test_one_process_at_a_time(self):
    """The second is refused, also from within one process; then it may.

    Without flock a file says who holds it: perhaps no one any more.
    """
    missing = OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    with warnings.catch_warnings(action='ignore'):
      for flock in (mock.Mock(side_effect=missing), fcntl.flock):
        with mock.patch.object(fcntl, 'flock', flock):
          with (
            folders.hold(self.folder),
            self.assertRaisesRegex(
              records.RecordError,
              f'another process.*another folder.*remove {self.folder}/.lock',
            ),
            folders.hold(self.folder),
          ):
            self.fail('held twice')
          with folders.hold(self.folder):
            pass

  def test_unfinished_work(self):
    """Stays for the same settings and code, is refused or removed for others.

    A folder in which nothing was done is left as it was.
    """
    unit = self.folder / 'checkpoints' / UNIT
    with folders.hold(self.folder):
      self.assertFalse(folders.prepare(self.folder, CONFIG))
    self.assertFalse(unit.parent.exists())
    with folders.hold(self.folder):
      folders.prepare(self.folder, CONFIG)
      finish(unit.parent)
    for overwrite in (False, True):
      with folders.hold(self.folder):
        folders.prepare(self.folder, CONFIG, overwrite=overwrite)
        self.assertTrue(unit.exists())
    with (
      folders.hold(self.folder),
      self.assertRaisesRegex(
        records.RecordError, 'experiment: "toy" there, .*another folder'
      ),
    ):
      folders.prepare(self.folder, OTHER)
    with folders.hold(self.folder):
      folders.prepare(self.folder, OTHER, overwrite=True)
      self.assertFalse(unit.exists())

  def test_killed_while_it_wrote(self):
    """What is half written goes; other hidden files stay."""
    self.folder.mkdir(parents=True)
    halves = '.results.nc.7.part', '.figure1.png.7.part', '.config.json.7.part'
    for name in (*halves, '.thesis.tex.7.part', '.notes'):
      (self.folder / name).write_bytes(b'half')
    with folders.hold(self.folder):
      left = {path.name for path in self.folder.iterdir()}
    self.assertEqual(left, {'.lock', '.thesis.tex.7.part', '.notes'})

  def test_killed_before_anything_was_done(self):
    """Other settings are welcome: there is nothing to lose."""
    unfinished = self.folder / 'checkpoints'
    unfinished.mkdir(parents=True)
    records.write_config(unfinished, CONFIG)
    (unfinished / f'.{UNIT}.7.part').write_bytes(b'half')
    with folders.hold(self.folder):
      folders.prepare(self.folder, CONFIG | {'experiment': 'other'})
      self.assertEqual(
        [path.name for path in unfinished.iterdir()], ['config.json']
      )

  @parameterized.parameters(b'', b'{"settings": ', b'[1]', b'\xff')
  def test_damaged_config_of_unfinished_work(self, content):
    """Named and set aside; the jobs say themselves whose they are."""
    unfinished = self.folder / 'checkpoints'
    unfinished.mkdir(parents=True)
    finish(unfinished)
    path = unfinished / 'config.json'
    path.write_bytes(content)
    with self.assertLogs(level='WARNING') as logs:
      self.assertFalse(folders.prepare(self.folder, CONFIG))
    self.assertIn(f'cannot use {path}: ', logs.output[0])
    self.assertEqual((unfinished / 'config.damaged').read_bytes(), content)
    self.assertTrue((unfinished / UNIT).exists())
    self.assertEqual(records.read_config(unfinished)['experiment'], 'toy')

  def test_killed_while_checkpoints_are_removed(self):
    """The folder is complete, whatever is left of them."""
    unfinished = self.folder / 'checkpoints'
    unfinished.mkdir(parents=True)
    records.write_config(unfinished, CONFIG)
    finish(unfinished)
    with mock.patch.object(records, 'forget_unfinished'):
      self.write()
    (unfinished / 'config.json').unlink()
    self.assertTrue(folders.prepare(self.folder, CONFIG))
    self.assertFalse(unfinished.exists())
