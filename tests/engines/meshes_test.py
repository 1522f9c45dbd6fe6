"""Tests of meshes: on one device here, on eight in a process apart."""

import os
import pathlib
import subprocess
import sys

from absl.testing import parameterized

from ossgd.data import mixtures
from ossgd.engines import meshes
from ossgd.running import sweeps

ROOT = pathlib.Path(__file__).parents[2]


class MeshesTest(parameterized.TestCase):
  def test_eight_devices(self):
    """All of `eight_devices`, whose report is shown if it fails."""
    run = subprocess.run(
      [sys.executable, '-m', 'tests.eight_devices'],
      capture_output=True,
      text=True,
      cwd=ROOT,
      timeout=900,
      env=os.environ | {'JAX_PLATFORMS': 'cpu'},
    )
    self.assertEqual(run.returncode, 0, run.stderr)
    self.assertRegex(run.stderr, r'Ran [3-9]\d tests')

  def test_one_device(self):
    """Where there is no other, auto is none, and more are refused."""
    settings = dict(widths=(8,), num_seeds=2, seeds_at_once=None)
    self.assertIsNone(meshes.make('auto', **settings))
    self.assertEqual(meshes.text(None), 'seed:1,unit:1')
    with self.assertRaisesRegex(ValueError, 'needs 4 devices; there are 1'):
      sweeps.sweep(
        mixtures.gaussian(dim=8), widths=(8,), num_seeds=2, mesh='unit:4'
      )
