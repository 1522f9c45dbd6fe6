"""Runs that are killed, stopped, starved and damaged, on real processes."""

import contextlib
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import time

from absl.testing import absltest

from tests import killing

ROOT = pathlib.Path(__file__).parents[2]


class SurviveTest(absltest.TestCase):
  """One small sweep, run again and again in folders of its own."""

  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    root = cls.enterClassContext(tempfile.TemporaryDirectory())
    cls.root = pathlib.Path(root)
    # As a person runs it: the others are forked, and draw nothing.
    whole = cls.root / 'whole'
    run = subprocess.run(
      [
        *(sys.executable, '-m', 'experiments.synthetic'),
        *(*killing.SMALL, f'--out={whole}'),
      ],
      cwd=ROOT,
      capture_output=True,
      text=True,
      check=False,
    )
    assert run.returncode == 0, run.stderr
    cls.whole = killing.numbers(whole)
    # With three of four jobs finished, to be damaged in several ways.
    cls.unfinished = cls.root / 'unfinished'
    with cls.interrupted(cls.unfinished, 3):
      pass

  def setUp(self):
    super().setUp()
    self.folder = self.root / self._testMethodName

  @classmethod
  def ended(
    cls, folder: pathlib.Path, *flags: str, status: int = 0, **hindered
  ) -> str:
    """What a process that ends with a status has said on stderr."""
    process = killing.start(folder, *flags, **hindered)
    process.join(killing.PATIENCE)
    out, err = (
      folder.with_suffix(suffix).read_text() for suffix in ('.out', '.err')
    )
    assert process.exitcode == status, err
    assert 'Traceback' not in err, err
    assert not (out and status), out  # the table comes last of all
    return err

  @classmethod
  def numbers(cls, folder: pathlib.Path, *flags: str) -> dict[str, bytes]:
    """Those that a run to the end has left, to the bit."""
    cls.ended(folder, *flags)
    assert not (folder / 'checkpoints').exists()
    return killing.numbers(folder)

  @classmethod
  @contextlib.contextmanager
  def interrupted(cls, folder: pathlib.Path, jobs: int):
    """A process stopped with so many jobs on disk, or one begun (0).

    It is killed in the end.
    """
    process = killing.start(folder)
    end = time.monotonic() + 60
    pattern = '*finished.*.npz' if jobs else '*begun.*.npz'
    try:
      while len(list(folder.glob(f'checkpoints/{pattern}'))) < max(jobs, 1):
        assert time.monotonic() < end, 'it saves nothing'
        time.sleep(0.002)
      os.kill(process.pid, signal.SIGSTOP)
      yield process
    finally:
      process.kill()
      process.join()

  def test_kill(self):
    """kill -9 in a chunk, then between jobs; the lock does not stay.

    While the first one lives a second one is refused, and harms nothing.
    """
    with self.interrupted(self.folder, 0):
      second = killing.start(self.folder)
      second.join(killing.PATIENCE)
      self.assertEqual(second.exitcode, 2)
      err = self.folder.with_suffix('.err').read_text()
      self.assertIn('another process is at work', err)
    with self.interrupted(self.folder, 1):
      pass
    self.assertFalse((self.folder / 'config.json').exists())
    self.assertEqual(self.numbers(self.folder), self.whole)

  def test_signals(self):
    """The work is on disk; the exit says what stopped it and how to go on."""
    late = '--checkpoint_every=60'
    for name, when, saved in (
      ('SIGTERM', 'm=32 seed=0', 'm=32_seed=0_begun.*.npz'),
      ('SIGINT', 'm=64 seed=0', 'm=64_seed=0_begun.*.npz'),
      ('SIGINT', 'figures', 'm=64_seed=1_finished.*.npz'),
    ):
      status = 128 + signal.Signals[name]
      err = self.ended(self.folder, late, status=status, signalled=(name, when))
      self.assertIn(f'stopped by {name}; to go on: python -m', err)
      self.assertIn(f'--out={self.folder}', err)
      self.assertLen(list((self.folder / 'checkpoints').glob(saved)), 1)
    self.assertEqual(self.numbers(self.folder, late), self.whole)

  def test_damaged_checkpoints(self):
    """Each is named and set aside, and its work done again."""
    shutil.copytree(self.unfinished, self.folder)
    truncated, flipped, swapped, *_ = sorted(
      (self.folder / 'checkpoints').glob('*finished.*.npz')
    )
    shutil.copy(flipped, swapped)
    content = truncated.read_bytes()
    truncated.write_bytes(content[: len(content) // 2])
    content = flipped.read_bytes()
    half = len(content) // 2  # 64 bytes, for one may be but padding
    middle = bytes(byte ^ 4 for byte in content[half : half + 64])
    flipped.write_bytes(content[:half] + middle + content[half + 64 :])
    err = self.ended(self.folder)
    for path in (truncated, flipped, swapped):
      self.assertIn(f'cannot use {path}', err)
    self.assertEqual(err.count('Set aside'), 3)
    self.assertEqual(killing.numbers(self.folder), self.whole)

  def test_damaged_results(self):
    """A complete folder of which one bit is not what was written."""
    shutil.copytree(self.root / 'whole', self.folder)
    path = self.folder / 'results.nc'
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)
    err = self.ended(self.folder)
    self.assertIn(f'{path}: it is damaged', err)
    self.assertTrue((self.folder / 'results.damaged').exists())
    self.assertEqual(killing.numbers(self.folder), self.whole)

  def test_full_disk(self):
    """No room for a file: an error that names it, and nothing is lost."""
    for size, name in ((3000, 'm=32_seed=0_'), (12000, 'results.nc')):
      err = self.ended(self.folder, status=2, largest_file=size)
      self.assertRegex(err, rf'error: cannot write .*{name}.*: File too large')
    self.assertEqual(self.numbers(self.folder), self.whole)

  def test_killed_at_random(self):
    """A few of those that this file does with --trials, run as a module."""
    root = self.root / 'trials'
    root.mkdir()
    killing.Trials(root).trial(0)


if __name__ == '__main__':
  if len(sys.argv) == 2 and sys.argv[1].startswith('--trials='):
    with tempfile.TemporaryDirectory() as folder:
      number = int(sys.argv[1].partition('=')[2])
      killing.main(number, pathlib.Path(folder))
  else:
    absltest.main()
