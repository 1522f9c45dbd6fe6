"""Run folders read back and judged again, fit for a page or not.

What is on disk may be of another version, partial or damaged: nothing of it is
dropped without a reason. Folders that differ in their seeds only, such as those
of a job array, are judged as one.
"""

from __future__ import annotations

import collections
import dataclasses
import hashlib
import io
import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from PIL import Image

from ossgd.results import claims, tables
from ossgd.storing import pooling, records

from .. import scripts
from .summaries import Summary

if TYPE_CHECKING:
  import xarray as xr
  from matplotlib.figure import Figure


class Picture(NamedTuple):
  """A figure to embed."""

  name: str  # of its file, without the ending
  width: int  # pixels
  height: int
  content: bytes  # a PNG


class Run(NamedTuple):
  """A complete run folder, or several that were pooled, judged."""

  folder: str
  summary: Summary
  table: str  # Markdown
  pictures: list[Picture]
  differences: list[str]  # from what today's version would leave
  pooled: str = ''  # which runs are of which folder


_Read = tuple[Run, 'xr.Dataset', dict[str, Any]]


class Gathered(NamedTuple):
  """All there is to report."""

  runs: list[Run]
  left_out: dict[str, str]  # folder to reason


def gather(folder: Path) -> Gathered:
  """Reads and judges every run folder in a folder.

  A subfolder that is none itself may hold those of a job array.

  Raises:
    ValueError: there is no such folder, or nothing in it.
  """
  if not folder.is_dir():
    raise ValueError(f'{folder} is not a folder; give one with --runs')
  found, left_out = {}, {}
  for path in _places(folder):
    name = str(path.relative_to(folder))
    try:
      run, results, config = _read(path)
      found[name] = run._replace(folder=name), results, config
    except ValueError as error:
      left_out[name] = str(error)
    except Exception as error:
      # Results of another version break a script anywhere.
      left_out[name] = f'cannot be judged: {type(error).__name__}: {error}'
  if not found and not left_out:
    raise ValueError(
      f'{folder} holds no run folders; give the folder above them with --runs'
    )
  runs = [run for group in _groups(found) for run in _together(group)]
  return Gathered(runs, left_out)


def _places(folder: Path) -> Iterator[Path]:
  """Run folders in a folder; those of a job array are one level below."""
  for path in _below(folder):
    tasks = [one for one in _below(path) if one.name != records.CHECKPOINTS]
    several = any((one / records.CONFIG).exists() for one in tasks)
    alone = (path / records.CONFIG).exists()
    yield from tasks if several and not alone else [path]


def _below(folder: Path) -> list[Path]:
  return sorted(
    path
    for path in folder.iterdir()
    if path.is_dir() and not path.name.startswith('.')
  )


def _groups(found: Mapping[str, _Read]) -> list[dict[str, _Read]]:
  """Those that agree in all but their seeds together, each run once."""
  groups: list[dict[str, _Read]] = []
  for name, one in found.items():
    for group in groups:
      first, *_ = group.values()
      if _asked(first) == _asked(one) and not any(
        'seed' not in one[1].dims or pooling.overlap(one[1], other[1])
        for other in group.values()
      ):
        group[name] = one
        break
    else:
      groups.append({name: one})
  return groups


def _asked(one: _Read) -> tuple[Any, ...]:
  """What has to agree of runs that are judged as one; today's sources too."""
  _, results, config = one
  widths = [config['settings'].get(name) for name in ('widths', 'width')]
  agree = widths, config.get('code'), set(results.variables)
  return pooling.settings(config), *agree


def _together(group: Mapping[str, _Read]) -> list[Run]:
  """One run folder, or several as one, drawn and judged again."""
  runs = [run for run, _, _ in group.values()]
  if len(group) == 1:
    return runs
  try:
    return [_pooled(group)]
  except Exception as error:  # more than seeds differs, or breaks the script
    logging.warning('%s are not judged as one: %s', ', '.join(group), error)
    return runs


def _pooled(group: Mapping[str, _Read]) -> Run:
  """Several run folders as one."""
  runs = [run for run, _, _ in group.values()]
  results = pooling.pool({name: one[1] for name, one in group.items()})
  script = scripts.load(runs[0].summary.experiment)
  seconds: collections.Counter[str] = collections.Counter()
  for run in runs:
    seconds.update(run.summary.seconds)
  settings = runs[0].summary.settings | {
    'seed': int(results.seed[0]),
    'num_seeds': results.sizes['seed'],
  }
  first, *_, last = group
  run = _judged(
    f'{first} to {last} ({len(group)} folders)',
    script,
    results,
    {
      'experiment': runs[0].summary.experiment,
      'settings': settings,
      'environment': runs[0].summary.versions,
      records.SECONDS: dict(seconds),
    },
    _drawn(script.EXPERIMENT.figures(results)),
  )
  differences = dict.fromkeys(d for one in runs for d in one.differences)
  pooled = str(results.attrs['pooled'])
  return run._replace(differences=[*differences], pooled=pooled)


def read(folder: Path) -> Run:
  """One run folder, judged again from its results.

  Raises:
    ValueError: it is partial or damaged, or no script of today left it.
  """
  return _read(folder)[0]


def _read(folder: Path) -> _Read:
  """With the results and the config that it was judged from."""
  for name in (records.CONFIG, records.RESULTS):
    if not (folder / name).is_file():
      raise ValueError(f'partial: there is no {name}')
  results, config = records.read(folder)
  if config.get('experiment') not in scripts.names():
    raise ValueError(f'of an unknown script, {config.get("experiment")!r}')
  script = scripts.load(config['experiment'])
  run = _judged(folder.name, script, results, config, _pictures(folder))
  return run, results, config


def _judged(
  folder: str,
  script: Any,
  results: xr.Dataset,
  config: Mapping[str, Any],
  pictures: list[Picture],
) -> Run:
  """What a script of today says of results."""
  experiment, told = script.EXPERIMENT, results.attrs
  table = experiment.table(results)
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
  return Run(folder, summary, table, pictures, differences)


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


def _drawn(figures: Mapping[str, Figure]) -> list[Picture]:
  """Figures that are in no folder."""
  pictures = []
  for name, figure in sorted(figures.items()):
    content = io.BytesIO()
    figure.savefig(content, format='png', dpi=150)
    with Image.open(content) as image:
      pictures.append(Picture(name, *image.size, content.getvalue()))
  return pictures


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
