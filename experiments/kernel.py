"""Beyond the paper: the tangent kernel at w(0) and after, stable step sizes.

Section 5.1 couples the network to one that is linear in w, with the patterns of
w(0); were they equal, training would be descent with a kernel that stays. How
far is the kernel of w(0) from its infinite-width limit, how far does training
move it, and is the step size below 2 / lambda_max, lambda_max the largest
eigenvalue of the Hessian of the training loss? Section 7's network and data;
seed s has the data, w(0) and order of seed s in the sweeps.

  python -m experiments.kernel --preset=quick --out=/tmp/quick
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np
import optax

from ossgd.engines import measuring, sgd
from ossgd.machine import hosts, lanes, timing
from ossgd.paper import kernels, metrics, network
from ossgd.paper.types import Dataset, Params, Split
from ossgd.results import drawing, panels, statistics, tables
from ossgd.results.claims import Claim
from ossgd.results.paper_claims import FLAT
from ossgd.running import sweeps

from .common import command, section7, seeds
from .common.lemmas.evidence import most
from .common.options import option

if TYPE_CHECKING:
  import xarray as xr
  from matplotlib.figure import Figure


@dataclasses.dataclass(frozen=True)
class Config(section7.Config):
  """Section 7's synthetic set-up, measured at 0, T/16, T/4 and T."""

  num_test: int = option(
    60, 'n, test examples the kernel is of: n k rows (our choice).'
  )


PRESETS = {'quick': {'widths': (250, 500, 1000), 'num_seeds': 3}}

_DIMS = {
  'eigenvalues_initial': ('rank',),
  'eigenvalues_trained': ('rank',),
  'eigenvalues_limit': ('rank',),
  'limit_distance': (),
}
_limit_kernel = jax.jit(kernels.limit_kernel, static_argnames='num_classes')


