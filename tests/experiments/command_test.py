"""Tests of command and the scripts: a command line to a folder."""

import contextlib
import dataclasses
import io
import json
import os
import pathlib
import runpy
import sys
import tempfile
import types
import warnings
from collections.abc import Callable
from unittest import mock

import jax
import numpy as np
import xarray as xr
from absl import flags
from absl.testing import parameterized
from matplotlib.figure import Figure

from experiments import mnist, synthetic
from experiments.common import command, progress_line, training
from experiments.common.options import option
from ossgd.engines import sgd
from ossgd.results import claims, paper_claims, tables
from ossgd.running import watching
from ossgd.storing import records

TINY = (
  '--widths=32,64',
  '--num_seeds=2',
  '--num_steps=6',
  '--batch_size=16',
  '--dim=20',
  '--num_train=64',
  '--num_test=32',
  '--num_classes=3',
  '--eval_every=4',
)


@dataclasses.dataclass(frozen=True)
class Config:
  """Of a script that trains nothing."""

  num_seeds: int = option(3, 'Runs.')


def measure(config, progress) -> xr.Dataset:
  progress(0.0, 'm=8')
  progress(1.0, 'm=8')
  seeds = np.arange(config.num_seeds)
  return xr.Dataset({'value': ('seed', 1.0 * seeds)}, {'seed': seeds})


TOY = command.Experiment(
  'toy',
  Config,
  {},
  measure,
  figures=lambda ds: {'curve': Figure()},
  table=lambda ds: f'sum {ds.value.sum().item():g}\n',
  claims=lambda ds: [
    claims.Claim('here', 'all is well', 'value', -9, 9, lambda ds: ds.value)
  ],
)


WHOLE = {'results.nc', 'config.json', 'report.md', 'curve.png'}


class Terminal(io.StringIO):
  """A stderr that somebody looks at."""

  def isatty(self) -> bool:
    return True


