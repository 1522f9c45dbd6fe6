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
import re
import shlex
from pathlib import Path

from absl import app

from ossgd.machine import files
from ossgd.storing import records

from .common import options, printing
from .common.options import option
from .common.publishing import judged, pages, summaries


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
  into = options.folder(config.into, 'into')
  readme = options.folder(config.readme, 'readme')
  try:
    for folder in _complete(config.runs):
      publish(folder, into)
      printing.say(f'published {folder}')
    known = summaries.read_all(into)
    written = {
      into.parent / 'RESULTS.md': pages.results_page(known),
      readme: pages.readme(readme.read_text(encoding='utf-8'), known),
    }
    for page, text in written.items():
      with files.replacing(page) as path:
        path.write_text(text, encoding='utf-8')
  except (ValueError, LookupError, OSError, files.SaveError) as error:
    options.fail(str(error))
  printing.say(f'see {into.parent / "RESULTS.md"}')


def _complete(runs: str) -> list[Path]:
  """The complete run folders below a folder, by name."""
  if not runs:
    return []
  folder = options.folder(runs, 'runs')
  found = sorted(path.parent for path in folder.glob(f'*/{records.CONFIG}'))
  if not found:
    raise ValueError(f'{folder} holds no complete run folder; give --runs')
  return found


def publish(folder: Path, into: Path) -> None:
  """Writes NAME.json and the figures of a run folder of this name.

  Raises:
    ValueError: the folder is partial or damaged, or not of today's version.
  """
  try:
    run = judged.read(folder)
    if run.differences:
      raise ValueError('; '.join(run.differences))
  except Exception as error:
    # Results of another version break a script anywhere.
    reason = error if isinstance(error, ValueError) else repr(error)
    raise ValueError(f'{folder} cannot be published: {reason}') from error
  figures = into / folder.name
  figures.mkdir(parents=True, exist_ok=True)
  for picture in run.pictures:
    with files.replacing(figures / f'{picture.name}.png') as path:
      path.write_bytes(picture.content)
  for path in figures.glob('*.png'):
    if path.name not in run.summary.figures:
      path.unlink()  # of an earlier run
  # Where its results went is nobody's business.
  words, kept = iter(shlex.split(run.summary.command)), []
  for word in words:
    if re.fullmatch('--?out', word):
      next(words, None)  # the folder is a word of its own
    elif not re.match('--?(out=|overwrite\\b)', word):
      kept.append(word)
  summary = run.summary._replace(command=shlex.join(kept))
  with files.replacing(into / f'{folder.name}.json') as path:
    path.write_text(summaries.encode(summary), encoding='utf-8')


if __name__ == '__main__':
  main()
