"""Folders that sweeps grow in: whose they are, and what is read of them."""

import functools
import inspect
from unittest import mock

import numpy as np
import optax
import xarray as xr
from absl.testing import parameterized

import ossgd
from ossgd.data import mixtures
from ossgd.machine import files, lanes
from ossgd.running import sweeps, watching
from ossgd.storing import checkpoints, folders, records
from tests.storing.growing_test import (
  SMALL,
  SPEC,
  Case,
)

SWEEP = sweeps.sweep


class FolderTest(Case):
  @parameterized.parameters(
    (dict(lr_times_width=5.0), 'lr_times_width: 10.0 there, 5.0 here'),
    (dict(optimizer=optax.adam), 'settings.optimizer: .*optax.*adam'),
    (
      dict(data=mixtures.gaussian(num_classes=3, dim=13)),
      'settings.data.dim: 12 there',
    ),
    (dict(extra=lambda *_: {}), 'settings.extra: null there'),
  )
  def test_other_settings(self, change, message):
    """They are refused before any work, and nothing there is touched."""
    with mock.patch.object(sweeps, 'sweep', self.results):
      self.sweep()
    before = self.files()
    with self.assertRaisesRegex(
      records.RecordError, f'{message}.*give another folder$'
    ):
      self.sweep(**change)
    self.assertEqual(self.files(), before)

  def test_sizes_of_data_of_ones_own(self):
    """They are as large as they are: what is not used makes no difference."""
    x = np.random.default_rng(0).normal(size=(30, 5))
    data = x[:20], np.arange(20) % 2, x[20:], np.arange(10) % 2
    first = self.sweep(data, num_train=7)
    self.assert_same(self.sweep(data, num_train=9), first)
    self.assertEqual(self.chunks, 0)
    settings = records.read_config(self.folder)['settings']
    self.assertNotIn('num_train', settings)

  def results(self, *_, **settings):
    """Of a sweep that was made earlier."""
    return sweep_of_two()

  def files(self):
    return {
      str(path.relative_to(self.folder)): files.sha256(path)
      for path in self.folder.rglob('*')
      if path.is_file() and path.name != '.lock'
    }

  def test_of_the_user(self):
    """What is not ours is neither touched nor mixed with."""
    self.folder.mkdir()
    (self.folder / 'thesis.tex').write_text('x')
    with self.assertRaisesRegex(
      records.RecordError, 'thesis.tex.*an empty folder$'
    ):
      self.sweep()
    self.assertEqual([*self.files()], ['thesis.tex'])
    (self.folder / 'thesis.tex').unlink()
    with mock.patch.object(sweeps, 'sweep', self.results):
      self.sweep()
      (self.folder / 'thesis.tex').write_text('x')
      with self.assertRaisesRegex(records.RecordError, 'thesis.tex'):
        self.sweep(num_seeds=3)
    self.assertIn('thesis.tex', self.files())

  def test_saved_by_hand(self):
    """Results that `save` left are not grown from, nor replaced."""
    ossgd.save(sweep_of_two(), self.folder)
    before = self.files()
    with self.assertRaisesRegex(records.RecordError, 'other results'):
      self.sweep()
    self.assertEqual(self.files(), before)

  def test_other_sources(self):
    """Shown; but what grows would be of both."""
    with mock.patch.object(sweeps, 'sweep', self.results):
      self.sweep()
      path = self.folder / 'config.json'
      path.write_text(path.read_text().replace('"code": "', '"code": "0'))
      before = self.files()
      self.assert_same(self.sweep(), sweep_of_two())
      with self.assertRaisesRegex(
        records.RecordError, r'\(code differs\).*another folder'
      ):
        self.sweep(num_seeds=3)
    self.assertEqual(
      {n for n, digest in self.files().items() if digest != before.get(n)},
      set(),
    )

  def test_two_at_once(self):
    """The second one is refused; what is finished can be read meanwhile."""

    def look(fraction, label):
      if label == 'm=8 seed=1':
        with self.assertRaisesRegex(records.RecordError, 'another process'):
          ossgd.sweep(SPEC, folder=self.folder, **SMALL)
        seen.append(ossgd.load(self.folder))

    seen = []
    with self.assertRaises(records.RecordError):
      ossgd.load(self.folder)
    with mock.patch.object(lanes, 'number', return_value=1):
      found = self.sweep(progress=look)
    self.assertNotEmpty(seen)
    for part in seen:
      self.assertEqual(part.attrs.pop('unfinished'), '1 of 2 runs are finished')
      self.assert_same(part, found.sel(seed=[0]))
    self.assertNotIn('unfinished', ossgd.load(self.folder).attrs)

  def test_another_target_in_progress(self):
    """What was finished for an earlier target is told of today's."""
    self.sweep(target=0.99)
    seen = []

    def look(fraction, label):
      if label == 'm=8 seed=2' and not seen:
        seen.append(ossgd.load(self.folder))

    with mock.patch.object(lanes, 'number', return_value=1):
      found = self.sweep(target=0.4, num_seeds=3, progress=look)
    (part,) = seen
    self.assertEqual(part.attrs.pop('unfinished'), '2 of 3 runs are finished')
    self.assert_same(part, found.sel(seed=[0, 1]))

  def test_merged_while_one_has_not_begun(self):
    """Unfinished folders count as far as they are; an empty one is named."""
    above = self.folder.parent / 'array'
    merged = []

    def look(fraction, label):
      if label == 'm=8 seed=3':
        with self.assertLogs(level='WARNING') as logs:
          merged.append(ossgd.merge(above))
        self.assertIn('2 is left out', logs.output[0])

    ossgd.sweep(SPEC, folder=above / '0', **SMALL)
    (above / '2').mkdir()
    folders.prepare(above / '2', {'experiment': 'toy', 'settings': {}})
    with mock.patch.object(lanes, 'number', return_value=1):
      ossgd.sweep(
        SPEC, folder=above / '1', **SMALL | dict(seed=2), progress=look
      )
    self.assertEqual(merged[-1].seed.values.tolist(), [0, 1, 2])

  def test_script_in_progress(self):
    """What is finished of a folder that a script works in, part by part."""
    checkpoints_of = self.folder / 'checkpoints'
    self.folder.mkdir()
    folders.prepare(self.folder, {'experiment': 'toy', 'settings': {}})
    store = checkpoints.Store(checkpoints_of, 60.0)
    parts = watching.Watch(lambda *told: None, store).parts(
      [('noise=1', 1), ('noise=2', 1)]
    )
    found = [
      sweeps.sweep(SPEC, progress=part, **SMALL | settings)
      for part, settings in zip(parts, ({}, dict(num_seeds=1)), strict=True)
    ]
    loaded = ossgd.load(self.folder)
    self.assertEqual(loaded.attrs.pop('unfinished'), '3 runs are finished')
    self.assertEqual(loaded.part.values.tolist(), ['noise=1', 'noise=2'])
    for one, whole in zip(loaded.part.values, found, strict=True):
      part = loaded.sel(part=one, seed=whole.seed).drop_vars('part')
      self.assert_same(part, whole)
    missing = loaded.test_loss.sel(part='noise=2', seed=1)
    self.assertTrue(missing.isnull().all())

  def test_wrong_settings(self):
    """They leave a complete folder complete."""
    with mock.patch.object(sweeps, 'sweep', self.results):
      found = self.sweep()
    for wrong in (dict(widths=(8, 8)), dict(num_steps=10, num_seeds=10**9)):
      with self.assertRaises(ValueError):
        self.sweep(**wrong)
    self.assert_same(ossgd.load(self.folder), found)
    with self.assertRaisesRegex(TypeError, 'widths'):
      ossgd.sweep(SPEC, folder=self.folder)

  def test_documented(self):
    """Arguments and words of both."""
    names = inspect.signature(ossgd.sweep).parameters
    theirs = inspect.signature(sweeps.sweep).parameters
    self.assertEqual([*names], [*theirs, 'folder', 'keep_states'])
    words = inspect.getdoc(ossgd.sweep)
    for name in list(names)[1:]:
      self.assertRegex(words, rf'(?m)^  {name}: ')
    self.assertIn('\n\nReturns:\n', words)


@functools.cache
def sweep_of_two() -> xr.Dataset:
  return SWEEP(SPEC, **SMALL)