class _Case(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    root = pathlib.Path(self.enter_context(tempfile.TemporaryDirectory()))
    self.out = root / 'out'

  def call(self, experiment, *args, stderr=None) -> tuple[int, str, str]:
    """Exit code (0 for None), stdout and stderr of a script."""
    return ended(
      command.main,
      experiment,
      ['program', f'--out={self.out}', *args],
      stderr=stderr,
    )

  def files(self) -> dict[str, bytes]:
    return {
      path.name: path.read_bytes() if path.is_file() else b''
      for path in self.out.iterdir()
      if path.name != '.lock'  # stays, held by nobody
    }


def ended(function: Callable, *args, stderr=None) -> tuple[int, str, str]:
  out, err = io.StringIO(), stderr or io.StringIO()
  with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
    try:
      function(*args)
    except SystemExit as end:
      return end.code or 0, out.getvalue(), err.getvalue()
  raise AssertionError(f'{function} did not end the script')


class SyntheticTest(_Case):
  def test_from_flags_to_folder_and_again(self):
    """The files, their content, what is printed; then none of it anew."""
    fractions = []

    def run(config, progress):
      def spy(fraction, label):
        fractions.append(fraction)
        progress(fraction, label)

      return synthetic.run(config, spy)

    script = synthetic.EXPERIMENT._replace(run=run)
    code, printed, _ = self.call(script, *TINY)
    self.assertEqual(code, 0)
    # How seeds are grouped is no part of what the results are.
    before = self.files()
    self.assertEqual(self.call(script, *TINY, '--seeds_at_once=2')[0], 0)
    self.assertEqual(self.files(), before)

    self.assertEqual(fractions, sorted(fractions))
    self.assertEqual(fractions[0], 0.0)
    self.assertAlmostEqual(fractions[-1], 1.0)

    files = self.files()
    pngs = ('figure1.png', 'figure4_steps.png', 'figure5_distance.png')
    self.assertEqual(
      set(files), {'results.nc', 'config.json', 'report.md', *pngs}
    )
    for name in pngs:
      self.assertStartsWith(files[name], b'\x89PNG')
    results, config = records.read(self.out)
    self.assertEqual(config['experiment'], 'synthetic')
    self.assertEqual(config['settings']['widths'], [32, 64])
    self.assertEqual(config['settings']['center_scale'], 5.0)
    self.assertEqual(config['environment'], records.environment())
    self.assertEqual(set(config.pop('files')), set(files) - {'config.json'})
    seconds = config.pop('seconds')
    self.assertContainsSubset(
      {'compile', 'start', 'train', 'measure', 'spectrum', 'plot', 'other'},
      seconds,
    )
    self.assertGreaterEqual(min(seconds.values()), 0)
    self.assertGreater(sum(seconds.values()), results.attrs['seconds'])
    self.assertEqual(json.loads(results.attrs['config']), config)
    self.assertEqual(results.attrs['num_patterns'], 3 * 2)
    self.assertEqual(
      dict(results.sizes), {'width': 2, 'seed': 2, 'step': 3, 'rank': 20}
    )
    np.testing.assert_array_equal(results.step, [0, 4, 6])
    np.testing.assert_array_equal(results.pattern_difference[..., 0], 0)

    report = files['report.md'].decode()
    table = tables.sweep_table(results)
    self.assertStartsWith(report, '# synthetic\n')
    findings = [
      claims.judge(claim, results)
      for claim in paper_claims.training_claims(
        'Figure 1', num_patterns=6, constant=2 / 3
      )
    ]
    for text in (table, claims.report(findings)):
      self.assertIn(f'\n{text}', report)
    for text in (table, claims.summary(findings), str(self.out)):
      self.assertIn(text, printed)

    never = mock.Mock(side_effect=AssertionError('computed anew'))
    code, again, _ = self.call(script._replace(run=never), *TINY)
    self.assertEqual((code, again), (0, printed))
    self.assertEqual(self.files(), files)

    code, _, err = self.call(script._replace(run=never), *TINY, '--seed=1')
    self.assertEqual(code, 2)
    self.assertIn('settings.seed: 0 there, 1 here', err)
    self.assertEqual(self.files(), files)

  @parameterized.parameters(
    ('--widths=0', 'width is 0'),
    ('--widths=-4,8', 'width is -4'),
    ('--widths=', 'widths are ()'),
    ('--widths=8,8', 'all different'),
    ('--widths=abc', '--widths=abc'),
    ('--batch_size=65', 'batch_size is 65; expected 1 to 64'),
    ('--batch_size=0', 'batch_size is 0'),
    ('--target=2', 'target is 2.0'),
    ('--target=nan', 'target is nan'),
    ('--num_steps=0', 'num_steps is 0'),
    ('--num_seeds=0', 'num_seeds is 0'),
    ('--eval_every=0', 'eval_every is 0'),
    ('--seeds_at_once=-1', 'seeds_at_once is -1'),
    ('--lr_times_width=nan', 'lr_times_width is nan'),
    ('--init_scale=0', 'init_scale is 0'),
    ('--order=one_pass', 'has 4 steps, but num_steps is 6'),
    ('--num_train=0', 'is 0; expected'),
    ('--num_test=0', 'num_test'),
    ('--num_classes=1', 'num_classes'),
    ('--dim=0', 'dim'),
    ('--noise_scale=-1', 'noise_scale'),
    ('--out=/proc/nowhere', '/proc/nowhere'),
  )
  def test_bad_setting(self, arg, part):
    """One line and exit code 2, before training; old results are left alone."""
    self.call(TOY)
    before = self.files()
    with mock.patch.object(sgd, 'advance', side_effect=AssertionError) as train:
      code, out, err = self.call(
        synthetic.EXPERIMENT, *TINY, '--overwrite', arg
      )
    self.assertEqual((code, out), (2, ''))
    self.assertRegex(err, r'\Aerror: [^\n]+\n\Z')
    self.assertIn(part, err)
    train.assert_not_called()
    self.assertEqual(self.files(), before)

  def test_bad_setting_leaves_no_results(self):
    """A fresh folder stays empty: nothing there to be taken for results."""
    code, _, _ = self.call(synthetic.EXPERIMENT, *TINY, '--target=2')
    self.assertEqual(code, 2)
    self.assertEmpty(self.files())

  def test_run_as_a_module(self):
    """`python -m experiments.synthetic --help` shows the script's docstring."""
    argv = ['synthetic.py', '--help']
    with (
      mock.patch.object(sys, 'argv', argv),
      warnings.catch_warnings(action='ignore', category=RuntimeWarning),
    ):
      code, out, _ = ended(
        lambda: runpy.run_module(
          'experiments.synthetic', run_name='__main__', alter_sys=True
        )
      )
    self.assertEqual(code, 0)
    self.assertStartsWith(out, synthetic.__doc__)


class DataTest(_Case):
  """`experiments.mnist` on a user's file, which then becomes another."""

  FLAGS = (
    *('--widths=8', '--num_seeds=2', '--num_steps=4', '--batch_size=4'),
    '--checkpoint_every=0',
  )

  def setUp(self):
    super().setUp()
    self.file = self.out.parent / 'mine.npz'
    self.replace(0, dim=5, num_classes=2)

  def replace(self, seed, *, dim, num_classes):
    rng = np.random.default_rng(seed)
    x, y = rng.normal(size=(24, dim)), np.arange(24) % num_classes
    np.savez(self.file, x_train=x, y_train=y, x_test=x[:8], y_test=y[:8])

  def test_replaced_after(self):
    """Finished results of the old file are not shown as the new one's."""
    flags = (f'--dataset=npz:{self.file}', *self.FLAGS)
    self.assertEqual(self.call(mnist.EXPERIMENT, *flags)[0], 0)
    before = self.files()
    config = json.loads(before['config.json'])
    self.assertLen(config['data'], 1)
    self.assertEqual(self.call(mnist.EXPERIMENT, *flags)[0], 0)
    for dim, num_classes in ((5, 2), (7, 3)):
      self.replace(1, dim=dim, num_classes=num_classes)
      code, _, err = self.call(mnist.EXPERIMENT, *flags)
      self.assertEqual(code, 2)
      self.assertRegex(err, r'holds other results \(data: \["\w+"\] there, ')
      self.assertEqual(self.files(), before)

  @parameterized.parameters(False, True)
  def test_replaced_between_two_seeds(self, killed):
    """There is never one results.nc of both."""

    def run(config, watch):
      def tell(fraction, label):
        watch.tell(fraction, label)
        if 'seed=1' in label and killed:
          raise KeyboardInterrupt

      return mnist.run(config, watching.Watch(tell, watch.store))

    flags = (f'--dataset=npz:{self.file}', *self.FLAGS)
    script = mnist.EXPERIMENT._replace(run=run)
    if killed:
      with self.assertRaises(KeyboardInterrupt):
        self.call(script, *flags)
      self.replace(1, dim=5, num_classes=2)
      code, _, err = self.call(mnist.EXPERIMENT, *flags)
      self.assertIn('holds other results (data: ', err)
    else:

      def late(config):
        found = training.data(config)
        self.replace(1, dim=5, num_classes=2)
        return found

      code, _, err = self.call(script._replace(data=late), *flags)
      self.assertIn('the data were replaced while this ran', err)
    self.assertEqual(code, 2)
    self.assertFalse((self.out / 'results.nc').exists())
    self.replace(0, dim=5, num_classes=2)
    self.assertEqual(self.call(mnist.EXPERIMENT, *flags)[0], 0)


class MainTest(_Case):
  def test_overwrite(self):
    """Other results are replaced when told so, in every file."""
    self.assertEqual(self.call(TOY)[0], 0)
    code, _, err = self.call(TOY, '--num_seeds=4')
    self.assertEqual(code, 2)
    self.assertRegex(err, r'\Aerror: .*num_seeds: 3 there, 4 here.*\n\Z')
    self.assertEqual(self.call(TOY, '--num_seeds=4', '--overwrite')[0], 0)
    results, config = records.read(self.out)
    self.assertEqual(results.sizes['seed'], 4)
    self.assertEqual(config['settings'], {'num_seeds': 4})
    self.assertIn('sum 6', self.files()['report.md'].decode())

  @parameterized.parameters(ValueError, OSError, FileNotFoundError)
  def test_error_before_training(self, error):
    """What is wrong is the input: a line, no traceback."""
    run = mock.Mock(side_effect=error('no such thing'))
    code, out, err = self.call(TOY._replace(run=run))
    self.assertEqual((code, out, err), (2, '', 'error: no such thing\n'))
    self.assertEmpty(self.files())

  @parameterized.parameters(ValueError, OSError)
  def test_error_in_training(self, error):
    """A fault of ours: its traceback must not be hidden."""

    def run(config, progress):
      progress(0.0, 'm=8')
      raise error('deep inside')

    with self.assertRaisesRegex(error, 'deep inside'):
      self.call(TOY._replace(run=run))
    self.assertEmpty(self.files())

  @parameterized.parameters('table', 'claims', 'figures')
  def test_error_after_training(self, part):
    """Hours of training survive it: the same command draws and reports."""
    broken = mock.Mock(side_effect=ValueError('deep inside'))
    with self.assertRaisesRegex(ValueError, 'deep inside'):
      self.call(TOY._replace(**{part: broken}))
    self.assertEqual(set(self.files()), {'results.nc', 'checkpoints'})
    results = xr.load_dataset(self.out / 'results.nc', engine='h5netcdf')
    np.testing.assert_array_equal(results.value, [0, 1, 2])
    settings = json.loads(results.attrs['config'])['settings']
    self.assertEqual(settings, {'num_seeds': 3})
    never = mock.Mock(side_effect=AssertionError('computed anew'))
    code, out, _ = self.call(TOY._replace(run=never))
    self.assertEqual(code, 0)
    self.assertIn('sum 3', out)
    self.assertEqual(set(self.files()), WHOLE)
    _, config = records.read(self.out)
    self.assertGreater(sum(config['seconds'].values()), 0)

  def test_print_comes_last(self):
    """Whoever reads the first line finds the folder complete."""
    out = self.out

    class Reader(io.StringIO):
      def write(self, text):
        seen.append({path.name for path in out.iterdir()})
        return len(text)

    seen = []
    with (
      mock.patch.object(sys, 'stdout', Reader()),
      contextlib.suppress(SystemExit),
    ):
      command.main(TOY, ['program', f'--out={out}'])
    self.assertEqual(seen[0] - {'.lock'}, WHOLE)
    records.read(self.out)

  def test_edited_report(self):
    """Is left and said; other work is refused, whatever the flags."""
    self.call(TOY)
    report = self.out / 'report.md'
    report.write_text('my notes')
    with self.assertLogs(level='WARNING') as logs:
      self.assertEqual(self.call(TOY)[0], 0)
    self.assertIn(f'{report} was not written by this program', logs.output[0])
    code, _, err = self.call(TOY, '--num_seeds=4', '--overwrite')
    self.assertEqual(code, 2)
    self.assertIn('holds report.md, which this program did not write', err)
    self.assertEqual(report.read_text(), 'my notes')

  def test_redrawn(self):
    """By today's code, and still ours."""
    self.call(TOY)
    wider = TOY._replace(
      run=mock.Mock(side_effect=AssertionError('computed anew')),
      figures=lambda ds: {'wide': Figure(figsize=(9, 1))},
      table=lambda ds: 'another table\n',
    )
    for _ in range(2):
      code, out, _ = self.call(wider)
      self.assertEqual(code, 0)
      self.assertIn('another table', out)
      self.assertEqual(set(self.files()), WHOLE - {'curve.png'} | {'wide.png'})
      self.assertIn(b'another table', self.files()['report.md'])
    self.assertEqual(self.call(TOY, '--num_seeds=4', '--overwrite')[0], 0)
    self.assertEqual(set(self.files()), WHOLE)

  def test_foreign_folder(self):
    """A model in what happens to be called checkpoints is not touched."""
    model = self.out / 'checkpoints' / 'model.pt'
    model.parent.mkdir(parents=True)
    model.write_text('x')
    (self.out / 'report.md').write_text('mine')
    run = mock.Mock(side_effect=AssertionError('computed'))
    for more in ((), ('--overwrite',)):
      code, _, err = self.call(TOY._replace(run=run), *more)
      self.assertEqual(code, 2)
      self.assertRegex(
        err, r'\Aerror: .*holds checkpoints/model.pt, report.md, which.*--out'
      )
      self.assertEqual(model.read_text(), 'x')
      self.assertEqual((self.out / 'report.md').read_text(), 'mine')

  @parameterized.parameters(
    ('--out=', 'empty'),
    ('--out=gs://bucket/x', 'mount'),
    ('--out=s3://bucket/x', 'mount'),
  )
  def test_no_folder(self, flag, reason):
    """Neither the working directory nor one called gs: is meant."""
    code, _, err = self.call(TOY, flag)
    self.assertEqual(code, 2)
    self.assertRegex(err, rf'\Aerror: [^\n]*{reason}[^\n]*\n\Z')

  def test_damaged_results(self):
    """They are named and set aside, and made again."""
    self.call(TOY)
    (self.out / 'results.nc').write_bytes(b'{')
    with self.assertLogs(level='WARNING') as logs:
      self.assertEqual(self.call(TOY)[0], 0)
    self.assertIn('results.nc: it is damaged', logs.output[0])
    self.assertEqual((self.out / 'results.damaged').read_bytes(), b'{')
    results, _ = records.read(self.out)
    np.testing.assert_array_equal(results.value, [0, 1, 2])

  def test_damaged_config(self):
    """One line that names the file, and the way out works."""
    self.call(TOY)
    (self.out / 'config.json').write_bytes(b'{')
    code, _, err = self.call(TOY)
    self.assertEqual(code, 2)
    self.assertRegex(err, r'\Aerror: .*config.json.*--out.*\n\Z')
    # What else there is ours is not known any more, so nothing is replaced.
    before = self.files()
    code, _, err = self.call(TOY, '--overwrite')
    self.assertEqual(code, 2)
    self.assertIn('holds config.json, curve.png, report.md, results.nc', err)
    self.assertEqual(self.files(), before)

  @parameterized.parameters(False, True)
  def test_another_host(self, begun):
    """What is wrong before its first step is the input; later, no flag is."""

    def run(config, progress):
      if begun:
        progress(0.0, 'm=8')
      raise ValueError('UNKNOWN: AllGather failed')

    script = TOY._replace(run=run)
    with mock.patch.object(jax, 'process_index', return_value=1):
      if begun:
        with self.assertRaisesRegex(ValueError, 'AllGather'):
          self.call(script)
      else:
        code, _, err = self.call(script)
        self.assertEqual((code, err), (2, 'error: UNKNOWN: AllGather failed\n'))

  def test_no_cluster(self):
    """JAX's own words say no flag."""
    code, _, err = self.call(TOY, '--coordinator=auto')
    self.assertEqual(code, 2)
    self.assertRegex(err, 'auto: no cluster.*give --coordinator=HOST:PORT')

  def test_no_home(self):
    """An unknown user has no home folder: said, and done without a cache."""
    cache = 'jax_compilation_cache_dir'
    with (
      mock.patch.dict(os.environ, {'XDG_CACHE_HOME': 'relative'}),
      mock.patch.object(jax, 'config', types.SimpleNamespace(**{cache: None})),
      mock.patch.object(pathlib.Path, 'expanduser', side_effect=RuntimeError),
      self.assertLogs('absl', 'WARNING') as logs,
    ):
      command._cache_compilations()
    self.assertIn('no home folder', logs.output[0])

  def test_absl_flags_are_left_alone(self):
    """A host program's flags and a script's never meet."""
    self.call(TOY)
    before = set(flags.FLAGS)
    self.call(TOY, '--num_seeds=4', '--overwrite')
    self.assertEqual(set(flags.FLAGS), before)
    self.assertNotIn('num_seeds', before)
    self.assertNotIn('overwrite', before)

  def test_terminal(self):
    """A message has a line of its own; the bar ends before the table."""
    run = mock.Mock(side_effect=ValueError('no such thing'))
    _, _, err = self.call(TOY._replace(run=run), stderr=Terminal())
    self.assertEqual(err, 'error: no such thing\n')
    screen, before_table = Terminal(), []

    def table(ds):
      before_table.append(screen.getvalue())
      return TOY.table(ds)

    self.call(TOY._replace(table=table), stderr=screen)
    self.assertIn('100%', before_table[0])
    self.assertEndsWith(before_table[0], '\n')
    _, out, err = self.call(TOY, stderr=Terminal())
    self.assertIn('sum 3', out)
    self.assertNotIn('%', err)  # nothing to wait for the second time


class ProgressTest(parameterized.TestCase):
  def test_log_lines(self):
    """Not on a terminal: a line each 15 s at most, with the time left."""
    with (
      mock.patch.object(progress_line, 'time') as time,
      contextlib.redirect_stderr(io.StringIO()) as err,
      self.assertLogs('absl', 'INFO') as logs,
    ):
      time.monotonic.return_value = 1000
      progress = progress_line.Progress()
      for now, fraction in (
        (0, 0.0),
        (10, 0.125),  # too early
        (16, 0.25),
        (20, 0.3),  # too early after the last
        (31, 0.31),  # 15 s sharp
        (32, 0.5),
        (64, 1.0),
      ):
        time.monotonic.return_value = 1000 + now
        progress(fraction, f'm={now}')
      progress.close()
    self.assertEqual(
      [record.getMessage() for record in logs.records],
      [
        ' 25 % done, 48 s left (m=16)',
        ' 50 % done, 32 s left (m=32)',
        '100 % done, 0 s left (m=64)',
      ],
    )
    self.assertEmpty(err.getvalue())

  def test_compilation_is_over(self):
    """A minute of it, then 1 % a second: 90 s are left, not 700."""
    with (
      mock.patch.object(progress_line, 'time') as time,
      contextlib.redirect_stderr(io.StringIO()),
      self.assertLogs('absl', 'INFO') as logs,
    ):
      time.monotonic.return_value = 0
      progress = progress_line.Progress()
      progress(0.0, '')
      jax.monitoring.record_event_duration_secs(
        '/jax/core/compile/backend_compile_duration', 60.0
      )
      time.monotonic.return_value = 70
      progress(0.1, '')
    self.assertEqual(logs.records[0].getMessage(), ' 10 % done, 90 s left ()')

  def test_taken_up_again(self):
    """Half was done by another process: the pace is that of this one."""
    with (
      mock.patch.object(progress_line, 'time') as time,
      contextlib.redirect_stderr(Terminal()) as err,
    ):
      time.monotonic.return_value = 0
      progress = progress_line.Progress()
      for now in range(101):
        time.monotonic.return_value = now
        progress(0.5 + now / 1000 if now else 0.0, '')
      progress.close()
    self.assertIn('06:40 left', err.getvalue().split('\r')[-1])

  def test_nothing_done_yet(self):
    """After long compilation no rate is known: no line, no division by 0."""
    with (
      mock.patch.object(progress_line, 'time') as time,
      contextlib.redirect_stderr(io.StringIO()),
      self.assertNoLogs('absl', 'INFO'),
    ):
      time.monotonic.return_value = 0
      progress = progress_line.Progress()
      time.monotonic.return_value = 100
      progress(0.0, 'm=8')
    self.assertTrue(progress.started)

  def test_bar(self):
    """On a terminal: nothing before the first call, all there at the end."""
    with (
      contextlib.redirect_stderr(Terminal()) as err,
      self.assertNoLogs('absl', 'INFO'),
    ):
      progress = progress_line.Progress()
      self.assertFalse(progress.started)
      self.assertEmpty(err.getvalue())
      progress(0.0, 'm=8 seed=0')
      progress(0.5, 'm=8 seed=1')
      progress(1.0, 'm=9 seed=1')
      progress.close()
    last = err.getvalue().split('\r')[-1]
    self.assertRegex(last, r'\A100% ?\|.*\| .* left, m=9 seed=1 *\n\Z')

  def test_never_started(self):
    """Closing what was never shown shows nothing."""
    with contextlib.redirect_stderr(Terminal()) as err:
      progress_line.Progress().close()
    self.assertEmpty(err.getvalue())
