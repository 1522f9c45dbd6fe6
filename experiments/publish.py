"""Results for everybody: summaries and figures of run folders, and two pages.

Every complete run folder below --runs leaves NAME.json and the figures NAME/ in
--into; RESULTS.md beside that folder and the results in README.md are then made
of all summaries there are, so that no number in them is typed by hand. With
--runs= the pages alone are made again.

  python -m experiments.publish --runs=runs
"""

from __future__ import annotations

import dataclasses
import logging
from pathlib import Path

from absl import app

from ossgd.storing import records

from .common import options
from .common.options import option
from .common.publishing import pages, summaries


@dataclasses.dataclass(frozen=True)
class Config:
  """Where runs are, and where what is published goes."""

  runs: str = option(
    'runs', 'Folder whose subfolders are run folders; empty: none are read.'
  )
  into: str = option(
    'experiments/figures', 'Folder for the summaries and the figures.'
  )
  readme: str = option('README.md', 'The page with the markers.')


def main(argv: list[str] | None = None) -> None:
  """Flags in, summaries and pages out."""
  app.run(
    _publish,
    argv=argv,
    flags_parser=lambda args: options.parse_config('publish', Config, args),
  )


def _publish(config: Config) -> None:
  logging.getLogger('jax').setLevel(logging.WARNING)
  into, readme = options.folder(config.into), options.folder(config.readme)
  try:
    for folder in run_folders(config.runs):
      summaries.publish(folder, into)
      print(f'published {folder}')
    write_pages(into, readme)
  except (ValueError, LookupError, OSError) as error:
    options.fail(str(error))
  print(f'see {into.parent / "RESULTS.md"}')


def run_folders(runs: str) -> list[Path]:
  """The complete ones below a folder, by name.

  Raises:
    ValueError: there are none.
  """
  if not runs:
    return []
  folder = options.folder(runs)
  found = sorted(path.parent for path in folder.glob(f'*/{records.CONFIG}'))
  if not found:
    raise ValueError(f'{folder} holds no complete run folder; give --runs')
  return found


def write_pages(into: Path, readme: Path) -> None:
  """RESULTS.md beside the folder of the summaries, and README.md's part."""
  known = summaries.read_all(into)
  written = {
    into.parent / 'RESULTS.md': pages.results_page(known),
    readme: pages.readme(readme.read_text(encoding='utf-8'), known),
  }
  for page, text in written.items():
    with records.replacing(page) as path:
      path.write_text(text, encoding='utf-8')


if __name__ == '__main__':
  main()
