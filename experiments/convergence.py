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

import dataclasses
import functools
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
from ossgd.base import Params, matmul
from ossgd.claims import INF, Claim

if TYPE_CHECKING:
  import xarray as xr
  from matplotlib.figure import Figure


@dataclasses.dataclass(frozen=True)
class Config(cases.Config):
  """Step sizes, horizons and batch sizes."""

  num_seeds: int = option(5, 'Runs of each setting.')
  lr_times_width: float = option(
    10.0, 'eta m of the trajectories (Section 7: 10).'
  )
  horizon: float = option(
    50.0, 'T = horizon sqrt(m) / (eta m), in steps: to where v^2 is averaged.'
  )
  step_sizes: tuple[float, ...] = option(
    tuple(round(2.0 ** (i / 2), 3) for i in range(25)),
    'eta m tried for the largest with which the loss only decreases.',
  )
  num_steps: int = option(25, 'T of those, and of SGD in the general case.')
  batch_sizes: tuple[int, ...] = option((1, 2, 4, 8, 16), 'B, general case.')
  num_test: int = option(200, 'Sample that stands for D, general case.')


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
  import xarray as xr

  dims = {
    'largest_error': ('seed', 'step'),
    'loss': ('seed', 'step'),
    'least_decrease': ('seed', 'step_size'),
    'falling_steps': ('seed', 'batch_size'),
    'decrease_ratio': ('seed', 'batch_size'),
  }
  mesh = seeds.devices(config, config.widths)
  longest = max(map(functools.partial(_horizon, config), config.widths))
  watch = checkpoints.watch(progress)
  parts = []
  for i, width in enumerate(config.widths):
    begin, end = i / len(config.widths), (i + 1) / len(config.widths)
    found = seeds.over_seeds(
      config,
      jax.jit(functools.partial(_measure, config)),
      watch.part(begin, end, f'm={width}'),
      width=width,
      mesh=mesh,
    )
    for name in ('largest_error', 'loss'):
      missing = longest + 1 - found[name].shape[1]
      found[name] = np.pad(
        found[name], ((0, 0), (0, missing)), constant_values=np.nan
      )
    variables = {n: (dims.get(n, ('seed',)), v) for n, v in found.items()}
    parts.append(xr.Dataset(variables).expand_dims(width=[width]))
  progress(1.0, 'done')
  results = xr.concat(parts, 'width').assign_coords(
    seed=np.arange(config.seed, config.seed + config.num_seeds),
    step=np.arange(longest + 1),
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
    horizon=('width', [_horizon(config, m) for m in config.widths]),
    mean_square_bound=theory.error_sum_bound(
      results.width, config.separation, num_points
    ),
  ).assign_attrs(lr_times_width=config.lr_times_width, mesh=meshes.text(mesh))


def _horizon(config: Config, width: int) -> int:
  """T of Lemma A.4 in steps."""
  return max(2, round(config.horizon * width**0.5 / config.lr_times_width))


def _measure(
  config: Config, seed: jax.Array, params: Params
) -> dict[str, jax.Array]:
  """One seed at one width."""
  width = params.w.shape[0]
  num_points = config.num_classes * config.num_components
  step_size = config.lr_times_width / width
  one = cases.simplified(
    config, seed, params, num_steps=_horizon(config, width)
  )
  path = _descend(one, step_size)
  decrease, square = -jnp.diff(path['loss']), path['square'][:-1]
  shape = theory.decrease_bound(
    step_size, width, path['v'][:-1], config.separation, num_points
  )
  short = one._replace(weights=one.weights[: config.num_steps])

  def least_decrease(lr_times_width):
    loss = _descend(short, lr_times_width / width)['loss']
    return jnp.min(-jnp.diff(loss))

  found = {
    'largest_error': path['v'],
    'loss': path['loss'],
    # Means over t = 1, ..., T, as the lemma has them.
    'mean_square': jnp.mean(path['v'][1:] ** 2),
    'least_ratio': jnp.min(decrease / (step_size * square)),
    'least_shape_ratio': jnp.min(decrease / shape),
    'least_decrease': jax.lax.map(
      least_decrease, jnp.float32(config.step_sizes)
    ),
  }
  by_batch = [
    _general(config, seed, params, batch_size)
    for batch_size in config.batch_sizes
  ]
  return found | jax.tree.map(lambda *v: jnp.stack(v), *by_batch)


def _descend(one: cases.Case, step_size) -> dict[str, jax.Array]:
  """v, the loss and the squared gradient on the observed examples by step."""
  gram, _, h0, a = one.problem
  del h0

  def observe(view):
    slopes = -one.observed[:, None] * view.errors
    gradient = jnp.where(view.h >= 0, matmul(slopes, a), 0)
    return {
      'v': theory.largest_error(view.errors, one.observed),
      'loss': jnp.sum(one.observed * view.loss),
      'square': jnp.sum(theory.span_norms(gradient, gram) ** 2),
    }

  return descent.descend(one.problem, one.weights, step_size, observe)


def _general(
  config: Config, seed: jax.Array, params: Params, batch_size: int
) -> dict[str, jax.Array]:
  """SGD on caps: what its steps do to the loss on a sample of D."""
  one = cases.general(
    config,
    seed,
    params,
    num_steps=config.num_steps,
    batch_size=batch_size,
    num_test=config.num_test,
  )
  step_size = config.lr_times_width / params.w.shape[0]
  path = _descend(one, step_size)
  decrease, square = -jnp.diff(path['loss']), path['square'][:-1]
  return {
    'falling_steps': jnp.mean(decrease > 0),
    'decrease_ratio': jnp.mean(decrease) / (step_size * jnp.mean(square)),
  }


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
      lambda ds: training.rise(ds.falling_steps.mean('width'), 'batch_size'),
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
      *(training.mean_std(v.sel(width=m)) for v in columns.values()),
    )
    for m in results.width.values
  ]
  slopes = [
    (name, training.slope_text(values, 'width'))
    for name, values in (
      ('mean v^2 up to T', results.mean_square),
      ('largest eta m that descends', results.largest_step_size),
    )
  ]
  return '\n'.join(
    (
      claims.markdown_table(('m', 'T', *columns), rows),
      claims.markdown_table(
        ('', 'slope in log m, 95 % interval, range'), slopes
      ),
    )
  )


def _figure(results: xr.Dataset) -> Figure:
  """v(t), the mean of its square, the least decrease, SGD's falling steps."""
  import matplotlib
  from matplotlib.figure import Figure

  fig = Figure(figsize=(14, 3.5), layout='constrained')
  path, mean, sizes, batches = fig.subplots(1, 4)
  shades = np.linspace(0, 0.85, results.sizes['width'])
  colors = matplotlib.colormaps['viridis'](shades)
  for color, m in zip(colors, results.width.values, strict=True):
    one = results.sel(width=m)
    path.plot(results.step[1:], one.largest_error.mean('seed')[1:], color=color)
    kept = one.least_decrease.mean('seed')
    sizes.plot(results.step_size, kept, 'o-', color=color, markersize=3)
    batches.errorbar(
      results.batch_size,
      one.falling_steps.mean('seed'),
      one.falling_steps.std('seed', ddof=1).fillna(0),
      fmt='o-',
      color=color,
      capsize=3,
      label=f'{m}',
    )
  values = results.mean_square
  mean.errorbar(
    results.width,
    values.mean('seed'),
    values.std('seed', ddof=1).fillna(0),
    fmt='ko',
    capsize=3,
  )
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
  return fig


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
