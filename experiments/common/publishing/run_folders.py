"""Run folders read back and judged again, fit for a page or not.

What is on disk may be of another version, partial or damaged: nothing of it is
dropped without a reason.
"""

import dataclasses
import hashlib
import io
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from ossgd.results import claims, tables
from ossgd.storing import records

from .. import scripts
from .summaries import Summary


class Picture(NamedTuple):
  """A figure to embed."""

  name: str  # of its file, without the ending
  width: int  # pixels
  height: int
  content: bytes  # a PNG


class Run(NamedTuple):
  """A complete run folder, judged."""

  folder: str
  summary: Summary
  table: str  # Markdown
  pictures: list[Picture]
  differences: list[str]  # from what today's version would leave


class Gathered(NamedTuple):
  """All there is to report."""

  runs: list[Run]
  left_out: dict[str, str]  # folder to reason


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
    except ValueError as error:
      left_out[path.name] = str(error)
    except Exception as error:
      # Results of another version break a script anywhere.
      left_out[path.name] = f'cannot be judged: {type(error).__name__}: {error}'
  if not runs and not left_out:
    raise ValueError(
      f'{folder} holds no run folders; give the folder above them with --runs'
    )
  return Gathered(runs, left_out)


def read(folder: Path) -> Run:
  """One run folder, judged again from its results.

  Raises:
    ValueError: it is partial or damaged, or no script of today left it.
  """
  for name in (records.CONFIG, records.RESULTS):
    if not (folder / name).is_file():
      raise ValueError(f'partial: there is no {name}')
  results, config = records.read(folder)
  if config.get('experiment') not in scripts.names():
    raise ValueError(f'of an unknown script, {config.get("experiment")!r}')
  script = scripts.load(config['experiment'])
  experiment, told = script.EXPERIMENT, results.attrs
  table, pictures = experiment.table(results), _pictures(folder)
  summary = Summary(
    experiment=config['experiment'],
    title=str(script.__doc__).partition('\n')[0],
    command=str(told.get('command', 'not recorded')),
    settings=config['settings'],
    versions=config['environment'],
    seconds=config.get(records.SECONDS) or {'other': told.get('seconds', 0.0)},
    findings=[claims.judge(c, results) for c in experiment.claims(results)],
    blocks=tables.blocks(table),
    figures={
      f'{picture.name}.png': hashlib.sha256(picture.content).hexdigest()
      for picture in pictures
    },
  )
  differences = _differences(summary, experiment.config)
  return Run(folder.name, summary, table, pictures, differences)


def _differences(summary: Summary, config: type) -> list[str]:
  """Versions and names of settings that are not today's."""
  now, versions = records.environment(), summary.versions
  aside = {*scripts.GROUPING, *scripts.LATER}
  known = {field.name for field in dataclasses.fields(config)} - aside
  found = summary.settings.keys() - aside
  return [
    *(
      f'{name} {versions.get(name, "unknown")}, today {now[name]}'
      for name in ('ossgd', 'jax', 'jaxlib', 'numpy')
      if versions.get(name) != now[name]
    ),
    *(f'setting {name}, unknown today' for name in sorted(found - known)),
    *(f'no setting {name}' for name in sorted(known - found)),
  ]


def _pictures(folder: Path) -> list[Picture]:
  """The figures.

  Raises:
    ValueError: one is damaged.
  """
  pictures = []
  for path in sorted(folder.glob('*.png')):
    content = path.read_bytes()
    try:
      with Image.open(io.BytesIO(content), formats=['PNG']) as image:
        image.verify()
    except Exception as error:  # whatever suits the damage
      raise ValueError(f'{path.name} is not a whole PNG') from error
    pictures.append(Picture(path.stem, *image.size, content))
  return pictures
