"""One run folder read back and judged, or known how it was; fit for a page.

What is on disk may be of another version, partial or damaged: then it is
refused, with the reason.
"""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import io
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from PIL import Image

from ossgd.machine import files, sources
from ossgd.results import claims, tables
from ossgd.storing import pooling, records

from .. import scripts
from . import judgements, summaries
from .summaries import Summary

if TYPE_CHECKING:
  import xarray as xr


_MOST = 20  # unknown settings that a page names
# What a page tells of a claim.
_SHOWN = ('where', 'words', 'quantity', 'low', 'high', 'beside')


class Picture(NamedTuple):
  """A figure, of a file in the run folder unless it was drawn of several."""

  name: str  # of its file, without the ending
  width: int  # pixels
  height: int
  content: bytes  # a PNG


class Run(NamedTuple):
  """A complete run folder, or several that were pooled, judged."""

  folder: str
  summary: Summary
  pictures: list[Picture]
  differences: list[str]  # from what today's version would leave
  pooled: str = ''  # which runs are of which folder


class Found(NamedTuple):
  """A run folder that was judged, and what says with which others it goes."""

  path: Path
  run: Run
  config: dict[str, Any]
  variables: list[str]
  runs: dict[str, list[Any]]  # its widths and seeds, by dim
  results: xr.Dataset | None = None  # None: the judgement was kept

  def key(self) -> str:
    """What its judgement is found by; results are known by their digest."""
    return judgements.key(self.config)

  def asked(self) -> tuple[Any, ...]:
    """What has to agree of runs that are judged as one; the sources too."""
    widths = [self.config['settings'].get(name) for name in ('widths', 'width')]
    agree = widths, self.config.get('code'), set(self.variables)
    return pooling.settings(self.config), *agree

  def overlaps(self, other: Found) -> bool:
    """Whether both have a run of one width and one seed."""
    return bool(self.runs) and all(
      not set(values).isdisjoint(other.runs[dim])
      for dim, values in self.runs.items()
    )


def read(folder: Path) -> Run:
  """One run folder, judged again from its results.

  Raises:
    ValueError: it is partial or damaged, or no script of today left it.
  """
  return find(folder, {}).run


def find(path: Path, known: Mapping[str, Any]) -> Found:
  """A run folder, with its judgement if it is among those that are known."""
  for name in (records.CONFIG, records.RESULTS):
    if not (path / name).is_file():
      raise ValueError(f'partial: there is no {name}')
  config = records.read_config(path)
  judgement = known.get(judgements.key(config))
  listed = records.listed(config).get(records.RESULTS)
  if judgement and listed == files.sha256(path / records.RESULTS):
    run = decoded(path.name, judgement, _pictures(path))
    of_runs = judgement['variables'], judgement['runs']
    return Found(path, _of_sources(run, config), config, *of_runs)
  results, config = records.read(path)
  script = config.get('experiment')
  if script not in scripts.names():
    raise ValueError(f'of an unknown script, {script!r:.100}')
  run = _of_sources(judge(path.name, results, config, _pictures(path)), config)
  dims = [dim for dim in ('width', 'seed') if dim in results.dims]
  runs = {dim: results[dim].values.tolist() for dim in dims}
  return Found(path, run, config, [*map(str, results.variables)], runs, results)


def judge(
  folder: str,
  results: xr.Dataset,
  config: Mapping[str, Any],
  pictures: list[Picture],
) -> Run:
  """What a script of today says of results."""
  script = scripts.load(config['experiment'])
  told = results.attrs
  table, findings = script.EXPERIMENT.judged(results)
  summary = Summary(
    experiment=config['experiment'],
    title=str(script.__doc__).partition('\n')[0],
    command=str(told.get('command', 'not recorded')),
    settings=config['settings'],
    versions=config['environment'],
    seconds=config.get(records.SECONDS) or {'other': told.get('seconds', 0.0)},
    findings=findings,
    blocks=tables.blocks(table),
    figures={},
  )
  return _shown(folder, summary, pictures)


def _shown(folder: str, summary: Summary, pictures: list[Picture]) -> Run:
  """With the figures that there are, and how it differs from today's."""
  figures = {
    f'{picture.name}.png': hashlib.sha256(picture.content).hexdigest()
    for picture in pictures
  }
  summary = summary._replace(figures=figures)
  return Run(folder, summary, pictures, _differences(summary))


def encoded(
  run: Run, variables: list[str], runs: Mapping[str, list[Any]]
) -> dict[str, Any]:
  """A judgement as JSON values; figures that are in no folder with it."""
  findings = [
    {
      **finding._asdict(),
      'claim': {name: getattr(finding.claim, name) for name in _SHOWN},
    }
    for finding in run.summary.findings
  ]
  pictures = [
    (*picture[:-1], base64.b64encode(picture.content).decode())
    for picture in run.pictures
    if run.pooled
  ]
  return {
    'summary': {**run.summary._asdict(), 'findings': findings},
    'pictures': pictures,
    'pooled': run.pooled,
    'variables': variables,
    'runs': runs,
  }


def decoded(
  folder: str,
  judgement: Mapping[str, Any],
  pictures: list[Picture] | None = None,
) -> Run:
  """A judgement that was kept: its claims can be shown, not measured."""
  findings = [
    claims.Finding(
      **finding
      | {
        'claim': claims.Claim(**finding['claim'], measure=summaries.unmeasured),
        'interval': tuple(finding['interval']),
      }
    )
    for finding in judgement['summary']['findings']
  ]
  summary = Summary(**{**judgement['summary'], 'findings': findings})
  if pictures is None:
    pictures = [
      Picture(name, width, height, base64.b64decode(content))
      for name, width, height, content in judgement['pictures']
    ]
  run = _shown(folder, summary, pictures)
  return run._replace(pooled=judgement['pooled'])


def _of_sources(run: Run, config: Mapping[str, Any]) -> Run:
  """With it said if they are not today's: numbers may be others."""
  home = scripts.load(run.summary.experiment).EXPERIMENT.run.__module__
  if config.get('code') in (None, sources.code(home)):
    return run
  return run._replace(differences=[*run.differences, 'sources of the numbers'])


def _differences(summary: Summary) -> list[str]:
  """Versions and names of settings that are not today's."""
  now, versions = records.environment(), summary.versions
  config = scripts.load(summary.experiment).EXPERIMENT.config
  aside = {*scripts.GROUPING, *scripts.LATER}
  known = {field.name for field in dataclasses.fields(config)} - aside
  found = summary.settings.keys() - aside
  return [
    *(
      f'{name} {versions.get(name, "unknown")!s:.50}, today {now[name]}'
      for name in ('ossgd', 'jax', 'jaxlib', 'numpy')
      if versions.get(name) != now[name]
    ),
    *(  # so many of them as ours could be
      f'setting {name:.50}, unknown today'
      for name in sorted(found - known)[:_MOST]
    ),
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
