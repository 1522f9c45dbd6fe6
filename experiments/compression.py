"""Section 6: the accumulated update is low rank, and it is the signal.

The trained weights are w(0) plus an update. How good is w(0) plus the best
rank-q approximation of the update? And how much of the output is due to
either: under the trained pattern p,

  f_i(x) = sum_r a_{i,r} p_r <w_r(0), x>
         + sum_r a_{i,r} p_r <w_r(T) - w_r(0), x>,

a random part with strong cancellation and a signal that adds up.

  python -m experiments.compression --preset=quick --out=/tmp/quick
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import xarray as xr
from matplotlib.figure import Figure

from experiments import command, training
from experiments.options import option
from ossgd import claims, metrics, network, panels, sweeps
from ossgd.base import Params, Split, matmul
from ossgd.claims import INF, Claim


@dataclasses.dataclass(frozen=True)
class Config(training.DataConfig):
  """Section 7's set-up, looked at after the last step."""

  widths: tuple[int, ...] = option(
    (1000, 4000, 16000), 'm, hidden units (our choice).'
  )
  ranks: tuple[int, ...] = option(
    (0, 1, 2, 5, 8, 9, 10, 12, 15, 18, 19, 20, 21, 25, 30, 50, 100),
    'q, ranks the update is cut to (our list; k l = 20 in Section 7).',
  )


PRESETS = {'quick': {'widths': (500, 2000), 'num_seeds': 3}}


def run(
  config: Config, progress: sweeps.Progress = lambda fraction, label: None
) -> xr.Dataset:
  """Trains, then takes the trained weights apart: dim `cut`, the ranks q."""
  results = training.sweep(
    config,
    training.data(config),
    progress,
    extra=functools.partial(take_apart, ranks=config.ranks),
  )
  results = results.rename(cut_accuracy_0='cut')
  results = results.assign_coords(cut=list(config.ranks))
  # Own data do not say how many components they have.
  count = results.attrs.get('num_patterns', 20)
  for name in ('update', 'weights'):
    squares = results[f'singular_values_{name}'] ** 2
    energy = squares.isel(rank=slice(count)).sum('rank') / squares.sum('rank')
    stable_rank = squares.sum('rank') / squares.isel(rank=0)
    results[f'energy_{name}'] = energy
    results[f'stable_rank_{name}'] = stable_rank
  return results.assign_attrs(num_patterns=count)


def take_apart(
  params: Params, initial: Params, split: Split, *, ranks: tuple[int, ...]
) -> dict[str, jax.Array]:
  """Accuracies of the parts of a trained network, on the test set.

  The best rank-q approximation of the update is U V_q V_q^T with V_q its first
  q right singular vectors, so its pre-activations are (X V_q) (U V_q)^T.

  Args:
    params: trained, w (m, d) and a (k, m).
    initial: before training.
    split: the data.
    ranks: q.

  Returns:
    Accuracy per rank, and scalars.
  """
  x, y = split.test
  update = params.w - initial.w
  _, _, right = jnp.linalg.svd(update, full_matrices=False)
  right = right[: max(ranks)].T
  from_x, from_w = matmul(x, right), matmul(update, right)
  h0 = network.preactivations(initial.w, x)

  def accuracy_at(q):
    kept = jnp.where(jnp.arange(right.shape[1])[None, :] < q, from_x, 0)
    h = h0 + matmul(kept, from_w.T)
    return metrics.accuracy(network.gated_logits(params.a, h, h >= 0), y)

  h = network.preactivations(params.w, x)
  pattern = h >= 0
  signal = network.preactivations(update, x)
  parts = {'initial': h0, 'update': signal}
  logits = {
    name: network.gated_logits(params.a, part, pattern)
    for name, part in parts.items()
  }
  alone = network.gated_logits(params.a, signal, signal >= 0)
  return {
    'cut_accuracy': jax.lax.map(accuracy_at, jnp.array(ranks)),
    'update_network_accuracy': metrics.accuracy(alone, y),
    **{f'{n}_part_accuracy': metrics.accuracy(f, y) for n, f in logits.items()},
    **{
      f'{name}_addition': addition(params.a, part, pattern)
      for name, part in parts.items()
    },
  }


