"""Lemmas 5.2, A.2, A.3, B.2, B.3: how many pseudo-gradients are large.

The lemmas say: unless v = max p_{a,b} v_{i,a,b} is small, a fraction of order
delta / (k l) of the units have a pseudo-gradient of at least v delta / (k l),
up to logarithms, whatever the other v are. Measured for the v of the initial
network, for a random v that a softmax can give, and for the worst that
projected descent finds, among those that a softmax can give and in the whole
box [-v, v] that the lemma names. All is relative to v.

Two points of one class may be as close as they like. With opposite v they
cancel, so the box must be without sign for a, b of the same class: that is
measured too.

  python -m experiments.gradient_norm --preset=quick --out=/tmp/quick
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING

import jax
import numpy as np

from ossgd.results import claims, drawing, panels, statistics, tables
from ossgd.results.claims import INF, Claim
from ossgd.results.paper_claims import FLAT
from ossgd.results.statistics import Every
from ossgd.running import sweeps, watching

from .common import command, seeds
from .common.lemmas import cases, large_gradients
from .common.lemmas.large_gradients import KINDS, VARIED, Config, along, share

if TYPE_CHECKING:
  import xarray as xr
  from matplotlib.figure import Figure

_CASES = {'S': large_gradients.simplified, 'general': large_gradients.general}

PRESETS = {
  'quick': {
    'widths': (1000,),
    'num_seeds': 3,
    'num_steps': 100,
    'separations': (0.2, 0.8),
    'classes': (5, 10),
    'components': (1, 4),
    'growing_widths': (500, 4000),
  }
}


def run(
  config: Config, progress: sweeps.Progress = lambda fraction, label: None
) -> xr.Dataset:
  """The base point in both cases, and case (S) along each of four settings."""
  import xarray as xr

  if len(config.widths) != 1:
    raise ValueError(f'--widths={config.widths}: expected one width')
  mesh = seeds.devices(config, (*config.widths, *config.growing_widths))
  works = [
    *(('case', case, config) for case in _CASES),
    *large_gradients.lines(config),
  ]
  cases.check(config)
  for _, _, one in works:
    cases.points(one)

  def measured(one, function, part):
    return seeds.over_widths(
      one,
      jax.jit(functools.partial(function, one)),
      part,
      dims=lambda name: large_gradients.DIMS.get(name, ()),
      mesh=mesh,
    ).squeeze('width', drop=True)

  *parts, last = watching.watch(progress).parts(
    [*((f'{name}={value}', 1) for name, value, _ in works), ('twins', 0)]
  )
  found = []
  for (name, value, one), part in zip(works, parts, strict=True):
    ds = measured(one, _CASES.get(value, large_gradients.simplified), part)
    if name != 'case':
      ds = ds.rename({key: f'{key}_by_{name}' for key in ds})
    found.append(ds.expand_dims({name: [value]}))
  found.append(measured(config, large_gradients.twins, last))
  kept = ('separation', 'num_classes', 'num_components', 'num_points')
  return (
    xr.merge(found, join='outer', compat='no_conflicts')
    .assign_coords(
      kind=list(KINDS),
      constant=list(config.constant),
      quantile=large_gradients.QUANTILES,
      sign=['same', 'opposite'],
    )
    .assign_attrs(
      {name: getattr(config, name) for name in kept},
      width=config.widths[0],
    )
  )


def _claims(results: xr.Dataset) -> list[Claim]:
  """What the lemmas say; the constant of the threshold is the first given."""
  first = results.constant.values[0]
  large = functools.partial(_large_claim, first)
  at_base = functools.partial(large_gradients.relative, constant=first)
  twins = functools.partial(large_gradients.relative, name='twins')
  return [
    large(
      'Lemma A.2',
      'P_{1,r} is large for a fixed v (random, possible)',
      functools.partial(at_base, name='unit_sum', case='S'),
      ', case (S)',
    ),
    *(
      large(
        'Lemmas 5.2, A.3',
        f'a pseudo-gradient is large: v {kind}',
        functools.partial(large_gradients.least_relative, kind=kind),
        ', least over all settings of delta, k, l and m',
      )
      for kind in KINDS
    ),
    *(
      large(
        'Lemma B.3',
        f'an expected pseudo-gradient is large: v {kind}',
        functools.partial(at_base, name='fraction', case='general', kind=kind),
        ', caps with lambda = 1/(8 l)',
      )
      for kind in KINDS
    ),
    large(
      'Lemma A.2 as written',
      'any v in [-v, v] will do: two points 0.001 apart in one class, v and -v',
      functools.partial(twins, sign='opposite'),
    ),
    large(
      'Lemma A.2, read with v_{a,a,b} >= 0',
      'the same two points, both v',
      functools.partial(twins, sign='same'),
    ),
    *(_slope_claim(results, name) for name in VARIED),
  ]


def _large_claim(
  constant: float,
  where: str,
  words: str,
  measure: Callable[[xr.Dataset], xr.DataArray],
  scope: str = '',
) -> Claim:
  """Enough units are above the threshold in every draw."""
  above_it = f'fraction of units above {constant:g} v delta / (k l)'
  return Claim(
    where,
    words,
    f'{above_it}, over delta / (k l){scope}',
    lambda ds: Every(measure(ds)),
    low=1.0,
  )


def _slope_claim(results: xr.Dataset, name: str) -> Claim:
  """The worst fraction falls no faster than delta / (k l), Lemma A.3."""
  _, symbol, exponent = VARIED[name]
  values, last = results[name].values, results.constant.values[-1]
  least, most = {1: (-INF, 1.0), -1: (-1.0, INF), 0: (-FLAT, FLAT)}[exponent]
  words = (
    f'the fraction falls no faster than {symbol}^{exponent}'
    if exponent
    else 'the fraction does not depend on m'
  )
  return Claim(
    'Lemma A.3',
    f'{words} (worst possible v)',
    f'slope of log fraction above {last:g} v delta / (k l) in log {symbol}, '
    f'{symbol} {values.min():g} to {values.max():g}',
    lambda ds: statistics.log_slope(along(ds, name), name),
    low=least,
    high=most,
  )


def _table(results: xr.Dataset) -> str:
  """A row a setting, then the slopes."""
  slopes = [
    (
      *described,
      *(
        tables.slope_text(along(results, name, kind), dim=name)
        for kind in KINDS
      ),
    )
    for name, (_, *described) in VARIED.items()
  ]
  general = results.sel(case='general')
  return f"""\
