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

import dataclasses
import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from experiments import command, large_gradients, seeds, training
from experiments.large_gradients import KINDS
from experiments.options import option
from ossgd import (
  checkpoints,
  claims,
  meshes,
  paper_claims,
  sweeps,
)
from ossgd.claims import INF, Claim

if TYPE_CHECKING:
  import xarray as xr
  from matplotlib.figure import Figure


@dataclasses.dataclass(frozen=True)
class Config(large_gradients.Config):
  """And the settings that case (S) is varied along, one at a time."""

  separations: tuple[float, ...] = option((0.1, 0.2, 0.4, 0.8, 1.2), 'delta.')
  classes: tuple[int, ...] = option((2, 5, 10, 20), 'k.')
  components: tuple[int, ...] = option((1, 2, 4, 8), 'l.')
  growing_widths: tuple[int, ...] = option(
    (500, 1000, 2000, 4000, 8000, 16000), 'm.'
  )


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
# The setting of a Config that each list replaces, and its letter.
VARIED = {
  'separation': ('separations', 'delta'),
  'num_classes': ('classes', 'k'),
  'num_components': ('components', 'l'),
  'width': ('growing_widths', 'm'),
}
# How Lemma A.3's delta / (k l) depends on each.
EXPONENTS = {'separation': 1, 'num_classes': -1, 'num_components': -1}


def run(
  config: Config, progress: sweeps.Progress = lambda fraction, label: None
) -> xr.Dataset:
  """The base point in both cases, and case (S) along each of four settings."""
  import xarray as xr

  if len(config.widths) != 1:
    raise ValueError(f'--widths={config.widths}: expected one width')
  width = config.widths[0]
  mesh = seeds.devices(config, (width, *config.growing_widths))
  # What varies, its value there, the Config, m, and what is measured.
  works: list[tuple[str, Any, Config, int, Callable]] = [
    ('case', 'S', config, width, large_gradients.simplified),
    ('case', 'general', config, width, large_gradients.general),
  ]
  for name, (option_name, _) in VARIED.items():
    for value in getattr(config, option_name):
      one, m = config, width
      if name == 'width':
        m = value
      else:
        one = dataclasses.replace(config, **{name: value})
      works.append((name, value, one, m, large_gradients.simplified))
  dims = {
    'fraction': ('seed', 'constant', 'kind'),
    'unit_sum': ('seed', 'constant'),
    'norms': ('seed', 'kind', 'quantile'),
  }
  watch = checkpoints.watch(progress)

  def measured(one, m, function, begin, end, name):
    return seeds.over_seeds(
      one,
      jax.jit(functools.partial(function, one)),
      watch.part(begin, end, name),
      width=m,
      mesh=mesh,
    )

  parts = []
  for i, (name, value, one, m, function) in enumerate(works):
    begin, end = i / len(works), (i + 1) / len(works)
    found = measured(one, m, function, begin, end, f'{name}={value}')
    parts.append(
      xr.Dataset(
        {
          (key if name == 'case' else f'{key}_by_{name}'): (
            dims.get(key, ('seed',)),
            v,
          )
          for key, v in found.items()
        }
      ).expand_dims({name: [value]})
    )
  found = measured(config, width, large_gradients.twins, 1.0, 1.0, 'twins')
  return (
    xr.merge(parts, join='outer', compat='no_conflicts')
    .assign(twins=(('seed', 'sign'), found['twins']))
    .assign_coords(
      kind=list(KINDS),
      seed=np.arange(config.seed, config.seed + config.num_seeds),
      constant=list(config.constant),
      quantile=large_gradients.QUANTILES,
      sign=['same', 'opposite'],
    )
    .assign_attrs(
      separation=config.separation,
      num_classes=config.num_classes,
      num_components=config.num_components,
      num_points=config.num_classes * config.num_components,
      width=width,
      mesh=meshes.text(mesh),
    )
  )


def _share(results: xr.Dataset, name: str) -> Any:
  """delta / (k l) along a setting, or at the base point."""
  share = results.attrs['separation'] / results.attrs['num_points']
  if name == 'separation':
    return results.separation / results.attrs['num_points']
  if name in ('num_classes', 'num_components'):
    return share * results.attrs[name] / results[name]
  return share


def _relative(results: xr.Dataset, kind: str) -> xr.DataArray:
  """Least fraction above v delta / (k l), over delta / (k l): (seed,)."""
  import xarray as xr

  least = [
    (results[f'fraction_by_{name}'] / _share(results, name))
    .sel(kind=kind)
    .isel(constant=0)
    .min(name)
    for name in VARIED
  ]
  return xr.concat(least, 'setting').min('setting', skipna=False)


def _along(
  results: xr.Dataset, name: str, kind: str = 'worst possible'
) -> xr.DataArray:
  """Fractions along a setting, at the largest threshold."""
  return results[f'fraction_by_{name}'].sel(kind=kind).isel(constant=-1)


