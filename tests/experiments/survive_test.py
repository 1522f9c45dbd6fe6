"""Runs that are killed, stopped, starved and damaged, on real processes."""

import contextlib
import os
import pathlib
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time

from absl.testing import absltest, parameterized

from tests import killing

ROOT = pathlib.Path(__file__).parents[2]


# A script that gets a signal after the first chunk, or as it begins to draw.
SIGNALLED = """
import os, signal, sys
from experiments import synthetic
from experiments.common import command
from ossgd.running import watching

_, name, where, *flags = sys.argv
told = []

def happen(here):
  if here == where and not told:
    told.append(here)
    os.kill(os.getpid(), signal.Signals[name])

def run(config, watch):
  def tell(fraction, label):
    watch.tell(fraction, label)
    happen('training')
  return synthetic.run(config, watching.Watch(tell, watch.store))

def figures(results):
  happen('figures')
  return synthetic.EXPERIMENT.figures(results)

script = synthetic.EXPERIMENT._replace(run=run, figures=figures)
command.main(script, ['synthetic', *flags])
"""


class SurviveTest(parameterized.TestCase):
  """One small sweep, run again and again in folders of its own."""

  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    root = cls.enterClassContext(tempfile.TemporaryDirectory())
    cls.root = pathlib.Path(root)
    cls.whole = cls.numbers(cls.root / 'whole')
    # With three of four jobs finished, to be damaged in several ways.
    cls.unfinished = cls.root / 'unfinished'
    with cls.interrupted(cls.unfinished, 3):
      pass

  def setUp(self):
    super().setUp()
    self.folder = self.root / self._testMethodName

  @classmethod
  def start(
    cls,
    folder: pathlib.Path,
    *flags: str,
    program: tuple[str, ...] = ('-m', 'experiments.synthetic'),
    **options,
  ) -> subprocess.Popen:
    """A process of the script."""
    return subprocess.Popen(
      [sys.executable, *program, *killing.SMALL, *flags, f'--out={folder}'],
      cwd=ROOT,
      env=os.environ | {'XDG_CACHE_HOME': str(cls.root / 'cache')},
      stdout=subprocess.PIPE,
      stderr=subprocess.PIPE,
      text=True,
      **options,
    )

  @staticmethod
  def ended(process: subprocess.Popen, status: int = 0) -> str:
    """What a process that ends with a status has on stderr."""
    out, err = process.communicate(timeout=120)
    assert process.returncode == status, err
    assert 'Traceback' not in err, err
    assert not (out and status), out  # the table comes last of all
    return err

  @classmethod
  def numbers(cls, folder: pathlib.Path, *flags: str) -> dict[str, bytes]:
    """Those that a run to the end has left, to the bit."""
    cls.ended(cls.start(folder, *flags))
    assert not (folder / 'checkpoints').exists()
    return killing.numbers(folder)

  @classmethod
  @contextlib.contextmanager
  def interrupted(cls, folder: pathlib.Path, jobs: int):
    """A process with so many jobs on disk, or one begun (0); killed then."""
    process = cls.start(folder)
    end = time.monotonic() + 60
    pattern = '*finished.*.npz' if jobs else '*begun.*.npz'
    try:
      while len(list(folder.glob(f'checkpoints/{pattern}'))) < max(jobs, 1):
        assert time.monotonic() < end, 'it saves nothing'
        time.sleep(0.002)
      yield process
    finally:
      process.kill()
      process.communicate()

  @parameterized.parameters(0, 1)
  def test_kill(self, jobs):
    """kill -9 in a chunk or between jobs; the lock does not stay."""
    with self.interrupted(self.folder, jobs):
      pass
    self.assertFalse((self.folder / 'config.json').exists())
    self.assertEqual(self.numbers(self.folder), self.whole)

  @parameterized.parameters(
    ('SIGTERM', 'training', 'm=32_seed=0_begun.*.npz'),
    ('SIGINT', 'training', 'm=32_seed=0_begun.*.npz'),
    ('SIGINT', 'figures', 'm=64_seed=1_finished.*.npz'),
  )
  def test_signal(self, name, where, saved):
    """The work is on disk; the exit says what stopped it and how to go on."""
    late = '--checkpoint_every=60'
    program = ('-c', SIGNALLED, name, where)
    process = self.start(self.folder, late, program=program)
    err = self.ended(process, 128 + signal.Signals[name])
    self.assertIn(f'stopped by {name}; to go on: python -m', err)
    self.assertIn(f'--out={self.folder}', err)
    self.assertLen(list((self.folder / 'checkpoints').glob(saved)), 1)
    self.assertEqual(self.numbers(self.folder, late), self.whole)

  def test_two_processes(self):
    """The second is refused while the first runs, and harms nothing."""
    with self.interrupted(self.folder, 0) as first:
      second = self.start(self.folder)
      _, err = second.communicate(timeout=60)
      if first.poll() is None:
        self.assertEqual(second.returncode, 2)
        self.assertIn('another process is at work', err)
    self.assertEqual(self.numbers(self.folder), self.whole)

  @parameterized.parameters('truncated', 'flipped', 'swapped')
  def test_damaged_checkpoint(self, how):
    """It is named and set aside, and its work done again."""
    shutil.copytree(self.unfinished, self.folder)
    first, second, *_ = sorted(
      (self.folder / 'checkpoints').glob('*finished.*.npz')
    )
    content = first.read_bytes()
    half = len(content) // 2
    if how == 'truncated':
      first.write_bytes(content[:half])
    elif how == 'flipped':  # 64 bytes, for one may be but padding
      middle = bytes(byte ^ 4 for byte in content[half : half + 64])
      first.write_bytes(content[:half] + middle + content[half + 64 :])
    else:
      shutil.copy(second, first)
    err = self.ended(self.start(self.folder))
    self.assertIn(str(first), err)
    self.assertIn('Set aside', err)
    self.assertEqual(killing.numbers(self.folder), self.whole)

  def test_damaged_results(self):
    """A complete folder of which one bit is not what was written."""
    shutil.copytree(self.root / 'whole', self.folder)
    path = self.folder / 'results.nc'
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)
    err = self.ended(self.start(self.folder))
    self.assertIn(f'{path}: it is damaged', err)
    self.assertTrue((self.folder / 'results.damaged').exists())
    self.assertEqual(killing.numbers(self.folder), self.whole)

  @parameterized.parameters((3000, 'm=32_seed=0_'), (12000, 'results.nc'))
  def test_full_disk(self, size, name):
    """No room for a file: an error that names it, and nothing is lost."""

    def no_room():
      resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
      signal.signal(signal.SIGXFSZ, signal.SIG_IGN)

    process = self.start(
      self.folder, stdin=subprocess.DEVNULL, preexec_fn=no_room
    )
    err = self.ended(process, 2)
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
