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

import dataclasses
import functools
import math
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np

from experiments import cases, command, seeds, training
from experiments.options import option
from ossgd import (
  checkpoints,
  claims,
  descent,
  meshes,
  paper_claims,
  sweeps,
  theory,
)
from ossgd.base import Params
from ossgd.claims import INF, Claim

if TYPE_CHECKING:
  import xarray as xr
  from matplotlib.figure import Figure


@dataclasses.dataclass(frozen=True)
class Config(cases.Config):
  """Points (S) or caps, and two step sizes."""

  lr_times_width: tuple[float, ...] = option(
    (0.01, 10.0), 'eta m: one within reach of the bounds, and Section 7.'
  )
  num_steps: int = option(30, 'T.')
  batch_size: int = option(4, 'B of SGD in the general case.')
  num_test: int = option(60, 'Points x of Lemma B.1, never trained on.')


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
  works = [(case, m) for case in ('S', 'general') for m in config.widths]
  watch = checkpoints.watch(progress)
  parts = []
  for i, (case, width) in enumerate(works):
    name = f'case {case} m={width}'
    found = seeds.over_seeds(
      config,
      jax.jit(functools.partial(_measure, config, case)),
      watch.part(i / len(works), (i + 1) / len(works), name),
      width=width,
      mesh=mesh,
    )
    dims = ('seed', 'lr_times_width', 'step')
    part = xr.Dataset({n: (dims[: v.ndim], v) for n, v in found.items()})
    parts.append(part.expand_dims(case=[case], width=[width]))
  progress(1.0, 'done')
  results = xr.combine_by_coords(parts, join='outer', compat='no_conflicts')
  assert isinstance(results, xr.Dataset)  # as all of the parts are
  results = results.assign_coords(
    seed=np.arange(config.seed, config.seed + config.num_seeds),
    lr_times_width=list(config.lr_times_width),
    step=np.arange(config.num_steps + 1),
  )
  num_points = config.num_classes * config.num_components
  return _with_bounds(
    results.assign_attrs(num_points=num_points, mesh=meshes.text(mesh))
  )


def _measure(
  config: Config, case: str, seed: jax.Array, params: Params
) -> dict[str, jax.Array]:
  """One seed: quantities at every step size and step, and at the start."""
  width = params.w.shape[0]
  if case == 'S':
    one = cases.simplified(config, seed, params, num_steps=config.num_steps)
  else:
    one = cases.general(
      config,
      seed,
      params,
      num_steps=config.num_steps,
      batch_size=config.batch_size,
      num_test=config.num_test,
    )
  gram, _, h0, a = one.problem
  on = one.observed[:, None] > 0  # the points that the lemmas speak of
  p0 = h0 >= 0
  margin = jnp.min(jnp.where(on, jnp.abs(h0), jnp.inf), axis=0)

  def observe(view, step_size):
    p = view.h >= 0
    tau = theory.reach(a, step_size, view.step)
    firm = (p == p0) & (jnp.abs(view.h) >= tau)
    at_points = jnp.where(on[:, 0], jnp.mean(firm, axis=1), 1.0)
    return {
      'coupled': jnp.mean(theory.coupled(jnp.where(on, p, p0), p0)),
      'coupled_at_point': jnp.min(at_points),
      'within_margin': jnp.mean(margin >= tau),
      'drift': jnp.max(theory.span_norms(view.coefficients, gram)),
      'gradient_norm': jnp.max(theory.span_norms(view.gradient, gram)),
      'tau': tau,
      'loss': jnp.sum(one.observed * view.loss),
    }

  def at(lr_times_width):
    step_size = lr_times_width / width
    return descent.descend(
      one.problem,
      one.weights,
      step_size,
      functools.partial(observe, step_size=step_size),
    )

  found = jax.lax.map(at, jnp.float32(config.lr_times_width))
  num_points = config.num_classes * config.num_components
  constant = functools.partial(
    theory.coupling_constant, margin, width**-0.5, num_points
  )
  return found | {
    'largest_output_weight': jnp.max(jnp.abs(a)),
    'constant': constant(),
    'repaired_constant': constant(spared=theory.spared_units()),
  }


def _with_bounds(results: xr.Dataset) -> xr.Dataset:
  """Adds the lemmas' bounds and what is measured relative to them."""
  import xarray as xr

  ds, num_points = results, results.attrs['num_points']
  sigma = ds.width**-0.5
  later = ds.where(ds.step > 0)  # at step 0 both sides are exact
  bound = theory.coupling_bound(ds.tau, sigma, num_points)
  at_point = theory.point_coupling_bound(ds.tau, sigma)
  # What would do in place of e, and of 10.
  needed = xr.where(
    ds.case == 'S',
    (1 - later.coupled) * sigma / (ds.tau * num_points),
    (1 - later.coupled_at_point) * sigma / ds.tau,
  )
  halved = ds.loss <= ds.loss.sel(step=0) / 2
  steps_to_half = halved.idxmax('step').where(halved.any('step'))
  reach_of_step = ds.tau.sel(step=1) * num_points * math.e
  return ds.assign(
    bound=bound,
    bound_at_point=at_point,
    below=(ds.coupled < bound).sum(['step', 'lr_times_width']),
    below_at_point=(ds.coupled_at_point < at_point).sum(
      ['step', 'lr_times_width']
    ),
    drift_ratio=(later.drift / (ds.tau / 2)).max(['step', 'lr_times_width']),
    gradient_ratio=ds.gradient_norm.max(['step', 'lr_times_width'])
    / ds.largest_output_weight,
    constant_needed=needed.max(['step', 'lr_times_width']),
    # sigma / (e tau k l) = 1 at the step that halves the loss.
    width_to_halve=(reach_of_step * steps_to_half * ds.width) ** 2,
  )


