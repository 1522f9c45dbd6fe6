"""A run folder of `synthetic` written by hand, and what is made of it."""

import collections
import contextlib
import html.parser
import io
import pathlib
from collections.abc import Callable
from typing import Any

import xarray as xr
from matplotlib.figure import Figure

from experiments import synthetic
from ossgd.storing import records
from tests.results.drawn import make_records


def make_results() -> xr.Dataset:
  """A sweep as a script leaves it, with verdicts of each kind."""
  return make_records(values=(250, 1000, 4000), num_seeds=3).assign_attrs(
    num_test=1000,
    command='python -m experiments.synthetic --widths=250,1000,4000',
    seconds=61.4,
  )


def make_config() -> dict[str, Any]:
  settings = {
    name: list(value) if isinstance(value, tuple) else value
    for name, value in vars(synthetic.Config()).items()
    if name not in ('mesh', 'seeds_at_once')  # which no folder has
  }
  return {
    'experiment': 'synthetic',
    'settings': settings,
    'environment': records.environment(),
  }


def write(folder: pathlib.Path, results=None, config=None) -> pathlib.Path:
  """A run folder by hand; its own report tells lies."""
  folder.mkdir(parents=True)
  if results is None:
    results = make_results()
  records.write_results(folder, results)
  records.write_figures(
    folder,
    {'figure1': Figure(figsize=(2, 1)), 'b': Figure(figsize=(8, 1))},
  )
  records.write_report(
    folder,
    config or make_config(),
    report='| verdict |\n| --- |\n| **holds** |\n' * 99,
    seconds={},
  )
  return folder


class Page(html.parser.HTMLParser):
  """Elements, attributes and text, as a browser would see them."""

  def __init__(self, text: str):
    super().__init__()
    self.tags: collections.Counter[str] = collections.Counter()
    self.attributes: list[tuple[str, str | None]] = []
    self.classes: list[str] = []
    self.text = ''  # a line an element
    self.feed(text)
    self.close()

  def handle_starttag(self, tag, attrs):
    self.tags[tag] += 1
    self.attributes += attrs
    self.classes += [dict(attrs).get('class') or '']

  def handle_data(self, data):
    if self.cdata_elem is None and data.strip():  # no style sheet
      self.text += f'{data.strip()}\n'

  def values(self, name: str) -> list[str | None]:
    return [value for key, value in self.attributes if key == name]


def ended(
  main: Callable[[list[str]], None], *args: str
) -> tuple[int, str, str]:
  """Exit code, stdout and stderr of a script."""
  out, err = io.StringIO(), io.StringIO()
  with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
    try:
      main(['script', *args])
    except SystemExit as end:
      return int(end.code or 0), out.getvalue(), err.getvalue()
  raise AssertionError('main did not end the script')
