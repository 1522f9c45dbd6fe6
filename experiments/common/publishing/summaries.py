"""What is published of a run: small JSON files that pages are made of.

A run folder holds every measurement, in netCDF that no one reads in a browser;
its summary holds what a reader asks for: findings, tables, figures by digest,
the command, settings, versions and time. NAME.json and the figures in NAME/ are
of the run folder NAME.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from ossgd.results import claims, tables
from ossgd.storing import records

from . import run_folders

_NUMBER = re.compile(r'[-+]?\d[\d.]*(e[-+]?\d+)?')


class Summary(NamedTuple):
  """The content of NAME.json."""

  experiment: str  # the script
  title: str
  command: str
  settings: dict[str, Any]
  versions: dict[str, Any]
  seconds: dict[str, float]
  findings: list[claims.Finding]
  blocks: list[str | list[list[str]]]  # paragraphs, and tables as cells
  figures: dict[str, str]  # file name to SHA-256

  def at(self, column: str, row: str) -> float:
    """The number under a column's header, in the row that begins like this.

    Raises:
      LookupError: there is none.
    """
    for table in self._tables(column):
      for cells in table[1:]:
        if cells[0] == row:
          return _number(cells[table[0].index(column)])
    raise LookupError(f'{self.experiment} has no row {row!r} with {column!r}')

  def ends(self, column: str) -> list[float]:
    """The numbers under a column's header in its first and its last row.

    Raises:
      LookupError: there is no such column.
    """
    for table in self._tables(column):
      at = table[0].index(column)
      return [_number(table[row][at]) for row in (1, -1)]
    raise LookupError(f'{self.experiment} has no column {column!r}')

  def found(self, text: str) -> claims.Finding:
    """The first finding whose claim has this in its words or its quantity.

    Raises:
      LookupError: there is none.
    """
    for finding in self.findings:
      if text in finding.claim.words or text in finding.claim.quantity:
        return finding
    raise LookupError(f'{self.experiment} has no claim with {text!r}')

  def _tables(self, column: str) -> list[list[list[str]]]:
    tables = [block for block in self.blocks if not isinstance(block, str)]
    return [table for table in tables if column in table[0]]


def summarise(folder: Path) -> tuple[Summary, dict[str, bytes]]:
  """What a complete run folder has to say, and its figures by file name.

  Raises:
    ValueError: the folder is partial or damaged, or not of today's version.
  """
  run, config = run_folders.read(folder), records.read_config(folder)
  pictures = {
    f'{picture.name}.png': base64.b64decode(picture.base64)
    for picture in run.pictures
  }
  if run.differences or run.refused:
    raise ValueError(
      f'{folder} cannot be published: '
      + '; '.join(
        [*run.differences, *(f'{f} is no figure' for f in run.refused)]
      )
    )
  summary = Summary(
    experiment=config['experiment'],
    title=run.title,
    command=_command(run.command),
    settings=config['settings'],
    versions=config['environment'],
    seconds=config[records.SECONDS],
    findings=run.findings,
    blocks=tables.blocks(run.table),
    figures={
      name: hashlib.sha256(content).hexdigest()
      for name, content in pictures.items()
    },
  )
  return summary, pictures


def publish(folder: Path, into: Path) -> None:
  """Writes NAME.json and the figures of a run folder of this name.

  Raises:
    ValueError: as `summarise`, or it cannot be written.
  """
  summary, pictures = summarise(folder)
  figures = into / folder.name
  figures.mkdir(parents=True, exist_ok=True)
  for name, content in pictures.items():
    with records.replacing(figures / name) as path:
      path.write_bytes(content)
  for path in figures.glob('*.png'):
    if path.name not in pictures:
      path.unlink()  # of an earlier run
  with records.replacing(into / f'{folder.name}.json') as path:
    path.write_text(encode(summary), encoding='utf-8')


def read_all(folder: Path) -> dict[str, Summary]:
  """Every summary in a folder, by the name of its run folder."""
  return {
    path.stem: decode(path.read_text(encoding='utf-8'))
    for path in sorted(folder.glob('*.json'))
  }


def encode(summary: Summary) -> str:
  """A summary as JSON; null is what has no value, or no end."""
  together = claims.family_wise(summary.findings)
  findings = [
    {**_plain_claim(finding), 'family_wise': verdict}
    for finding, verdict in zip(summary.findings, together, strict=True)
  ]
  content = {**summary._asdict(), 'findings': findings}
  return json.dumps(_standard(content), indent=1, ensure_ascii=False) + '\n'


def decode(text: str) -> Summary:
  """The summary that was encoded; its claims can be shown, not measured."""
  content = json.loads(text)
  content['findings'] = [_finding(**fields) for fields in content['findings']]
  return Summary(**content)


def _plain_claim(finding: claims.Finding) -> dict[str, Any]:
  claim = finding.claim._asdict()
  # A function, and what the reason of the verdict says where it matters.
  del claim['measure'], claim['setup']
  return {**finding._asdict(), 'claim': claim}


def _finding(
  claim: dict[str, Any], family_wise: str, **fields: Any
) -> claims.Finding:
  del family_wise  # follows from all
  ends = {
    'low': -math.inf if claim['low'] is None else claim['low'],
    'high': math.inf if claim['high'] is None else claim['high'],
  }
  numbers: dict[str, Any] = {
    name: math.nan if value is None else value for name, value in fields.items()
  }
  low, high = (math.nan if v is None else v for v in fields['interval'])
  whole = claims.Claim(**{**claim, **ends, 'measure': _unmeasured})
  return claims.Finding(whole, **(numbers | {'interval': (low, high)}))


def _unmeasured(results: Any) -> Any:
  raise ValueError('a published claim cannot be measured again')


def _standard(value: Any) -> Any:
  """JSON values, null in place of what is not finite."""
  if isinstance(value, Mapping):
    return {name: _standard(item) for name, item in value.items()}
  if isinstance(value, list | tuple):
    return [_standard(item) for item in value]
  return (
    None if isinstance(value, float) and not math.isfinite(value) else value
  )


def _command(command: str) -> str:
  """A command line without the place where its results went."""
  kept = [
    word
    for word in shlex.split(command)
    if not re.match('--(out|overwrite)\\b', word)
  ]
  return shlex.join(kept)


def _number(cell: str) -> float:
  found = _NUMBER.match(cell)
  if found is None:
    raise LookupError(f'no number in {cell!r}')
  return float(found[0])
