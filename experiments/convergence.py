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

from ossgd.paper import theory
from ossgd.results import claims, drawing, judging, panels, statistics, tables
from ossgd.results.claims import INF, Claim
from ossgd.results.paper_claims import FLAT
from ossgd.results.statistics import Proportion
from ossgd.running import sweeps

from .common import command, seeds
from .common.lemmas import cases, falling_loss
from .common.lemmas.evidence import least, most
from .common.lemmas.falling_loss import PATHS, Config

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
  cases.check(config)
  results = seeds.over_widths(
    config,
    jax.jit(functools.partial(falling_loss.measure, config)),
    progress,
    dims=lambda name: falling_loss.DIMS.get(name, ()),
    mesh=seeds.devices(config, config.widths),
  )
  results = results.assign_coords(
    step=np.arange(results.sizes['step']),
    step_size=list(config.step_sizes),
    batch_size=list(config.batch_sizes),
  ).sortby('step_size')
  horizon = results.width.copy(
    data=[falling_loss.horizon(config, m) for m in config.widths]
  )
  # The largest step size below the first that fails.
  unbroken = (results.least_decrease > 0).cumprod('step_size').astype(bool)
  results = results.assign(results[list(PATHS)].where(results.step <= horizon))
  return results.assign(
    largest_step_size=results.step_size.where(unbroken).max('step_size'),
    horizon=horizon,
    mean_square_bound=theory.error_sum_bound(
      results.width, config.separation, config.num_points
    ),
  ).assign_attrs(
    lr_times_width=config.lr_times_width, num_steps=config.num_steps
  )


def _largest_cells(results: xr.Dataset) -> tuple[xr.DataArray, xr.DataArray]:
  """The largest step size that descends is up to the next one that was tried.

  NaN where all descend: how much more would is not known.
  """
  largest, tried = results.largest_step_size, results.step_size
  following = tried.where(tried > largest).min('step_size')
  return largest.where(following.notnull()), following


def _claims(results: xr.Dataset) -> list[Claim]:
  """What the lemmas say."""
  widths = results.width.values
  over = f'm {widths.min():g} to {widths.max():g}'
  eta = f'eta m = {results.attrs["lr_times_width"]:g}'
  # v is at most 1: no claim where the bound is above that.
  idle = float(results.mean_square_bound.min()) >= 1
  return [
    Claim(
      'Lemma A.4',
      'the mean of v(t)^2 up to T, of order sqrt(m) / (eta m), falls as '
      '1/sqrt(m)',
      f'slope of log mean of v(t)^2 in log m, {over}',
      lambda ds: statistics.log_slope(ds.mean_square),
      low=-0.55,
      high=-0.45,
    ),
    Claim(
      'Lemma A.4',
      'and is below k^5 l^5 / (delta^4 sqrt(m))',
      f'log10 of mean of v(t)^2 / bound, largest over {over}',
      lambda ds: most(np.log10(ds.mean_square / ds.mean_square_bound), 'width'),
      high=INF if idle else 0.0,
      beside='lemma: below 0, as it is for whatever v' if idle else '',
    ),
    Claim(
      'Lemmas A.4, B.4',
      'a step decreases the loss by at least eta / 2 times the squared '
      f'gradient ({eta})',
      f'decrease / (eta ||dL/dw||^2), least over steps and {over}',
      lambda ds: least(ds.least_ratio, 'width'),
      low=0.5,
    ),
    Claim(
      'Lemmas A.4, B.4',
      f'and by at least eta m (delta / (k l))^3 v^2 ({eta})',
      f'decrease / that, least over steps and {over}',
      lambda ds: least(ds.least_shape_ratio, 'width'),
      low=1.0,
    ),
    *_size_claims(over, int(results.batch_size.max())),
  ]


def _size_claims(over: str, most: int) -> list[Claim]:
  """How large steps may be, and batches are to be."""
  return [
    Claim(
      'Theorem 4.1',
      'the largest step size with which the loss only decreases is of order '
      '1/m',
      f'slope of log largest eta m in log m, between those tried, {over}',
      lambda ds: statistics.cell_slopes(*_largest_cells(ds)),
      low=-FLAT,
      high=FLAT,
    ),
    Claim(
      'Lemma B.4',
      f'a step of SGD with a batch large enough (B = {most}) decreases the '
      'expected loss',
      f'fraction of steps that do, at every m of {over}',
      lambda ds: Proportion(
        ds.falling_steps.sel(batch_size=most),
        judging.settings(ds).get('num_steps'),
      ),
      low=0.95,
    ),
    Claim(
      'Lemma B.4',
      'the larger the batch the more steps do',
      f'fraction at B = {most}, that at the smallest B subtracted',
      lambda ds: statistics.rise(
        ds.falling_steps.mean('width', skipna=False), 'batch_size'
      ),
      low=0.0,
    ),
  ]


def _table(results: xr.Dataset) -> str:
  """A row a width, then the slopes."""
  smallest, largest = results.isel(batch_size=0), results.isel(batch_size=-1)
  columns = {
    'T': results.horizon,
    'mean v^2 up to T': results.mean_square,
    'bound k^5 l^5 / (delta^4 sqrt(m))': results.mean_square_bound,
    'least decrease / (eta grad^2)': results.least_ratio,
    'least decrease / (eta m (delta / k l)^3 v^2)': results.least_shape_ratio,
    'largest eta m that descends': results.largest_step_size,
    'smallest B: falling steps': smallest.falling_steps,
    'largest B: falling steps': largest.falling_steps,
    'largest B: decrease / (eta grad^2)': largest.decrease_ratio,
  }
  fitted = {
    'mean v^2 up to T': (results.mean_square,),
    'largest eta m that descends': _largest_cells(results),
  }
  header = ('', 'slope in log m, 95 % interval, range')
  slopes = [
    (name, tables.slope_text(*v, dim='width')) for name, v in fitted.items()
  ]
  return (
    tables.means_table(columns, width='m')
    + '\n'
    + claims.markdown_table(header, slopes)
  )


def _figures(results: xr.Dataset) -> dict[str, Figure]:
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
  panels.mark(mean, results.width.values)
  panels.mark(batches, results.batch_size.values)
  batches.legend(title='m', frameon=False, fontsize='small')
  return {'convergence': drawing.explain_empty(fig, results)}


EXPERIMENT = command.Experiment(
  'convergence', Config, PRESETS, run, _figures, _table, _claims
)
main = EXPERIMENT.main

if __name__ == '__main__':
  main()