def _claims(results: xr.Dataset) -> list[Claim]:
  """What the lemmas say; the constant of the threshold is the first given."""
  first = results.constant.values[0]
  above = (
    f'fraction of units above {first:g} v delta / (k l), over delta / (k l)'
  )

  def large(where, words, measure, scope=''):
    return Claim(where, words, above + scope, 1.0, INF, measure)

  def relative(ds):
    return (ds.fraction / _share(ds, '')).isel(constant=0)

  def least(kind):
    return lambda ds: _relative(ds, kind)

  def general(kind):
    return lambda ds: relative(ds).sel(case='general', kind=kind)

  def twins(sign):
    return lambda ds: ds.twins.sel(sign=sign) / _share(ds, '')

  return [
    large(
      'Lemma A.2',
      'P_{1,r} is large for a fixed v (random, possible)',
      lambda ds: (ds.unit_sum / _share(ds, '')).isel(constant=0).sel(case='S'),
      ', case (S)',
    ),
    *(
      large(
        'Lemmas 5.2, A.3',
        f'a pseudo-gradient is large: v {kind}',
        least(kind),
        ', least over all settings of delta, k, l and m',
      )
      for kind in KINDS
    ),
    *(
      large(
        'Lemma B.3',
        f'an expected pseudo-gradient is large: v {kind}',
        general(kind),
        ', caps with lambda = 1/(8 l)',
      )
      for kind in KINDS
    ),
    large(
      'Lemma A.2 as written',
      'any v in [-v, v] will do: two points 0.001 apart in one class, v and -v',
      twins('opposite'),
    ),
    large(
      'Lemma A.2, read with v_{a,a,b} >= 0',
      'the same two points, both v',
      twins('same'),
    ),
    *(_slope_claim(results, name) for name in VARIED),
  ]


def _slope_claim(results: xr.Dataset, name: str) -> Claim:
  """The worst fraction falls no faster than delta / (k l), Lemma A.3."""
  symbol, exponent = VARIED[name][1], EXPONENTS.get(name, 0)
  values, last = results[name].values, results.constant.values[-1]
  low, high = {1: (-INF, 1.0), -1: (-1.0, INF), 0: (-0.05, 0.05)}[exponent]
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
    low,
    high,
    lambda ds: paper_claims.log_slope(_along(ds, name), name),
  )


def _table(results: xr.Dataset) -> str:
  """A row a setting, then the slopes."""
  columns = [
    (f'{kind}, c = {c:g}', {'kind': kind, 'constant': c})
    for c in results.constant.values
    for kind in KINDS
  ]
  rows = []
  for name in ('case', *VARIED):
    values = (
      results.fraction if name == 'case' else (results[f'fraction_by_{name}'])
    )
    for value in results[name].values:
      share = _share(results, name)
      share = share if np.ndim(share) == 0 else share.sel({name: value}).item()
      rows.append(
        (
          f'{VARIED.get(name, (name, name))[1]} = {value}',
          f'{share:.3g}',
          *(
            training.mean_std(values.sel({name: value}).sel(where))
            for _, where in columns
          ),
        )
      )
  head = ('setting', 'delta / (k l)', *(label for label, _ in columns))
  slopes = [
    (
      VARIED[name][1],
      EXPONENTS.get(name, 0),
      *(
        training.slope_text(_along(results, name, kind), name) for kind in KINDS
      ),
    )
    for name in VARIED
  ]
  general = results.sel(case='general')
  return '\n'.join(
    (
      'Fraction of units with a pseudo-gradient of at least c v delta / (k l).',
      '',
      claims.markdown_table(head, rows),
      'General case: largest E[p v] of the initial network '
      f'{training.mean_std(general.largest_error)}, standard error from its '
      f'sample {training.mean_std(general.largest_error_std)}.',
      '',
      f'Slope of log fraction (c = {results.constant.values[-1]:g}), 95 % '
      'interval, range:',
      '',
      claims.markdown_table(('in log', 'exponent of A.3', *KINDS), slopes),
    )
  )


def _figure(results: xr.Dataset) -> Figure:
  """Distribution of norms, and fractions along each setting."""
  from matplotlib.figure import Figure

  fig = Figure(figsize=(15, 3.4), layout='constrained')
  axes = fig.subplots(1, 1 + len(VARIED))
  norms = results.norms.sel(case='S').mean('seed')
  styles = ('o-', 's--', '^:', 'v-.')
  for kind, style in zip(KINDS, styles, strict=True):
    axes[0].plot(
      norms.sel(kind=kind).clip(1e-4), norms['quantile'], style[1:], label=kind
    )
  share = results.attrs['separation'] / results.attrs['num_points']
  axes[0].axvline(share, color='0.4', linewidth=0.8)
  axes[0].axhline(1 - share, color='0.4', linewidth=0.8)
  axes[0].set(xscale='log', ylabel='Fraction of units below')
  axes[0].set_xlabel('||pseudo-gradient|| / v\n(lines: delta / (k l))')
  axes[0].legend(frameon=False, fontsize='small')
  for ax, name in zip(axes[1:], VARIED, strict=True):
    for kind, style in zip(KINDS, styles, strict=True):
      values = _along(results, name, kind)
      ax.errorbar(
        results[name].values,
        values.mean('seed').values,
        values.std('seed', ddof=1).fillna(0).values,
        fmt=style,
        capsize=3,
      )
    share = _share(results, name)
    bound = np.broadcast_to(share, results[name].shape)
    ax.plot(results[name].values, bound, color='0.4', linewidth=0.8)
    ax.set(xscale='log', yscale='log', xlabel=VARIED[name][1])
    ax.set_xticks(results[name].values, labels=results[name].values)
    ax.minorticks_off()
  axes[1].set_ylabel(
    f'Fraction above {results.constant.values[-1]:g} v delta / (k l)\n'
    '(grey: delta / (k l))'
  )
  return fig


EXPERIMENT = command.Experiment(
  'gradient_norm',
  Config,
  PRESETS,
  run,
  figures=lambda ds: {'gradient_norm': _figure(ds)},
  table=_table,
  claims=_claims,
)


def main(argv: list[str] | None = None) -> None:
  """Flags in, run folder out."""
  command.main(EXPERIMENT, argv)


if __name__ == '__main__':
  main()
