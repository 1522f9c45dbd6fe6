"""How readings of the paper fit the numbers it reports, and what stays open."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ossgd.results import claims, panels, paper_claims, plots, statistics
from ossgd.results.claims import Claim, Finding
from ossgd.results.judging import Verdict

if TYPE_CHECKING:
  import xarray as xr
  from matplotlib.figure import Figure

# What the readings differ in is no part of the set-up they are held against.
_READ = ('normalize', 'init_scale', 'order', 'num_train')


class Fit(NamedTuple):
  """One reading, seen every so many steps, beside the paper's numbers."""

  words: str
  seen_every: int
  findings: Sequence[Finding]  # the constant's first
  # Of these and of all other fits' together (Holm).
  together: Sequence[Verdict]

  @property
  def ruled_out(self) -> bool:
    """Whether a number fails, if the verdicts on all fits are to be right."""
    return 'fails' in self.together

  def has(self, verdict: str) -> int:
    """How many of the numbers have this verdict."""
    return sum(finding.verdict == verdict for finding in self.findings)

  def judged(self) -> int:
    """How many are judged, not only measured."""
    return len(self.findings) - self.has('measured')

  def off(self, constant: float) -> float:
    """By what fraction the mean misses Figure 5's constant; inf if none.

    A mean of the seeds that reached the target is none of all.
    """
    mean, missing = self.findings[0].mean, self.findings[0].num_missing
    if missing or not mean > 0:
      return np.inf
    return float(np.expm1(abs(np.log(mean / constant))))


def paper_numbers(results: xr.Dataset) -> list[Claim]:
  """The paper's numbers, asked of every reading and every grid of looks.

  Args:
    results: of `readings.run`.
  """
  numbers, found = _numbers(results), []
  looked = results.drop_dims(['step', 'rank'], errors='ignore')
  for reading, words, every in _looks(results):
    here = {'reading': reading, 'seen_every': every}
    measured = functools.partial(_at, results, looked.sel(here), here)
    found += [
      number._replace(
        words=f'{words}; seen every {every} steps',
        measure=functools.partial(measured, number.measure),
      )
      for number in numbers
    ]
  return found


def _at(
  results: xr.Dataset,
  one: xr.Dataset,
  here: Mapping[str, Any],
  measure: Callable[[xr.Dataset], Any],
  asked: xr.Dataset,
) -> Any:
  """What is measured there; of these results it was looked up already."""
  return measure(one if asked is results else asked.sel(here))


def _looks(results: xr.Dataset) -> Iterator[tuple[str, str, int]]:
  """Every reading, its words, and every grid that it is seen on."""
  readings = results.reading.values.tolist(), results.words.values.tolist()
  for reading, words in zip(*readings, strict=True):
    for every in results.seen_every.values.tolist():
      yield reading, words, every


def _numbers(results: xr.Dataset) -> list[Claim]:
  """The paper's numbers, of one reading on one grid.

  On MNIST those at the target need fewer steps than Figure 2's 20000; what is
  largest over all steps does not.
  """
  mnist = results.attrs['dataset'] == 'mnist'
  figure = paper_claims.FIGURE_2 if mnist else paper_claims.FIGURE_1
  setup = {name: value for name, value in figure.items() if name not in _READ}
  early = {'num_steps': results.attrs['num_steps']} if mnist else {}
  at_target, of_all = (
    functools.partial(Claim, 'Section 7 and D.1', '', setup=about)
    for about in (setup | early, setup)
  )
  constant = results.attrs['constant']
  found = [
    at_target(
      'sqrt(m) x distance at the target',
      paper_claims.scaled_distance,
      low=0.9 * constant,
      high=1.1 * constant,
    ),
    at_target(
      'slope of log distance at the target in log m',
      lambda ds: statistics.log_slope(ds.distance_at_accuracy),
      low=-0.55,
      high=-0.45,
    ),
    of_all(
      'largest pattern difference',
      lambda ds: ds.largest_pattern_difference.max('width', skipna=False),
      high=0.1,
      needs='largest_pattern_difference',
    ),
    of_all(
      'largest relative distance',
      lambda ds: ds.largest_distance.max('width', skipna=False),
      high=0.1,
    ),
    of_all(
      'singular value k l over the next, lowest over widths',
      lambda ds: ds.cliff.min('width', skipna=False),
      low=10.0,
    ),
  ]
  return found if 'cliff' in results else found[:-1]


