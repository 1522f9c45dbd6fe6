"""One page of what holds: gathers run folders into report.html and report.md.

The claims come first, judged again from the results; then every run's table
and figures with its command, settings, versions and time. Folders of one script
that differ in their seeds only, such as those of a job array, are judged as
one. Runs made with other versions are marked, folders that are partial or
damaged are listed. Figures are links to those of the run folders, so the page
moves together with them. report.md has the verdicts, and links to the rest.

  python -m experiments.report --runs=runs
"""

import dataclasses
import hashlib
import logging
import os
import urllib.parse
from collections.abc import Sequence
from pathlib import Path

from absl import app

from ossgd.machine import files
from ossgd.results import claims

from .common import options, printing
from .common.options import option
from .common.publishing import pages, run_folders
from .common.publishing.judged import Picture, Run


@dataclasses.dataclass(frozen=True)
class Config:
  """Where to look, and where to write."""

  runs: str = option(
    'runs', 'Folder whose subfolders are run folders, or job arrays of them.'
  )
  out: str = option(
    '', 'Folder for report.html and report.md; empty: the one --runs names.'
  )


def page(name: str, gathered: run_folders.Gathered, runs: str) -> str:
  """The report, all runs one family of claims.

  Figures are links to those of the run folders.

  Args:
    name: report.html, which has everything, or report.md for a terminal or a
      repository's page: verdicts, and links to the rest.
    gathered: what to report.
    runs: the folder of the run folders, as seen from where the report will be.
  """
  findings = [f for run in gathered.runs for f in run.summary.findings]
  rows = claims.rows(findings)
  left = iter(rows)
  own = ([next(left) for _ in run.summary.findings] for run in gathered.runs)
  together = claims.family_wise(findings)
  return pages.render(
    f'{name}.jinja',
    **gathered._asdict(),
    link=lambda run, picture: _link(run, picture, runs),
    counts=pages.counts(finding.verdict for finding in findings),
    counts_together=pages.counts(together),
    overview=_overview(gathered.runs),
    header=[*rows[0]] if rows else [],
    rows=([*row.values()] for row in rows),
    tables=(claims.rows_table(some) if some else '' for some in own),
    note=claims.note(findings),
  )


def _overview(runs: Sequence[Run]) -> str:
  """How many verdicts of each kind a run has, and where the rest of it is."""
  return claims.markdown_table(
    ['run', *claims.VERDICTS],
    [
      (
        f'[{pages.plain(run.folder)}](report.html#run-{number})',
        *pages.counts(f.verdict for f in run.summary.findings).values(),
      )
      for number, run in enumerate(runs, start=1)
    ],
  )


def _link(run: Run, picture: Picture, runs: str) -> str:
  """Where a figure is, as seen from the report."""
  if run.pooled:
    return _own_name(picture.content)
  where = Path(runs, run.folder, f'{picture.name}.png')
  return urllib.parse.quote(where.as_posix())


def _own_name(content: bytes) -> str:
  """Of a figure that is in no run folder, beside the report."""
  return f'report_{hashlib.sha256(content).hexdigest()[:16]}.png'


def _figures(out: Path) -> set[str]:
  """Names of the figures that reports have left in a folder."""
  return {
    path.name
    for path in out.glob('report_*.png')
    if path.is_file() and path.name == _own_name(path.read_bytes())
  }


def _put(out: Path, gathered: run_folders.Gathered, runs: str) -> None:
  """Writes the report, and removes figures that only an earlier one had."""
  there = _figures(out)
  drawn = {
    _own_name(picture.content): picture.content
    for run in gathered.runs
    if run.pooled
    for picture in run.pictures
  }
  for name in drawn.keys() - there:
    with files.replacing(out / name) as path:
      path.write_bytes(drawn[name])
  for name in ('report.html', 'report.md'):
    with files.replacing(out / name) as path:
      path.write_text(page(name, gathered, runs), encoding='utf-8')
  for name in there - drawn.keys():
    (out / name).unlink()


def main(argv: list[str] | None = None) -> None:
  """Flags in, report.html and report.md out."""
  app.run(
    _write,
    argv=argv,
    flags_parser=lambda args: options.parse_config('report', Config, args),
  )


def _write(config: Config) -> None:
  logging.getLogger('jax').setLevel(logging.WARNING)
  folder = options.folder(config.runs, 'runs')
  out = options.folder(config.out) if config.out else folder
  try:
    gathered = run_folders.gather(folder)
    out.mkdir(parents=True, exist_ok=True)
    _put(out, gathered, os.path.relpath(folder, out))
  except (ValueError, OSError, files.SaveError) as error:
    options.fail(str(error))
  printing.say(
    f'runs: {len(gathered.runs)}, folders left out: {len(gathered.left_out)}; '
    f'see {out / "report.html"}'
  )


if __name__ == '__main__':
  main()
