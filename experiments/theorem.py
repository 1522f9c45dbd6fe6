"""Theorem 4.1: how many steps and samples to a test error of epsilon.

One pass over fresh samples of data that meet (A1) and (A2) exactly, with
lambda = 1 / (8 l). From a base point one of m, d, k, l, delta and epsilon
varies at a time, and the exponent with which the steps grow stands beside that
of the proof: T of order k^10 l^10 / (delta^6 epsilon^12), no d, at most log m.

That T is at a step size that falls with difficulty too, eta m of order delta^3
epsilon^6 / (k^5 l^5). At a given eta m, as here, the proof's bound has half of
these exponents; its samples B T, with B of Lemma B.4, have twice. An exponent
measured is that of the sizes tried, no bound.

The base point has dim >= k l, where all caps are equally far apart, and a
delta that 16 classes have room for, at most sqrt(2) and a little. Caps are
small: one is right or wrong as a whole, and errors are multiples of 1 / (k l).

  python -m experiments.theorem --preset=quick --out=/tmp/quick
"""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING, Any

from ossgd.data import mixtures
from ossgd.data.components import Bounded
from ossgd.results import drawing, panels, paper_claims, statistics
from ossgd.results.claims import INF, Claim
from ossgd.results.paper_claims import FLAT
from ossgd.running import sweeps, watching

from .common import command, training
from .common.lemmas import exponents
from .common.options import option

if TYPE_CHECKING:
  import xarray as xr
  from matplotlib.figure import Figure

_MIXTURE = ('dim', 'num_classes', 'num_components', 'separation')


@dataclasses.dataclass(frozen=True)
class Config:
  """A base point, the first of every list, and what varies around it."""

  widths: tuple[int, ...] = option(
    (1000, 16, 32, 64, 128, 256, 512, 2000, 4000, 8000, 16000),
    'm, hidden units; first the base, from which on the steps should not '
    'depend on m (our list).',
  )
  dim: tuple[int, ...] = option(
    (100, 50, 500, 2000, 20000), 'd; first the base (our list).'
  )
  num_classes: tuple[int, ...] = option(
    (10, 2, 4, 16), 'k; first the base (our list).'
  )
  num_components: tuple[int, ...] = option(
    (2, 1, 4, 8), 'l; first the base (our list).'
  )
  separation: tuple[float, ...] = option(
    (0.8, 0.1, 0.2, 0.4, 1.0), 'delta; first the base (our list).'
  )
  epsilon: tuple[float, ...] = option(
    (0.01, 0.02, 0.05, 0.1, 0.2),
    'Test errors to be reached; first the one that counts where another '
    'variable varies (our list).',
  )
  num_seeds: int = option(10, 'Runs of every setting.')
  seed: int = option(0, 'The first seed; run s is the same whatever this is.')
  num_steps: int = option(
    128,
    'SGD steps of a run, B fresh samples each; in proportion to k l / delta^2 '
    'where that is larger than at the base.',
  )
  batch_size: int = option(16, 'B, examples (Section 7: 16).')
  lr_times_width: float = option(
    10.0, 'eta m, step size times width (Section 7: 10).'
  )
  num_test: int = option(500, 'Test examples.')
  mesh: str = option(
    'auto',
    'Devices: seed:2,unit:4 splits seeds over 2 and the hidden units of each '
    'over 4. auto: as many as divide both. Numbers agree to rounding.',
  )


PRESETS = {
  'quick': {
    'widths': (500, 32, 2000),
    'dim': (100, 1000),
    'num_classes': (5, 2, 10),
    'num_components': (2, 4),
    'separation': (0.8, 0.4),
    'num_seeds': 3,
  }
}


def run(
  config: Config, progress: sweeps.Progress = lambda fraction, label: None
) -> xr.Dataset:
  """Steps to every epsilon as each variable varies: `steps_NAME`.

  Raises:
    ValueError: a setting is out of range, or no such data exist.
  """
  import xarray as xr

  for name in (*_MIXTURE, 'epsilon'):
    values = getattr(config, name)
    if not values or len(set(values)) < len(values):
      raise ValueError(f'{name} is {values}; expected different numbers')
  if not all(0 < e < 1 for e in config.epsilon):
    raise ValueError(f'epsilon is {config.epsilon}; expected 0 to 1')
  # All are made before any training: a delta without room is refused at once.
  jobs = [('width', _spec(config), config.widths)]
  jobs += [
    (name, _spec(config, **{name: value}), config.widths[:1])
    for name in _MIXTURE
    for value in getattr(config, name)[1:]
  ]
  parts = watching.watch(progress).parts(
    (f'{name} {getattr(spec, name, "")}', len(widths))
    for name, spec, widths in jobs
  )
  found: dict[str, list[xr.Dataset]] = {name: [] for name in exponents.VARIED}
  for (name, spec, widths), part in zip(jobs, parts, strict=True):
    found[name].append(_steps(config, spec, widths, part))
  (base,) = found['width']
  varied = {'width': base, 'epsilon': base.isel(width=0, drop=True)}
  for name in _MIXTURE:
    at_base = [part.isel(width=0, drop=True) for part in [base, *found[name]]]
    values = xr.Variable(name, list(getattr(config, name)))
    varied[name] = xr.concat(at_base, values)
  return xr.Dataset(
    {
      f'{kind}_{name}': ds[kind]
      for name, ds in varied.items()
      for kind in ('steps', 'least')
    },
    attrs={'batch_size': config.batch_size, 'width': config.widths[0]},
  )


