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

from ossgd.paper import metrics
from ossgd.paper.types import Dataset, Split
from ossgd.results import (
  drawing,
  panels,
  paper_claims,
  plots,
  statistics,
  tables,
)
from ossgd.results.claims import INF, Claim, about
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
  k = (
    int(data.train.y.max()) + 1 if isinstance(data, Split) else data.num_classes
  )

  def others(one):
    return {
      'transform': functools.partial(corrupt, fraction=one.corruption, k=k)
    }

  results = training.over(config, 'corruption', progress, others)
  fitted = results.train_accuracy >= 1.0
  values = results.singular_values_update
  largest = values.isel(rank=0)
  return results.assign(
    steps_to_fit=fitted.idxmax('step').where(fitted.any('step')),
    distance_at_fit=_at_fit(results, 'relative_distance'),
    pattern_at_fit=_at_fit(results, 'pattern_difference'),
    stable_rank=(values**2).sum('rank') / largest**2,
    num_large=(values > 0.01 * largest).sum('rank'),
  ).assign_attrs(num_classes=k)


def _at_fit(results: xr.Dataset, name: str) -> xr.DataArray:
  """A quantity at the first recorded step with all training labels right."""
  import xarray as xr

  order = ('corruption', 'seed', 'step')
  value = metrics.at_accuracy(
    results[name].transpose(*order),
    results.train_accuracy.transpose(*order),
    1.0,
  )
  return xr.DataArray(value, dims=order[:2])


def _claims(results: xr.Dataset) -> list[Claim]:
  """What Sections 4 and 6 say."""
  k = results.attrs['num_classes']

  def rise(name):
    return lambda ds: statistics.rise(ds[name], 'corruption')

  def last(name, corruption):
    return lambda ds: ds[name].isel(step=-1).sel(corruption=corruption)

  most = float(results.corruption.max())
  least = float(results.corruption.min())
  words = f'p = {most:g}, that at p = {least:g}'
  chance = Claim(
    'Section 4',
    'with random labels there is nothing to learn (p = 1)',
    'final test accuracy',
    -INF,
    2 / k,
    lambda ds: paper_claims.right(ds, last('test_accuracy', most)(ds)),
  )
  found = [
    Claim(
      'Section 4',
      f'SGD can fit arbitrary labels (p up to {most:g})',
      'final training accuracy, lowest over p',
      0.999,
      INF,
      lambda ds: Every(
        ds.train_accuracy.isel(step=-1).min('corruption', skipna=False)
      ),
    ),
    Claim(
      'Section 4',
      f'on structured data it still generalises (p = {least:g})',
      'final test accuracy',
      0.99,
      INF,
      lambda ds: paper_claims.right(ds, last('test_accuracy', least)(ds)),
    ),
    *([chance] if most == 1 else []),  # a part left true teaches
    Claim(
      'Section 6',
      'on less structured data the solution is further away',
      f'relative distance when all labels are fitted at {words} subtracted',
      0.0,
      INF,
      rise('distance_at_fit'),
    ),
    Claim(
      'Section 6',
      'less structured data need more steps',
      f'steps until all labels are fitted at {words} subtracted',
      0.0,
      INF,
      rise('steps_to_fit'),
    ),
    Claim(
      'Section 6',
      'the updates are low rank because the data are structured',
      f'singular values above 1 % of the largest at {words} subtracted',
      0.0,
      INF,
      rise('num_large'),
    ),
  ]
  # T and eta m are ours, and so is B; the data are Section 7's.
  return about(paper_claims.SYNTHETIC | paper_claims.SECTION_3, found)


def _table(results: xr.Dataset) -> str:
  """A row a corruption."""
  last = results.isel(step=-1)
  columns = {
    'train accuracy': last.train_accuracy,
    'test accuracy': last.test_accuracy,
    'steps to fit all': results.steps_to_fit,
    'relative distance there': results.distance_at_fit,
    'pattern difference there': results.pattern_at_fit,
    'final distance': last.relative_distance,
    'stable rank of update': results.stable_rank,
    'singular values > 1 %': results.num_large,
  }
  return tables.means_table(columns, corruption='p')


def _figure(results: xr.Dataset) -> Figure:
  """Steps and distance to fit all labels, and accuracies, against p."""
  shown = {
    'Steps to 100 % training accuracy\n(SGD updates)': {
      '': results.steps_to_fit
    },
    'Relative distance there (ratio)': {'': results.distance_at_fit},
    'Accuracy at the last step\n(fraction of examples)': {
      'training': results.train_accuracy.isel(step=-1),
      'test': results.test_accuracy.isel(step=-1),
    },
  }
  fig = panels.panels_figure(shown, 'corruption', 'Corrupted labels $p$')
  return drawing.explain_empty(fig, results)


EXPERIMENT = command.Experiment(
  'random_labels',
  Config,
  PRESETS,
  run,
  figures=lambda ds: {
    'random_labels': _figure(ds),
    'random_labels_training': plots.training_figure(ds, 'corruption'),
  },
  table=_table,
  claims=_claims,
  data=training.data,
)


main = EXPERIMENT.main

if __name__ == '__main__':
  main()
