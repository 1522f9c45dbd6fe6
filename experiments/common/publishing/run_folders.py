"""Run folders gathered: what they say alone, and what several say together.

Nothing on disk is dropped without a reason. Folders that differ in their seeds
only, such as those of a job array, are judged as one.
"""

from __future__ import annotations

import collections
import io
import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from PIL import Image

from ossgd.storing import pooling, records

from .. import scripts
from . import judged, judgements
from .judged import Found, Picture, Run

if TYPE_CHECKING:
  from matplotlib.figure import Figure


class Gathered(NamedTuple):
  """All there is to report."""

  runs: list[Run]
  left_out: dict[str, str]  # folder to reason


def gather(folder: Path) -> Gathered:
  """Reads every run folder in a folder and judges it, or knows how it was.

  A subfolder that is none itself may hold those of a job array.

  Raises:
    ValueError: there is no such folder, or nothing in it.
  """
  if not folder.is_dir():
    raise ValueError(f'{folder} is not a folder; give one with --runs')
  known = judgements.read(folder)
  found, left_out = {}, {}
  for path in _places(folder):
    name = str(path.relative_to(folder))
    try:
      one = judged.find(path, known)
      found[name] = one._replace(run=one.run._replace(folder=name))
    except ValueError as error:
      left_out[name] = f'{error!s:.1000}'
    except Exception as error:
      # Results of another version break a script anywhere.
      cause = f'{type(error).__name__}: {error!s:.400}'
      left_out[name] = f'cannot be judged: {cause}'
  if not found and not left_out:
    raise ValueError(
      f'{folder} holds no run folders; give the folder above them with --runs'
    )
  kept = {  # for the next report
    one.key(): judged.encoded(one.run, one.variables, one.runs)
    for one in found.values()
    if records.RESULTS in records.listed(one.config)
  }
  runs = [
    run for group in _groups(found) for run in _together(group, known, kept)
  ]
  if kept.keys() != known.keys():
    judgements.write(folder, kept)
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


def _groups(found: Mapping[str, Found]) -> list[dict[str, Found]]:
  """Those that agree in all but their seeds together, each run once."""
  groups: list[tuple[tuple[Any, ...], dict[str, Found]]] = []
  for name, one in found.items():
    asked = one.asked()
    for of_all, group in groups:
      if of_all == asked and not any(
        'seed' not in one.runs or one.overlaps(other)
        for other in group.values()
      ):
        group[name] = one
        break
    else:
      groups.append((asked, {name: one}))
  return [group for _, group in groups]


def _together(
  group: Mapping[str, Found], known: Mapping[str, Any], kept: dict[str, Any]
) -> list[Run]:
  """One run folder, or several as one, drawn and judged again."""
  runs = [one.run for one in group.values()]
  if len(group) == 1:
    return runs
  keys = [(name, one.key()) for name, one in group.items()]
  key = judgements.key('pooled', keys)
  try:
    run = _pooled(group, known.get(key))
  except Exception as error:  # more than seeds differs, or breaks the script
    logging.warning('%s are not judged as one: %.400s', ', '.join(group), error)
    return runs
  if all(one_key in kept for _, one_key in keys):
    kept[key] = judged.encoded(run, [], {})
  return [run]


def _pooled(
  group: Mapping[str, Found], judgement: Mapping[str, Any] | None
) -> Run:
  """Several run folders as one."""
  runs = [one.run for one in group.values()]
  seconds: collections.Counter[str] = collections.Counter()
  for run in runs:
    seconds.update(run.summary.seconds)
  seeds = {seed for one in group.values() for seed in one.runs['seed']}
  settings = runs[0].summary.settings | {
    'seed': min(seeds),
    'num_seeds': len(seeds),
  }
  config = {
    'experiment': runs[0].summary.experiment,
    'settings': settings,
    'environment': runs[0].summary.versions,
    records.SECONDS: dict(seconds),
  }
  first, *_, last = group
  folder = f'{first} to {last} ({len(group)} folders)'
  if judgement is None:
    results = pooling.pool(
      {
        name: records.read(one.path)[0] if one.results is None else one.results
        for name, one in group.items()
      }
    )
    experiment = scripts.load(runs[0].summary.experiment).EXPERIMENT
    pictures = _drawn(experiment.figures(results))
    run = judged.judge(folder, results, config, pictures)
    run = run._replace(pooled=str(results.attrs['pooled']))
  else:
    run = judged.decoded(folder, judgement)
  differences = dict.fromkeys(d for one in runs for d in one.differences)
  return run._replace(differences=[*differences])


def _drawn(figures: Mapping[str, Figure]) -> list[Picture]:
  """Figures that are in no folder."""
  pictures = []
  for name, figure in sorted(figures.items()):
    content = io.BytesIO()
    figure.savefig(content, format='png', dpi=150)
    with Image.open(content) as image:
      pictures.append(Picture(name, *image.size, content.getvalue()))
  return pictures
