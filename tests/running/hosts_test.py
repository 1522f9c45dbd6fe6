"""Several real processes at one sweep, on the loopback."""

import functools
import importlib
import itertools
import multiprocessing
import os
import pathlib
import signal
import socket
import tempfile
import time

import jax
import numpy as np
from absl.testing import parameterized
from matplotlib.figure import Figure

from experiments.common import command
from ossgd.storing import records

SWEEP = (
  *('synthetic', '--widths=32', '--num_seeds=2', '--dim=20'),
  *('--num_steps=400', '--batch_size=8', '--num_train=64', '--num_test=32'),
  *('--num_classes=3', '--eval_every=3', '--eval_growth=0', '--engine=plain'),
  *('--seeds_at_once=2', '--checkpoint_every=0'),
)
# Trains without a sweep: a seed at a time, each in one program.
SEEDS = (
  *('coupling', '--widths=16', '--num_seeds=500', '--dim=20'),
  *('--num_steps=2', '--num_test=3'),
)
BOUND = 120  # on a machine that has other things to do


# What a process imports is there already.
PRELOADED = (
  __name__,
  *('experiments.synthetic', 'experiments.coupling', 'optax', 'h5netcdf'),
  *('scipy.stats', 'matplotlib.backends.backend_agg'),
)


def free_port() -> int:
  with socket.socket() as listener:
    listener.bind(('127.0.0.1', 0))
    return listener.getsockname()[1]


def run(log: str, cache: str, name: str, *flags: str) -> None:
  """A script, with an empty figure: drawing takes as long as all else."""
  with open(log, 'w') as file:
    os.dup2(file.fileno(), 1)
    os.dup2(file.fileno(), 2)
  os.environ['XDG_CACHE_HOME'] = cache
  jax.config.update('jax_platforms', 'cpu')
  script = importlib.import_module(f'experiments.{name}')
  empty = script.EXPERIMENT._replace(figures=lambda ds: {'figure': Figure()})
  command.main(empty, [name, *flags])


class Process:
  """A script in a process that is forked off one of its own."""

  numbers = itertools.count()

  def __init__(self, root: pathlib.Path, *argv: str):
    self._log = root / f'{next(self.numbers)}.log'
    context = multiprocessing.get_context('forkserver')
    context.set_forkserver_preload(list(PRELOADED))
    arguments = str(self._log), str(root / 'cache'), *argv
    self._process = context.Process(target=run, args=arguments)
    self._process.start()
    self.kill = self._process.kill
    self.send_signal = functools.partial(os.kill, self._process.pid)

  def said(self) -> str:
    """So far."""
    return self._log.read_text() if self._log.exists() else ''

  def end(self, timeout: float = 300) -> tuple[int, str]:
    """Its status when it has ended, and all that it said."""
    self._process.join(timeout)
    status = self._process.exitcode
    assert status is not None, f'it goes on: {self.said()}'
    return status, self.said()


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
  ) -> Process:
    process = Process(cls.root, *command, f'--out={out}', *flags)
    cls.addClassCleanup(process.end)
    cls.addClassCleanup(process.kill)
    return process

  def start_all(
    self,
    out: pathlib.Path,
    *processes: tuple,
    command: tuple[str, ...] = SWEEP,
  ) -> list[Process]:
    """Processes at one port: each its number, how many there are, and more."""
    at = f'--coordinator=127.0.0.1:{free_port()}'
    started = []
    for index, number, *more in processes:
      of = f'--process_id={index}', f'--num_processes={number}'
      started.append(self.start(out, at, *of, *more, command=command))
    return started

  @classmethod
  def finish(cls, process: Process, status: int = 0) -> str:
    found, said = process.end()
    assert found == status, (found, said)
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
      status, said = process.end(BOUND)
      self.assertNotEqual(status, 0, said)
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
    end = time.monotonic() + BOUND
    while '\n' not in (said := process.said()):
      self.assertLess(time.monotonic(), end)
      time.sleep(0.05)
    self.assertIn(f'waiting for process {1 - index}', said)
    process.send_signal(signal.SIGTERM)
    whole = self.finish(process, 128 + signal.SIGTERM)
    self.assertStartsWith(whole.removeprefix(said), 'stopped by SIGTERM')

  def test_no_cluster(self):
    """JAX's own words say no flag."""
    said = self.finish(self.start(self.root / 'auto', '--coordinator=auto'), 2)
    self.assertRegex(said, 'auto: no cluster.*give --coordinator=HOST:PORT')
    self.assertFalse((self.root / 'auto').exists())
