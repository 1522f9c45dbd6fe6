"""One page of what holds: gathers run folders into report.html and report.md.

The claims come first, judged again from the results; then every run's table
and figures with its command, settings, versions and time. Folders that are not
complete, or were made with other versions, are listed as such.

  python -m experiments.report --runs=runs --out=runs
"""

import base64
import dataclasses
import html
import importlib
import json
import pkgutil
from pathlib import Path
from typing import Any, NamedTuple

import jinja2
import markdown
import markupsafe
import xarray as xr
from absl import app

import experiments
from experiments import options
from experiments.command import Experiment
from experiments.options import option
from ossgd import claims, records

_LARGEST_FIGURE = 5_000_000  # bytes; ours have less than a tenth


@dataclasses.dataclass(frozen=True)
class Config:
  """Where the run folders are."""

  runs: str = option('runs', 'Folder whose subfolders are run folders.')


class Run(NamedTuple):
  """A complete run folder, judged."""

  folder: str
  results: xr.Dataset
  config: dict[str, Any]
  outdated: str  # in which versions it differs from today's; empty if none
  table: str  # Markdown
  findings: list[claims.Finding]
  figures: dict[str, str]  # PNG in base64, by name


class Gathered(NamedTuple):
  """All there is to report."""

  runs: list[Run]
  left_out: dict[str, str]  # folder to reason


def gather(folder: Path) -> Gathered:
  """Reads and judges every run folder directly below a folder.

  Raises:
    ValueError: there is no such folder, or no run folder in it.
  """
  if not folder.is_dir():
    raise ValueError(f'{folder} is not a folder; give one with --runs')
  runs, left_out = [], {}
  for path in sorted(p for p in folder.iterdir() if p.is_dir()):
    try:
      runs.append(read(path))
    except ValueError as error:
      left_out[path.name] = str(error)
  if not runs and not left_out:
    raise ValueError(f'{folder} holds no run folders; give others with --runs')
  return Gathered(runs, left_out)


def read(folder: Path) -> Run:
  """One run folder, judged again from its results.

  Raises:
    ValueError: it is not complete, or not of a script that is known.
  """
  results, config = records.read(folder)
  experiment = _experiment(config.get('experiment'))
  if experiment is None:
    raise ValueError(f'of an unknown script, {config.get("experiment")!r}')
  now, then = records.environment(), config.get('environment', {})
  outdated = ', '.join(
    f'{name} {then.get(name)}, today {now[name]}'
    for name in ('ossgd', 'jax', 'jaxlib', 'numpy')
    if then.get(name) != now[name]
  )
  try:
    table = experiment.table(results)
    findings = [claims.judge(c, results) for c in experiment.claims(results)]
  except (KeyError, AttributeError) as error:
    raise ValueError(f'its results lack {error}: of another version') from error
  figures = {
    path.stem: base64.b64encode(path.read_bytes()).decode()
    for path in sorted(folder.glob('*.png'))
    if path.stat().st_size < _LARGEST_FIGURE
  }
  return Run(folder.name, results, config, outdated, table, findings, figures)


def _experiment(name: Any) -> Experiment | None:
  """The script of this name; none but the modules beside this one."""
  known = [module.name for module in pkgutil.iter_modules(experiments.__path__)]
  if name not in known:
    return None
  module = importlib.import_module(f'experiments.{name}')
  return getattr(module, 'EXPERIMENT', None)


def details(run: Run) -> dict[str, str]:
  """What a reader needs to repeat a run."""
  attrs = run.results.attrs
  seconds = attrs.get('seconds')
  return {
    'command': str(attrs.get('command', 'unknown')),
    'time': 'unknown' if seconds is None else f'{seconds:.0f} s',
    'settings': json.dumps(run.config.get('settings', {})),
    'versions': json.dumps(run.config.get('environment', {})),
  }


def markdown_report(gathered: Gathered) -> str:
  """The report for a terminal or a repository's page."""
  findings = [f for run in gathered.runs for f in run.findings]
  parts = ['# What holds', '', claims.report(findings)]
  for run in gathered.runs:
    parts += [f'## {run.folder}', '']
    if run.outdated:
      parts += [f'**Made with other versions:** {run.outdated}', '']
    parts += [run.table]
    parts += [f'![{name}]({run.folder}/{name}.png)\n' for name in run.figures]
    parts += [f'- {name}: `{value}`' for name, value in details(run).items()]
    parts += ['']
  if gathered.left_out:
    parts += ['## Left out', '']
    parts += [f'- {name}: {why}' for name, why in gathered.left_out.items()]
  return '\n'.join(parts) + '\n'


def html_report(gathered: Gathered) -> str:
  """The report as one page that needs no other file."""

  def table(run: Run) -> markupsafe.Markup:
    # Escaped first: a run folder's text cannot become markup of its own.
    text = html.escape(run.table, quote=False)
    return markupsafe.Markup(markdown.markdown(text, extensions=['tables']))

  environment = jinja2.Environment(
    loader=jinja2.PackageLoader('experiments', ''), autoescape=True
  )
  return environment.get_template('report.html.jinja').render(
    # The verdict first: on a phone the rest is a swipe away.
    header=(claims.HEADER[-1], *claims.HEADER[:-1], 'run'),
    rows=[
      (finding.verdict, *claims.row(finding)[:-1], run.folder)
      for run in gathered.runs
      for finding in run.findings
    ],
    gathered=gathered,
    details=details,
    table=table,
  )


def main(argv: list[str] | None = None) -> None:
  """Flags in, report.html and report.md out."""

  def write(call: options.Call) -> None:
    try:
      gathered = gather(Path(call.config.runs).expanduser())
      call.out.mkdir(parents=True, exist_ok=True)
      for name, text in (
        ('report.html', html_report(gathered)),
        ('report.md', markdown_report(gathered)),
      ):
        with records.replacing(call.out / name) as path:
          path.write_text(text, encoding='utf-8')
    except (ValueError, OSError) as error:
      options.fail(str(error))
    print(
      f'{len(gathered.runs)} runs, {len(gathered.left_out)} folders left out: '
      f'see {call.out / "report.html"}'
    )

  app.run(
    write,
    argv=argv,
    flags_parser=lambda args: options.parse('report', Config, {}, args),
  )


if __name__ == '__main__':
  main()
