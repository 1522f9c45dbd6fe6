"""Lemmas 5.1, A.1 and B.1: how many units keep their gradient, and how long.

A unit is coupled if its gradient is its pseudo-gradient, that is, if its
pattern is still the initial one. At step t the lemmas' bounds hold with tau =
2 L eta t, L = max |a|: tau / (2 L eta) is the time they speak of. Measured
beside them, on data that meets (A1) and (A2) exactly: case (S), k l points
with full-batch descent, and the general case, caps with SGD that passes once.

With Section 7's step size the bounds say nothing from the first step on, so a
second one is small enough to see them at work.

  python -m experiments.coupling --preset=quick --out=/tmp/quick
"""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING

import jax
import numpy as np

from ossgd.paper import theory
from ossgd.results import drawing, statistics, tables
from ossgd.results.claims import INF, Claim
from ossgd.results.statistics import Every, Proportion
from ossgd.running import sweeps, watching

from .common import command, seeds
from .common.lemmas import coupled_units
from .common.lemmas.coupled_units import CASES, Config

if TYPE_CHECKING:
  import xarray as xr
  from matplotlib.figure import Figure


PRESETS = {
  'quick': {
    'widths': (500, 1000, 2000, 4000),
    'num_seeds': 5,
    'num_test': 50,
  }
}


def run(
  config: Config, progress: sweeps.Progress = lambda fraction, label: None
) -> xr.Dataset:
  """Both cases, every step size, width and seed, observed at every step."""
  import xarray as xr

  mesh = seeds.devices(config, config.widths)
  halves = watching.watch(progress).parts((f'case {c}', 1) for c in CASES)
  found = [
    seeds.over_widths(
      config,
      jax.jit(functools.partial(coupled_units.measure, config, case)),
      half,
      dims=coupled_units.dims,
      mesh=mesh,
    )
    for case, half in zip(CASES, halves, strict=True)
  ]
  results = xr.concat(found, xr.Variable('case', list(CASES)))
  results = results.sortby('width').assign_coords(
    lr_times_width=list(config.lr_times_width),
    step=np.arange(config.num_steps + 1),
  )
  num_points = config.num_classes * config.num_components
  return coupled_units.with_bounds(results.assign_attrs(num_points=num_points))


def _claims(results: xr.Dataset) -> list[Claim]:
  """What the lemmas say, and what repairs them."""
  least, most = results.width.values.min(), results.width.values.max()
  widths = f'm {least:g} to {most:g}'
  fast = float(results.lr_times_width.max())
  lemma = 'Lemmas 5.1, A.1'
  S, general = ({'case': name} for name in ('S', 'general'))

  def most_of(name, case):
    return lambda ds: Every(ds[name].sel(case).max('width', skipna=False))

  def how_often(name):
    def measure(ds):
      constant = ds[name].sel(S)
      broken = (constant > math.e).where(constant.notnull())
      # The points are as far apart in all, so that draws at every width count.
      return Proportion(broken.mean('width', skipna=False), ds.sizes['width'])

    return measure

  def uncoupled(ds):
    last = ds.coupled.sel(S).sel(lr_times_width=fast).isel(step=-1)
    return statistics.log_slope(1 - last)

  return [
    Claim(
      lemma,
      'at step 0 every unit is coupled',
      f'units not coupled at step 0, most over {widths}',
      -INF,
      0,
      lambda ds: Every(
        np.rint((1 - ds.coupled.isel(step=0)) * ds.width).max(
          ['width', 'case', 'lr_times_width'], skipna=False
        )
      ),
    ),
    Claim(
      lemma,
      'at least 1 - e tau k l / sigma of the units are coupled up to tau / '
      '(2 L eta)',
      f'steps at which fewer are, most over {widths}',
      -INF,
      0,
      most_of('below', S),
    ),
    Claim(
      lemma,
      '|H| >= m (1 - e tau k l / sigma) "for every tau"',
      f'fraction of initialisations where some tau breaks it, {widths}',
      -INF,
      0.01,
      how_often('constant'),
    ),
    Claim(
      'Lemma A.1, repaired',
      f'|H| >= m (1 - e tau k l / sigma) - {theory.spared_units():.1f} for '
      'every tau',
      f'fraction of initialisations where some tau breaks it, {widths}',
      -INF,
      0.01,
      how_often('repaired_constant'),
    ),
    Claim(
      'Lemma B.1',
      'at every new point at least 1 - 10 tau / sigma are coupled, with '
      '|<w_r(t), x>| >= tau',
      f'steps at which fewer are at some point, most over {widths}',
      -INF,
      0,
      most_of('below_at_point', general),
    ),
    *(
      Claim(
        f'{lemma}, case {case["case"]}',
        words,
        f'{quantity}, largest over steps and {widths}',
        -INF,
        1.0,
        most_of(name, case),
      )
      for case in (S, general)
      for words, quantity, name in (
        (
          'a unit moves at most L eta t',
          '||w_r(t) - w_r(0)|| / (L eta t)',
          'drift_ratio',
        ),
        (
          'a gradient has norm at most L = max |a|',
          '||dL/dw_r|| / L',
          'gradient_ratio',
        ),
      )
    ),
    Claim(
      'Section 5',
      f'the wider, the fewer units lose their pattern (eta m = {fast:g})',
      f'slope of log fraction not coupled at the last step in log m, {widths}',
      -INF,
      0.0,
      uncoupled,
    ),
  ]


