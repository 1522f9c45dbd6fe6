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
from ossgd.results.claims import Claim
from ossgd.results.statistics import Proportion
from ossgd.running import sweeps, watching

from .common import command, seeds
from .common.lemmas import cases, coupled_units
from .common.lemmas.coupled_units import AT_START, CASES, Config
from .common.lemmas.evidence import most

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

  cases.check(config)
  mesh = seeds.devices(config, config.widths)
  parts = watching.watch(progress).parts((f'case {c}', 1) for c in CASES)
  found = [
    seeds.over_widths(
      config,
      jax.jit(functools.partial(coupled_units.measure, config, case)),
      part,
      dims=lambda name: () if name in AT_START else ('lr_times_width', 'step'),
      mesh=mesh,
    )
    for case, part in zip(CASES, parts, strict=True)
  ]
  results = xr.concat(found, xr.Variable('case', list(CASES)))
  results = results.sortby('width').assign_coords(
    lr_times_width=list(config.lr_times_width),
    step=np.arange(config.num_steps + 1),
  )
  return coupled_units.with_bounds(
    results.assign_attrs(num_points=config.num_points)
  )


def _claims(results: xr.Dataset) -> list[Claim]:
  """What the lemmas say, and what repairs them."""
  m, fast = results.width.values, results.lr_times_width.max().item()
  widths = f'm {m.min():g} to {m.max():g}'
  lemma = functools.partial(Claim, 'Lemmas 5.1, A.1')

  def uncoupled(ds):
    return 1 - ds.coupled.sel(case='S', lr_times_width=fast).isel(step=-1)

  return [
    lemma(
      'at step 0 every unit is coupled',
      f'units not coupled at step 0, most over {widths}',
      lambda ds: most(
        np.rint((1 - ds.coupled.isel(step=0)) * ds.width),
        *('width', 'case', 'lr_times_width'),
      ),
      high=0,
    ),
    lemma(
      'at least 1 - e tau k l / sigma of the units are coupled up to tau / '
      '(2 L eta)',
      f'steps at which fewer are, most over {widths}',
      lambda ds: most(ds.below.sel(case='S'), 'width'),
      high=0,
    ),
    *_constant_claims(widths),
    Claim(
      'Lemma B.1',
      'at every new point at least 1 - 10 tau / sigma are coupled, with '
      '|<w_r(t), x>| >= tau',
      f'steps at which fewer are at some point, most over {widths}',
      lambda ds: most(ds.below_at_point.sel(case='general'), 'width'),
      high=0,
    ),
    *_movement_claims(widths),
    Claim(
      'Section 5',
      f'the wider, the fewer units lose their pattern (eta m = {fast:g})',
      f'slope of log fraction not coupled at the last step in log m, {widths}',
      lambda ds: statistics.log_slope(uncoupled(ds)),
      high=0.0,
    ),
  ]


def _constant_claims(widths: str) -> list[Claim]:
  """The bound for every tau at once, as it is said and repaired."""

  def broken(ds, name):
    constant = ds[name].sel(case='S')
    broken = (constant > math.e).where(constant.notnull())
    # The points are as far apart in all, so that draws at every width count.
    return Proportion(broken.mean('width', skipna=False), ds.sizes['width'])

  return [
    Claim(
      'Lemmas 5.1, A.1',
      '|H| >= m (1 - e tau k l / sigma) "for every tau"',
      f'fraction of initialisations where some tau breaks it, {widths}',
      lambda ds: broken(ds, 'constant'),
      high=0.01,
    ),
    Claim(
      'Lemma A.1, repaired',
      f'|H| >= m (1 - e tau k l / sigma) - {theory.spared_units():.1f} for '
      'every tau',
      f'fraction of initialisations where some tau breaks it, {widths}',
      lambda ds: broken(ds, 'repaired_constant'),
      high=0.01,
    ),
  ]


