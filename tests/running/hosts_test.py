"""Several real processes at one sweep, on the loopback."""

import contextlib
import os
import pathlib
import signal
import socket
import subprocess
import sys
import tempfile
import time

import numpy as np
from absl.testing import parameterized

from ossgd.storing import records

ROOT = pathlib.Path(__file__).parents[2]
SWEEP = (
  *('experiments.synthetic', '--widths=32', '--num_seeds=2', '--dim=20'),
  *('--num_steps=400', '--batch_size=8', '--num_train=64', '--num_test=32'),
  *('--num_classes=3', '--eval_every=3', '--eval_growth=0', '--engine=plain'),
  *('--seeds_at_once=2', '--checkpoint_every=0'),
)
# Trains without a sweep: a seed at a time, each in one program.
SEEDS = (
  *('experiments.coupling', '--widths=16', '--num_seeds=500', '--dim=20'),
  *('--num_steps=2', '--num_test=3'),
)
BOUND = 120  # on a machine that has other things to do


def free_port() -> int:
  with socket.socket() as listener:
    listener.bind(('127.0.0.1', 0))
    return listener.getsockname()[1]


class HostsTest(parameterized.TestCase):
  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    root = cls.enterClassContext(tempfile.TemporaryDirectory())
    cls.root = pathlib.Path(root)
    cls.finish(cls.start(cls.root / 'one'))
    cls.expected, _ = records.read(cls.root / 'one')

  @classmethod
  def start(
    cls, out: pathlib.Path, *flags: str, command: tuple[str, ...] = SWEEP
  ) -> subprocess.Popen:
    process = subprocess.Popen(
      [sys.executable, '-m', *command, f'--out={out}', *flags],
      cwd=ROOT,
      env=os.environ
      | {'XDG_CACHE_HOME': str(cls.root / 'cache'), 'JAX_PLATFORMS': 'cpu'},
      stdout=subprocess.PIPE,
      stderr=subprocess.STDOUT,
      text=True,
    )
    cls.addClassCleanup(process.communicate)
    cls.addClassCleanup(process.kill)
    return process

  def start_all(
    self,
    out: pathlib.Path,
    *processes: tuple,
    command: tuple[str, ...] = SWEEP,
  ) -> list[subprocess.Popen]:
    """Processes at one port: each its number, how many there are, and more."""
    at = f'--coordinator=127.0.0.1:{free_port()}'
    started = []
    for index, number, *more in processes:
      of = f'--process_id={index}', f'--num_processes={number}'
      started.append(self.start(out, at, *of, *more, command=command))
    return started

  @contextlib.contextmanager
  def saving(self, out: pathlib.Path, pattern: str, *processes):
    """Processes that have saved something; none is left when the block ends."""
    try:
      end = time.monotonic() + BOUND
      while not list((out / 'checkpoints').glob(pattern)):
        self.assertLess(time.monotonic(), end)
        time.sleep(0.01)
      yield
    finally:
      for process in processes:
        process.kill()
        process.communicate()
    self.assertNotEmpty(list((out / 'checkpoints').glob(pattern)))

  def check_refused(self, process: subprocess.Popen, message: str):
    """Said at once, with the exit code of a wrong command line."""
    said, _ = process.communicate(timeout=BOUND)
    self.assertEqual(process.returncode, 2, said)
    self.assertRegex(said, message)

  @classmethod
  def finish(cls, process: subprocess.Popen, status: int = 0) -> str:
    said, _ = process.communicate(timeout=300)
    assert process.returncode == status, said
    return said

  def wait_for(self, folder: pathlib.Path, pattern: str):
    end = time.monotonic() + 200
    while not list(folder.glob(pattern)):
      self.assertLess(time.monotonic(), end)
      time.sleep(0.01)

  def check(self, out: pathlib.Path, mesh: str):
    """The numbers of one process, to float32 rounding."""
    found, _ = records.read(out)
    self.assertEqual(found.mesh, mesh)
    for name in self.expected:
      np.testing.assert_allclose(
        found[name], self.expected[name], rtol=1e-4, atol=1e-5, err_msg=name
      )

  def test_two(self):
    """Both compute, one writes."""
    out = self.root / 'two'
    first, second = self.start_all(out, (0, 2), (1, 2))
    self.assertIn(f'see {out}', self.finish(first))
    self.assertNotIn('see ', self.finish(second))
    self.check(out, 'seed:2,unit:1')

  def test_killed(self):
    """Of four one dies: the others end with an error; one alone goes on."""
    out = self.root / 'four'
    processes = self.start_all(out, *((i, 4) for i in range(4)))
    saved = out / 'checkpoints'
    self.wait_for(saved, '*begun.*.npz')
    processes[2].kill()
    for process in processes:
      process.communicate(timeout=BOUND)
      self.assertNotEqual(process.returncode, 0)
    self.assertNotEmpty(list(saved.glob('*begun.*.npz')))
    self.assertFalse((out / 'results.nc').exists())
    self.finish(self.start(out))
    self.check(out, 'seed:1,unit:1')

  def test_stopped(self):
    """One is asked to stop between two seeds: all do, none is lost."""
    out = self.root / 'stopped'
    processes = self.start_all(out, (0, 2), (1, 2), command=SEEDS)
    self.wait_for(out / 'checkpoints', '*.npz')
    processes[1].send_signal(signal.SIGTERM)
    for process in processes:
      self.finish(process, 128 + signal.SIGTERM)
    self.assertNotEmpty(list((out / 'checkpoints').glob('*.npz')))

  def test_bad_folder(self):
    """What the first process refuses ends the others as well."""
    out = self.root / 'file'
    out.touch()
    first, second = self.start_all(out, (0, 2), (1, 2))
    self.assertIn('cannot write to the folder', self.finish(first, 2))
    self.assertIn('process 0 has refused', self.finish(second, 2))

  @parameterized.parameters(
    (((0, 3), (1, 3), (1, 3)), 'two processes have --process_id=1'),
    (((0, 2), (1, 3)), 'process 1 has --num_processes=3, process 0'),
  )
  def test_do_not_fit(self, processes, message):
    """One line and 2 in every process, before JAX's runtime begins."""
    out = self.root / 'unfit'
    for process in self.start_all(out, *processes):
      said = self.finish(process, 2)
      self.assertRegex(said, rf'\Aerror: [^\n]*{message}[^\n]*\n\Z')
    self.assertFalse(out.exists())

  def test_other_flags(self):
    """Said by both: they would wait for each other's numbers."""
    out = self.root / 'other'
    for process in self.start_all(out, (0, 2), (1, 2, '--num_steps=3')):
      said = self.finish(process, 2)
      self.assertIn('in process 1; start all with the same flags', said)
    self.assertFalse(out.exists())

  @parameterized.parameters(0, 1)
  def test_nobody_comes(self, index):
    """It says for whom it waits, and a signal ends it."""
    (process,) = self.start_all(self.root / 'alone', (index, 2))
    line = process.stdout.readline()
    self.assertIn(f'waiting for process {1 - index}', line)
    process.send_signal(signal.SIGTERM)
    said = self.finish(process, 128 + signal.SIGTERM)
    self.assertStartsWith(said, 'stopped by SIGTERM')

  def test_no_cluster(self):
    """JAX's own words say no flag."""
    said = self.finish(self.start(self.root / 'auto', '--coordinator=auto'), 2)
    self.assertRegex(said, 'auto: no cluster.*give --coordinator=HOST:PORT')
    self.assertFalse((self.root / 'auto').exists())
