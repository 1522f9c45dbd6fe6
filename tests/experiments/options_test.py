"""Tests of options: from a command line to settings, or a message.

The lines of this docstring are what --help of the toy script below begins with.
"""

import contextlib
import dataclasses
import io
import pathlib
import re
from collections.abc import Callable

from absl import flags
from absl.testing import parameterized

from experiments import mnist, synthetic
from experiments.common import options, scripts
from experiments.common.options import option


@dataclasses.dataclass(frozen=True)
class Toy:
  """One option of each type."""

  widths: tuple[int, ...] = option((4, 8), 'm, hidden units (Section 0: 4, 8).')
  scales: tuple[float, ...] = option((0.5,), 'sigma.')
  num_seeds: int = option(5, 'Runs (Section 0: 5).')
  rate: float = option(10.0, 'eta m.')
  normalize: bool = option(True, 'Unit norm.')
  order: str = option('epochs', 'Order.', choices=('epochs', 'one_pass'))
  name: str = option('mnist', 'Data.')


SCRIPTS = [
  module
  for module in map(scripts.load, scripts.names())
  if hasattr(module, 'EXPERIMENT')
]
PRESETS = {
  'quick': {'widths': (2,), 'num_seeds': 3},
  'wide': {'widths': (99, 100), 'normalize': False},
}


def parse(*args: str) -> options.Call:
  return options.parse('toy', Toy, PRESETS, ['program', *args])


def ended(function: Callable, *args, stderr=None) -> tuple[int, str, str]:
  """Exit code (0 for None), stdout and stderr of what ends the script."""
  out, err = io.StringIO(), stderr or io.StringIO()
  with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
    try:
      function(*args)
    except SystemExit as end:
      return end.code or 0, out.getvalue(), err.getvalue()
  raise AssertionError(f'{function} did not end the script')


class ParseTest(parameterized.TestCase):
  @parameterized.parameters(
    ('--widths=1000,2000,500', 'widths', (1000, 2000, 500)),
    ('--widths=', 'widths', ()),
    ('--scales=1,2.5,1e-3', 'scales', (1.0, 2.5, 0.001)),
    ('--num_seeds=-7', 'num_seeds', -7),
    ('--rate=4e2', 'rate', 400.0),
    ('--rate=3', 'rate', 3.0),
    ('--normalize', 'normalize', True),
    ('--nonormalize', 'normalize', False),
    ('--normalize=false', 'normalize', False),
    ('--order=one_pass', 'order', 'one_pass'),
    ('--name=npz:/a b/c=d,e.npz', 'name', 'npz:/a b/c=d,e.npz'),
  )
  def test_types(self, arg, name, value):
    """The flag's setting has the default's type; the others keep theirs."""
    config = parse(arg).config
    self.assertEqual(config, dataclasses.replace(Toy(), **{name: value}))
    found = getattr(config, name)
    self.assertIs(type(found), type(value))
    if isinstance(value, tuple):
      self.assertEqual(list(map(type, found)), list(map(type, value)))
    hash(config)  # static under jit

  def test_several(self):
    """Either spelling of a value, one dash or two, the last one counts."""
    config = parse('--widths', '1,2', '-num_seeds=1', '--num_seeds', '2').config
    self.assertEqual(config, Toy(widths=(1, 2), num_seeds=2))

  def test_folder(self):
    """The script's name names the folder; ~ is the user's home."""
    run = 'python -m experiments.toy'
    there = pathlib.Path('runs/toy')
    self.assertEqual(parse(), options.Call(Toy(), run, there))
    call = parse('--out=~/the re', '--overwrite')
    run += " '--out=~/the re' --overwrite"
    there = pathlib.Path.home() / 'the re'
    self.assertEqual(call, options.Call(Toy(), run, there, overwrite=True))

  @parameterized.parameters(
    ('', 'empty'),
    ('gs://bucket/x', 'mount'),
    ('~nobody-here/x', 'no such home'),
  )
  def test_no_folder(self, folder, reason):
    """Neither the working directory nor one called gs: is meant."""
    code, _, err = ended(parse, f'--out={folder}')
    self.assertEqual(code, 2)
    self.assertRegex(err, rf'\Aerror: [^\n]*{reason}[^\n]*\n\Z')

  @parameterized.parameters(
    ('--preset=paper', Toy()),
    ('--preset=quick', Toy(widths=(2,), num_seeds=3)),
    ('--preset=wide', Toy(widths=(99, 100), normalize=False)),
    ('--num_seeds=9 --preset=quick', Toy(widths=(2,), num_seeds=9)),
    ('--preset=quick --num_seeds=5', Toy(widths=(2,), num_seeds=5)),
    ('--preset=wide --normalize', Toy(widths=(99, 100))),
  )
  def test_presets(self, args, config):
    """A flag given by hand wins, wherever it stands, even at its default."""
    self.assertEqual(parse(*args.split()).config, config)

  def test_no_presets(self):
    """Where there are none, there is no flag that does nothing."""
    code, _, err = ended(
      options.parse, 'toy', Toy, {}, ['program', '--preset=paper']
    )
    self.assertEqual(code, 2)
    self.assertIn('preset', err)

  def test_no_run_folder(self):
    """A script that leaves none has its own options and no others."""

    def parse_config(*args):
      return options.parse_config('toy', Toy, ['program', *args])

    self.assertEqual(parse_config('--num_seeds=1'), Toy(num_seeds=1))
    code, out, _ = ended(parse_config, '--help')
    self.assertEqual(code, 0)
    self.assertRegex(out, r'--num_seeds: ')
    for name in ('out', 'overwrite', 'matmul_precision', 'preset'):
      self.assertNotRegex(out, rf'--(\[no\])?{name}: ')
      code, _, err = ended(parse_config, f'--{name}=1')
      self.assertEqual(code, 2)
      self.assertIn(name, err)

  @parameterized.parameters(
    ('--widths=abc', '--widths=abc', 'int'),
    ('--widths=1.5,2', '--widths=1.5,2', 'int'),
    ('--widths=1,,2', '--widths=1,,2', 'int'),
    ('--scales=1,x', '--scales=1,x', 'float'),
    ('--num_seeds=1.5', '--num_seeds=1.5', 'int'),
    ('--num_seeds', '--num_seeds', 'value'),
    ('--rate=fast', '--rate=fast', 'float'),
    ('--normalize=maybe', '--normalize=maybe', 'oolean'),
    ('--order=random', '--order=random', 'epochs|one_pass'),
    ('--preset=slow', '--preset=slow', 'paper|quick|wide'),
    ('--checkpoint_every=-1', '--checkpoint_every=-1', 'non-negative'),
    ('--nun_seeds=3', 'nun_seeds', 'Did you mean: num_seeds'),
    ('2', "'2' is not a flag", '--seed=1'),  # of `--widths=1, 2`
    ('--flagfile=/nowhere', '/nowhere', 'open'),
  )
  def test_wrong(self, arg, *parts):
    """One line that says which flag and what was expected; exit code 2."""
    code, out, err = ended(parse, '--rate=1', arg)
    self.assertEqual((code, out), (2, ''))
    self.assertRegex(err, r'\Aerror: [^\n]+ \(--help lists the flags\)\n\Z')
    for part in parts:
      self.assertIn(part, err)

  def test_nothing_leaks(self):
    """Two scripts in one process do not clash, nor meet absl's flags."""
    before = set(flags.FLAGS)
    calls = [
      options.parse(script.name, script.config, script.presets, ['p', *args])
      for script in (synthetic.EXPERIMENT, mnist.EXPERIMENT)
      for args in ([], ['--num_steps=7'])
    ]
    self.assertEqual(
      [call.config.num_steps for call in calls], [400, 7, 20000, 7]
    )
    self.assertEqual(set(flags.FLAGS), before)


