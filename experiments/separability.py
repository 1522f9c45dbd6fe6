"""Figure 3: what the separability assumption (A1) allows, on XOR data.

Appendix C: two classes of two discs each. With each disc a component (l = 2)
the data are separable; with each class one component (l = 1) they are not. No
line separates the classes, yet a network learns them, if it can: a network
without biases is positively homogeneous, so in the paper's plane it cannot
classify the disc around the origin, and the plane has no (A2) either. Three
views of the same examples:

  plane    x: meets (A1), not (A2).
  lifted   (x, 1) scaled to unit norm: (A2), but lambda rises above 1/(8 l).
  centred  x - (1, 1) scaled to unit norm: meets (A1) and (A2) together.

A linear classifier without intercept on the lifted examples is any affine one
of the plane. With an intercept it is more: four points on a sphere are affinely
separable however they are labelled.

  python -m experiments.separability --preset=quick --out=/tmp/quick
"""

from __future__ import annotations

import dataclasses
import functools
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np

from ossgd.data import mixtures
from ossgd.engines import measuring
from ossgd.paper.types import Split, unit_norm
from ossgd.results import claims, drawing, judging, paper_claims, tables
from ossgd.results.claims import Claim
from ossgd.results.statistics import Every
from ossgd.running import jobs, sweeps, watching

from .common import command, seeds, training
from .common.lemmas.evidence import least
from .common.options import option

if TYPE_CHECKING:
  import xarray as xr
  from matplotlib.figure import Figure

LABELLINGS = (2, 1)  # l: each disc a component, or each class
VIEWS = ('plane', 'lifted', 'centred')

# What `_measure` gives, and its dims.
_DIMS: dict[str, tuple[str, ...]] = {
  'delta': ('labelling',),
  'ratio': ('labelling',),
  'separable': ('labelling',),
  'unit_norm': (),
  'linear_train_accuracy': ('intercept',),
  'linear_accuracy': ('intercept',),
}
_DRAWN = 100  # points in the figure


@dataclasses.dataclass(frozen=True)
class Config(training.Config):
  """Figure 3's data, and a network on them."""

  widths: tuple[int, ...] = option((1000,), 'm, hidden units: one number.')
  num_train: int = option(1000, 'N, training examples (our choice).')
  num_test: int = option(1000, 'Test examples (our choice).')


PRESETS = {'quick': {'num_seeds': 3, 'num_steps': 200}}


def run(
  config: Config, progress: sweeps.Progress = lambda fraction, label: None
) -> xr.Dataset:
  """Measures (A1) under both labellings and trains both classifiers."""
  import xarray as xr

  if len(config.widths) != 1 or not config.normalize:
    raise ValueError(
      f'--widths={config.widths} --normalize={config.normalize}: expected one '
      'number, and true; the view called plane is not normalized'
    )
  sizes = {'num_train': config.num_train, 'num_test': config.num_test}
  parts = watching.watch(progress).parts((view, 1) for view in VIEWS)
  found = []
  for view, part in zip(VIEWS, parts, strict=True):
    results = training.sweep(
      config,
      mixtures.xor(lift=view == 'lifted'),
      part,
      transform=_centred if view == 'centred' else None,
      **sizes,
    )
    shared = seeds.basis(config, _measure, part)
    measured = [
      part.once(
        f'measured seed={seed}',
        jobs.Job(config.widths[0], seed, '', shared),
        *(_measure, seed, view, sizes),
      )
      for seed in results.seed.values.tolist()
    ]
    stacked = jax.tree.map(lambda *v: np.stack(v), *measured)
    found.append(
      results.assign(
        {name: (('seed', *_DIMS[name]), v) for name, v in stacked.items()}
      )
    )
  together = xr.concat(found, xr.Variable('view', list(VIEWS)), join='outer')
  # To be drawn: the same whichever seeds were run.
  key = measuring.seed_keys(jnp.asarray(0)).data
  points = mixtures.sample(key, mixtures.xor(), num_train=_DRAWN, num_test=1)
  return (
    together.squeeze('width', drop=True)
    .assign(
      x=(('point', 'coordinate'), np.asarray(points.train.x)),
      y=('point', np.asarray(points.train.y)),
      component=('point', np.asarray(points.train_component)),
    )
    .assign_coords(labelling=list(LABELLINGS), intercept=[0, 1])
  )


def _centred(key: jax.Array, split: Split) -> Split:
  """The square of the discs around the origin, its corners on the circle."""
  del key
  train, test = (
    data._replace(x=unit_norm(data.x - 1)) for data in (split.train, split.test)
  )
  return split._replace(train=train, test=test)


