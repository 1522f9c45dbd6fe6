"""Run folders read back and judged again, fit for a page or not.

What is on disk may be of another version, partial, damaged or not ours at all:
nothing of it is trusted, and nothing is dropped without a reason.
"""

import base64
import dataclasses
import io
import json
import types
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image

from ossgd.results import claims
from ossgd.storing import records

from .. import scripts

_LARGEST_BYTES, _LARGEST_SIDE = 5_000_000, 10_000  # ours: a fifth of either


class Picture(NamedTuple):
  """A figure to embed."""

  name: str
  width: int  # pixels
  height: int
  base64: str  # a PNG


class Run(NamedTuple):
  """A complete run folder, judged."""

  folder: str
  title: str
  differences: list[str]  # from what today's version would leave
  findings: list[claims.Finding]
  table: str  # Markdown
  pictures: list[Picture]
  refused: list[str]  # files named like figures that are not
  command: str
  time: str
  settings: dict[str, str]  # JSON
  versions: dict[str, str]


class Gathered(NamedTuple):
  """All there is to report."""

  runs: list[Run]
  left_out: dict[str, str]  # folder to reason


class _LeftOutError(ValueError):
  """A folder cannot be judged; the message says why."""


def gather(folder: Path) -> Gathered:
  """Reads and judges every run folder directly below a folder.

  Raises:
    ValueError: there is no such folder, or nothing in it.
  """
  if not folder.is_dir():
    raise ValueError(f'{folder} is not a folder; give one with --runs')
  runs, left_out = [], {}
  for path in sorted(folder.iterdir()):
    if not path.is_dir() or path.name.startswith('.'):
      continue
    try:
      runs.append(read(path))
    except _LeftOutError as error:
      left_out[path.name] = str(error)
    except Exception as error:
      # Results of another version, or damaged, break a script anywhere.
      left_out[path.name] = f'cannot be judged: {type(error).__name__}: {error}'
  if not runs and not left_out:
    raise ValueError(
      f'{folder} holds no run folders; give the folder above them with --runs'
    )
  return Gathered(runs, left_out)


def read(folder: Path) -> Run:
  """One run folder, judged again from its results."""
  for name in (records.CONFIG, records.RESULTS):
    if not (folder / name).is_file():
      raise _LeftOutError(f'partial: there is no {name}')
  try:
    results, config = records.read(folder)
  except records.RecordError as error:
    reason = f'unreadable: {error.__cause__ or error}'
    raise _LeftOutError(reason) from error
  script = _script(config.get('experiment'))
  if script is None:
    raise _LeftOutError(f'of an unknown script, {config.get("experiment")!r}')
  experiment = script.EXPERIMENT
  settings, versions = config['settings'], config['environment']
  pictures, refused = _pictures(folder)
  seconds = results.attrs.get('seconds')
  return Run(
    folder.name,
    title=str(script.__doc__).partition('\n')[0],
    differences=_differences(settings, versions, experiment.config),
    findings=[claims.judge(c, results) for c in experiment.claims(results)],
    table=experiment.table(results),
    pictures=pictures,
    refused=refused,
    command=str(results.attrs.get('command', 'not recorded')),
    time='not recorded' if seconds is None else f'{seconds:.0f} s',
    settings=_shown(settings),
    versions=_shown(versions),
  )


def _script(name: Any) -> types.ModuleType | None:
  """The script of this name; none but the modules beside this one."""
  if name not in scripts.names():
    return None
  module = scripts.load(name)
  return module if hasattr(module, 'EXPERIMENT') else None


def _differences(
  settings: dict[str, Any], versions: dict[str, Any], config: type
) -> list[str]:
  """Versions and names of settings that are not today's."""
  now = records.environment()
  known = {field.name for field in dataclasses.fields(config)}
  return [
    *(
      f'{name} {versions.get(name, "unknown")}, today {now[name]}'
      for name in ('ossgd', 'jax', 'jaxlib', 'numpy')
      if versions.get(name) != now[name]
    ),
    *(
      f'setting {name}, unknown today'
      for name in sorted(settings.keys() - known)
    ),
    # The mesh is of the devices, not of the work, and not kept.
    *(
      f'no setting {name}'
      for name in sorted(known - settings.keys() - {'mesh'})
    ),
  ]


def _shown(values: dict[str, Any]) -> dict[str, str]:
  return {k: json.dumps(v, ensure_ascii=False) for k, v in values.items()}


def _pictures(folder: Path) -> tuple[list[Picture], list[str]]:
  """The figures, and the files that are named like one and are none."""
  pictures, refused = [], []
  for path in sorted(folder.glob('*.png')):
    try:
      pictures.append(_picture(path))
    except Exception:
      # Pillow raises whatever suits the damage, SyntaxError for example.
      refused.append(path.name)
  return pictures, refused


def _picture(path: Path) -> Picture:
  if not path.is_file() or path.stat().st_size > _LARGEST_BYTES:
    raise ValueError('not a file, or too large')
  content = path.read_bytes()
  with Image.open(io.BytesIO(content), formats=['PNG']) as image:
    width, height = image.size
    image.verify()
  if max(width, height) > _LARGEST_SIDE:
    raise ValueError('too wide or high')
  return Picture(path.stem, width, height, base64.b64encode(content).decode())
