"""Lemmas A.4 and B.4: how fast the loss and the errors v(t) fall.

Full-batch descent on the points of case (S): v(t) = max p_{a,b} v_{i,a,b}, the
running mean of v(t)^2 up to T of order sqrt(m) / (eta m), the decrease of the
loss beside eta times the squared gradient and beside the bound's shape, and the
largest step size for which every step decreases the loss. In the general case,
SGD that passes once: how often a step decreases the expected loss.

Lemma A.4 is stated with T = sigma delta / (k l eta), its proof with k^2 l^2 in
place of k l; both grow as sqrt(m) / (eta m), which is what is used here.

  python -m experiments.convergence --preset=quick --out=/tmp/quick
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import jax
import numpy as np

from experiments import command, falling_loss, seeds, tables
from experiments.falling_loss import Config
from ossgd import (
  claims,
  drawing,
  panels,
  paper_claims,
  sweeps,
  theory,
)
from ossgd.claims import INF, Claim

if TYPE_CHECKING:
  import xarray as xr
  from matplotlib.figure import Figure


PRESETS = {
  'quick': {
    'widths': (500, 2000, 8000),
    'num_seeds': 3,
    'step_sizes': (1.0, 4.0, 16.0, 64.0, 256.0, 1024.0, 4096.0),
    'num_steps': 20,
    'batch_sizes': (1, 8),
    'num_test': 100,
  }
}


def run(
  config: Config, progress: sweeps.Progress = lambda fraction, label: None
) -> xr.Dataset:
  """Every width and seed: the mean of v^2, decreases, step and batch sizes."""
  results = seeds.over_widths(
    config,
    jax.jit(functools.partial(falling_loss.measure, config)),
    progress,
    dims=falling_loss.dims,
    mesh=seeds.devices(config, config.widths),
  )
  results = results.assign_coords(
    step=np.arange(results.sizes['step']),
    step_size=list(config.step_sizes),
    batch_size=list(config.batch_sizes),
  )
  falls = results.least_decrease > 0
  # The largest step size below the first that fails.
  unbroken = falls.cumprod('step_size').astype(bool)
  largest = results.step_size.where(unbroken).max('step_size')
  num_points = config.num_classes * config.num_components
  return results.assign(
    largest_step_size=largest,
    horizon=('width', [falling_loss.horizon(config, m) for m in config.widths]),
    mean_square_bound=theory.error_sum_bound(
      results.width, config.separation, num_points
    ),
  ).assign_attrs(lr_times_width=config.lr_times_width)


def _claims(results: xr.Dataset) -> list[Claim]:
  """What the lemmas say."""
  widths = results.width.values
  over = f'm {widths.min():g} to {widths.max():g}'
  most = int(results.batch_size.max())
  eta = f'eta m = {results.attrs["lr_times_width"]:g}'

  def least(name):
    return lambda ds: ds[name].min('width', skipna=False)

  return [
    Claim(
      'Lemma A.4',
      'the mean of v(t)^2 up to T, of order sqrt(m) / (eta m), falls as '
      '1/sqrt(m)',
      f'slope of log mean of v(t)^2 in log m, {over}',
      -0.55,
      -0.45,
      lambda ds: paper_claims.log_slope(ds.mean_square),
    ),
    Claim(
      'Lemma A.4',
      'and is below k^5 l^5 / (delta^4 sqrt(m))',
      f'log10 of mean of v(t)^2 / bound, largest over {over}',
      -INF,
      0.0,
      lambda ds: np.log10(ds.mean_square / ds.mean_square_bound).max('width'),
    ),
    Claim(
      'Lemmas A.4, B.4',
      'a step decreases the loss by at least eta / 2 times the squared '
      f'gradient ({eta})',
      f'decrease / (eta ||dL/dw||^2), least over steps and {over}',
      0.5,
      INF,
      least('least_ratio'),
    ),
    Claim(
      'Lemmas A.4, B.4',
      f'and by at least eta m (delta / (k l))^3 v^2 ({eta})',
      f'decrease / that, least over steps and {over}',
      1.0,
      INF,
      least('least_shape_ratio'),
    ),
    Claim(
      'Theorem 4.1',
      'the largest step size with which the loss only decreases is of order '
      '1/m',
      f'slope of log largest eta m in log m, {over}',
      -0.1,
      0.1,
      lambda ds: paper_claims.log_slope(ds.largest_step_size),
    ),
    Claim(
      'Lemma B.4',
      f'a step of SGD with a batch large enough (B = {most}) decreases the '
      'expected loss',
      f'fraction of steps that do, least over {over}',
      0.95,
      INF,
      lambda ds: ds.falling_steps.sel(batch_size=most).min('width'),
    ),
    Claim(
      'Lemma B.4',
      'the larger the batch the more steps do',
      f'fraction at B = {most}, that at the smallest B subtracted',
      0.0,
      INF,
      lambda ds: paper_claims.rise(
        ds.falling_steps.mean('width'), 'batch_size'
      ),
    ),
  ]


def _table(results: xr.Dataset) -> str:
  """A row a width, then a row a batch size."""
  columns = {
    'mean v^2 up to T': results.mean_square,
    'bound k^5 l^5 / (delta^4 sqrt(m))': results.mean_square_bound,
    'least decrease / (eta grad^2)': results.least_ratio,
    'least decrease / (eta m (delta / k l)^3 v^2)': results.least_shape_ratio,
    'largest eta m that descends': results.largest_step_size,
    'smallest B: falling steps': results.falling_steps.isel(batch_size=0),
    'largest B: falling steps': results.falling_steps.isel(batch_size=-1),
    'largest B: decrease / (eta grad^2)': results.decrease_ratio.isel(
      batch_size=-1
    ),
  }
  rows = [
    (
      m,
      results.horizon.sel(width=m).item(),
      *(tables.mean_std(v.sel(width=m)) for v in columns.values()),
    )
    for m in results.width.values
  ]
  fitted = {
    name: columns[name]
    for name in ('mean v^2 up to T', 'largest eta m that descends')
  }
  header = ('', 'slope in log m, 95 % interval, range')
  return (
    claims.markdown_table(('m', 'T', *columns), rows)
    + '\n'
    + tables.slopes_table(header, fitted)
  )


def _figure(results: xr.Dataset) -> Figure:
  """v(t), the mean of its square, the least decrease, SGD's falling steps."""

  fig = drawing.new_figure(14, 3.5)
  path, mean, sizes, batches = fig.subplots(1, 4)
  colors = drawing.shades(results.sizes['width'], 0.85)
  for color, m in zip(colors, results.width.values, strict=True):
    one = results.sel(width=m)
    path.plot(results.step[1:], one.largest_error.mean('seed')[1:], color=color)
    kept = one.least_decrease.mean('seed')
    sizes.plot(results.step_size, kept, 'o-', color=color, markersize=3)
    panels.draw(batches, one.falling_steps, fmt='o-', color=color, label=f'{m}')
  values = results.mean_square
  panels.draw(mean, values, fmt='ko')
  first = values.mean('seed').isel(width=0) * results.width[0] ** 0.5
  mean.plot(results.width, first / results.width**0.5, 'r--')
  path.set(xscale='log', yscale='log', xlabel='Step')
  path.set_ylabel('$v(t) = \\max\\, p_{a,b} v_{i,a,b}$')
  mean.set(xscale='log', yscale='log', xlabel='Hidden units $m$')
  mean.set_ylabel('Mean of $v(t)^2$ up to $T$\n(dashed: $1/\\sqrt{m}$)')
  sizes.set(xscale='log', xlabel='$\\eta m$', ylim=(-10, 1))
  sizes.axhline(0, color='0.4', linewidth=0.8)
  sizes.set_ylabel('Least decrease of the loss\nin a step')
  sizes.set_yscale('symlog', linthresh=1e-6)
  batches.set(xscale='log', xlabel='Batch size', ylim=(None, 1.02))
  batches.set_ylabel('Fraction of SGD steps that\ndecrease the expected loss')
  for ax, values in ((mean, results.width), (batches, results.batch_size)):
    ax.set_xticks(values.values, labels=values.values)
    ax.tick_params('x', which='minor', length=0, labelbottom=False)
  batches.legend(title='m', frameon=False, fontsize='small')
  return drawing.explain_empty(fig, results)


EXPERIMENT = command.Experiment(
  'convergence',
  Config,
  PRESETS,
  run,
  figures=lambda ds: {'convergence': _figure(ds)},
  table=_table,
  claims=_claims,
)


def main(argv: list[str] | None = None) -> None:
  """Flags in, run folder out."""
  command.main(EXPERIMENT, argv)


if __name__ == '__main__':
  main()
