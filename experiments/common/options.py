"""Flags from the fields of a Config dataclass.

A script's flags live in a FlagValues of their own, made when the script is
called: two scripts imported into one process do not clash, and nothing below
`main` ever sees a flag.
"""

import dataclasses
import itertools
import re
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from absl import flags

from ossgd.data import paths

from . import printing

# What --dataset takes.
DATASETS = (
  'mnist, fashion_mnist, tfds:NAME for any images with class labels that TFDS '
  'has, as in tfds:cifar10 or tfds:emnist/letters, or file:PATH: IDX, npz, '
  'CSV, Parquet or LIBSVM files to train and to test with, recognised from '
  'what is in them (`pydoc ossgd.data.images` lists them); '
  'transposed:file:PATH turns images over, as EMNIST has them'
)

_DEFINE: dict[type, Any] = {
  bool: flags.DEFINE_bool,
  int: flags.DEFINE_integer,
  float: flags.DEFINE_float,
  str: flags.DEFINE_string,
  type(None): flags.DEFINE_integer,  # which need not be given
}


def option(
  default: Any, text: str, choices: Sequence[str] = (), **bounds: float
) -> Any:
  """A field of a Config that is a flag too; its default sets the type."""
  metadata = {'text': text, 'choices': choices, 'bounds': bounds}
  return dataclasses.field(default=default, metadata=metadata)


@dataclasses.dataclass(frozen=True)
class Call:
  """What a command line asks for: a Config, and the options of all scripts."""

  config: Any
  command: str  # to repeat it
  out: Any = option(  # a Path
    '', 'Folder for results.nc, config.json, report.md and the figures.'
  )
  overwrite: bool = option(
    False, 'Replace the results of other settings that --out holds.'
  )
  matmul_precision: str = option(
    'highest',
    'Of the operands of float32 matmuls, which are summed in float32. highest: '
    'float32 on every platform. high: TF32 on a GPU that has it, three '
    'bfloat16 passes on a TPU. default: the fastest, TF32 on such a GPU and '
    'bfloat16 on a TPU. A CPU has float32 only. experiments.precision shows '
    'what they do to the results.',
    # Levels that exist everywhere; a DotAlgorithmPreset fails on some hardware.
    choices=('highest', 'high', 'default'),
  )
  checkpoint_every: float = option(
    10.0,
    'Minutes between two saved states of a sweep. The same command goes on '
    'from the last one, and from every finished run.',
    lower_bound=0.0,
  )
  coordinator: str = option(
    '',
    'HOST:PORT of the first of several processes that work together, all with '
    'the same flags but --process_id and the same folder --out. auto: as the '
    "cluster's environment says.",
  )
  num_processes: int | None = option(
    None,
    'How many processes work together, with --coordinator=HOST:PORT.',
    lower_bound=1,
  )
  process_id: int | None = option(
    None,
    'Which of them this one is; 0 is the first, and the one that writes.',
    lower_bound=0,
  )


def parse(
  name: str,
  config: type,
  presets: Mapping[str, Mapping[str, Any]],
  argv: Sequence[str],
  doc: str | None = None,
) -> Call:
  """Flags to settings; shows --help or says what is wrong, and exits.

  Args:
    name: the script's, which names its run folder.
    config: a frozen dataclass of options; the defaults are the paper's.
    presets: by name, settings other than the defaults.
    argv: the command line, program first.
    doc: what --help begins with; by default the docstring of config's module.
  """
  values = _define(name, Call, config)
  values.set_default('out', f'runs/{name}')
  if presets:
    described = ''.join(
      f' {preset}: '
      + ' '.join(f'--{flag}={_shown(v)}' for flag, v in settings.items())
      + '.'
      for preset, settings in presets.items()
    )
    text = f'paper: the defaults.{described} Flags given by hand win.'
    names = ['paper', *presets]
    flags.DEFINE_enum('preset', 'paper', names, text, values, name)
  _read(values, argv, doc or sys.modules[config.__module__].__doc__)
  if presets:
    for flag, value in presets.get(values.preset, {}).items():
      values.set_default(flag, _shown(value))
  return Call(
    config(**_settings(values, config)),
    shlex.join([*_program(name), *argv[1:]]),
    **_settings(values, Call) | {'out': folder(values.out)},
  )