def verdicts(results: xr.Dataset, findings: Sequence[Finding]) -> str:
  """A row a reading and grid, and what follows: Markdown."""
  looks = list(_looks(results))
  each, together = len(findings) // len(looks), claims.family_wise(findings)
  found = [
    Fit(words, every, findings[i * each :][:each], together[i * each :][:each])
    for i, (_, words, every) in enumerate(looks)
  ]
  numbers = [finding.claim.quantity for finding in found[0].findings]
  rows = [
    (
      fit.words,
      fit.seen_every,
      *map(_cell, fit.findings),
      f'{fit.has("holds")} of {fit.judged()}',
    )
    for fit in found
  ]
  return (
    claims.markdown_table(('reading', 'seen every', *numbers, 'hold'), rows)
    + '\n'
    + conclusion(found, results.attrs['constant'])
  )


def _cell(finding: Finding) -> str:
  between, missing = claims.interval(finding), finding.num_missing
  without = f'({missing} without)' if missing else ''
  parts = claims.measured(finding), without, between and f'({between})'
  return ' '.join(filter(None, (*parts, finding.verdict)))


def conclusion(found: Sequence[Fit], constant: float) -> str:
  """What fits best, by how much, and what cannot be told apart: Markdown.

  Args:
    found: all readings on all grids, ours on the finest grid first.
    constant: Figure 5's.
  """
  total = found[0].judged()
  if not total:
    return "Away from the paper's set-up: nothing is judged.\n"
  most = max(fit.has('holds') for fit in found)
  best = _listed(fit for fit in found if fit.has('holds') == most)
  ranked = sorted(found, key=lambda fit: fit.off(constant))
  nearest, ours = ranked[0], found[0]
  lines = [
    f'All {total} numbers hold with: {best}.'
    if most == total
    else f'No reading has all {total} numbers; most, {most}, hold with: {best}.'
  ]
  if np.isfinite(nearest.off(constant)):
    lines.append(
      f'Nearest to the constant {constant:.3g}: {_listed([nearest])}: '
      f'{_cell(nearest.findings[0])}, off by '
      f'{100 * nearest.off(constant):.0f} %; the next is off by '
      f'{100 * ranked[min(1, len(ranked) - 1)].off(constant):.0f} %, '
      f'{_listed([ours])} by {100 * ours.off(constant):.0f} %.'
    )
  open_ = [fit for fit in found if not fit.ruled_out]
  out = [fit for fit in found if fit.ruled_out]
  if out:
    lines.append(
      f'Ruled out by at least one number, family-wise: {_listed(out)}.'
    )
  lines.append(
    f'Not ruled out, so that which of them it was stays unknown: '
    f'{_listed(open_)}.'
    if open_
    else 'Each is ruled out by one number at least: what the authors did stays '
    'unknown.'
  )
  return '\n\n'.join(lines) + '\n'


def _listed(some: Iterable[Fit]) -> str:
  """Readings, each with the grids it is seen on."""
  grids: dict[str, list[str]] = {}
  for fit in some:
    grids.setdefault(fit.words, []).append(str(fit.seen_every))
  return '; '.join(
    f'{words}, seen every {", ".join(every)} steps'
    for words, every in grids.items()
  )


def figures(results: xr.Dataset) -> dict[str, Figure]:
  """Figure 5 under every reading on the finest grid; its constant on all."""
  finest = results.sel(seen_every=results.seen_every.min())
  return {
    f'figure5_{reading}': plots.distance_figure(
      finest.sel(reading=reading), results.attrs['constant']
    )
    for reading in results.reading.values
  } | {'constants': _constants_figure(results)}


def _constants_figure(results: xr.Dataset) -> Figure:
  """Figure 5's constant against how often one looks, a curve a reading."""
  values = paper_claims.scaled_distance(results)
  curves = {
    words.item(): values.sel(reading=words.reading) for words in results.words
  }
  fig = panels.panels_figure(
    {'$\\sqrt{m}$ x distance at the target': curves},
    'seen_every',
    'Steps from one look at the accuracy to the next',
  )
  (ax,) = fig.axes
  ax.axhline(results.attrs['constant'], color='r', label="the paper's")
  ax.set_yscale('log')
  ax.legend().remove()
  fig.legend(loc='outside upper center', ncols=2, frameon=False)
  fig.set_size_inches(7, 4)
  return fig
