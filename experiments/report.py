"""One page of what holds: gathers run folders into report.html and report.md.

The claims come first, judged again from the results; then every run's table
and figures with its command, settings, versions and time. Runs made with other
versions are marked, folders that are partial or damaged are listed.

  python -m experiments.report --runs=runs
"""

import dataclasses
import logging
import os
import re
import typing
import urllib.parse

import jinja2
from absl import app

from experiments import gathering, options, printing
from experiments.gathering import Gathered
from experiments.options import option
from ossgd import claims, records


@dataclasses.dataclass(frozen=True)
class Config:
  """Where to look, and where to write."""

  runs: str = option('runs', 'Folder whose subfolders are run folders.')
  out: str = option(
    '', 'Folder for report.html and report.md; empty: the one --runs names.'
  )


def html_report(gathered: Gathered) -> str:
  """The report as one page that needs no other file."""
  return _render('report.html.jinja', gathered, autoescape=True)


def markdown_report(gathered: Gathered, runs: str) -> str:
  """The report for a terminal or a repository's page.

  Args:
    gathered: what to report.
    runs: the folder of the run folders, as seen from where the report will be.
  """
  rows = [
    (_plain(run.folder), *cells, f'**{verdict}**')
    for run in gathered.runs
    for *cells, verdict in map(claims.row, run.findings)
  ]
  table = claims.markdown_table(('run', *claims.HEADER), rows)
  return _render(
    'report.md.jinja', gathered, autoescape=False, table=table, path=runs
  )


def _render(
  template: str, gathered: Gathered, *, autoescape: bool, **others: str
) -> str:
  environment = jinja2.Environment(
    loader=jinja2.PackageLoader('experiments', ''),
    autoescape=autoescape,
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    keep_trailing_newline=True,
  )
  environment.filters |= {
    'blocks': _blocks,
    'plain': _plain,
    'row': claims.row,
    'url': _url,
  }
  verdicts = [f.verdict for run in gathered.runs for f in run.findings]
  counts = {v: verdicts.count(v) for v in typing.get_args(claims.Verdict)}
  return environment.get_template(template).render(
    **gathered._asdict(),
    counts=counts,
    header=claims.HEADER,
    **others,
  )


def _blocks(text: str) -> list[str | list[list[str]]]:
  """A script's paragraphs as they are, and its tables as cells."""
  return [
    claims.table_cells(block) if block.startswith('|') else block
    for block in text.strip().split('\n\n')
  ]


def _plain(text: str) -> str:
  """Text that Markdown shows as it is, on one line."""
  return re.sub(r'([\\`*<>&\[\]])', r'\\\1', ' '.join(text.split()))


def _url(path: str) -> str:
  """A relative address, of a name that may hold bytes that are no text."""
  return urllib.parse.quote(os.fsencode(path))


def main(argv: list[str] | None = None) -> None:
  """Flags in, report.html and report.md out."""
  app.run(
    _write,
    argv=argv,
    flags_parser=lambda args: options.parse_config('report', Config, args),
  )


def _write(config: Config) -> None:
  logging.getLogger('jax').setLevel(logging.WARNING)
  folder = options.folder(config.runs)
  out = options.folder(config.out) if config.out else folder
  try:
    gathered = gathering.gather(folder)
    out.mkdir(parents=True, exist_ok=True)
    for name, text in (
      ('report.html', html_report(gathered)),
      ('report.md', markdown_report(gathered, os.path.relpath(folder, out))),
    ):
      with records.replacing(out / name) as path:
        # A name on disk may hold bytes that are no text.
        path.write_text(text, encoding='utf-8', errors='backslashreplace')
  except (ValueError, OSError) as error:
    options.fail(str(error))
  printing.say(
    f'runs: {len(gathered.runs)}, folders left out: {len(gathered.left_out)}; '
    f'see {out / "report.html"}'
  )


if __name__ == '__main__':
  main()
