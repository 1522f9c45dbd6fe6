"""Flags from the fields of a Config dataclass.

A script's flags live in a FlagValues of their own, made when the script is
called: two scripts imported into one process do not clash, and nothing below
`main` ever sees a flag.
"""

import dataclasses
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

from absl import flags

from ossgd.data import paths

from . import printing

_DEFINE: dict[type, Any] = {
  bool: flags.DEFINE_bool,
  int: flags.DEFINE_integer,
  float: flags.DEFINE_float,
  str: flags.DEFINE_string,
  tuple: flags.DEFINE_list,  # of strings, turned into numbers by `_typed`
}
# The levels that exist everywhere; a DotAlgorithmPreset fails on some hardware.
_PRECISIONS = ('highest', 'high', 'default')
_PRECISION_TEXT = (
  'Of the operands of float32 matmuls, which are summed in float32. highest: '
  'float32 on every platform. high: TF32 on a GPU that has it, three bfloat16 '
  'passes on a TPU. default: the fastest, TF32 on such a GPU and bfloat16 on a '
  'TPU. A CPU has float32 only. Emulated on Section 7, m = 500 to 8000 '
  '(experiments.precision): bfloat16 changes the mean test accuracy by 0.0004 '
  'and flips 0.08 % of the patterns at w(0), which inflates the pattern '
  'difference by up to 20 % at step 1 and by 0.12 % at T; TF32 flips 0.01 %, '
  'which inflates it by 2 % and 0.04 %.'
)


class Call(NamedTuple):
  """What a command line asks for."""

  config: Any
  out: Path
  overwrite: bool
  command: str  # to repeat it
  matmul_precision: str  # of `jax.default_matmul_precision`
  checkpoint_every: float  # minutes
  hosts: tuple[str, int | None, int | None]  # coordinator, processes, this one


def option(default: Any, text: str, choices: Sequence[str] = ()) -> Any:
  """A field of a Config that is a flag too; its default sets the type."""
  return dataclasses.field(
    default=default, metadata={'text': text, 'choices': choices}
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
  values = flags.FlagValues()
  where: dict[str, Any] = {'flag_values': values, 'module_name': name}
  text = 'Folder for results.nc, config.json, report.md and the figures.'
  flags.DEFINE_string('out', f'runs/{name}', text, **where)
  text = 'Replace the results of other settings that --out holds.'
  flags.DEFINE_bool('overwrite', False, text, **where)
  flags.DEFINE_enum(
    'matmul_precision', 'highest', _PRECISIONS, _PRECISION_TEXT, **where
  )
  text = (
    'Minutes between two saved states of a sweep. The same command goes on '
    'from the last one, and from every finished run.'
  )
  flags.DEFINE_float('checkpoint_every', 10.0, text, lower_bound=0.0, **where)
  text = (
    'HOST:PORT of the first of several processes that work together, all with '
    'the same flags but --process_id and the same folder --out. auto: as the '
    "cluster's environment says."
  )
  flags.DEFINE_string('coordinator', '', text, **where)
  text = 'How many processes work together, with --coordinator=HOST:PORT.'
  flags.DEFINE_integer('num_processes', None, text, lower_bound=1, **where)
  text = 'Which of them this one is; 0 is the first, and the one that writes.'
  flags.DEFINE_integer('process_id', None, text, lower_bound=0, **where)
  if presets:
    described = ''.join(
      f' {preset}: '
      + ' '.join(f'--{flag}={_shown(v)}' for flag, v in settings.items())
      + '.'
      for preset, settings in presets.items()
    )
    text = f'paper: the defaults.{described} Flags given by hand win.'
    flags.DEFINE_enum('preset', 'paper', ['paper', *presets], text, **where)
  found = _parsed(values, name, config, presets, argv, doc)
  command = shlex.join([*_program(name), *argv[1:]])
  out = folder(values.out)
  return Call(
    found,
    out,
    values.overwrite,
    command,
    values.matmul_precision,
    values.checkpoint_every,
    (values.coordinator, values.num_processes, values.process_id),
  )


def _program(name: str) -> list[str]:
  """What runs a script: of an installation or of a checkout."""
  installed = __name__.startswith('ossgd.')
  return (
    ['ossgd', name] if installed else ['python', '-m', f'experiments.{name}']
  )


def parse_config(name: str, config: type, argv: Sequence[str]) -> Any:
  """The same for a script without a run folder: a Config is all it gets."""
  return _parsed(flags.FlagValues(), name, config, {}, argv)


def folder(flag: str) -> Path:
  """The folder that a flag names; ~ is the user's home."""
  if not flag:
    fail('a folder is empty; give its name, such as --out=runs/mine')
  try:
    paths.check_local(flag)
    return Path(flag).expanduser()
  except ValueError as error:
    fail(str(error))
  except RuntimeError:  # ~somebody, of whom nothing is known
    fail(f'{flag}: there is no such home folder')


def fail(message: str) -> NoReturn:
  """Ends the script as a wrong command line does."""
  printing.warn(f'error: {message}')
  sys.exit(2)


def _parsed(
  values: flags.FlagValues,
  name: str,
  config: type,
  presets: Mapping[str, Mapping[str, Any]],
  argv: Sequence[str],
  doc: str | None = None,
) -> Any:
  """Adds a Config's flags to those there, parses all, and fills a Config."""
  _define(values, name, config)
  flags.FLAGS(argv[:1])  # absl's own keep their defaults; app.run insists
  try:
    rest = values(list(argv))[1:]
    if rest:
      raise flags.Error(f'{rest[0]!r} is not a flag; one looks like --seed=1')
    if values.help:
      doc = doc or sys.modules[config.__module__].__doc__
      printing.say(f'{doc}\nFlags:\n{values.get_help()}')
      sys.exit(0)
    settings = dict(presets.get(values.preset, {})) if presets else {}
    for field in dataclasses.fields(config):
      if values[field.name].present:
        settings[field.name] = _typed(field, values[field.name].value)
  except RecursionError:  # absl looks for a flag with a name like it
    fail('a flag has far too long a name (--help lists the flags)')
  except (flags.Error, ValueError) as error:  # ValueError: a flagfile's bytes
    fail(f'{error} (--help lists the flags)')
  return config(**settings)


def _define(values: flags.FlagValues, name: str, config: type) -> None:
  where: dict[str, Any] = {'flag_values': values, 'module_name': name}
  for field in dataclasses.fields(config):
    text, choices = field.metadata['text'], field.metadata['choices']
    default: Any = field.default
    if choices:
      flags.DEFINE_enum(field.name, default, choices, text, **where)
      continue
    if isinstance(default, tuple):
      default = [str(number) for number in default]
    _DEFINE[type(field.default)](field.name, default, text, **where)
  flags.DEFINE_bool('help', False, 'Show this.', short_name='h', **where)


def _shown(value: Any) -> str:
  return ','.join(map(str, value)) if isinstance(value, tuple) else str(value)


def _typed(field: dataclasses.Field, value: Any) -> Any:
  """A list of strings as a tuple of the default's kind of number."""
  if not isinstance(field.default, tuple):
    return value
  kind = type(field.default[0])
  try:
    return tuple(kind(item) for item in value)
  except ValueError as error:
    raise flags.Error(
      f'flag --{field.name}={",".join(value)}: expected {kind.__name__} '
      'numbers with commas between them'
    ) from error
