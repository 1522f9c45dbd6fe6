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
from typing import TYPE_CHECKING, Any

import numpy as np

from ossgd.paper import decomposition
from ossgd.results import claims, drawing, judging, panels, paper_claims, tables
from ossgd.results.claims import Claim
from ossgd.running import sweeps

from .common import command, models, training
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

_MATRICES = ('update', 'weights', 'initial')
_PARTS = ('initial', 'update')


def run(
  config: Config, progress: sweeps.Progress = lambda fraction, label: None
) -> xr.Dataset:
  """Trains, then takes the trained weights apart: dim `cut`, the ranks q.

  Raises:
    ValueError: the ranks are none, negative or repeated; not the paper's model.
  """
  ranks = config.ranks
  if not ranks or min(ranks) < 0 or len(set(ranks)) < len(ranks):
    raise ValueError(
      f'ranks are {ranks}; expected numbers from 0 on, all different'
    )
  models.check_unvaried(config, 'activation', 'layers')  # f by its patterns
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
  for name in _MATRICES:
    squares = results[f'singular_values_{name}'] ** 2
    total = squares.sum('rank')
    top = squares.isel(rank=slice(count)).sum('rank')
    results[f'energy_{name}'] = top / total
    results[f'stable_rank_{name}'] = total / squares.isel(rank=0)
  num_test = results.attrs['num_test']
  # Whole examples, or rounding decides what is within 0.01.
  final = (results.test_accuracy.isel(step=-1) * num_test).round()
  lost = (final - results.cut_correct) / num_test
  enough = lost <= 0.01
  results = tables.with_accuracies(results, num_test)
  return results.assign(
    cut_loss=lost, rank_within_1=enough.idxmax('cut').where(enough.any('cut'))
  ).assign_attrs(num_patterns=count)


_claim = functools.partial(Claim, 'Section 6', setup=paper_claims.FIGURE_1)


def _claims(results: xr.Dataset) -> list[Claim]:
  """What Section 6 says of the update, at the worst width each."""
  return [*_of_ranks(results), *_of_parts(results)]


def _worst(words: str, quantity: str, values: Callable, **end: Any) -> Claim:
  """At the width where the quantity is nearest to the end of the range."""
  side = 'max' if 'high' in end else 'min'

  def measure(ds):
    return getattr(values(ds), side)('width', skipna=False)

  return _claim(words, f'{quantity}, {side} over m', measure, **end)


def _of_ranks(results: xr.Dataset) -> list[Claim]:
  """What a part of the spectrum has and does."""
  count = results.attrs['num_patterns']
  return [
    _worst(
      'the update is approximately low rank',
      f'share of its squared norm in its top {count} singular values',
      lambda ds: ds.energy_update,
      low=0.95,
    ),
    _worst(
      'the spectrum of the weights is dominated by the initialization',
      'that share of w(T) / that share of w(0) - 1, absolute',
      lambda ds: abs(ds.energy_weights / ds.energy_initial - 1),
      high=0.1,
    ),
    *_of_cuts(count, results.cut.values),
  ]


def _of_cuts(count: int, cuts: np.ndarray) -> list[Claim]:
  """What updates cut to k l and to fewer directions do, if they were tried."""

  def predict(words, rank, **end):
    return _claim(
      words,
      f'test accuracy with an update of rank {rank}, at every m',
      lambda ds: paper_claims.right(ds, ds.cut_accuracy.sel(cut=rank)),
      **end,
    )

  def carry(words, rank, **end):
    return _worst(
      words,
      f'error of the output at rank {rank} / how far training moved it',
      lambda ds: ds.cut_error.sel(cut=rank),
      **end,
    )

  few, half, found = cuts[cuts <= count / 10], count // 2, []
  if count in cuts:
    easily = 'the update can easily be compressed: k l directions predict'
    found += [
      predict(easily, count, low=0.99),
      carry('k l directions carry the output', count, high=0.01),
    ]
  if few.size:
    found.append(predict('far fewer do not', few.max(), high=0.9))
  if half in cuts:
    found.append(carry('half as many do not', half, low=0.1))
  return found


