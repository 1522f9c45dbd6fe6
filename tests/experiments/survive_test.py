"""Runs that are killed, stopped, starved and damaged, on real processes."""

import contextlib
import json
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


class Runs:
  """One small sweep, run again and again in folders of its own."""

  def __init__(self, root: pathlib.Path):
    self.root = root
    self.whole = self.finish(root / 'whole')

  def start(
    self,
    folder: pathlib.Path,
    *flags: str,
    program: tuple[str, ...] = ('-m', 'experiments.synthetic'),
    **options,
  ):
    """A process of the script."""
    return subprocess.Popen(
      [
        sys.executable,
        *program,
        *killing.SMALL,
        *flags,
        f'--out={folder}',
      ],
      cwd=ROOT,
      env=os.environ | {'XDG_CACHE_HOME': str(self.root / 'cache')},
      stdout=subprocess.PIPE,
      stderr=subprocess.PIPE,
      text=True,
      **options,
    )

  def finish(self, folder: pathlib.Path) -> dict[str, bytes]:
    """Runs to the end; the numbers it left, to the bit."""
    process = self.start(folder)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert not (folder / 'checkpoints').exists()
    return killing.numbers(folder)

  def wait_for(self, folder: pathlib.Path, jobs: int) -> None:
    """Until so many jobs are finished on disk, or one is begun (0)."""
    end = time.monotonic() + 60
    pattern = '*finished.*.npz' if jobs else '*begun.*.npz'
    while time.monotonic() < end:
      if len(list((folder / 'checkpoints').glob(pattern))) >= max(jobs, 1):
        return
      time.sleep(0.002)
    raise AssertionError('it saves nothing')