def _measure(
  seed: int, view: str, sizes: dict[str, int]
) -> dict[str, np.ndarray]:
  """(A1) and (A2) of the examples that a seed trains on; linear classifiers."""
  from sklearn import linear_model

  from ossgd.data import geometry

  key = measuring.seed_keys(jnp.asarray(seed)).data
  split = mixtures.sample(key, mixtures.xor(lift=view == 'lifted'), **sizes)
  component = np.asarray(split.train_component)
  if view == 'centred':
    split = _centred(key, split)
  x, y = map(np.asarray, split.train)
  measured = [
    geometry.measured_separation(
      x, y, component if parts == 2 else np.zeros_like(component)
    )
    for parts in LABELLINGS
  ]
  linear = [
    # Hardly regularised, so that it separates what can be separated.
    linear_model.LogisticRegression(
      C=1e4, fit_intercept=intercept, max_iter=10000
    ).fit(x, y)
    for intercept in (False, True)
  ]
  return {
    'delta': np.array([m.delta for m in measured]),
    'ratio': np.array([m.ratio for m in measured]),
    'separable': np.array([m.separable for m in measured]),
    'unit_norm': np.array(measured[0].unit_norm),
    'linear_train_accuracy': np.array([c.score(x, y) for c in linear]),
    'linear_accuracy': np.array(
      [c.score(*map(np.asarray, split.test)) for c in linear]
    ),
  }


def _claims(results: xr.Dataset) -> list[Claim]:
  """What Section 3 and Appendix C say of Figure 3."""
  num_train = judging.settings(results)['num_train']
  claim = functools.partial(Claim, 'Section 3, Appendix C, Figure 3')

  def ratio(ds, view, parts):
    return ds.ratio.sel(view=view, labelling=parts)

  def wrong(accuracy):
    return ((1 - accuracy) * num_train).round()

  return [
    claim(
      'with each disc a component (l = 2) the data are separable',
      'lambda = diameter / delta, to be at most 1/(8 l)',
      lambda ds: Every(ratio(ds, 'plane', 2)),
      high=1 / 16,
    ),
    claim(
      'with each class one component (l = 1) they are not',
      'lambda = diameter / delta, to be more than 1/(8 l)',
      lambda ds: Every(ratio(ds, 'plane', 1)),
      low=1 / 8,
    ),
    claim(
      'the data are not linearly separable',
      'training errors of logistic regression, fewest of plane and centred',
      lambda ds: least(
        wrong(ds.linear_train_accuracy.sel(view=['plane', 'centred'])),
        *('view', 'intercept'),
      ),
      low=1,
    ),
    claim(
      'centred and of unit norm (A2), they are separable as well (l = 2)',
      'lambda = diameter / delta, to be at most 1/(8 l)',
      lambda ds: Every(
        ratio(ds, 'centred', 2).where(ds.unit_norm.sel(view='centred'))
      ),
      high=1 / 16,
    ),
    Claim(
      'Theorem 4.1 and Section 3',
      'but the network learns them',
      'final test accuracy, lifted and centred',
      lambda ds: paper_claims.right(
        ds, ds.test_accuracy.isel(step=-1).sel(view=['lifted', 'centred'])
      ),
      low=0.99,
    ),
  ]


def _table(results: xr.Dataset) -> str:
  """The assumptions in every view, then every classifier."""

  def seeds(holds):
    return f'{int(holds.sum())} of {holds.size}'

  assumptions, accuracies = [], []
  for view in VIEWS:
    here = results.sel(view=view)
    for parts in LABELLINGS:
      ds = here.sel(labelling=parts)
      numbers = tables.mean_std(ds.delta), tables.mean_std(ds.ratio)
      holds = seeds(ds.separable), seeds(ds.unit_norm)
      limit = f'{1 / (8 * parts):g}'
      assumptions.append((view, parts, *numbers, limit, *holds))
    columns = (*here.linear_accuracy.T, here.test_accuracy.isel(step=-1))
    accuracies.append((view, *map(tables.mean_std, columns)))
  header = ('view', 'l', 'delta', 'lambda', 'at most', '(A1)', '(A2)')
  tried = ('test accuracy', 'linear', 'linear with intercept', 'network')
  return (
    claims.markdown_table(header, assumptions)
    + '\n'
    + claims.markdown_table(tried, accuracies)
  )


def _figures(results: xr.Dataset) -> dict[str, Figure]:
  """Figure 3: + and - as in the paper, a shade a component."""
  fig = drawing.new_figure(9, 4.6)
  x, y = results.x.values, results.y.values
  axes = fig.subplots(1, 2)
  for ax, parts in zip(axes, results.labelling.values, strict=True):
    group = y * parts + results.component.values * (parts - 1)
    for i, shade in enumerate(drawing.shades(2 * parts, 0.65)):
      label = f'class {"+-"[i // parts]}, component {i % parts + 1}'
      ax.scatter(
        *x[group == i].T, marker='+_'[i // parts], color=shade, label=label
      )
    here = results.isel(seed=0).sel(view='plane', labelling=parts)
    ax.set(
      title=f'$\\ell$ = {parts}: $\\delta$ = {here.delta:.2f}, '
      f'$\\lambda$ = {here.ratio:.3g} (at most {1 / (8 * parts):g})',
      xlabel='$x_1$',
      ylabel='$x_2$',
      aspect='equal',
    )
    ax.legend(loc='center')
  return {'figure3': drawing.explain_empty(fig, results)}


EXPERIMENT = command.Experiment(
  'separability', Config, PRESETS, run, _figures, _table, _claims
)
main = EXPERIMENT.main

if __name__ == '__main__':
  main()