def run(
  config: Config, progress: sweeps.Progress = lambda fraction, label: None
) -> xr.Dataset:
  """Trains every width with every seed: dims width, seed, step and rank.

  Raises:
    ValueError: a setting does not fit, said before any training.
  """
  mesh = section7.devices(config)
  # Few, for a curvature costs as much as all the steps before it.
  steps = sorted({0, *(config.num_steps // part for part in (16, 4, 1))})
  train = jax.jit(functools.partial(_train, config, steps))
  measure = functools.partial(_one_run, config, train)
  results = seeds.over_widths(
    config,
    section7.with_data(config, measure, mesh),
    progress,
    dims=lambda name: _DIMS.get(name, ('step',)),
    mesh=mesh,
  )
  stable = results.stable_step * results.width
  return results.assign(
    stable_lr_times_width=stable, step_ratio=config.lr_times_width / stable
  ).assign_coords(step=steps, rank=np.arange(results.sizes['rank']) + 1)


def _train(
  config: Config, steps: list[int], seed: jax.Array, split: Split, start: Params
) -> list[jax.Array]:
  """The weights of one seed at each of these steps: (m, d)."""
  method = sgd.Method(
    optax.sgd(config.lr_times_width / start.w.shape[0]),
    config.batch_size,
    'epochs',
    sgd.true_gradient,
  )
  _, weights = sgd.train(
    measuring.seed_keys(seed).order,
    start,
    split.train,
    record_steps=jnp.asarray(steps),
    method=method,
    observe=lambda params: params.w,
  )
  return list(weights)


def _one_run(
  config: Config,
  train: Callable[[int, Split, Params], list[jax.Array]],
  seed: int,
  split: Split,
  start: Params,
) -> dict[str, np.ndarray]:
  """One seed at one width: arrays (step,) and (rank,), and a scalar."""
  x = split.test.x
  thetas, losses, curvatures = [], [], []
  with timing.part('train') as wait:
    weights = wait(train(seed, split, start))
  for w in weights:
    params = start._replace(w=w)
    with timing.part('kernel') as wait:
      theta, loss = hosts.fetch(wait(_measure(params, x, split.train)))
    thetas.append(theta)
    losses.append(loss)
    with timing.part('curvature'):
      curvatures.append(kernels.top_curvature(params, split.train.x))
  limit = hosts.fetch(_limit_kernel(x, x, num_classes=config.num_classes))
  named = {'initial': thetas[0], 'trained': thetas[-1], 'limit': limit}
  with lanes.one_blas_thread():
    by_rank = {
      f'eigenvalues_{name}': np.linalg.eigvalsh(theta)[::-1]
      for name, theta in named.items()
    }
  stable = [kernels.largest_stable_step(c) for c in curvatures]
  drift = [metrics.relative_distance(t, thetas[0]) for t in thetas]
  return by_rank | {
    'drift': np.array(drift),
    'train_loss': np.array(losses),
    'curvature': np.array(curvatures),
    'stable_step': np.array(stable),
    'limit_distance': np.array(metrics.relative_distance(thetas[0], limit)),
  }


@jax.jit
def _measure(
  params: Params, x: jax.Array, train: Dataset
) -> tuple[jax.Array, jax.Array]:
  """Theta / m at these inputs, (n k, n k), and the training loss."""
  p = network.pattern(params.w, x)
  theta = kernels.kernel(params.a, p, x, p, x) / params.w.shape[0]
  return theta, network.loss(network.logits(params, train.x), train.y)


def _claims(results: xr.Dataset) -> list[Claim]:
  """What the paper does not say, but its coupling suggests."""
  m = results.width.values
  against = f'in log m, m = {m.min()} to {m.max()}'
  claim = functools.partial(Claim, 'beyond the paper')
  return [
    claim(
      'the kernel at w(0) tends to its infinite-width limit as 1/sqrt(m)',
      f'slope of log ||Theta_0 / m - limit|| / ||limit|| {against}',
      lambda ds: statistics.log_slope(ds.limit_distance),
      low=-0.55,
      high=-0.45,
    ),
    claim(
      'training moves the kernel of a wider network less',
      f'slope of log ||Theta_T - Theta_0|| / ||Theta_0|| {against}',
      lambda ds: statistics.log_slope(ds.drift.isel(step=-1)),
      high=0.0,
    ),
    claim(
      'the step size is in the stable range of descent on the training loss',
      'eta lambda_max / 2, largest over m and the measured steps',
      lambda ds: most(ds.step_ratio, 'width', 'step'),
      high=1.0,
    ),
    claim(
      'the largest stable eta m hardly depends on the width',
      f'slope of log 2 m / lambda_max at w(0) {against}',
      lambda ds: statistics.log_slope(ds.stable_lr_times_width.isel(step=0)),
      low=-FLAT,
      high=FLAT,
    ),
  ]


def _table(results: xr.Dataset) -> str:
  """A row a width; then the slopes, their intervals and their range."""
  first, last = results.isel(step=0), results.isel(step=-1)
  by_m = {
    'distance of Theta_0 / m to the limit': results.limit_distance,
    'drift of Theta_T': last.drift,
    '2 m / lambda_max at w(0)': first.stable_lr_times_width,
  }
  columns = by_m | {
    'eta lambda_max / 2 at w(0)': first.step_ratio,
    'at w(T)': last.step_ratio,
    'largest eigenvalue of Theta_0 / m': first.eigenvalues_initial[..., 0],
    'of Theta_T / m': last.eigenvalues_trained[..., 0],
    'of the limit': last.eigenvalues_limit[..., 0],
    'final training loss': last.train_loss,
  }
  header = ('quantity', 'slope of its log in log m (95 % interval)')
  return (
    tables.means_table(columns, width='m')
    + '\n'
    + tables.slopes_table(header, by_m)
  )


def _figures(results: xr.Dataset) -> dict[str, Figure]:
  """Against width, against step, and eigenvalues against their rank."""
  return {
    'kernel_limit': _limit_figure(results),
    'kernel_steps': _steps_figure(results),
    'kernel_eigenvalues': _eigenvalues_figure(results),
  }


def _limit_figure(results: xr.Dataset) -> Figure:
  """How far the kernel of w(0) is from its limit, and c / sqrt(m) beside it."""
  label = (
    'Distance to the limit (ratio)\n'
    r'$\|\Theta_0 / m - \Theta_\infty\| \, / \, \|\Theta_\infty\|$'
  )
  fig = panels.panels_figure(
    {label: {'': results.limit_distance}}, 'width', 'Hidden units $m$', 'log'
  )
  (ax,) = fig.axes
  m = np.sort(results.width.values)
  c = (results.limit_distance * np.sqrt(results.width)).mean().item()
  ax.plot(m, c / np.sqrt(m), 'r--', label=rf'${c:.2g}/\sqrt{{m}}$')
  ax.set_yscale('log')
  panels.mark(ax, m)
  ax.legend(frameon=False)
  return drawing.explain_empty(fig, results)


def _steps_figure(results: xr.Dataset) -> Figure:
  """Drift of the kernel and the step size's share, a curve a width."""
  drift = (
    'Drift of the kernel (ratio)\n'
    r'$\|\Theta_t - \Theta_0\| \, / \, \|\Theta_0\|$'
  )
  ratio = 'Step size / largest stable one\n' r'$\eta \lambda_{\max} \, / \, 2$'
  fig = panels.panels_figure(
    {
      label: {f'$m$ = {m}': v.sel(width=m) for m in results.width.values}
      for label, v in ((drift, results.drift), (ratio, results.step_ratio))
    },
    'step',
    'Step $t$ (SGD updates)',
    'symlog',
  )
  fig.axes[1].axhline(1, color='0.6')
  fig.axes[1].set_yscale('log')
  return drawing.explain_empty(fig, results)


def _eigenvalues_figure(results: xr.Dataset) -> Figure:
  """Means over seeds, of the narrowest and the widest network."""
  fig = drawing.new_figure(7.6, 3.6)
  ends = results.width.values.min(), results.width.values.max()
  for ax, m in zip(fig.subplots(1, 2, sharey=True), ends, strict=True):
    for name, style, label in (
      ('limit', 'k-', r'$\Theta_\infty$'),
      ('initial', 'C0--', r'$\Theta_0 / m$'),
      ('trained', 'C1:', r'$\Theta_T / m$'),
    ):
      values = results[f'eigenvalues_{name}'].sel(width=m).mean('seed')
      ax.plot(results['rank'], values, style, label=label)
    ax.set(title=f'$m$ = {m}', xlabel='Rank of the eigenvalue', xscale='log')
    ax.set(ylabel='Eigenvalue', yscale='log')
    ax.legend(frameon=False)
  return drawing.explain_empty(fig, results)


EXPERIMENT = command.Experiment(
  'kernel', Config, PRESETS, run, _figures, _table, _claims
)
main = EXPERIMENT.main

if __name__ == '__main__':
  main()
