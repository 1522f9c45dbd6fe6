"""How readings of the paper fit the numbers it reports, and what stays open."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ossgd.results import claims, panels, paper_claims, plots, statistics
from ossgd.results.claims import INF, Claim, Finding

if TYPE_CHECKING:
  import xarray as xr
  from matplotlib.figure import Figure

# What the readings differ in is no part of the set-up they are held against.
_READ = ('normalize', 'init_scale', 'order', 'num_train')


class Fit(NamedTuple):
  """One reading, seen every so many steps, beside the paper's numbers."""

  words: str
  seen_every: int
  findings: list[Finding]  # the constant's first

  def has(self, verdict: str) -> int:
    """How many of the numbers have this verdict."""
    return sum(finding.verdict == verdict for finding in self.findings)

  def judged(self) -> int:
    """How many are judged, not only measured."""
    return len(self.findings) - self.has('measured')

  def off(self, constant: float) -> float:
    """By what fraction the mean misses Figure 5's constant; inf if none."""
    mean = self.findings[0].mean
    misfit = np.expm1(abs(np.log(mean / constant))) if mean > 0 else np.nan
    return float(np.nan_to_num(misfit, nan=np.inf))


def paper_numbers(results: xr.Dataset) -> list[Claim]:
  """The paper's numbers, asked of every reading and every grid of looks.

  Those of MNIST's first steps need fewer than Figure 2's 20000; what is largest
  over all steps does not.

  Args:
    results: of `readings.run`.
  """
  mnist = results.attrs['dataset'] == 'mnist'
  figure = paper_claims.FIGURE_2 if mnist else paper_claims.FIGURE_1
  setup = {name: value for name, value in figure.items() if name not in _READ}
  early = setup | {'num_steps': results.attrs['num_steps']}
  fit = results.attrs['constant']
  quantities = [
    (
      'sqrt(m) x distance at the target',
      0.9 * fit,
      1.1 * fit,
      lambda ds: (ds.distance_at_accuracy * np.sqrt(ds.width)).mean(
        'width', skipna=False
      ),
    ),
    (
      'slope of log distance at the target in log m',
      -0.55,
      -0.45,
      lambda ds: statistics.log_slope(ds.distance_at_accuracy),
    ),
    (
      'largest pattern difference',
      -INF,
      0.1,
      lambda ds: ds.largest_pattern_difference.max('width', skipna=False),
    ),
    (
      'largest relative distance',
      -INF,
      0.1,
      lambda ds: ds.largest_distance.max('width', skipna=False),
    ),
  ]
  if 'cliff' in results:
    quantities.append(
      (
        'singular value k l / (k l + 1), lowest over widths',
        10.0,
        INF,
        lambda ds: ds.cliff.min('width', skipna=False),
      )
    )

  def claim(reading, every, quantity, low, high, measure):
    at_target = 'at the target' in quantity
    return Claim(
      'Section 7 and D.1',
      f'{results.words.sel(reading=reading).item()}; seen every {every} steps',
      quantity,
      low,
      high,
      lambda ds: measure(ds.sel(reading=reading, seen_every=every)),
      early if mnist and at_target else setup,
    )

  return [claim(*row, *q) for row in _rows(results) for q in quantities]


def _rows(results: xr.Dataset) -> Iterable[tuple[str, int]]:
  return itertools.product(results.reading.values, results.seen_every.values)


def fits(results: xr.Dataset) -> list[Fit]:
  """Every reading on every grid, judged."""
  findings = [claims.judge(c, results) for c in paper_numbers(results)]
  rows = list(_rows(results))
  count = len(findings) // len(rows)
  return [
    Fit(
      results.words.sel(reading=reading).item(),
      int(every),
      findings[i * count : (i + 1) * count],
    )
    for i, (reading, every) in enumerate(rows)
  ]


def table(results: xr.Dataset) -> str:
  """A row a reading and grid, and what follows."""
  found = fits(results)
  numbers = found[0].findings
  rows = [
    (
      fit.words,
      fit.seen_every,
      *(_cell(finding) for finding in fit.findings),
      f'{fit.has("holds")} of {fit.judged()}',
    )
    for fit in found
  ]
  header = (
    'reading',
    'seen every',
    *(finding.claim.quantity for finding in numbers),
    'hold',
  )
  return (
    claims.markdown_table(header, rows)
    + '\n'
    + conclusion(found, results.attrs['constant'])
  )


def _cell(finding: Finding) -> str:
  between = claims.interval(finding)
  parts = claims.measured(finding), between and f'({between})', finding.verdict
  return ' '.join(filter(None, parts))


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
  open_ = [fit for fit in found if not fit.has('fails')]
  out = [fit for fit in found if fit.has('fails')]
  if out:
    lines.append(f'Ruled out by at least one number: {_listed(out)}.')
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
  import matplotlib
  from matplotlib.figure import Figure

  fig = Figure(figsize=(7, 4), layout='constrained')
  ax = fig.subplots()
  values = results.distance_at_accuracy * np.sqrt(results.width)
  values = values.mean('width', skipna=False)
  colors = matplotlib.colormaps['viridis'](
    np.linspace(0, 0.85, results.sizes['reading'])
  )
  for color, reading in zip(colors, results.reading.values, strict=True):
    one = values.sel(reading=reading).transpose('seen_every', 'seed')
    panels.draw(
      ax, one, fmt='o-', color=color, label=one.words.item(), markersize=4
    )
  ax.axhline(results.attrs['constant'], color='r', label="the paper's")
  ax.set(
    xlabel='Steps from one look at the accuracy to the next',
    ylabel='$\\sqrt{m}$ x distance at the target',
    yscale='log',
  )
  fig.legend(loc='outside upper center', ncols=2, frameon=False)
  return fig