def _of_parts(results: xr.Dataset) -> list[Claim]:
  """What initialisation and update do alone."""
  return [
    _claim(
      'the initialization alone does not predict (twice chance)',
      'test accuracy at w(0), at every m',
      lambda ds: paper_claims.right(ds, ds.test_accuracy.isel(step=0)),
      high=2 / judging.settings(results)['num_classes'],
    ),
    _claim(
      'the signal alone does',
      'test accuracy of the update part under the trained pattern, at every m',
      lambda ds: paper_claims.right(ds, ds.update_part_accuracy),
      low=0.99,
    ),
    _worst(
      'the signal can be much smaller and yet decide the output',
      'RMS output of update part / of initial part, over relative distance',
      lambda ds: (
        ds.update_part_size
        / ds.initial_part_size
        / ds.relative_distance.isel(step=-1)
      ),
      low=10.0,
    ),
    _worst(
      'the random part has strong cancellation, as independent terms have',
      '|sum| / sum || over units of the initial part, over sqrt(pi / m)',
      lambda ds: ds.initial_addition / np.sqrt(np.pi / ds.width),
      high=1.5,
    ),
    _worst(
      "the signal adds up in its class's output",
      '|sum| / sum || over units of the update part in f_y',
      lambda ds: ds.update_addition_own,
      low=0.5,
    ),
    _worst(
      'the random part cancels where the signal adds up',
      '|sum| / sum || over units: update part / initial part, all outputs',
      lambda ds: ds.update_addition / ds.initial_addition,
      low=2.0,
    ),
  ]


def _table(results: xr.Dataset) -> str:
  """A row a quantity and a column a width; then a row a rank."""
  rows = {
    'test accuracy': results.test_accuracy.isel(step=-1),
    '- at w(0)': results.test_accuracy.isel(step=0),
    '- of the initial part': results.initial_part_accuracy,
    '- of the update part': results.update_part_accuracy,
    '- of a network of the update': results.update_network_accuracy,
    'least rank within 1 % of it': results.rank_within_1,
    'relative distance': results.relative_distance.isel(step=-1),
  }
  top = f'squared norm in the top {results.attrs["num_patterns"]}'
  for quantity, name, parts in (
    (f'{top}, {{}}', 'energy_{}', _MATRICES),
    ('stable rank, {}', 'stable_rank_{}', _MATRICES),
    ('RMS output, {} part', '{}_part_size', _PARTS),
    ('|sum| / sum ||, {} part', '{}_addition', _PARTS),
    ('|sum| / sum || in f_y, {} part', '{}_addition_own', _PARTS),
  ):
    rows |= {quantity.format(p): results[name.format(p)] for p in parts}
  by_width = [
    (quantity, *map(tables.mean_std, v.transpose('width', ...).values))
    for quantity, v in rows.items()
  ]
  by_rank = {
    f'{quantity}, m = {m}': results[f'cut_{quantity}'].sel(width=m)
    for quantity in ('accuracy', 'error')
    for m in results.width.values
  }
  header = 'quantity', *(f'm = {m}' for m in results.width.values)
  first = claims.markdown_table(header, by_width)
  return f'{first}\n{tables.means_table(by_rank, cut="rank q")}'


_AGAINST_RANK = {
  'Test accuracy at rank $q$\n(fraction of examples)': 'cut_accuracy',
  'Error of the output at rank $q$\n'
  '(fraction of its change in training)': 'cut_error',
}
_AGAINST_WIDTH = {
  'Test accuracy of the part\n(fraction of examples)': 'part_accuracy',
  'Output of the part (RMS)': 'part_size',
  'Not cancelled in $f_y$ (ratio)\n'
  r'$|\Sigma_r \cdot| \, / \, \Sigma_r |\cdot|$': 'addition_own',
}


def _figures(results: xr.Dataset) -> dict[str, Figure]:
  """What rank q is worth; what either part does, against width."""
  widths = results.width.values
  cut = panels.panels_figure(
    {
      label: {f'$m$ = {m}': results[name].sel(width=m) for m in widths}
      for label, name in _AGAINST_RANK.items()
    },
    'cut',
    'Rank $q$ of the update; grey: $k \\ell$',
    'symlog',
  )
  for ax in cut.axes:
    ax.axvline(results.attrs['num_patterns'], color='0.6', zorder=0)
    ax.set_xlim(left=0)
  cut.axes[1].set_yscale('log')
  alone = panels.panels_figure(
    {
      label: {part: results[f'{part}_{name}'] for part in reversed(_PARTS)}
      for label, name in _AGAINST_WIDTH.items()
    },
    'width',
    'Hidden units $m$',
    'log',
  )
  for ax in alone.axes:
    ax.set_ylim(bottom=0)
    panels.mark(ax, widths)
  return {
    'compression': drawing.explain_empty(cut, results),
    'parts': drawing.explain_empty(alone, results),
  }


EXPERIMENT = command.Experiment(
  'compression', Config, PRESETS, run, _figures, _table, _claims, training.data
)


main = EXPERIMENT.main

if __name__ == '__main__':
  main()
