"""Section 5.1: the network f and the pseudo-network g, trained side by side.

"Coupling the gradients is then similar to coupling the networks f and g":
from one initialisation and on the same batches, f follows its gradient and

  g_i(x, w) = sum_r a_{i,r} <w_r, x> 1[<w_r(0), x> >= 0]

follows its own, which makes g a linear model. The gap between the two is
measured on the test set, and how it closes with width.

A gap of outputs is |f_i - g_i| beside |f_i - f_i(0)|, each averaged over test
examples and classes, or the largest of each. A gap of weights is
||w_f - w_g||_F / ||w_f - w(0)||_F. Lemma 5.1 lets a share of units of order
1 / sqrt(m) uncouple in a given number of steps; of f and g it says no rate, so
that 1 / sqrt(m) is our reading: units whose pattern turns on and units whose
pattern turns off may cancel each other in the gap.

  python -m experiments.processes --preset=quick --out=/tmp/quick
"""

from __future__ import annotations

import dataclasses
import functools
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np
import optax

from ossgd.engines import measuring, sgd
from ossgd.paper import metrics, network
from ossgd.paper.types import Dataset, Params, Split
from ossgd.results import drawing, panels, paper_claims, statistics, tables
from ossgd.results.claims import Claim, about
from ossgd.running import sweeps

from .common import command, section7, seeds
from .common.lemmas.evidence import most
from .common.options import option

if TYPE_CHECKING:
  import xarray as xr
  from matplotlib.figure import Figure

_GRADIENTS = {'f': sgd.true_gradient, 'g': sgd.pseudo_network_gradient}
_NUM_RECORDS = 20  # at most and after step 0, evenly spaced in log t
_GAPS = {
  'output_gap': 'mean gap of outputs',
  'largest_output_gap': 'largest gap of outputs',
  'weight_gap': 'gap of weights',
}


@dataclasses.dataclass(frozen=True)
class Config(section7.Config):
  """Section 7's set-up, for two processes."""

  widths: tuple[int, ...] = option(
    (250, 500, 1000, 2000, 4000, 8000), 'm, hidden units (our list).'
  )


PRESETS = {'quick': {'widths': (250, 1000), 'num_seeds': 3}}


def run(
  config: Config, progress: sweeps.Progress = lambda fraction, label: None
) -> xr.Dataset:
  """Trains f and g from every start, measuring the gap: (width, seed, step).

  Raises:
    ValueError: a setting is out of range.
  """
  mesh = section7.devices(config)
  steps = section7.recorded(config, _NUM_RECORDS)
  measure = jax.jit(functools.partial(_train, config, steps))
  results = seeds.over_widths(
    config,
    section7.with_data(config, measure, mesh),
    progress,
    dims=lambda name: ('step',),
    mesh=mesh,
  ).assign_coords(step=steps)
  # Before the first step nothing has gone anywhere: no ratio to that.
  begun = results[list(_GAPS)].where(results.step > 0)
  return tables.with_accuracies(results.assign(begun), config.num_test)


def _train(
  config: Config,
  steps: np.ndarray,
  seed: jax.Array,
  split: Split,
  start: Params,
) -> dict[str, jax.Array]:
  """Both processes of one seed, as they are at the recorded steps."""
  order = measuring.seed_keys(seed).order
  optimizer = optax.sgd(config.lr_times_width / start.w.shape[0])
  methods = {
    name: sgd.Method(optimizer, config.batch_size, 'epochs', gradient_fn)
    for name, gradient_fn in _GRADIENTS.items()
  }

  def interval(states, ends):
    states = {
      name: sgd.advance(
        order, states[name], start, split.train, *ends, method=method
      )
      for name, method in methods.items()
    }
    return states, _measure(start, states['f'].w, states['g'].w, split.test)

  begun = sgd.initial_state(order, start.w, config.num_train, methods['f'])
  begins = np.concatenate([steps[:1], steps[:-1]])
  states = dict.fromkeys(methods, begun)
  return jax.lax.scan(interval, states, (begins, steps))[1]