def _claims(results: xr.Dataset) -> list[Claim]:
  """What the lemmas say, and what repairs them."""
  least, most = results.width.values.min(), results.width.values.max()
  widths = f'm {least:g} to {most:g}'
  fast = float(results.lr_times_width.max())
  lemma = 'Lemmas 5.1, A.1'
  S, general = ({'case': name} for name in ('S', 'general'))

  def most_of(name, case):
    return lambda ds: ds[name].sel(case).max('width', skipna=False)

  def total(values):
    return lambda ds: values(ds).sel(S).mean('width')

  def uncoupled(ds):
    last = ds.coupled.sel(S).sel(lr_times_width=fast).isel(step=-1)
    return paper_claims.log_slope(1 - last)

  return [
    Claim(
      lemma,
      'at step 0 every unit is coupled',
      f'units not coupled at step 0, most over {widths}',
      -INF,
      0.5,
      lambda ds: ((1 - ds.coupled.isel(step=0)) * ds.width).max(
        ['width', 'case', 'lr_times_width'], skipna=False
      ),
    ),
    Claim(
      lemma,
      'at least 1 - e tau k l / sigma of the units are coupled up to tau / '
      '(2 L eta)',
      f'steps at which fewer are, most over {widths}',
      -INF,
      0.5,
      most_of('below', S),
    ),
    Claim(
      lemma,
      '|H| >= m (1 - e tau k l / sigma) "for every tau"',
      f'fraction of initialisations where some tau breaks it, {widths}',
      -INF,
      0.01,
      total(lambda ds: ds.constant > math.e),
    ),
    Claim(
      'Lemma A.1, repaired',
      f'|H| >= m (1 - e tau k l / sigma) - {theory.spared_units():.1f} for '
      'every tau',
      f'fraction of initialisations where some tau breaks it, {widths}',
      -INF,
      0.01,
      total(lambda ds: ds.repaired_constant > math.e),
    ),
    Claim(
      'Lemma B.1',
      'at every new point at least 1 - 10 tau / sigma are coupled, with '
      '|<w_r(t), x>| >= tau',
      f'steps at which fewer are at some point, most over {widths}',
      -INF,
      0.5,
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
  slow = float(results.lr_times_width.min())
  fast = float(results.lr_times_width.max())
  later = results.sel(step=slice(1, None))
  measured = {'S': later.coupled, 'general': later.coupled_at_point}
  bounds = {'S': later.bound, 'general': later.bound_at_point}
  rows = []
  for case in results.case.values:
    gap = (measured[case] - bounds[case]).sel(lr_times_width=slow)
    columns = {
      f'least measured - bound (eta m = {slow:g})': gap.min('step'),
      f'measured where bound = 0 (eta m = {slow:g})': (
        measured[case]
        .where(bounds[case] <= 0)
        .sel(lr_times_width=slow)
        .max('step')
      ),
      f'coupled at the last step (eta m = {fast:g})': (
        results.coupled.sel(lr_times_width=fast).isel(step=-1)
      ),
      'constant needed (e; 10)': results.constant_needed,
      'largest drift / (L eta t)': results.drift_ratio,
      'largest gradient / L': results.gradient_ratio,
      'width to halve the loss': results.width_to_halve.sel(
        lr_times_width=fast
      ),
    }
    rows += [
      (
        case,
        m,
        *(
          training.mean_std(
            v.sel(width=m, **({'case': case} if 'case' in v.dims else {}))
          )
          for v in columns.values()
        ),
      )
      for m in results.width.values
    ]
  return claims.markdown_table(('case', 'm', *columns), rows)


def _figure(results: xr.Dataset) -> Figure:
  """Measured fractions and the lemmas' bounds against the step."""
  import matplotlib
  from matplotlib.figure import Figure

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
  fig = Figure(figsize=(11, 3.6), layout='constrained')
  colors = matplotlib.colormaps['viridis'](
    np.linspace(0, 0.85, results.sizes['width'])
  )
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
        ax.plot(results.step, bound.sel(here).mean('seed'), '--', color=color)
    if bound is not None:
      ax.set_ylim(0, 1.05)
    ax.set(xlabel='Step', ylabel='Fraction of units coupled')
    ax.set_title(f'{title}, $\\eta m$ = {lr:g}', size='medium')
  ax.legend(title='m (dashed: the bound)', frameon=False, fontsize='small')
  return fig


EXPERIMENT = command.Experiment(
  'coupling',
  Config,
  PRESETS,
  run,
  figures=lambda ds: {'coupling': _figure(ds)},
  table=_table,
  claims=_claims,
)


def main(argv: list[str] | None = None) -> None:
  """Flags in, run folder out."""
  command.main(EXPERIMENT, argv)


if __name__ == '__main__':
  main()
