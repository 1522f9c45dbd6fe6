"""Sections 4 and 6: the same network on true, corrupted and random labels.

The network has the capacity to fit arbitrary labels, and SGD can fit them; but
on structured data it finds a solution that generalises, and stays closer to
the initialisation than on less structured data. A corrupted training label is
drawn uniformly from all k classes, its own included; test labels stay true.

  python -m experiments.random_labels --preset=quick --out=/tmp/quick
"""

from __future__ import annotations

import dataclasses
import functools
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp

from ossgd.paper.types import Dataset, Split
from ossgd.results import (
  drawing,
  panels,
  paper_claims,
  plots,
  statistics,
  tables,
)
from ossgd.results.claims import Claim
from ossgd.results.statistics import Every
from ossgd.running import sweeps

from .common import command, training
from .common.options import option

if TYPE_CHECKING:
  import xarray as xr
  from matplotlib.figure import Figure


@dataclasses.dataclass(frozen=True)
class Config(training.DataConfig):
  """Section 7's set-up with corrupted training labels."""

  widths: tuple[int, ...] = option((2000,), 'm, hidden units: one number.')
  num_steps: int = option(
    8000, 'T, SGD steps: enough to fit random labels (our choice).'
  )
  lr_times_width: float = option(
    40.0,
    'eta m (Section 7: 10, with which random labels take several times as '
    'long).',
  )
  corruption: tuple[float, ...] = option(
    (0.0, 0.1, 0.25, 0.5, 1.0),
    'p: fraction of training labels redrawn from all classes, a curve each '
    '(our list; Section 6 has 0 and 1 in mind).',
  )


PRESETS = {
  'quick': {
    'widths': (1000,),
    'num_seeds': 3,
    'corruption': (0.0, 0.5, 1.0),
    'num_train': 500,
    'num_test': 500,
    'num_steps': 3000,
  }
}

# T and eta m are ours, and so is B; the data are Section 7's.
_SETUP = paper_claims.SYNTHETIC | paper_claims.SECTION_3


def corrupt(key: jax.Array, split: Split, *, fraction: float, k: int) -> Split:
  """Redraws this fraction of the training labels, each with probability p."""
  key_which, key_label = jax.random.split(key)
  x, y = split.train
  chosen = jax.random.bernoulli(key_which, fraction, y.shape)
  drawn = jax.random.randint(key_label, y.shape, 0, k, y.dtype)
  return split._replace(train=Dataset(x, jnp.where(chosen, drawn, y)))


def run(
  config: Config, progress: sweeps.Progress = lambda fraction, label: None
) -> xr.Dataset:
  """Trains one width at every corruption with every seed: dim `corruption`."""
  if not all(0 <= p <= 1 for p in config.corruption):
    raise ValueError(f'corruption is {config.corruption}; expected 0 to 1')
  data = training.data(config)
  if isinstance(data, Split):
    k = data.num_classes or int(data.train.y.max()) + 1
  else:
    k = data.num_classes
  results = training.over(
    config,
    'corruption',
    progress,
    lambda one: {
      'transform': functools.partial(corrupt, fraction=one.corruption, k=k)
    },
  )
  fitted = results.train_accuracy >= 1.0
  values = results.singular_values_update
  largest = values.isel(rank=0)
  if 'pattern_difference' in results:
    at_fit = training.at_first(fitted, results.pattern_difference)
    results = results.assign(pattern_at_fit=at_fit)
  return results.assign(
    steps_to_fit=training.at_first(fitted, results.step),
    distance_at_fit=training.at_first(fitted, results.relative_distance),
    stable_rank=(values**2).sum('rank') / largest**2,
    num_large=(values > 0.01 * largest).sum('rank').where(largest.notnull()),
  ).assign_attrs(num_classes=k)


def _claims(results: xr.Dataset) -> list[Claim]:
  """What Sections 4 and 6 say."""
  least, most = float(results.corruption.min()), float(results.corruption.max())
  *others, chance = _of_capacity(least, most, results.attrs['num_classes'])
  if most == 1:  # a part left true teaches
    others.append(chance)
  return others + _of_structure(least, most)


def _of_capacity(least: float, most: float, k: int) -> list[Claim]:
  """What Section 4 says; of random labels last."""
  claim = functools.partial(Claim, 'Section 4', setup=_SETUP)

  def right(corruption):
    return lambda ds: paper_claims.right(
      ds, ds.test_accuracy.isel(step=-1).sel(corruption=corruption)
    )

  return [
    claim(
      f'SGD can fit arbitrary labels (p up to {most:g})',
      'final training accuracy, lowest over p',
      lambda ds: Every(
        ds.train_accuracy.isel(step=-1).min('corruption', skipna=False)
      ),
      low=0.999,
    ),
    claim(
      f'on structured data it still generalises (p = {least:g})',
      'final test accuracy',
      right(least),
      low=0.99,
    ),
    claim(
      'with random labels there is nothing to learn (p = 1)',
      'final test accuracy',
      right(most),
      high=2 / k,
    ),
  ]


def _of_structure(least: float, most: float) -> list[Claim]:
  """What Section 6 says: all grows with p."""
  claim = functools.partial(Claim, 'Section 6', setup=_SETUP)
  subtracted = f'at p = {most:g}, that at p = {least:g} subtracted'

  def rise(name):
    return lambda ds: statistics.rise(ds[name], 'corruption')

  return [
    claim(
      'on less structured data the solution is further away',
      f'relative distance when all labels are fitted {subtracted}',
      rise('distance_at_fit'),
      low=0.0,
    ),
    claim(
      'less structured data need more steps',
      f'steps until all labels are fitted {subtracted}',
      rise('steps_to_fit'),
      low=0.0,
    ),
    claim(
      'the updates are low rank because the data are structured',
      f'singular values above 1 % of the largest {subtracted}',
      rise('num_large'),
      low=0.0,
    ),
  ]


def _table(results: xr.Dataset) -> str:
  """A row a corruption."""
  last = results.isel(step=-1)
  columns = {
    'train accuracy': last.train_accuracy,
    'test accuracy': last.test_accuracy,
    'steps to fit all': results.steps_to_fit,
    'relative distance there': results.distance_at_fit,
    'pattern difference there': results.get('pattern_at_fit'),
    'final distance': last.relative_distance,
    'stable rank of update': results.stable_rank,
    'singular values > 1 %': results.num_large,
  }
  return tables.means_table(tables.known(columns), corruption='p')


def _figures(results: xr.Dataset) -> dict[str, Figure]:
  """Steps and distance to fit all labels, and accuracies, against p."""
  last = results.isel(step=-1)
  fig = panels.panels_figure(
    {
      'Steps to 100 % training accuracy\n(SGD updates)': {
        '': results.steps_to_fit
      },
      'Relative distance there (ratio)': {'': results.distance_at_fit},
      'Accuracy at the last step\n(fraction of examples)': {
        'training': last.train_accuracy,
        'test': last.test_accuracy,
      },
    },
    'corruption',
    'Corrupted labels $p$',
  )
  return {
    'random_labels': drawing.explain_empty(fig, results),
    'random_labels_training': plots.training_figure(results, 'corruption'),
  }


EXPERIMENT = command.Experiment(
  'random_labels',
  Config,
  PRESETS,
  run,
  _figures,
  _table,
  _claims,
  training.data,
)


main = EXPERIMENT.main

if __name__ == '__main__':
  main()
