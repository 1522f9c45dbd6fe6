"""Section 6: the accumulated update is low rank, and it is the signal.

The trained weights are w(0) plus an update. How good is w(0) plus the best
rank-q approximation of the update? And what is due to either part under the
trained pattern: a random part with strong cancellation, a signal that adds up?

  python -m experiments.compression --preset=quick --out=/tmp/quick
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from ossgd.paper import decomposition
from ossgd.results import claims, drawing, judging, panels, paper_claims, tables
from ossgd.results.claims import INF, Claim, about
from ossgd.running import sweeps

from .common import command, training
from .common.options import option

if TYPE_CHECKING:
  import xarray as xr
  from matplotlib.figure import Figure


@dataclasses.dataclass(frozen=True)
class Config(training.DataConfig):
  """Section 7's set-up, looked at after the last step."""

  widths: tuple[int, ...] = option(
    (1000, 4000, 16000), 'm, hidden units (our choice).'
  )
  ranks: tuple[int, ...] = option(
    (0, 1, 2, 5, 8, 9, 10, 12, 15, 18, 19, 20, 21, 25, 30, 50, 100),
    'q, ranks the update is cut to (our list; k l = 20 in Section 7). k is '
    'that of the data, l --num_components whatever the data.',
  )


PRESETS = {'quick': {'widths': (500, 2000), 'num_seeds': 3}}


def run(
  config: Config, progress: sweeps.Progress = lambda fraction, label: None
) -> xr.Dataset:
  """Trains, then takes the trained weights apart: dim `cut`, the ranks q.

  Raises:
    ValueError: the ranks are none, negative or repeated.
  """
  ranks = config.ranks
  if not ranks or min(ranks) < 0 or len(set(ranks)) < len(ranks):
    raise ValueError(
      f'ranks are {ranks}; expected numbers from 0 on, all different'
    )
  results = training.sweep(
    config,
    training.data(config),
    progress,
    extra=functools.partial(decomposition.take_apart, ranks=ranks),
  )
  results = results.rename_dims(cut_correct_0='cut', cut_error_0='cut')
  results = results.assign_coords(cut=list(ranks)).sortby('cut')
  # Own data do not say how many components they have: the flags do.
  count = results.attrs['num_classes'] * config.num_components
  for name in ('update', 'weights', 'initial'):
    squares = results[f'singular_values_{name}'] ** 2
    energy = squares.isel(rank=slice(count)).sum('rank') / squares.sum('rank')
    stable_rank = squares.sum('rank') / squares.isel(rank=0)
    results[f'energy_{name}'] = energy
    results[f'stable_rank_{name}'] = stable_rank
  num_test = results.attrs['num_test']
  # Whole examples, or rounding decides what is within 0.01.
  final = (results.test_accuracy.isel(step=-1) * num_test).round()
  lost = (final - results.cut_correct) / num_test
  enough = lost <= 0.01
  return (
    tables.with_accuracies(results, num_test)
    .assign(
      cut_loss=lost, rank_within_1=enough.idxmax('cut').where(enough.any('cut'))
    )
    .assign_attrs(num_patterns=count)
  )


def _claims(results: xr.Dataset) -> list[Claim]:
  """What Section 6 says of the update, at the worst width each."""
  found = [*_of_ranks(results), *_of_parts(results)]
  return about(paper_claims.FIGURE_1, found)


def _worst(
  words: str, quantity: str, low: float, high: float, values: Callable
) -> Claim:
  """At the width where the quantity is nearest to the end of the range."""
  side = 'max' if low == -INF else 'min'

  def measure(ds):
    return getattr(values(ds), side)('width', skipna=False)

  quantity = f'{quantity}, {side} over m'
  return Claim('Section 6', words, quantity, low, high, measure)


def _predicts(
  words: str, quantity: str, low: float, high: float, accuracy: Callable
) -> Claim:
  """By counts of test examples, at every width."""
  return Claim(
    'Section 6',
    words,
    f'test accuracy {quantity}, at every m',
    low,
    high,
    lambda ds: paper_claims.right(ds, accuracy(ds)),
  )


def _of_ranks(results: xr.Dataset) -> list[Claim]:
  """What a part of the spectrum has and does."""
  count = results.attrs['num_patterns']

  def listed(rank):  # the largest rank not above this, or the smallest of all
    cuts = results.cut.values
    return max(cuts[cuts <= rank], default=cuts[0])

  k_l, half, tenth = (listed(count / part) for part in (1, 2, 10))
  return [
    _worst(
      'the update is approximately low rank',
      f'share of its squared norm in its top {count} singular values',
      0.95,
      INF,
      lambda ds: ds.energy_update,
    ),
    _worst(
      'the spectrum of the weights is dominated by the initialization',
      'that share of w(T) / that share of w(0) - 1, absolute',
      -INF,
      0.1,
      lambda ds: abs(ds.energy_weights / ds.energy_initial - 1),
    ),
    _predicts(
      'the update can easily be compressed: k l directions predict',
      f'with an update of rank {k_l}',
      0.99,
      INF,
      lambda ds: ds.cut_accuracy.sel(cut=k_l),
    ),
    _predicts(
      'far fewer do not',
      f'with an update of rank {tenth}',
      -INF,
      0.9,
      lambda ds: ds.cut_accuracy.sel(cut=tenth),
    ),
    _worst(
      'k l directions carry the output',
      f'error of the output at rank {k_l} / how far training moved it',
      -INF,
      0.01,
      lambda ds: ds.cut_error.sel(cut=k_l),
    ),
    _worst(
      'half as many do not',
      f'error of the output at rank {half} / how far training moved it',
      0.1,
      INF,
      lambda ds: ds.cut_error.sel(cut=half),
    ),
  ]