def addition(a: jax.Array, h: jax.Array, pattern: jax.Array) -> jax.Array:
  """How far terms of the output add up: 1 if of one sign, 0 if they cancel.

  |sum_r a_{i,r} h_r p_r| / sum_r |a_{i,r} h_r| p_r, the mean over examples and
  classes.
  """
  total = jnp.abs(network.gated_logits(a, h, pattern))
  return jnp.mean(total / network.gated_logits(jnp.abs(a), jnp.abs(h), pattern))


def _claims(results: xr.Dataset) -> list[Claim]:
  """What Section 6 says of the update, at the worst width each."""
  where, count = 'Section 6', results.attrs['num_patterns']
  k_l = results.cut.values[abs(results.cut.values - count).argmin()]

  def worst(values, side='max'):
    return getattr(values, side)('width', skipna=False)

  def loss_at(ds):
    full = ds.test_accuracy.isel(step=-1)
    return worst(full - ds.cut_accuracy.sel(cut=k_l))

  return [
    Claim(
      where,
      'the update is approximately low rank',
      f'share of its squared norm in the top {count} values, lowest over m',
      0.95,
      INF,
      lambda ds: worst(ds.energy_update, 'min'),
    ),
    Claim(
      where,
      'the spectrum of the weights is that of a random matrix',
      f'share of their squared norm in the top {count} values, largest over m',
      -INF,
      0.2,
      lambda ds: worst(ds.energy_weights),
    ),
    Claim(
      where,
      'the weights are easily compressed',
      f'test accuracy lost with an update of rank {k_l}, largest over m',
      -INF,
      0.01,
      loss_at,
    ),
    Claim(
      where,
      'the random part alone does not predict',
      'test accuracy of the initial part under the trained pattern, largest',
      -INF,
      0.5,
      lambda ds: worst(ds.initial_part_accuracy),
    ),
    Claim(
      where,
      'the signal alone does',
      'test accuracy of the update part under the trained pattern, lowest',
      0.99,
      INF,
      lambda ds: worst(ds.update_part_accuracy, 'min'),
    ),
    Claim(
      where,
      'the random part cancels where the signal adds up',
      '|sum| / sum || over units: update part / initial part, lowest over m',
      2.0,
      INF,
      lambda ds: worst(ds.update_addition / ds.initial_addition, 'min'),
    ),
  ]


def _table(results: xr.Dataset) -> str:
  """A row a width, then accuracy against rank."""
  columns = {
    'accuracy': results.test_accuracy.isel(step=-1),
    'at w(0)': results.test_accuracy.isel(step=0),
    'initial part': results.initial_part_accuracy,
    'update part': results.update_part_accuracy,
    'network of the update': results.update_network_accuracy,
    'addition, initial': results.initial_addition,
    'addition, update': results.update_addition,
    'energy, update': results.energy_update,
    'energy, weights': results.energy_weights,
    'stable rank, update': results.stable_rank_update,
    'stable rank, weights': results.stable_rank_weights,
  }
  rows = [
    (m, *(training.mean_std(v.sel(width=m)) for v in columns.values()))
    for m in results.width.values
  ]
  cut = results.cut_accuracy
  by_rank = [
    (q, *(training.mean_std(cut.sel(cut=q, width=m)) for m in cut.width.values))
    for q in cut.cut.values
  ]
  header = ('rank q', *(f'accuracy, m = {m}' for m in cut.width.values))
  return (
    claims.markdown_table(('m', *columns), rows)
    + '\n'
    + claims.markdown_table(header, by_rank)
  )


def _figure(results: xr.Dataset) -> Figure:
  """Accuracy against the rank that the update is cut to."""
  curves = {
    f'$m$ = {m}': results.cut_accuracy.sel(width=m)
    for m in results.width.values
  }
  label = 'Test accuracy (fraction of examples)'
  return panels.panels_figure(
    {label: curves}, 'cut', 'Rank $q$ of the update', 'symlog'
  )


EXPERIMENT = command.Experiment(
  'compression',
  Config,
  PRESETS,
  run,
  figures=lambda ds: {'compression': _figure(ds)},
  table=_table,
  claims=_claims,
)


def main(argv: list[str] | None = None) -> None:
  """Flags in, run folder out."""
  command.main(EXPERIMENT, argv)


if __name__ == '__main__':
  main()