class HelpTest(parameterized.TestCase):
  @parameterized.parameters('--help', '-h', '--help --widths=2')
  def test_help(self, args):
    """The docstring, then each flag: what it is, its default, its choices."""
    code, out, err = ended(parse, *args.split())
    self.assertEqual((code, err), (0, ''))
    self.assertStartsWith(out, __doc__)
    found = re.findall(r'\n  (?:-h,)?--(\S+?):(.+?)(?=\n  \S|\n\S)', out, re.S)
    text = {name: ' '.join(about.split()) for name, about in found}
    for name, about, default in (
      ('widths', 'm, hidden units (Section 0: 4, 8).', '4,8'),
      ('scales', 'sigma.', '0.5'),
      ('num_seeds', 'Runs (Section 0: 5).', '5'),
      ('rate', 'eta m.', '10.0'),
      ('[no]normalize', 'Unit norm.', 'true'),
      ('order', '<epochs|one_pass>: Order.', 'epochs'),
      ('name', 'Data.', 'mnist'),
      ('[no]overwrite', 'Replace', 'false'),
      ('out', 'Folder', 'runs/toy'),
      ('matmul_precision', '<highest|high|default>: Of the', 'highest'),
      ('preset', 'quick: --widths=2 --num_seeds=3.', 'paper'),
      ('preset', 'wide: --widths=99,100 --normalize=False.', 'paper'),
    ):
      self.assertIn(about, text[name])
      self.assertIn(f"(default: '{default}')", text[name])

  @parameterized.parameters(*SCRIPTS)
  def test_scripts(self, module):
    """All of a script's options are there, under the script's docstring."""
    script = module.EXPERIMENT
    self.assertEqual(f'experiments.{script.name}', module.__name__)
    code, out, _ = ended(module.main, ['p', '--help'])
    self.assertEqual(code, 0)
    self.assertStartsWith(out, module.__doc__)
    squeezed = ''.join(out.split())  # absl breaks lines at hyphens, too
    for field in dataclasses.fields(script.config):
      self.assertIn(''.join(field.metadata['text'].split()), squeezed)
      self.assertRegex(out, rf'--(\[no\])?{field.name}: ')

  @parameterized.parameters(*SCRIPTS)
  def test_presets_are_settings(self, module):
    """Each setting of a preset exists and has the default's type."""
    config = module.EXPERIMENT.config
    for settings in module.EXPERIMENT.presets.values():
      for name, value in settings.items():
        default = getattr(config(), name)
        self.assertIs(type(value), type(default))
        self.assertNotEqual(value, default)


class PaperTest(parameterized.TestCase):
  @parameterized.parameters(
    (
      synthetic.Config,
      'dim=1000 num_classes=10 num_components=2 noise_scale=1 center_scale=5 '
      'num_train=1000 num_test=1000 num_steps=400 batch_size=16 '
      'lr_times_width=10 num_seeds=5 target=0.98',
    ),
    (
      mnist.Config,
      'num_steps=20000 batch_size=64 lr_times_width=400 num_seeds=5 '
      'target=0.95',
    ),
  )
  def test_defaults(self, config, paper):
    """Section 7's and D.1's numbers; the help says where they stand."""
    fields = {field.name: field for field in dataclasses.fields(config)}
    for name, value in (word.split('=') for word in paper.split()):
      self.assertEqual(fields[name].default, float(value), name)
      section = 'D.1' if name == 'target' else 'Section 7'
      text = fields[name].metadata['text']
      self.assertRegex(text, rf'\({section}: {value}\b')