Fraction of units with a pseudo-gradient of at least c v delta / (k l).

{_fractions_table(results)}
General case: largest E[p v] of the initial network \
{tables.mean_std(general.largest_error)}, standard error from its sample \
{tables.mean_std(general.largest_error_std)}.

Slope of log fraction (c = {results.constant.values[-1]:g}), 95 % interval, \
range:

{claims.markdown_table(('in log', 'exponent of A.3', *KINDS), slopes)}"""


def _fractions_table(results: xr.Dataset) -> str:
  """Every setting beside its delta / (k l)."""
  rows = []
  for name in ('case', *VARIED):
    fraction = 'fraction' if name == 'case' else f'fraction_by_{name}'
    cells = results[fraction].transpose(name, 'constant', 'kind', 'seed').values
    expected = np.broadcast_to(share(results, name), results[name].shape)
    symbol = 'case' if name == 'case' else VARIED[name][1]
    rows += [
      (
        f'{symbol} = {value}',
        f'{part:.3g}',
        *(tables.mean_std(seeds) for by_kind in here for seeds in by_kind),
      )
      for value, part, here in zip(
        results[name].values, expected, cells, strict=True
      )
    ]
  columns = (
    f'{kind}, c = {c:g}' for c in results.constant.values for kind in KINDS
  )
  return claims.markdown_table(('setting', 'delta / (k l)', *columns), rows)


def _figures(results: xr.Dataset) -> dict[str, Figure]:
  """Distribution of norms, and fractions along each setting."""
  fig = drawing.new_figure(15, 3.4)
  norm_ax, *axes = fig.subplots(1, 1 + len(VARIED))
  norms = results.norms.sel(case='S').mean('seed').clip(1e-4)
  styles = dict(zip(KINDS, ('o-', 's--', '^:', 'v-.'), strict=True))
  for kind, style in styles.items():
    norm_ax.plot(norms.sel(kind=kind), norms['quantile'], style[1:], label=kind)
  grey, base = {'color': '0.4', 'linewidth': 0.8}, share(results, '')
  norm_ax.axvline(base, **grey)
  norm_ax.axhline(1 - base, **grey)
  norm_ax.set(xscale='log', ylabel='Fraction of units below')
  norm_ax.set_xlabel('||pseudo-gradient|| / v\n(lines: delta / (k l))')
  norm_ax.legend(frameon=False, fontsize='small')
  for ax, name in zip(axes, VARIED, strict=True):
    for kind, style in styles.items():
      panels.draw(ax, along(results, name, kind), fmt=style)
    bound = np.broadcast_to(share(results, name), results[name].shape)
    ax.plot(results[name].values, bound, **grey, gid=drawing.REFERENCE)
    ax.set(xscale='log', yscale='log', xlabel=VARIED[name][1])
    panels.mark(ax, results[name].values)
    ax.yaxis.minorticks_off()
  axes[0].set_ylabel(
    f'Fraction above {results.constant.values[-1]:g} v delta / (k l)\n'
    '(grey: delta / (k l))'
  )
  return {'gradient_norm': drawing.explain_empty(fig, results)}


EXPERIMENT = command.Experiment(
  'gradient_norm', Config, PRESETS, run, _figures, _table, _claims
)
main = EXPERIMENT.main

if __name__ == '__main__':
  main()
