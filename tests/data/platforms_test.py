"""Tests of data where array-record cannot be installed, as on Windows."""

import subprocess
import sys

import numpy as np

from ossgd.data import tfds_store
from tests import idx_files

# A process of its own: TFDS holds on to what it has imported.
SCRIPT = """
import pathlib, sys
sys.modules['array_record'] = None  # its import fails
import numpy as np
from unittest import mock
from ossgd.data import images, sources, tfds_store
from tests import idx_files, tfds_folders
folder, files = pathlib.Path(sys.argv[1]), idx_files.small_set()
with (
  mock.patch.object(sources, 'fetch', return_value=files) as fetch,
  mock.patch.object(sources, 'verify'),
):
  for _ in range(2):
    split = images.load('mnist', data_dir=folder, normalize=False)
print(fetch.call_count)
np.save(folder / 'labels.npy', split.train.y)
try:
  images.load('tfds:mnist:9.9.9', data_dir=sys.argv[2])
except ValueError as error:
  print(error)
"""


class WindowsTest(idx_files.Case):
  def test_without_array_record(self):
    """Fetched once and kept, in TFDS's order; what is in that form is told."""
    there = self.folder / 'elsewhere'
    tfds_store.prepare('mnist', there, self.files)
    elsewhere = there / 'mnist' / tfds_store.VERSION
    elsewhere.rename(elsewhere.with_name('9.9.9'))
    run = subprocess.run(
      [sys.executable, '-c', SCRIPT, self.folder, there],
      capture_output=True,
      text=True,
      check=False,
    )
    self.assertEqual(run.returncode, 0, run.stderr)
    fetched, told = run.stdout.splitlines()
    self.assertEqual(fetched, '1')
    self.assertRegex(told, 'ArrayRecord cannot be read on this platform')
    self.assertFalse((self.folder / 'mnist').exists())
    ordered = tfds_store.in_order(self.files)
    np.testing.assert_array_equal(
      np.load(self.folder / 'labels.npy'), ordered.y_train
    )