def _table(results: xr.Dataset) -> str:
  """A row a case and width."""
  import xarray as xr

  slow = float(results.lr_times_width.min())
  fast = float(results.lr_times_width.max())
  later = results.sel(step=slice(1, None))
  # Case (S) is of all points at once, Lemma B.1 of each of them.
  is_simplified = results.case == 'S'
  measured = xr.where(is_simplified, later.coupled, later.coupled_at_point)
  bound = xr.where(is_simplified, later.bound, later.bound_at_point)
  at_slow = {'lr_times_width': slow}
  columns = {
    f'least measured - bound (eta m = {slow:g})': (
      (measured - bound).sel(at_slow).min('step')
    ),
    f'measured where bound = 0 (eta m = {slow:g})': (
      measured.where(bound <= 0).sel(at_slow).max('step')
    ),
    f'coupled at the last step (eta m = {fast:g})': (
      results.coupled.sel(lr_times_width=fast).isel(step=-1)
    ),
    'constant needed (e; 10)': results.constant_needed,
    'largest drift / (L eta t)': results.drift_ratio,
    'largest gradient / L': results.gradient_ratio,
    'width to halve the loss': results.width_to_halve.sel(lr_times_width=fast),
  }
  return tables.means_table(columns, case='case', width='m')


def _figure(results: xr.Dataset) -> Figure:
  """Measured fractions and the lemmas' bounds against the step."""

  slow = float(results.lr_times_width.min())
  fast = float(results.lr_times_width.max())
  shown = (
    (results.coupled, results.bound, 'S', slow, 'case (S), Lemma A.1'),
    (
      results.coupled_at_point,
      results.bound_at_point,
      'general',
      slow,
      'worst of new points, Lemma B.1',
    ),
    (results.coupled, None, 'S', fast, 'case (S)'),
  )
  fig = drawing.new_figure(11, 3.6)
  colors = drawing.shades(results.sizes['width'], 0.85)
  for ax, (values, bound, case, lr, title) in zip(
    fig.subplots(1, 3), shown, strict=True
  ):
    for color, m in zip(colors, results.width.values, strict=True):
      here = {'case': case, 'lr_times_width': lr, 'width': m}
      curve = values.sel(here)
      mean, spread = curve.mean('seed'), curve.std('seed', ddof=1).fillna(0)
      ax.plot(results.step, mean, color=color, label=str(m))
      edges = (mean - spread).values, (mean + spread).values
      ax.fill_between(results.step, *edges, color=color, alpha=0.2)
      if bound is not None:
        line = {'color': color, 'gid': drawing.REFERENCE}
        ax.plot(results.step, bound.sel(here).mean('seed'), '--', **line)
    if bound is not None:
      ax.set_ylim(0, 1.05)
    ax.set(xlabel='Step', ylabel='Fraction of units coupled')
    ax.set_title(f'{title}, $\\eta m$ = {lr:g}', size='medium')
  ax.legend(title='m (dashed: the bound)', frameon=False, fontsize='small')
  return drawing.explain_empty(fig, results)


EXPERIMENT = command.Experiment(
  'coupling',
  Config,
  PRESETS,
  run,
  figures=lambda ds: {'coupling': _figure(ds)},
  table=_table,
  claims=_claims,
)


main = EXPERIMENT.main

if __name__ == '__main__':
  main()