def _measure(
  start: Params, w_f: jax.Array, w_g: jax.Array, test: Dataset
) -> dict[str, jax.Array]:
  """How far apart f and g are, beside how far f went: scalars."""
  h0 = network.preactivations(start.w, test.x)
  p0 = h0 >= 0
  f0 = network.gated_logits(start.a, h0, p0)
  h = network.preactivations(w_f, test.x)
  f = network.gated_logits(start.a, h, h >= 0)
  g = network.pseudo_logits(Params(w_g, start.a), p0, test.x)
  gap, change = jnp.abs(f - g), jnp.abs(f - f0)

  def over(gap, change):  # 0 / 0 at the start is for the host to mark
    return gap / jnp.where(change == 0, 1, change)

  return {
    'output_gap': over(jnp.mean(gap), jnp.mean(change)),
    'largest_output_gap': over(jnp.max(gap), jnp.max(change)),
    'weight_gap': over(
      jnp.linalg.norm(w_f - w_g), jnp.linalg.norm(w_f - start.w)
    ),
    'gap_to_size': jnp.max(gap) / jnp.max(jnp.abs(f)),
    'pattern_difference': metrics.pattern_difference(h >= 0, p0),
    'correct_f': metrics.num_correct(f, test.y),
    'correct_g': metrics.num_correct(g, test.y),
    'loss_f': network.loss(f, test.y),
    'loss_g': network.loss(g, test.y),
  }


def _claims(results: xr.Dataset) -> list[Claim]:
  """What Section 5.1 says of f and g, made measurable."""
  m, last = results.width.values, results.step.values[-1]
  reading = 'as 1/sqrt(m), our reading of Lemma 5.1'
  claim = functools.partial(Claim, 'Section 5.1')

  def slope(name, words, **ends):
    return claim(
      words,
      f'slope of log {_GAPS[name]} in log m, step {last}, m from {m.min()} to '
      f'{m.max()}',
      lambda ds: statistics.log_slope(ds[name].isel(step=-1)),
      **ends,
    )

  def learns(name, words):
    return claim(
      words,
      'final test accuracy, at every width',
      lambda ds: paper_claims.right(ds, ds[f'accuracy_{name}'].isel(step=-1)),
      low=0.99,
    )

  found = [
    claim(
      'f and g are one function at the initialisation',
      'largest |f - g| / largest |f| at step 0, largest over widths',
      lambda ds: most(ds.gap_to_size.isel(step=0), 'width'),
      high=1e-5,
    ),
    slope('output_gap', 'outputs of f and g couple with width', high=0.0),
    slope('weight_gap', 'weights of f and g couple with width', high=0.0),
    slope('output_gap', f'outputs couple {reading}', low=-0.6, high=-0.4),
    slope('weight_gap', f'weights couple {reading}', low=-0.6, high=-0.4),
    learns('f', 'f learns'),
    learns('g', 'and so does g'),
  ]
  return about(paper_claims.FIGURE_1, found)


def _table(results: xr.Dataset) -> str:
  """A row a width after the last step, and the slopes of the gaps."""
  last = results.isel(step=-1)
  gaps = {text: last[name] for name, text in _GAPS.items()}
  patterns = {'pattern difference of f': last.pattern_difference}
  accuracies_and_losses = {
    'accuracy of f': last.accuracy_f,
    'accuracy f - g': last.accuracy_f - last.accuracy_g,
    'loss of f': last.loss_f,
    'loss of g': last.loss_g,
  }
  header = ('log of', 'slope in log m, 95 % interval and range')
  return (
    tables.means_table(gaps | accuracies_and_losses | patterns, width='m')
    + '\n'
    + tables.slopes_table(header, gaps | patterns)
  )


def _figure(results: xr.Dataset, by: str, label: str) -> Figure:
  """The gaps, log-log: of each width, or at the last step."""

  def curves(values):
    if by == 'width':
      return {'': values.isel(step=-1)}
    return {f'm = {m}': values.sel(width=m) for m in np.sort(values.width)}

  later = results.sel(step=slice(1, None))  # both gap and change begin at 0
  fig = panels.panels_figure(
    {
      f'{text.capitalize()}\n(ratio to the change of f)': curves(later[name])
      for name, text in _GAPS.items()
    },
    by,
    label,
    'log',
  )
  for ax in fig.axes:
    ax.set_yscale('log')
    if by == 'width':
      panels.mark(ax, results.width.values, rotation=45)
  return drawing.explain_empty(fig, results)


EXPERIMENT = command.Experiment(
  'processes',
  Config,
  PRESETS,
  run,
  figures=lambda ds: {
    'processes_width': _figure(ds, 'width', 'Hidden units $m$'),
    'processes_steps': _figure(ds, 'step', 'Step $t$ (SGD updates)'),
  },
  table=_table,
  claims=_claims,
)
main = EXPERIMENT.main

if __name__ == '__main__':
  main()