def _of_parts(results: xr.Dataset) -> list[Claim]:
  """What initialisation and update do alone."""
  return [
    _predicts(
      'the initialization alone does not predict (twice chance)',
      'at w(0)',
      -INF,
      2 / judging.settings(results)['num_classes'],
      lambda ds: ds.test_accuracy.isel(step=0),
    ),
    _predicts(
      'the signal alone does',
      'of the update part under the trained pattern',
      0.99,
      INF,
      lambda ds: ds.update_part_accuracy,
    ),
    _worst(
      'the signal can be much smaller and yet decide the output',
      'RMS output of update part / of initial part, over relative distance',
      10.0,
      INF,
      lambda ds: (
        ds.update_part_size
        / ds.initial_part_size
        / ds.relative_distance.isel(step=-1)
      ),
    ),
    _worst(
      'the random part has strong cancellation, as independent terms have',
      '|sum| / sum || over units of the initial part, over sqrt(pi / m)',
      -INF,
      1.5,
      lambda ds: ds.initial_addition / np.sqrt(np.pi / ds.width),
    ),
    _worst(
      "the signal adds up in its class's output",
      '|sum| / sum || over units of the update part in f_y',
      0.5,
      INF,
      lambda ds: ds.update_addition_own,
    ),
    _worst(
      'the random part cancels where the signal adds up',
      '|sum| / sum || over units: update part / initial part, all outputs',
      2.0,
      INF,
      lambda ds: ds.update_addition / ds.initial_addition,
    ),
  ]


def _table(results: xr.Dataset) -> str:
  """A row a quantity and a column a width; then a row a rank."""
  count = results.attrs['num_patterns']
  rows = {
    'test accuracy': results.test_accuracy.isel(step=-1),
    '- at w(0)': results.test_accuracy.isel(step=0),
    '- of the initial part': results.initial_part_accuracy,
    '- of the update part': results.update_part_accuracy,
    '- of a network of the update': results.update_network_accuracy,
    'least rank within 1 % of it': results.rank_within_1,
    'relative distance': results.relative_distance.isel(step=-1),
  }
  for short, quantity in (
    ('energy', f'squared norm in the top {count}'),
    ('stable_rank', 'stable rank'),
  ):
    for name in ('update', 'weights', 'initial'):
      rows[f'{quantity}, {name}'] = results[f'{short}_{name}']
  for short, quantity in (
    ('part_size', 'RMS output'),
    ('addition', '|sum| / sum ||'),
    ('addition_own', '|sum| / sum || in f_y'),
  ):
    for name in ('initial', 'update'):
      rows[f'{quantity}, {name} part'] = results[f'{name}_{short}']
  ranks = {
    f'{quantity}, m = {m}': results[name].sel(width=m)
    for name, quantity in (('cut_accuracy', 'accuracy'), ('cut_error', 'error'))
    for m in results.width.values
  }
  widths = results.width.values
  by_width = [
    (name, *(tables.mean_std(v.sel(width=m)) for m in widths))
    for name, v in rows.items()
  ]
  return (
    claims.markdown_table(('quantity', *(f'm = {m}' for m in widths)), by_width)
    + '\n'
    + tables.means_table(ranks, cut='rank q')
  )


def _figures(results: xr.Dataset) -> dict[str, Figure]:
  """What rank q is worth; what either part does, against width."""
  by_rank = {
    'Test accuracy at rank $q$\n(fraction of examples)': results.cut_accuracy,
    'Error of the output at rank $q$\n'
    '(fraction of its change in training)': results.cut_error,
  }
  cut = panels.panels_figure(
    {
      label: {f'$m$ = {m}': v.sel(width=m) for m in results.width.values}
      for label, v in by_rank.items()
    },
    'cut',
    'Rank $q$ of the update; grey: $k \\ell$',
    'symlog',
  )
  for ax in cut.axes:
    ax.axvline(results.attrs['num_patterns'], color='0.6', zorder=0)
    ax.set_xlim(left=0)
  cut.axes[1].set_yscale('log')
  by_width = {
    'Test accuracy of the part\n(fraction of examples)': 'part_accuracy',
    'Output of the part (RMS)': 'part_size',
    'Not cancelled in $f_y$ (ratio)\n'
    r'$|\Sigma_r \cdot| \, / \, \Sigma_r |\cdot|$': 'addition_own',
  }
  alone = panels.panels_figure(
    {
      label: {
        name: results[f'{name}_{short}'] for name in ('update', 'initial')
      }
      for label, short in by_width.items()
    },
    'width',
    'Hidden units $m$',
    'log',
  )
  for ax in alone.axes:
    ax.set_ylim(bottom=0)
    panels.mark(ax, results.width.values)
  return {
    name: drawing.explain_empty(fig, results)
    for name, fig in (('compression', cut), ('parts', alone))
  }


EXPERIMENT = command.Experiment(
  'compression', Config, PRESETS, run, _figures, _table, _claims, training.data
)


main = EXPERIMENT.main

if __name__ == '__main__':
  main()
