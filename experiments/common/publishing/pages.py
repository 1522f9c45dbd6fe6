"""Pages made of templates: the report of a folder, and what is published."""

from __future__ import annotations

import collections
import functools
import json
import re
import urllib.parse
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import jinja2

from ossgd.results import claims

from .summaries import Summary

# The run folders that the published pages speak of, in their order, and what
# fills each but for --out.
RUNS = {
  name: f'python -m experiments.{name}'
  for name in [
    'synthetic',
    'mnist',
    'separability',
    'variance',
    'components',
    'random_labels',
    'compression',
    'init_scale',
    'readings',
    'readings_mnist',
    'coupling',
    'gradient_norm',
    'convergence',
    'theorem',
    'processes',
    'kernel',
    'precision',
    'variants',
    'benchmark',
  ]
} | {'readings_mnist': 'python -m experiments.readings --preset=mnist'}
BEGIN, END = '<!-- results -->', '<!-- /results -->'


def results_page(summaries: Mapping[str, Summary]) -> str:
  """RESULTS.md: every run's command, tables, findings and figures.

  Args:
    summaries: by the name of the run folder.
  """
  return _published('results.md.jinja', summaries)


def readme(text: str, summaries: Mapping[str, Summary]) -> str:
  """README.md with the part between the markers made anew.

  Raises:
    ValueError: the markers are not there, each once.
  """
  if text.count(BEGIN) != 1 or text.count(END) != 1:
    raise ValueError(f'README.md: expected {BEGIN} and {END}, each once')
  before, rest = text.split(BEGIN)
  _, after = rest.split(END)
  part = _published('readme.md.jinja', summaries)
  return f'{before}{BEGIN}\n{part}{END}{after}'


def _published(template: str, summaries: Mapping[str, Summary]) -> str:
  names = [*RUNS, *(name for name in summaries if name not in RUNS)]
  return render(template, summaries=summaries, names=names, commands=RUNS)


def render(template: str, **context: Any) -> str:
  """The page that a template of this folder makes; HTML escapes all text."""
  return _environment().get_template(template).render(**context)


@functools.cache
def _environment() -> jinja2.Environment:
  environment = jinja2.Environment(
    loader=jinja2.FileSystemLoader(Path(__file__).parent),
    autoescape=lambda name: '.html' in str(name),
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    keep_trailing_newline=True,
  )
  environment.filters |= {
    'interval': claims.interval,
    'json': lambda value: f'{json.dumps(value, ensure_ascii=False):.1000}',
    'measured': claims.measured,
    'next': next,
    'percent': lambda fraction: f'{100 * fraction:.3g} %',
    'plain': plain,
    'report': claims.report,
    'significant': lambda number: f'{number:.2g}',
    'span': _span,
    'time': lambda s: f'{s:.0f} s' if s else 'not recorded',
    'table': lambda cells: claims.markdown_table(cells[0], cells[1:]),
    'url': urllib.parse.quote,
    'verdicts': _verdicts,
  }
  return environment


def _span(numbers: list[float], unit: str = '') -> str:
  """Two numbers as text, per cent if that is the unit; one if they agree."""
  scale = 100 if unit == '%' else 1
  ends = [f'{scale * number:.3g}' for number in numbers]
  return ' to '.join(dict.fromkeys(ends)) + f' {unit}'.rstrip()


def _verdicts(summary: Summary) -> str:
  """How many claims have each verdict; none is left out for being rare."""
  found = counts(finding.verdict for finding in summary.findings)
  told = {'holds in all': 'in every seed'}  # a worst case, whatever the number
  return ', '.join(f'{told.get(v, v)} {n}' for v, n in found.items() if n)


def counts(verdicts: Iterable[str]) -> dict[str, int]:
  """How many there are of each verdict, in the order of `claims.VERDICTS`."""
  found = collections.Counter(verdicts)
  return {verdict: found[verdict] for verdict in claims.VERDICTS}


def plain(text: str) -> str:
  """Text that Markdown shows as it is, on one line."""
  return re.sub(r'([\\`*<>&\[\]])', r'\\\1', ' '.join(text.split()))
