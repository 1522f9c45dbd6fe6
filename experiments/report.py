"""One page of what holds: gathers run folders into report.html and report.md.

The claims come first, judged again from the results; then every run's table
and figures with its command, settings, versions and time. Runs made with other
versions are marked, folders that are partial or damaged are listed.

  python -m experiments.report --runs=runs
"""

import dataclasses
import logging
import os

from absl import app

from ossgd.results import claims
from ossgd.storing import records

from .common import options, printing
from .common.options import option
from .common.publishing import pages, run_folders
from .common.publishing.run_folders import Gathered


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
  folders = [
    pages.plain(run.folder) for run in gathered.runs for _ in run.findings
  ]
  marked = claims.marked(claims.rows(_findings(gathered)))
  rows = [(run, *row) for run, row in zip(folders, marked, strict=True)]
  table = claims.markdown_table(('run', *claims.HEADER), rows)
  return _render(
    'report.md.jinja', gathered, autoescape=False, table=table, path=runs
  )


def _render(
  template: str, gathered: Gathered, *, autoescape: bool, **others: str
) -> str:
  findings = _findings(gathered)
  verdicts = [finding.verdict for finding in findings]
  together = claims.family_wise(findings)
  environment = pages.environment(autoescape=autoescape)
  return environment.get_template(template).render(
    **gathered._asdict(),
    counts={v: verdicts.count(v) for v in claims.VERDICTS},
    counts_together={v: together.count(v) for v in claims.VERDICTS},
    header=claims.HEADER,
    rows=iter(claims.rows(findings)),
    note=claims.note(findings),
    **others,
  )


def _findings(gathered: Gathered) -> list[claims.Finding]:
  """Of all runs: one family."""
  return [finding for run in gathered.runs for finding in run.findings]


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
    gathered = run_folders.gather(folder)
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
