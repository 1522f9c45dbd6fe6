"""Small runs in forked processes, and some that are killed until they end.

What a process imports is there already, and what it compiles is in a cache that
all share: the rest of a short run is what it really does.
"""

import collections
import concurrent.futures
import functools
import multiprocessing
import os
import pathlib
import random
import resource
import shutil
import signal
import time

import tqdm
import xarray as xr
from matplotlib.figure import Figure

from experiments import synthetic
from experiments.common import command
from ossgd.running import watching

SMALL = (
  '--widths=32,64',
  '--num_seeds=2',
  '--num_steps=12',
  '--batch_size=8',
  '--dim=20',
  '--num_train=64',
  '--num_test=32',
  '--num_classes=3',
  '--eval_every=3',
  '--checkpoint_every=0',
  '--engine=plain',
)
# 30 chunks a job, so that many a kill falls into one.
_LONGER = ('--num_steps=90', '--eval_growth=0')
_PRELOADED = (
  __name__,
  *('optax', 'h5netcdf', 'scipy.stats', 'matplotlib.backends.backend_agg'),
)
PATIENCE = 300  # seconds, on a machine that has other things to do


def numbers(folder: pathlib.Path) -> dict[str, bytes]:
  """All that a run measured, to the bit."""
  results = xr.load_dataset(folder / 'results.nc', engine='h5netcdf')
  return {name: v.values.tobytes() for name, v in results.items()}


def start(folder: pathlib.Path, *flags: str, **hindered):
  """A process of the script; it says what it says in FOLDER.out and .err.

  Args:
    folder: of the run.
    flags: beside those of SMALL.
    hindered: see `_run`.
  """
  context = multiprocessing.get_context('forkserver')
  context.set_forkserver_preload(list(_PRELOADED))
  process = context.Process(
    target=_run, args=(str(folder), *flags), kwargs=hindered, daemon=True
  )
  process.start()
  return process


class Trials:
  """One sweep that is killed again and again, in folders below `root`."""

  def __init__(self, root: pathlib.Path):
    self._root = root
    for name in ('cold', 'whole'):  # the second one finds all compiled
      begin = time.monotonic()
      process = start(root / name, *_LONGER)
      process.join(PATIENCE)
      self._check_end(process, root / name)
      self._seconds = time.monotonic() - begin
    self.whole = numbers(root / 'whole')

  def trial(self, seed: int) -> collections.Counter:
    """Kills a run until it ends, with the same numbers; counts of phases."""
    rng, folder = random.Random(seed), self._root / f'trial {seed}'
    kills: collections.Counter = collections.Counter()
    while True:
      process = start(folder, *_LONGER)
      # Later and later, so that a slow machine comes to an end as well.
      process.join(rng.uniform(0, self._seconds) * 1.5 ** kills.total())
      if rng.random() < 0.4:  # rare by chance: a write takes milliseconds
        while process.exitcode is None and not list(folder.rglob('.*.part')):
          time.sleep(0.001)
      if process.exitcode is not None:
        break
      process.kill()
      process.join()
      kills[_phase(folder)] += 1
    self._check_end(process, folder)
    assert numbers(folder) == self.whole, f'trial {seed}: other numbers'
    shutil.rmtree(folder)
    return kills

  def _check_end(self, process, folder: pathlib.Path) -> None:
    said = folder.with_suffix('.err').read_text()
    assert process.exitcode == 0, f'{folder} ended: {process.exitcode}\n{said}'
    assert (folder / 'config.json').exists(), said
    assert not (folder / 'checkpoints').exists(), said


def main(number: int, root: pathlib.Path) -> None:
  """Many trials, two at a time; a last line with counts."""
  os.environ['XDG_CACHE_HOME'] = str(root / 'cache')
  trials = Trials(root)
  kills: collections.Counter = collections.Counter()
  failed = []
  with concurrent.futures.ThreadPoolExecutor(2) as pool:
    waiting = [pool.submit(trials.trial, seed) for seed in range(number)]
    for done in tqdm.tqdm(
      concurrent.futures.as_completed(waiting), total=number, mininterval=5
    ):
      if done.exception() is None:
        kills += done.result()
      else:
        failed.append(str(done.exception()))
  counts = ', '.join(f'{kills[phase]} {phase}' for phase in sorted(kills))
  print(f'{number} trials, {kills.total()} kills ({counts}): ', end='')
  if failed:
    print(f'{len(failed)} ended otherwise', *failed, sep='\n')
    raise SystemExit(1)
  print('all ended with the same numbers, to the bit')


def _run(
  folder: str,
  *flags: str,
  largest_file: int | None = None,
  signalled: tuple[str, str] = ('', ''),
) -> None:
  """The script, with an empty figure: drawing takes as long as all else.

  Args:
    folder: of the run.
    flags: of the script.
    largest_file: bytes that there is room for in a file, if not for any.
    signalled: the name of a signal, and when it comes, once: after a chunk, by
      its label, or as the script begins to draw ('figures').
  """
  for number, suffix in ((1, '.out'), (2, '.err')):
    with open(f'{folder}{suffix}', 'w') as said:
      os.dup2(said.fileno(), number)
  if largest_file is not None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file, largest_file))
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
  name, when = signalled
  waiting = [when]

  def happen(now):
    if now in waiting:
      waiting.clear()
      os.kill(os.getpid(), signal.Signals[name])

  @functools.wraps(synthetic.run)
  def run(config, watch):
    def tell(fraction, label):
      watch.tell(fraction, label)
      happen(label)

    return synthetic.run(config, watching.Watch(tell, watch.store))

  def figures(results):
    happen('figures')
    return {'figure': Figure()}

  experiment = synthetic.EXPERIMENT._replace(run=run, figures=figures)
  command.main(experiment, ['synthetic', *SMALL, *flags, f'--out={folder}'])


def _phase(folder: pathlib.Path) -> str:
  """How far a killed process, or one before it, had come by what it left."""
  for pattern, phase in (
    ('.*.part', 'while a file was written'),
    ('results.nc', 'after the results'),
    ('*_begun.*', 'in a job'),
    ('*_finished.*', 'between jobs'),
  ):
    if list(folder.rglob(pattern)):
      return phase
  return 'before its first save'
