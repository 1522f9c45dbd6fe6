"""Tests of writing where files are not as Linux has them.

Windows is played: what its calls refuse is refused here.
"""

import errno
import fcntl
import os
import pathlib
import tempfile
import time
from unittest import mock

from absl.testing import parameterized

from ossgd.machine import files


def commit(number: int) -> None:
  """`os.fsync` of Windows, which needs a file that may be written."""
  mode = fcntl.fcntl(number, fcntl.F_GETFL) & os.O_ACCMODE
  if mode == os.O_RDONLY:
    raise OSError(errno.EBADF, 'Bad file descriptor')


class Scanner:
  """`Path.replace` of Windows while another program has the file open."""

  def __init__(self, tries: int):
    self.left, self.asked = tries, 0
    self._replace = pathlib.Path.replace

  def __call__(self, path: pathlib.Path, target: pathlib.Path) -> None:
    self.asked += 1
    if self.left > 0:
      self.left -= 1
      raise PermissionError(errno.EACCES, 'Access is denied')
    self._replace(path, target)


class WindowsTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    self.folder = pathlib.Path(
      self.enter_context(tempfile.TemporaryDirectory())
    )
    self.path = self.folder / 'results.nc'
    self.path.write_text('old')
    self.enter_context(mock.patch.object(time, 'sleep'))

  def scanned(self, scanner: Scanner):
    def replace(path, target):
      scanner(path, target)

    return mock.patch.object(pathlib.Path, 'replace', replace)

  def write(self, scanner: Scanner) -> None:
    with self.scanned(scanner), files.replacing(self.path) as temporary:
      temporary.write_text('new')

  def on_windows(self, windows: bool) -> None:
    self.enter_context(mock.patch.object(files, '_WINDOWS', windows))

  def test_a_file_is_on_disk_before_its_name(self):
    """Also where a folder cannot be synced, and a file that is only read."""
    with mock.patch.object(os, 'fsync', side_effect=commit) as synced:
      self.write(Scanner(0))
    self.assertEqual(self.path.read_text(), 'new')
    self.assertEqual(synced.call_count, 2)

  def test_a_scanner_is_waited_for(self):
    """It has what was just written for a moment."""
    self.on_windows(True)
    self.write(Scanner(3))
    self.assertEqual(self.path.read_text(), 'new')
    with self.scanned(Scanner(3)):
      files.set_aside(self.path, 'it is damaged')
    self.assertEqual((self.folder / 'results.damaged').read_text(), 'new')

  @parameterized.parameters(
    (True, 4, 'close the programs'), (False, 1, 'denied$')
  )
  def test_a_file_that_stays_open(self, windows, tries, words):
    """Said at once elsewhere; the old file stands, and no other is left."""
    self.on_windows(windows)
    scanner = Scanner(9)
    with self.assertRaisesRegex(files.SaveError, words):
      self.write(scanner)
    self.assertEqual(scanner.asked, tries)
    self.assertEqual(self.path.read_text(), 'old')
    self.assertEqual([*self.folder.iterdir()], [self.path])