def _movement_claims(widths: str) -> list[Claim]:
  """What the lemmas' proofs say of how far units move, in both cases."""

  def claim(case, name, words, quantity):
    return Claim(
      f'Lemmas 5.1, A.1, case {case}',
      words,
      f'{quantity}, largest over steps and {widths}',
      lambda ds: most(ds[name].sel(case=case), 'width'),
      high=1.0,
    )

  move = 'a unit moves at most L eta t', '||w_r(t) - w_r(0)|| / (L eta t)'
  norm = 'a gradient has norm at most L = max |a|', '||dL/dw_r|| / L'
  return [
    claim(case, name, *texts)
    for case in CASES
    for name, texts in (('drift_ratio', move), ('gradient_ratio', norm))
  ]


def _table(results: xr.Dataset) -> str:
  """A row a case and width."""
  import xarray as xr

  slow = results.sel(lr_times_width=results.lr_times_width.min())
  fast = results.sel(lr_times_width=results.lr_times_width.max())
  at_slow = f'(eta m = {slow.lr_times_width:g})'
  at_fast = f'(eta m = {fast.lr_times_width:g})'
  # Case (S) is of all points at once, Lemma B.1 of each of them.
  later, is_simplified = slow.sel(step=slice(1, None)), slow.case == 'S'
  measured = xr.where(is_simplified, later.coupled, later.coupled_at_point)
  bound = xr.where(is_simplified, later.bound, later.bound_at_point)
  columns = {
    f'least measured - bound {at_slow}': (measured - bound).min('step'),
    f'measured where bound = 0 {at_slow}': (
      measured.where(bound <= 0).max('step')
    ),
    f'coupled at the last step {at_fast}': fast.coupled.isel(step=-1),
    'constant needed (e; 10)': results.constant_needed,
    'largest drift / (L eta t)': results.drift_ratio,
    'largest gradient / L': results.gradient_ratio,
    'width to halve the loss': fast.width_to_halve,
  }
  return tables.means_table(columns, case='case', width='m')


def _figures(results: xr.Dataset) -> dict[str, Figure]:
  """Measured fractions and the lemmas' bounds against the step."""
  slow = results.lr_times_width.min().item()
  fast = results.lr_times_width.max().item()
  shown = (
    ('S', slow, 'coupled', 'bound', 'case (S), Lemma A.1'),
    (
      *('general', slow, 'coupled_at_point', 'bound_at_point'),
      'worst of new points, Lemma B.1',
    ),
    ('S', fast, 'coupled', '', 'case (S)'),
  )
  fig = drawing.new_figure(11, 3.6)
  colors = drawing.shades(results.sizes['width'], 0.85)
  for ax, (case, lr, name, bound, title) in zip(
    fig.subplots(1, 3), shown, strict=True
  ):
    for color, m in zip(colors, results.width.values, strict=True):
      here = results.sel(case=case, lr_times_width=lr, width=m)
      mean = here[name].mean('seed')
      spread = here[name].std('seed', ddof=1).fillna(0)
      edges = (mean - spread).values, (mean + spread).values
      ax.plot(here.step, mean, color=color, label=str(m))
      ax.fill_between(here.step, *edges, color=color, alpha=0.2)
      if bound:
        line = {'color': color, 'gid': drawing.REFERENCE}
        ax.plot(here.step, here[bound].mean('seed'), '--', **line)
    if bound:
      ax.set_ylim(0, 1.05)
    ax.set(xlabel='Step', ylabel='Fraction of units coupled')
    ax.set_title(f'{title}, $\\eta m$ = {lr:g}', size='medium')
  ax.legend(title='m (dashed: the bound)', frameon=False, fontsize='small')
  return {'coupling': drawing.explain_empty(fig, results)}


EXPERIMENT = command.Experiment(
  'coupling', Config, PRESETS, run, _figures, _table, _claims
)
main = EXPERIMENT.main

if __name__ == '__main__':
  main()