def _spec(config: Config, **changed: Any) -> Bounded:
  """The data of the base point with one number changed."""
  numbers = {name: getattr(config, name)[0] for name in _MIXTURE} | changed
  ratio = 1 / (8 * max(1, numbers['num_components']))  # 0 is refused below
  return mixtures.bounded(**numbers, ratio=ratio)


def _steps(
  config: Config,
  spec: Bounded,
  widths: tuple[int, ...],
  progress: sweeps.Progress,
) -> xr.Dataset:
  """Steps to each epsilon in one pass: (width, seed, epsilon), NaN if never.

  `steps` are those of the first record that is good enough, `least` what they
  can have been at least, after the record before.
  """
  import xarray as xr

  base = _spec(config)
  harder = (spec.num_classes * spec.num_components / spec.separation**2) / (
    base.num_classes * base.num_components / base.separation**2
  )
  num_steps = math.ceil(config.num_steps * max(1, harder))
  results = sweeps.sweep(
    spec,
    widths=widths,
    num_seeds=config.num_seeds,
    seed=config.seed,
    num_steps=num_steps,
    batch_size=config.batch_size,
    lr_times_width=config.lr_times_width,
    order='one_pass',
    num_train=config.batch_size * num_steps,
    num_test=config.num_test,
    num_train_eval=config.batch_size,
    mesh=config.mesh,
    progress=progress,
  )
  epsilon = xr.Variable('epsilon', list(config.epsilon))
  # Half an example more, or the rounding of 1 - epsilon decides at equality.
  good = results.test_accuracy >= 1 - epsilon - 0.5 / config.num_test
  steps = training.at_first(good, results.step).assign_coords(epsilon=epsilon)
  least, _ = paper_claims.step_cells(steps, results.step.values)
  return xr.Dataset({'steps': steps, 'least': least})


def _claims(results: xr.Dataset) -> list[Claim]:
  """What Section 4 and the proof say of T, made measurable."""

  def claim(name, symbol, exponent):
    values = exponents.fitted(results, name)[1][name].values
    error = 'epsilon' if name == 'epsilon' else f'{results.epsilon.values[0]:g}'
    words = f'the steps do not depend on {symbol}'
    most = FLAT
    if exponent:  # which no steps that can be run would leave
      words, most = f'how the steps grow with {symbol}', INF
    return Claim(
      'Theorem 4.1',
      words,
      f'slope of log steps to error {error} in log {symbol}, {symbol} = '
      f'{values.min():g} to {values.max():g}',
      lambda ds: statistics.cell_slopes(*exponents.fitted(ds, name), name),
      low=-most,
      high=most,
      beside=f'proof: {exponent}' if exponent else '',
    )

  return [claim(name, *varied) for name, varied in exponents.VARIED.items()]


def _figure(results: xr.Dataset, name: str) -> Figure:
  """Steps to every error against one variable, log-log."""
  steps = results[f'steps_{name}']
  curves = {'': steps}
  if name != 'epsilon':
    curves = {
      f'error {one.epsilon:g}': one for one in steps.transpose('epsilon', ...)
    }
  fig = panels.panels_figure(
    {'Steps to the test error\n(SGD updates)': curves},
    name,
    exponents.VARIED[name][0],
    'log',
  )
  (ax,) = fig.axes
  ax.set_yscale('log')
  values = steps[name].values
  ax.set_xticks(values, [f'{v:g}' for v in values], rotation=45)
  ax.xaxis.minorticks_off()
  fig.set_size_inches(5, 4.2)
  return drawing.explain_empty(fig, results)


EXPERIMENT = command.Experiment(
  'theorem',
  Config,
  PRESETS,
  run,
  figures=lambda ds: {
    f'theorem_{name}': _figure(ds, name) for name in exponents.VARIED
  },
  table=exponents.table,
  claims=_claims,
)


main = EXPERIMENT.main

if __name__ == '__main__':
  main()
