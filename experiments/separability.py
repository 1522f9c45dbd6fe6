"""Figure 3: what the separability assumption (A1) allows, on XOR data.

Appendix C: two classes of two discs each. With each disc a component (l = 2)
the data are separable; with each class one component (l = 1) they are not. No
line separates the classes, yet a network learns them. A network without biases
is positively homogeneous and cannot tell points on one ray apart, so it is
trained on the lifted points (x, 1) / ||(x, 1)||, and so is the linear
classifier without intercept, which is any affine classifier of the plane.

  python -m experiments.separability --preset=quick --out=/tmp/quick
"""

import dataclasses

import jax
import jax.numpy as jnp
import matplotlib
import numpy as np
import xarray as xr
from matplotlib.figure import Figure
from sklearn import linear_model

from experiments import command, training
from experiments.options import option
from ossgd import claims, mixtures, runs, separation, sweeps
from ossgd.claims import INF, Claim

LABELLINGS = (2, 1)  # l: each disc a component, or each class

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
  if len(config.widths) != 1:
    raise ValueError(f'--widths={config.widths}: expected one number')
  sizes = {'num_train': config.num_train, 'num_test': config.num_test}
  spec = mixtures.xor(lift=True)
  results = training.sweep(config, spec, progress, **sizes)
  measured = [_measure(int(seed), sizes) for seed in results.seed]
  key = _data_key(int(results.seed[0]))
  points = mixtures.sample(key, mixtures.xor(), num_train=_DRAWN, num_test=1)
  return results.squeeze('width', drop=True).assign(
    delta=(('seed', 'labelling'), [m[0] for m in measured]),
    ratio=(('seed', 'labelling'), [m[1] for m in measured]),
    separable=(('seed', 'labelling'), [m[2] for m in measured]),
    linear_accuracy=('seed', [m[3] for m in measured]),
    x=(('point', 'coordinate'), np.asarray(points.train.x)),
    y=('point', np.asarray(points.train.y)),
    component=('point', np.asarray(points.train_component)),
    labelling=list(LABELLINGS),
  )


def _data_key(seed: int) -> jax.Array:
  return runs.seed_keys(jnp.asarray(seed)).data


def _measure(seed: int, sizes: dict[str, int]) -> tuple:
  """(A1) in the plane under both labellings, and a linear classifier."""
  plane = mixtures.sample(_data_key(seed), mixtures.xor(), **sizes)
  component = np.asarray(plane.train_component)
  measured = [
    separation.measured_separation(
      *plane.train, component if parts == 2 else np.zeros_like(component)
    )
    for parts in LABELLINGS
  ]
  lifted = mixtures.sample(_data_key(seed), mixtures.xor(lift=True), **sizes)
  # Without an intercept, as the network: in the plane, any affine classifier.
  # With one it would have the sphere's curvature for a fourth coordinate, and
  # four points in general position there are separable however labelled.
  linear = linear_model.LogisticRegression(fit_intercept=False)
  linear.fit(*map(np.asarray, lifted.train))
  return (
    [m.delta for m in measured],
    [m.ratio for m in measured],
    [bool(m.separable) for m in measured],
    linear.score(*map(np.asarray, lifted.test)),
  )


def _claims(results: xr.Dataset) -> list[Claim]:
  """What Section 3 and Appendix C say of Figure 3."""
  where = 'Section 3, Appendix C, Figure 3'
  return [
    Claim(
      where,
      'with each disc a component (l = 2) the data are separable',
      'lambda = diameter / delta, to be at most 1/(8 l)',
      -INF,
      1 / 16,
      lambda ds: ds.ratio.sel(labelling=2),
    ),
    Claim(
      where,
      'with each class one component (l = 1) they are not',
      'lambda = diameter / delta, to be more than 1/(8 l)',
      1 / 8,
      INF,
      lambda ds: ds.ratio.sel(labelling=1),
    ),
    Claim(
      where,
      'the data are not linearly separable',
      'test accuracy of logistic regression',
      -INF,
      0.8,
      lambda ds: ds.linear_accuracy,
    ),
    Claim(
      where,
      'the network learns them',
      'final test accuracy',
      0.99,
      INF,
      lambda ds: ds.test_accuracy.isel(step=-1),
    ),
  ]


def _table(results: xr.Dataset) -> str:
  """Both labellings, then both classifiers."""
  rows = [
    (
      parts,
      training.mean_std(results.delta.sel(labelling=parts)),
      training.mean_std(results.ratio.sel(labelling=parts)),
      f'{1 / (8 * parts):g}',
      f'{int(results.separable.sel(labelling=parts).sum())} of '
      f'{results.sizes["seed"]}',
    )
    for parts in results.labelling.values
  ]
  accuracies = [
    ('logistic regression', training.mean_std(results.linear_accuracy)),
    ('network', training.mean_std(results.test_accuracy.isel(step=-1))),
  ]
  return (
    claims.markdown_table(
      ('l', 'delta', 'lambda', 'at most', '(A1) holds, seeds'), rows
    )
    + '\n'
    + claims.markdown_table(('classifier', 'test accuracy'), accuracies)
  )


def _figure(results: xr.Dataset) -> Figure:
  """Figure 3: + and - as in the paper, a shade a component."""
  fig = Figure(figsize=(9, 4.6), layout='constrained')
  x, y = results.x.values, results.y.values
  axes = fig.subplots(1, 2)
  for ax, parts in zip(axes, results.labelling.values, strict=True):
    group = y * parts + results.component.values * (parts - 1)
    shades = matplotlib.colormaps['viridis'](np.linspace(0, 0.65, 2 * parts))
    for i, shade in enumerate(shades):
      label = f'class {"+-"[i // parts]}, component {i % parts + 1}'
      ax.scatter(
        *x[group == i].T, marker='+_'[i // parts], color=shade, label=label
      )
    here = results.isel(seed=0).sel(labelling=parts)
    ax.set(
      title=f'$\\ell$ = {parts}: $\\delta$ = {here.delta:.2f}, '
      f'$\\lambda$ = {here.ratio:.3g} (at most {1 / (8 * parts):g})',
      xlabel='$x_1$',
      ylabel='$x_2$',
      aspect='equal',
    )
    ax.legend(loc='center')
  return fig


EXPERIMENT = command.Experiment(
  'separability',
  Config,
  PRESETS,
  run,
  figures=lambda ds: {'figure3': _figure(ds)},
  table=_table,
  claims=_claims,
)


def main(argv: list[str] | None = None) -> None:
  """Flags in, run folder out."""
  command.main(EXPERIMENT, argv)


if __name__ == '__main__':
  main()
