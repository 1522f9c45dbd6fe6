"""Tests of command: a command line to a folder, with a script like a toy."""

import contextlib
import dataclasses
import io
import json
import pathlib
import tempfile
from unittest import mock

import jax
import numpy as np
import xarray as xr
from absl.testing import parameterized
from matplotlib.figure import Figure

from experiments.common import command
from experiments.common.options import option
from ossgd.results import claims
from ossgd.storing import records
from tests.experiments.options_test import ended


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
    claims.Claim(
      'here', 'all is well', 'value', lambda ds: ds.value, low=-9, high=9
    )
  ],
)
NEVER = mock.Mock(side_effect=AssertionError('computed anew'))
WHOLE = {'results.nc', 'config.json', 'report.md', 'curve.png'}


class Terminal(io.StringIO):
  """A stderr that somebody looks at."""

  def isatty(self) -> bool:
    return True


class Case(parameterized.TestCase):
  """With a folder for a script's results."""

  def setUp(self):
    super().setUp()
    root = pathlib.Path(self.enter_context(tempfile.TemporaryDirectory()))
    self.out = root / 'out'

  def call(self, experiment, *args, stderr=None) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of a script."""
    argv = ['program', f'--out={self.out}', *args]
    return ended(command.main, experiment, argv, stderr=stderr)

  def refused(self, experiment, *args) -> str:
    """The one line of a script that ends with 2 and leaves all as it was."""
    before = self.files()
    code, out, err = self.call(experiment, *args)
    self.assertEqual((code, out), (2, ''))
    self.assertRegex(err, r'\Aerror: [^\n]+\n\Z')
    self.assertEqual(self.files(), before)
    return err

  def files(self) -> dict[str, bytes]:
    return {
      path.name: path.read_bytes() if path.is_file() else b''
      for path in self.out.glob('*')
      if path.name != '.lock'  # stays, held by nobody
    }


class MainTest(Case):
  def test_overwrite(self):
    """Other results are replaced when told so, in every file."""
    self.assertEqual(self.call(TOY)[0], 0)
    err = self.refused(TOY, '--num_seeds=4')
    self.assertIn('num_seeds: 3 there, 4 here', err)
    self.assertIn('(--out, --overwrite)', err)
    self.assertEqual(self.call(TOY, '--num_seeds=4', '--overwrite')[0], 0)
    results, config = records.read(self.out)
    self.assertEqual(results.sizes['seed'], 4)
    self.assertEqual(config['settings'], {'num_seeds': 4})
    self.assertIn('sum 6', self.files()['report.md'].decode())

  @parameterized.product(
    error=(ValueError, OSError), index=(0, 1), begun=(False, True)
  )
  def test_error(self, error, index, begun):
    """Before the first step it is the input; later a fault, or a lost host."""

    def run(config, progress):
      if begun:
        progress(0.0, 'm=8')
      raise error('no such thing')

    script, screen = TOY._replace(run=run), Terminal()
    with mock.patch.object(jax, 'process_index', return_value=index):
      if begun:
        with self.assertRaisesRegex(error, 'no such thing'):
          self.call(script, stderr=screen)
      else:
        code, out, err = self.call(script, stderr=screen)
        self.assertEqual((code, out, err), (2, '', 'error: no such thing\n'))
    if index:
      self.assertNotIn('%', screen.getvalue())  # the first one shows progress
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
    code, out, _ = self.call(TOY._replace(run=NEVER))
    self.assertEqual(code, 0)
    self.assertIn('sum 3', out)
    self.assertEqual(set(self.files()), WHOLE)
    _, config = records.read(self.out)
    self.assertGreater(sum(config['seconds'].values()), 0)

  def test_print_comes_last(self):
    """Whoever reads the first line finds the folder complete."""
    seen = []

    class Reader(io.StringIO):
      def write(_, text):
        seen.append(set(self.files()))
        return len(text)

    with (
      contextlib.redirect_stdout(Reader()),
      contextlib.suppress(SystemExit),
    ):
      command.main(TOY, ['program', f'--out={self.out}'])
    self.assertEqual(seen[0], WHOLE)
    records.read(self.out)

  def test_edited_report(self):
    """Is left and said; other work is refused, whatever the flags."""
    self.call(TOY)
    report = self.out / 'report.md'
    report.write_text('my notes')
    with self.assertLogs(level='WARNING') as logs:
      self.assertEqual(self.call(TOY)[0], 0)
    self.assertIn(f'{report} was not written by this program', logs.output[0])
    err = self.refused(TOY, '--num_seeds=4', '--overwrite')
    self.assertIn('holds report.md, which this program did not write', err)
    self.assertEqual(report.read_text(), 'my notes')

  def test_redrawn(self):
    """By today's code, and still ours."""
    self.call(TOY)
    wider = TOY._replace(
      run=NEVER,
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

  def test_damaged_config(self):
    """Is named; what else there is ours is not known any more, so it stays."""
    self.call(TOY)
    (self.out / 'config.json').write_bytes(b'{')
    self.assertRegex(self.refused(TOY), 'config.json.*--out')
    err = self.refused(TOY, '--overwrite')
    self.assertIn('holds config.json, curve.png, report.md, results.nc', err)

  def test_terminal(self):
    """The bar ends before the table; shown again there is none."""
    screen, before_table = Terminal(), []

    def table(ds):
      before_table.append(screen.getvalue())
      return TOY.table(ds)

    self.call(TOY._replace(table=table), stderr=screen)
    self.assertIn('100%', before_table[0])
    self.assertEndsWith(before_table[0], '\n')
    _, out, err = self.call(TOY, stderr=Terminal())
    self.assertIn('sum 3', out)
    self.assertNotIn('%', err)