def _program(name: str) -> list[str]:
  """What runs a script: of an installation or of a checkout."""
  installed = __name__.startswith('ossgd.')
  return (
    ['ossgd', name] if installed else ['python', '-m', f'experiments.{name}']
  )


def parse_config(name: str, config: type, argv: Sequence[str]) -> Any:
  """The same for a script without a run folder: a Config is all it gets."""
  values = _define(name, config)
  _read(values, argv, sys.modules[config.__module__].__doc__)
  return config(**_settings(values, config))


def folder(path: str, flag: str = 'out') -> Path:
  """The folder that a flag names; ~ is the user's home."""
  if not path:
    fail(f'--{flag} is empty; expected a folder, such as --{flag}=runs/mine')
  try:
    paths.check_local(path)
    return Path(path).expanduser()
  except ValueError as error:
    fail(str(error))
  except RuntimeError:  # ~somebody, of whom nothing is known
    fail(f'--{flag}={path}: there is no such home folder')


def fail(message: str) -> NoReturn:
  """Ends the script as a wrong command line does."""
  printing.warn(f'error: {message}')
  sys.exit(2)


def as_flags(message: str) -> str:
  """A message with the arguments that it names as flags; paths stay."""
  for argument, flag in (
    (r"preprocess='(\w+)'", r'--preprocess=\1'),
    ('normalize=False', '--nonormalize'),
    (r'data_dir(?![\w/-]|\.\w)', '--data_dir'),
  ):
    message = re.sub(rf'(?<![\w/.-]){argument}', flag, message)
  return message


class _Numbers(flags.ListParser):
  """Numbers of one kind with commas between them, as a tuple."""

  def __init__(self, kind: type):
    super().__init__()
    self._kind = kind

  def parse(self, argument: Any) -> Any:
    return tuple(map(self._kind, super().parse(argument)))


def _options(config: type) -> list[dataclasses.Field]:
  return [field for field in dataclasses.fields(config) if field.metadata]


def _define(name: str, *configs: type) -> flags.FlagValues:
  """The options of some dataclasses as flags, and --help."""
  values = flags.FlagValues()
  where: dict[str, Any] = {'flag_values': values, 'module_name': name}
  flags.DEFINE_bool('help', False, 'Show this.', short_name='h', **where)
  for field in itertools.chain(*map(_options, configs)):
    text, choices, bounds = field.metadata.values()
    default: Any = field.default
    if choices:
      flags.DEFINE_enum(field.name, default, choices, text, **where)
    elif isinstance(default, tuple):
      commas: Any = flags.ListSerializer(',')  # between numbers
      about = (_Numbers(type(default[0])), field.name, _shown(default), text)
      flags.DEFINE(*about, serializer=commas, **where)
    else:
      _DEFINE[type(default)](field.name, default, text, **bounds, **where)
  return values


def _read(
  values: flags.FlagValues, argv: Sequence[str], doc: str | None
) -> None:
  """Gives flags the values of a command line; shows --help and exits."""
  flags.FLAGS(argv[:1])  # absl's own keep their defaults; app.run insists
  try:
    rest = values(list(argv))[1:]
    if rest:
      raise flags.Error(f'{rest[0]!r} is not a flag; one looks like --seed=1')
  except RecursionError:  # absl looks for a flag with a name like it
    fail('a flag has far too long a name (--help lists the flags)')
  except (flags.Error, ValueError) as error:  # ValueError: a flagfile's bytes
    fail(f'{error} (--help lists the flags)')
  if values.help:
    printing.say(f'{doc}\nFlags:\n{values.get_help()}')
    sys.exit(0)


def _settings(values: flags.FlagValues, config: type) -> dict[str, Any]:
  return {field.name: values[field.name].value for field in _options(config)}


def _shown(value: Any) -> str:
  return ','.join(map(str, value)) if isinstance(value, tuple) else str(value)
