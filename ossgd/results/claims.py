"""Claims of the paper and their verdicts as tables: what holds, how surely.

`Claim`, `Finding` and `judge` are those of `judging`. A table is a family: each
verdict stands beside the one that is left if all are to be right together.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from ossgd.results import statistics
from ossgd.results.judging import ALPHA as ALPHA
from ossgd.results.judging import INF as INF
from ossgd.results.judging import VERDICTS as VERDICTS
from ossgd.results.judging import Claim as Claim
from ossgd.results.judging import Finding as Finding
from ossgd.results.judging import Verdict as Verdict
from ossgd.results.judging import about as about
from ossgd.results.judging import judge as judge


def family_wise(findings: Sequence[Finding]) -> list[Verdict]:
  """The verdicts that stand when all claims are to be right together.

  The family is every claim that an interval judges; one without a p-value
  counts as p = 1. Holm's procedure keeps the probability of a single wrong
  verdict among them below 5 %. What has no p-value stays as it is.
  """
  members = [i for i, finding in enumerate(findings) if _in_family(finding)]
  verdicts = [finding.verdict for finding in findings]
  if members:
    p_values = np.nan_to_num([findings[i].p for i in members], nan=1.0)
    for i, p in zip(members, statistics.holm(p_values), strict=True):
      if p > ALPHA:
        verdicts[i] = 'undecided'
  return verdicts


def _in_family(finding: Finding) -> bool:
  """Whether an interval judges it."""
  return finding.kind != 'every' and finding.verdict != 'measured'


def rows(findings: Sequence[Finding]) -> list[dict[str, str]]:
  """Findings as cells, by their column; together they are the family."""
  return [
    {
      'claim': finding.claim.words,
      'paper': finding.claim.where,
      'quantity': finding.claim.quantity,
      'holds if': _range(finding),
      'measured': measured(finding),
      '95 % interval': interval(finding),
      'seeds': f'{finding.num_seeds}'
      + f' x {finding.trials}' * (finding.trials > 0)
      + f' ({finding.num_missing} without)' * (finding.num_missing > 0),
      'p': '' if np.isnan(finding.p) else f'{finding.p:.2g}',
      'verdict': _named(finding, finding.verdict),
      'family-wise': _named(finding, verdict),
      'why': finding.reason,
    }
    for finding, verdict in zip(findings, family_wise(findings), strict=True)
  ]


def measured(finding: Finding) -> str:
  """The mean and the standard deviation over seeds, if there is one."""
  if np.isnan(finding.mean):
    return ''
  spread = '' if np.isnan(finding.std) else f' ± {finding.std:.2g}'
  return f'{finding.mean:.3g}{spread}'


def interval(finding: Finding) -> str:
  """What decided, as text; empty where there is none."""
  low, high = finding.interval
  if np.isnan(low) or np.isnan(high):
    return ''
  of = 'P(broken) ' if finding.kind == 'every' else ''
  return f'{of}{low:.3g} to {high:.3g}'


def report(findings: Sequence[Finding]) -> str:
  """The findings as a Markdown table, and what its words mean."""
  if not findings:
    return ''
  return f'{rows_table(rows(findings))}\n{note(findings)}\n'


def rows_table(rows: Sequence[Mapping[str, str]]) -> str:
  """Rows of findings as Markdown, their verdicts in bold."""
  marked = [{**row, 'verdict': f'**{row["verdict"]}**'} for row in rows]
  return markdown_table([*rows[0]], [[*row.values()] for row in marked])


def note(findings: Sequence[Finding]) -> str:
  """What the words of a table of these findings mean, in a paragraph."""
  return (
    '±: standard deviation over seeds. Verdicts are by the 95 % interval of a '
    'mean over seeds (Student) or of a '
    'proportion (Clopper-Pearson, joined with Student over seeds); p is the '
    'least alpha at which the interval decides. Family-wise: by Holm over the '
    f'{sum(map(_in_family, findings))} claims of this table that an interval '
    'judges. Of a bound said of every initialisation the worst draw is shown. '
    'It has no p: one draw breaks it, and P(broken) is how often that may '
    'happen. Measured: not judged.'
  )


def summary(findings: Sequence[Finding]) -> str:
  """One line a finding, for a terminal; what several have in common, once."""
  told = Counter(finding.reason for finding in findings if finding.reason)
  notes = {
    reason: f'note {i}'
    for i, reason in enumerate((r for r, n in told.items() if n > 1), start=1)
  }
  lines = []
  for finding, together in zip(findings, family_wise(findings), strict=True):
    parts = (
      measured(finding),
      interval(finding),
      _range(finding),
      notes.get(finding.reason, finding.reason),
      'family-wise undecided' if together != finding.verdict else '',
    )
    lines.append(
      f'{_named(finding, finding.verdict):>9}: {finding.claim.words} '
      f'({"; ".join(filter(None, parts))})'
    )
  lines += [f'{note}: {reason}' for reason, note in notes.items()]
  return '\n'.join(lines)


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


def _named(finding: Finding, verdict: Verdict) -> str:
  """A verdict, with the number of draws that none of broke a bound."""
  if verdict == 'holds in all':
    return f'{verdict} {finding.num_seeds}'
  return verdict


def _range(finding: Finding) -> str:
  """Where the claim holds, as text; empty where it is only measured."""
  low, high = finding.claim.low, finding.claim.high
  below, above = ('≤', '≥') if finding.kind == 'every' else ('<', '>')
  if (low, high) == (-INF, INF):
    return ''
  if low == -INF:
    return f'{below} {high:.3g}'
  return f'{above} {low:.3g}' if high == INF else f'{low:.3g} to {high:.3g}'
