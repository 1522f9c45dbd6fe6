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
SMALL = (
  '--widths=32',
  '--num_seeds=2',
  '--seeds_at_once=2',
  '--num_steps=400',
  '--batch_size=8',
  '--dim=20',
  '--num_train=64',
  '--num_test=32',
  '--num_classes=3',
  '--eval_every=3',
  '--eval_growth=0',
  '--checkpoint_every=0',
  '--engine=plain',
)
SWEEP = ('experiments.synthetic', *SMALL)
# Trains without a sweep: a seed at a time, each in one program.
SEEDS = (
  'experiments.coupling',
  '--widths=16',
  '--num_seeds=500',
  '--num_steps=2',
  '--dim=20',
  '--num_test=3',
)
WITH = '--num_processes=2 --process_id=1'
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
    return subprocess.Popen(
      [sys.executable, '-m', *command, f'--out={out}', *flags],
      cwd=ROOT,
      env=os.environ
      | {'XDG_CACHE_HOME': str(cls.root / 'cache'), 'JAX_PLATFORMS': 'cpu'},
      stdout=subprocess.PIPE,
      stderr=subprocess.STDOUT,
      text=True,
    )

  @classmethod
  def start_all(
    cls,
    out: pathlib.Path,
    number: int,
    *others: str,
    command: tuple[str, ...] = SWEEP,
  ) -> list[subprocess.Popen]:
    """The first process and others, which may have more flags."""
    port = free_port()
    return [
      cls.start(
        out,
        f'--coordinator=127.0.0.1:{port}',
        f'--num_processes={number}',
        f'--process_id={i}',
        *(others if i else ()),
        command=command,
      )
      for i in range(number)
    ]

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
  def finish(cls, *processes: subprocess.Popen) -> list[str]:
    said = [process.communicate(timeout=300)[0] for process in processes]
    for process, text in zip(processes, said, strict=True):
      assert process.returncode == 0, text
    return said

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
    first, second = self.finish(*self.start_all(out, 2))
    self.assertIn(f'see {out}', first)
    self.assertNotIn('see ', second)
    self.check(out, 'seed:2,unit:1')

  def test_killed(self):
    """Of four one dies: the others end with an error; one alone goes on."""
    out = self.root / 'four'
    processes = self.start_all(out, 4)
    with self.saving(out, '*begun.*.npz', *processes):
      processes[2].kill()
      for process in processes:
        process.communicate(timeout=BOUND)
        self.assertNotEqual(process.returncode, 0)
    self.assertFalse((out / 'results.nc').exists())
    self.finish(self.start(out))
    self.check(out, 'seed:1,unit:1')

  def test_stopped(self):
    """One is asked to stop between two seeds: all do, none is lost."""
    out = self.root / 'stopped'
    processes = self.start_all(out, 2, command=SEEDS)
    with self.saving(out, '*.npz', *processes):
      processes[1].send_signal(signal.SIGTERM)
      for process in processes:
        said, _ = process.communicate(timeout=BOUND)
        self.assertEqual(process.returncode, 128 + signal.SIGTERM, said)

  def test_bad_folder(self):
    """What the first process refuses ends the others as well."""
    out = self.root / 'file'
    out.touch()
    first, second = self.start_all(out, 2)
    self.check_refused(first, 'cannot write to the folder')
    self.check_refused(second, 'process 0 has refused')

  @parameterized.parameters(
    ((0, 1, 1), (3, 3, 3), 'two processes have --process_id=1'),
    ((0, 1), (2, 3), 'process 1 has --num_processes=3, process 0'),
  )
  def test_do_not_fit(self, ids, numbers, message):
    """One line and 2 in every process, before JAX's runtime begins."""
    at = f'--coordinator=127.0.0.1:{free_port()}'
    out = self.root / 'unfit'
    processes = [
      self.start(out, at, f'--process_id={i}', f'--num_processes={n}')
      for i, n in zip(ids, numbers, strict=True)
    ]
    for process in processes:
      self.check_refused(process, rf'\Aerror: [^\n]*{message}[^\n]*\n\Z')
    self.assertFalse(out.exists())

  @parameterized.parameters(0, 1)
  def test_nobody_comes(self, index):
    """It says for whom it waits, and a signal ends it."""
    process = self.start(
      self.root / 'alone',
      f'--coordinator=127.0.0.1:{free_port()}',
      '--num_processes=2',
      f'--process_id={index}',
    )
    try:
      line = process.stdout.readline()
      self.assertIn(f'waiting for process {1 - index}', line)
      process.send_signal(signal.SIGTERM)
      said, _ = process.communicate(timeout=20)
      self.assertEqual(process.returncode, 128 + signal.SIGTERM, said)
      self.assertStartsWith(said, 'stopped by SIGTERM')
    finally:
      process.kill()
      process.communicate()

  def test_other_flags(self):
    """Said by both: they would wait for each other's numbers."""
    out = self.root / 'other'
    for process in self.start_all(out, 2, '--num_steps=300'):
      self.check_refused(process, 'in process 1; start all with the same flags')
    self.assertFalse(out.exists())

  @parameterized.parameters(
    ('--num_processes=2', 'need --coordinator'),
    ('--coordinator=localhost:1', 'expected --num_processes'),
    ('--coordinator=auto', '--coordinator=auto: '),
    (f'{WITH} --coordinator=localhost', 'expected HOST:PORT'),
    (f'{WITH} --coordinator=localhost:99999', 'expected HOST:PORT'),
    (f'{WITH} --coordinator=no.such.host.invalid:9', 'host.invalid: '),
  )
  def test_refused(self, flag, message):
    """Whatever is missing or is no place."""
    out = self.root / 'refused'
    self.check_refused(self.start(out, *flag.split()), message)
    self.assertFalse(out.exists())
