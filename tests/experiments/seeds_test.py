"""Tests of seeds and of what scripts keep when they are killed."""

import dataclasses
import pathlib
import tempfile
from unittest import mock

import numpy as np
import xarray as xr
from absl.testing import parameterized

from experiments import (
  components,
  convergence,
  coupling,
  gradient_norm,
  kernel,
  precision,
  processes,
  separability,
  theorem,
  variance,
)
from experiments.common import training
from ossgd.running import watching
from ossgd.storing import checkpoints

SEED_BY_SEED = (
  convergence,
  coupling,
  gradient_norm,
  kernel,
  precision,
  processes,
)
TINY = {
  coupling: coupling.Config(
    widths=(8,), num_seeds=2, dim=20, num_steps=2, batch_size=2, num_test=3
  ),
  kernel: kernel.Config(
    widths=(8,), num_seeds=2, dim=20, num_steps=4, num_train=20, num_test=3
  ),
  separability: separability.Config(
    widths=(8,), num_seeds=2, num_train=20, num_test=20
  ),
}


def no_sweep(config, data, progress, **others):
  """In place of `training.sweep`, whose jobs are tested elsewhere."""
  del data, others
  progress(0.5, '')
  seeds = np.arange(config.num_seeds)
  return xr.Dataset(coords={'width': list(config.widths), 'seed': seeds})


BAD = (
  ('unit:3, which does not divide .*; expected unit to', {'mesh': 'unit:3'}),
  ('mesh has seed:5.* one of 1$', {'mesh': 'seed:5'}),
  ('num_seeds: 0; expected positive', {'num_seeds': 0}),
  ('num_seeds 1000000000.* GB', {'num_seeds': 10**9}),
  ('seed is 4294967296 .*expected seeds', {'seed': 2**32}),
  ('seed is -1 .*expected seeds', {'seed': -1}),
  ('widths: .*-8.*; expected positive', {'widths': (-8,)}),
  ('all different|expected one width', {'widths': (8, 8)}),
  ('at least one|expected one width', {'widths': ()}),
)


IMPOSSIBLE = {
  (convergence, coupling, gradient_norm): [
    ('0 < separation <= 2', {'separation': 3.0}),
    ('num_components', {'num_components': 0}),
    ('num_classes', {'num_classes': 1}),
  ],
  (kernel, precision, processes): [
    ('num_classes', {'num_classes': 1}),
    ('dim', {'dim': 0}),
  ],
  (variance,): [('noise_scale', {'noise_scale': (1.0, -1.0)})],
  (components,): [('num_components', {'num_components': (2, 0)})],
}


class SettingsTest(parameterized.TestCase):
  @parameterized.parameters(
    (theorem, *BAD[0]),
    *((script, *bad) for script in SEED_BY_SEED for bad in BAD),
    *(
      (script, *bad)
      for scripts, several in IMPOSSIBLE.items()
      for script in scripts
      for bad in several
    ),
  )
  def test_bad_setting(self, script, message, settings):
    """Refused before any work."""
    config = dataclasses.replace(script.Config(widths=(8,)), **settings)
    with self.assertRaisesRegex(ValueError, message):
      script.run(config, lambda *told: self.fail(told))


class KilledTest(parameterized.TestCase):
  @parameterized.parameters((coupling, 4), (kernel, 2), (separability, 6))
  @mock.patch.object(training, 'sweep', no_sweep)
  def test_goes_on(self, script, number):
    """What is finished is not done again, and the numbers are the same."""
    config = TINY[script]
    whole = script.run(config)
    folder = pathlib.Path(self.enter_context(tempfile.TemporaryDirectory()))

    def files():
      return {path: path.stat().st_mtime_ns for path in folder.iterdir()}

    def stop_soon(fraction, label):
      del label
      if fraction > 0.4:
        store.stopping = 'SIGTERM'

    store = checkpoints.Store(folder, 60.0)
    with self.assertRaises(watching.Stopped):
      script.run(config, watching.Watch(stop_soon, store))
    finished = files()
    store = checkpoints.Store(folder, 60.0)
    again = script.run(config, watching.Watch(lambda *told: None, store))
    xr.testing.assert_identical(again, whole)
    self.assertContainsSubset(finished.items(), files().items())
    self.assertBetween(len(finished), 1, number - 1)
    self.assertLen(files(), number)


class IdentityTest(parameterized.TestCase):
  def test_known_by_settings_not_by_grouping(self):
    """More widths and seeds add jobs; another setting makes all of them new."""
    folder = pathlib.Path(self.enter_context(tempfile.TemporaryDirectory()))
    config = TINY[coupling]

    def run(**settings):
      store = checkpoints.Store(folder, 60.0)
      watch = watching.Watch(lambda *told: None, store)
      changed = dataclasses.replace(config, **settings)
      xr.testing.assert_identical(
        coupling.run(changed, watch), coupling.run(changed)
      )
      return {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}

    first = run()
    more = run(widths=(16, 8), num_seeds=3, seed=0)
    self.assertContainsSubset(first.items(), more.items())
    self.assertGreater(len(more), len(first))
    other = run(lr_times_width=2 * config.lr_times_width)
    self.assertContainsSubset(more.items(), other.items())
    self.assertLen(other, len(more) + len(first))
