"""What is published of a run: small JSON files that pages are made of.

A run folder holds every measurement, in netCDF that no one reads in a browser;
its summary holds what a reader asks for: findings, tables, figures by digest,
the command, settings, versions and time. NAME.json and the figures in NAME/ are
of the run folder NAME.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

from ossgd.results import claims

_NAN = float('nan')
_ENDS = {'low': -claims.INF, 'high': claims.INF}


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

  def ends(self, column: str) -> list[float]:
    """The numbers under a column's header in its first and its last row.

    Raises:
      LookupError: there is no such column, or not every seed has a number.
    """
    for block in self.blocks:
      if not isinstance(block, str) and column in block[0]:
        at = block[0].index(column)
        cells = [block[row][at] for row in (1, -1)]
        if any('without' in cell for cell in cells):
          raise LookupError(
            f'{self.experiment}: seeds without {column}: {cells}'
          )
        return [float(cell.split()[0]) for cell in cells]
    raise LookupError(f'{self.experiment} has no column {column!r}')

  def found(self, text: str) -> claims.Finding:
    """The first finding whose claim has this in its words or its quantity.

    Raises:
      LookupError: there is none.
    """
    return self._all(text)[0]

  def largest(self, text: str) -> float:
    """The largest mean of all such findings.

    Raises:
      LookupError: there is none.
    """
    return max(finding.mean for finding in self._all(text))

  def _all(self, text: str) -> list[claims.Finding]:
    found = [
      finding
      for finding in self.findings
      if text in finding.claim.words or text in finding.claim.quantity
    ]
    if not found:
      raise LookupError(f'{self.experiment} has no claim with {text!r}')
    return found


def read_all(folder: Path) -> dict[str, Summary]:
  """Every summary in a folder, by the name of its run folder."""
  return {
    path.stem: decode(path.read_text(encoding='utf-8'))
    for path in sorted(folder.glob('*.json'))
  }


def encode(summary: Summary) -> str:
  """A summary as JSON; null is what has no value, or no end."""
  together = claims.family_wise(summary.findings)
  findings = []
  for finding, verdict in zip(summary.findings, together, strict=True):
    claim = finding.claim._asdict()
    # A function, and what the reason of the verdict says where it matters.
    del claim['measure'], claim['setup'], claim['needs']
    more = {'claim': claim, 'family_wise': verdict}
    findings.append({**finding._asdict(), **more})
  text = json.dumps({**summary._asdict(), 'findings': findings})
  standard = json.loads(text, parse_constant=lambda constant: None)
  return json.dumps(standard, indent=1, ensure_ascii=False) + '\n'


def decode(text: str) -> Summary:
  """The summary that was encoded; its claims can be shown, not measured."""
  content = json.loads(text)
  content['findings'] = [_finding(**fields) for fields in content['findings']]
  return Summary(**content)


def _finding(
  claim: dict[str, Any],
  interval: tuple[float | None, float | None],
  family_wise: str,
  **others: Any,
) -> claims.Finding:
  del family_wise  # follows from all
  claim = {n: _ENDS[n] if v is None else v for n, v in claim.items()}
  others = {n: _NAN if v is None else v for n, v in others.items()}
  low, high = (_NAN if end is None else end for end in interval)
  whole = claims.Claim(**claim, measure=unmeasured)
  return claims.Finding(whole, interval=(low, high), **others)


def unmeasured(results: Any) -> Any:
  """The measure of a claim that was read back."""
  raise ValueError('a published claim cannot be measured again')