class SurviveTest(parameterized.TestCase):
  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    root = cls.enterClassContext(tempfile.TemporaryDirectory())
    cls.root = pathlib.Path(root)
    cls.runs = Runs(cls.root)
    # With three of four jobs finished, to be damaged in several ways.
    cls.unfinished = cls.root / 'unfinished'
    process = cls.runs.start(cls.unfinished)
    cls.runs.wait_for(cls.unfinished, 3)
    process.kill()
    process.communicate()

  def setUp(self):
    super().setUp()
    self.folder = self.root / self._testMethodName

  @contextlib.contextmanager
  def interrupted(self, jobs: int = 1):
    """A process that has something on disk; killed when the block ends."""
    process = self.runs.start(self.folder)
    try:
      self.runs.wait_for(self.folder, jobs)
      yield process
    finally:
      process.kill()
      process.communicate()

  @parameterized.parameters(0, 1)
  def test_kill(self, jobs):
    """kill -9 in a chunk or between jobs; the lock does not stay."""
    with self.interrupted(jobs):
      pass
    self.assertFalse((self.folder / 'config.json').exists())
    self.assertEqual(self.runs.finish(self.folder), self.runs.whole)

  @parameterized.parameters(
    ('SIGTERM', 'training', 'm=32_seed=0_begun.*.npz'),
    ('SIGINT', 'training', 'm=32_seed=0_begun.*.npz'),
    ('SIGINT', 'figures', 'm=64_seed=1_finished.*.npz'),
  )
  def test_signal(self, name, where, saved):
    """The work is on disk; the exit says what stopped it and how to go on."""
    number = signal.Signals[name]
    process = self.runs.start(
      self.folder,
      '--checkpoint_every=60',
      program=('-c', SIGNALLED, name, where),
    )
    out, err = process.communicate(timeout=60)
    self.assertEqual(process.returncode, 128 + number, err)
    self.assertEmpty(out)  # the table comes last of all
    self.assertIn(f'stopped by {name}; to go on: python -m', err)
    self.assertIn(f'--out={self.folder}', err)
    self.assertNotIn('Traceback', err)
    self.assertLen(list((self.folder / 'checkpoints').glob(saved)), 1)
    process = self.runs.start(self.folder, '--checkpoint_every=60')
    _, err = process.communicate(timeout=60)
    self.assertEqual(process.returncode, 0, err)
    self.assertEqual(killing.numbers(self.folder), self.runs.whole)

  def test_two_processes(self):
    """The second is refused while the first runs, and harms nothing."""
    with self.interrupted(0) as first:
      second = self.runs.start(self.folder)
      _, err = second.communicate(timeout=60)
      if first.poll() is None:
        self.assertEqual(second.returncode, 2)
        self.assertIn('another process is at work', err)
    self.assertEqual(self.runs.finish(self.folder), self.runs.whole)

  def test_other_settings(self):
    """Other settings are refused, with the difference; other JAX is not."""
    shutil.copytree(self.unfinished, self.folder)
    path = self.folder / 'checkpoints' / 'config.json'
    honest = path.read_text()
    begun = json.loads(honest)
    begun['environment']['jax'] = begun['code'] = 'older'
    path.write_text(json.dumps(begun))
    process = self.runs.start(self.folder, '--lr_times_width=5')
    _, err = process.communicate(timeout=60)
    self.assertEqual(process.returncode, 2)
    self.assertIn('lr_times_width: 10.0 there, 5.0 here', err)
    self.assertRegex(err, '--out.*--overwrite')
    path.write_text(honest)
    self.assertEqual(self.runs.finish(self.folder), self.runs.whole)

  @parameterized.parameters('truncated', 'flipped', 'swapped')
  def test_damaged_checkpoint(self, how):
    """It is named and set aside, and its work done again."""
    shutil.copytree(self.unfinished, self.folder)
    first, second, *_ = sorted(
      (self.folder / 'checkpoints').glob('*finished.*.npz')
    )
    content = first.read_bytes()
    if how == 'truncated':
      first.write_bytes(content[: len(content) // 2])
    elif how == 'flipped':
      half = len(content) // 2  # where nothing may be but padding
      middle = bytes(byte ^ 4 for byte in content[half : half + 64])
      first.write_bytes(content[:half] + middle + content[half + 64 :])
    else:
      shutil.copy(second, first)
    process = self.runs.start(self.folder)
    _, err = process.communicate(timeout=60)
    self.assertEqual(process.returncode, 0, err)
    self.assertIn(str(first), err)
    self.assertIn('Set aside', err)
    self.assertEqual(killing.numbers(self.folder), self.runs.whole)

  def test_damaged_results(self):
    """A complete folder of which one bit is not what was written."""
    shutil.copytree(self.root / 'whole', self.folder)
    path = self.folder / 'results.nc'
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)
    process = self.runs.start(self.folder)
    _, err = process.communicate(timeout=60)
    self.assertEqual(process.returncode, 0, err)
    self.assertIn(f'{path}: it is damaged', err)
    self.assertTrue((self.folder / 'results.damaged').exists())
    self.assertEqual(killing.numbers(self.folder), self.runs.whole)

  @parameterized.parameters((3000, 'm=32_seed=0_'), (12000, 'results.nc'))
  def test_full_disk(self, size, name):
    """No room for a file: an error that names it, and nothing is lost."""

    def no_room():
      resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
      signal.signal(signal.SIGXFSZ, signal.SIG_IGN)

    process = self.runs.start(
      self.folder, stdin=subprocess.DEVNULL, preexec_fn=no_room
    )
    _, err = process.communicate(timeout=60)
    self.assertEqual(process.returncode, 2, err)
    self.assertRegex(err, rf'error: cannot write .*{name}.*: File too large')
    self.assertNotIn('Traceback', err)
    self.assertEqual(self.runs.finish(self.folder), self.runs.whole)

  def test_read_only_folder(self):
    """Refused before any work; root is not stopped by permissions."""
    process = self.runs.start(pathlib.Path('/proc/run'))
    _, err = process.communicate(timeout=60)
    self.assertEqual(process.returncode, 2)
    self.assertIn('cannot write to the folder /proc/run', err)

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
