"""The paper's claims as data, and verdicts computed from measurements.

A claim is a quantity, one value a seed, and the range its mean must lie in.
The verdict follows from the 95 % interval of the mean (Student's t over the
seeds): inside the range it holds, outside it fails, across an end of the
range it is undecided at this sample size.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np

if TYPE_CHECKING:
  import xarray as xr

INF = float('inf')


Verdict = Literal['holds', 'fails', 'undecided']


class Claim(NamedTuple):
  """One statement of the paper, made measurable."""

  where: str  # in the paper
  words: str  # what it says, in ours
  quantity: str  # what is measured, one value a seed
  low: float  # the claim holds if the mean is in (low, high)
  high: float
  measure: Callable[[xr.Dataset], xr.DataArray | np.ndarray]  # -> (seed,)


class Finding(NamedTuple):
  """A claim beside what was measured."""

  claim: Claim
  mean: float  # over the seeds where the quantity exists; NaN if nowhere
  std: float  # NaN with fewer than two
  interval: tuple[float, float]  # 95 %, of the mean
  num_seeds: int
  num_missing: int  # seeds where the quantity does not exist
  verdict: Verdict


def judge(claim: Claim, results: xr.Dataset) -> Finding:
  """Measures a claim and decides it.

  Where the quantity does not exist for a seed (a target never reached), the
  rest cannot make the claim hold. Fewer than two seeds decide nothing.

  Args:
    claim: the claim.
    results: what `claim.measure` reads, with a dim 'seed'.
  """
  values = np.asarray(claim.measure(results), np.float64)
  known = values[np.isfinite(values)]
  missing = values.size - known.size
  mean = float(np.mean(known)) if known.size else np.nan
  if known.size < 2:
    return Finding(
      claim, mean, np.nan, (np.nan, np.nan), values.size, missing, 'undecided'
    )
  std = float(np.std(known, ddof=1))
  low, high = interval(known)
  verdict: Verdict
  if high <= claim.low or low >= claim.high:
    verdict = 'fails'
  elif claim.low < low and high < claim.high and not missing:
    verdict = 'holds'
  else:
    verdict = 'undecided'
  return Finding(claim, mean, std, (low, high), values.size, missing, verdict)


def interval(values: np.ndarray) -> tuple[float, float]:
  """The 95 % interval of the mean, Student's t: (n,), finite -> low, high.

  NaN with fewer than two values.
  """
  if values.size < 2:
    return np.nan, np.nan
  import scipy.special  # half a second that --help need not wait

  std = np.std(values, ddof=1)
  half = scipy.special.stdtrit(values.size - 1, 0.975) * std / values.size**0.5
  mean = np.mean(values)
  return float(mean - half), float(mean + half)


HEADER = (
  'claim',
  'paper',
  'quantity',
  'holds if',
  'mean ± std',
  '95 % interval',
  'seeds',
  'verdict',
)


def row(finding: Finding) -> tuple[str, ...]:
  """A finding under HEADER."""
  claim, missing = finding.claim, finding.num_missing
  return (
    claim.words,
    claim.where,
    claim.quantity,
    _range(claim.low, claim.high),
    f'{finding.mean:.3g} ± {finding.std:.2g}',
    f'{finding.interval[0]:.3g} to {finding.interval[1]:.3g}',
    f'{finding.num_seeds}' + f' ({missing} without)' * (missing > 0),
    finding.verdict,
  )


def report(findings: Sequence[Finding]) -> str:
  """The findings as a Markdown table."""
  rows = [(*cells, f'**{verdict}**') for *cells, verdict in map(row, findings)]
  return markdown_table(HEADER, rows)


def summary(findings: Sequence[Finding]) -> str:
  """One line a finding, for a terminal."""
  return '\n'.join(
    f'{f.verdict:>9}: {f.claim.words} ({f.mean:.3g} ± {f.std:.2g}; '
    f'{_range(f.claim.low, f.claim.high)})'
    for f in findings
  )


def markdown_table(header: Sequence[str], rows: Sequence[Sequence]) -> str:
  """A table that reads in Markdown and on a terminal alike."""
  cells = [
    [str(cell).replace('|', r'\|') for cell in row] for row in (header, *rows)
  ]
  widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
  cells.insert(1, ['-' * width for width in widths])
  lines = (
    ' | '.join(c.ljust(w) for c, w in zip(row, widths, strict=True))
    for row in cells
  )
  return '\n'.join(f'| {line} |' for line in lines) + '\n'


def table_cells(table: str) -> list[list[str]]:
  """The header and the rows that a `markdown_table` was made of."""
  rows = [
    [
      cell.strip().replace(r'\|', '|')
      for cell in re.split(r'(?<!\\)\|', line)[1:-1]
    ]
    for line in table.strip().splitlines()
  ]
  return [rows[0], *rows[2:]]


def _range(low: float, high: float) -> str:
  if low == -INF:
    return f'< {high:.3g}'
  return f'> {low:.3g}' if high == INF else f'{low:.3g} to {high:.3g}'
