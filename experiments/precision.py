"""Beyond the paper: what matmuls of less than float32 do to Section 7.

Accelerators multiply float32 matrices faster with rounded operands: GPUs have
TF32, 11 bits of significand, and TPUs bfloat16, 8 bits. Both are emulated: the
operands of all matmuls, forward and backward, are rounded to nearest even,
while sums, weights and all else stay float32. Each is trained beside float32,
from the same w(0) on the same batches.

A pre-activation next to zero may round to the other side, which looks like a
pattern that changed. So every network is measured exactly and in its own
arithmetic, and what rounding alone flips is counted, at w(0) already.

  python -m experiments.precision --preset=quick --out=/tmp/quick
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np
import optax

from ossgd.engines import measuring, sgd
from ossgd.paper import metrics, network
from ossgd.paper.types import Params, Split
from ossgd.results import drawing, panels, statistics, tables
from ossgd.results.claims import Claim
from ossgd.results.statistics import Every
from ossgd.running import sweeps

from .common import command, section7, seeds
from .common.lemmas import precisions
from .common.section7 import Config

if TYPE_CHECKING:
  import xarray as xr
  from matplotlib.figure import Figure

_ALL = tuple(precisions.STORED_BITS)
_LOWER = _ALL[1:]
_EVALUATIONS = ('exact', 'rounded')
_DIMS = ('precision', 'step', 'evaluation')
_ONCE = ('relative_distance', 'rounding_flips')  # not of each evaluation
_NUM_RECORDS = 8  # at most and after step 0, evenly spaced in log t

PRESETS = {'quick': {'widths': (500, 1000, 2000), 'num_seeds': 3}}


def run(
  config: Config, progress: sweeps.Progress = lambda fraction, label: None
) -> xr.Dataset:
  """Trains in every precision: (precision, width, seed, step[, evaluation]).

  Raises:
    ValueError: a setting is out of range.
  """
  mesh = section7.devices(config)
  steps = section7.recorded(config, _NUM_RECORDS)
  trained = [
    jax.jit(functools.partial(_train, config, bits, steps))
    for bits in precisions.STORED_BITS.values()
  ]

  def measure(*start):
    found = (one(*start) for one in trained)
    return jax.tree.map(lambda *v: jnp.stack(v), *found)

  results = seeds.over_widths(
    config,
    section7.with_data(config, measure, mesh),
    progress,
    dims=lambda name: _DIMS[:2] if name in _ONCE else _DIMS,
    mesh=mesh,
  )
  results = results.sortby('width').transpose('precision', ...)
  return tables.with_accuracies(results, config.num_test).assign_coords(
    precision=list(_ALL), step=steps, evaluation=list(_EVALUATIONS)
  )


def _train(
  config: Config,
  bits: int,
  steps: np.ndarray,
  seed: jax.Array,
  split: Split,
  start: Params,
) -> dict[str, jax.Array]:
  """One run in one precision, measured at the recorded steps."""
  method = sgd.Method(
    optax.sgd(config.lr_times_width / start.w.shape[0]),
    config.batch_size,
    'epochs',
    functools.partial(precisions.rounded_gradient, bits=bits),
  )
  both = (precisions.STORED_BITS['float32'], bits)  # exact and rounded
  begun = [precisions.forward(start, split.test.x, some)[0] for some in both]

  def observe(params):
    (exact, p), (own, own_p) = (
      _evaluate(params, split, p0, some)
      for p0, some in zip(begun, both, strict=True)
    )
    return jax.tree.map(lambda *v: jnp.stack(v), exact, own) | {
      'relative_distance': metrics.relative_distance(params.w, start.w),
      'rounding_flips': metrics.pattern_difference(own_p, p),
    }

  return sgd.train(
    measuring.seed_keys(seed).order,
    start,
    split.train,
    record_steps=jnp.asarray(steps),
    method=method,
    observe=observe,
  )[1]


def _evaluate(
  params: Params, split: Split, p0: jax.Array, bits: int
) -> tuple[dict[str, jax.Array], jax.Array]:
  """What Section 7 measures, in one arithmetic from w(0) on; the pattern."""
  p, f = precisions.forward(params, split.test.x, bits)
  f_train = precisions.forward(params, split.train.x, bits)[1]
  return {
    'test_correct': metrics.num_correct(f, split.test.y),
    'pattern_difference': metrics.pattern_difference(p, p0),
    'train_loss': network.loss(f_train, split.train.y),
  }, p


def _excess(values: xr.DataArray) -> xr.DataArray:
  """Of every precision over float32: their ratio, less one."""
  return values / values.sel(precision='float32') - 1


def _inflation(results: xr.Dataset) -> xr.DataArray:
  """Excess of pattern differences, each in its own arithmetic; step > 0."""
  reported = results.pattern_difference.sel(evaluation='rounded')
  return _excess(reported.isel(step=reported.step.values > 0))


def _learnt(results: xr.Dataset) -> xr.DataArray:
  """Mean test accuracy over steps, that of float32 subtracted."""
  own = results.test_accuracy.sel(evaluation='rounded')
  mean = statistics.mean_over_steps(own)
  return mean - mean.sel(precision='float32')


def _flips(results: xr.Dataset) -> xr.DataArray:
  """Patterns at w(0) that rounding flips, over those that training changes."""
  last = results.pattern_difference.sel(evaluation='exact').isel(step=-1)
  return results.rounding_flips.isel(step=0) / last


def _claims(results: xr.Dataset) -> list[Claim]:
  """What one would hope of a precision that is faster."""
  m = results.width.values
  ends = f'm = {m.min()} to {m.max()}'
  return [claim for name in _LOWER for claim in _claims_of(name, ends)]


def _claims_of(precision: str, ends: str) -> list[Claim]:
  """Of one precision at all widths."""
  ratio = 'pattern difference / that of float32'

  def largest(values):
    return abs(values.sel(precision=precision)).max('width', skipna=False)

  claim = functools.partial(Claim, 'beyond the paper')
  return [
    claim(
      f'{precision} learns as float32 does',
      f'|mean test accuracy over steps - that of float32|, most over {ends}',
      lambda ds: largest(_learnt(ds)),
      high=0.005,
    ),
    claim(
      f'{precision} ends as far from w(0) as float32 does',
      f'|relative distance / that of float32 - 1| at T, most over {ends}',
      lambda ds: largest(_excess(ds.relative_distance.isel(step=-1))),
      high=0.01,
    ),
    claim(
      f'{precision} ends with the pattern difference of float32',
      f'|{ratio} - 1| at T, most over {ends}',
      lambda ds: largest(_inflation(ds).isel(step=-1)),
      high=0.01,
    ),
    claim(
      f'{precision} never inflates the pattern difference by a tenth',
      f'|{ratio} - 1|, most over steps and {ends}',
      lambda ds: Every(largest(_inflation(ds)).max('step', skipna=False)),
      high=0.1,
    ),
    claim(
      f'{precision} flips fewer than one pattern in a thousand at w(0)',
      f'patterns at w(0) that rounding flips, most over {ends}',
      lambda ds: largest(ds.rounding_flips.isel(step=0)),
      high=0.001,
    ),
    claim(
      f'{precision} matters more for wider networks, whose patterns change '
      'less',
      f'slope of log (flips at w(0) / pattern difference) in log m, {ends}',
      lambda ds: statistics.log_slope(_flips(ds).sel(precision=precision)),
      low=0.0,
    ),
  ]


def _table(results: xr.Dataset) -> str:
  """A row a precision and width, after the last step if nothing is said."""
  last = results.isel(step=-1)
  columns = {
    f'{name.replace("_", " ")}, {evaluation}': last[name].sel(
      evaluation=evaluation
    )
    for name in ('test_accuracy', 'pattern_difference', 'train_loss')
    for evaluation in _EVALUATIONS
  }
  early = _inflation(results).isel(step=0)
  columns |= {
    'relative distance': last.relative_distance,
    'patterns flipped by rounding at w(0)': results.rounding_flips.isel(step=0),
    'at w(T)': last.rounding_flips,
    f'inflation of the pattern difference at step {early.step.item()}': early,
  }
  return tables.means_table(columns, precision='matmuls', width='m')


def _figures(results: xr.Dataset) -> dict[str, Figure]:
  """Against the step at the widest, and against width."""
  m = results.width.values
  widest = results.sel(width=m.max())
  learnt = widest.test_accuracy.sel(evaluation='rounded')
  ratio = 'Pattern difference\n(ratio to that of float32)'
  early = _inflation(results).isel(step=0) + 1

  def curves(values, names=_LOWER):
    return {name: values.sel(precision=name) for name in names}

  by_step = panels.panels_figure(
    {
      'Test accuracy\n(fraction of examples)': curves(learnt, _ALL),
      ratio: curves(_inflation(widest) + 1),
    },
    'step',
    'Step $t$ (SGD updates)',
    'symlog',
  )
  by_step.suptitle(f'$m$ = {m.max()}', size='medium')
  by_width = panels.panels_figure(
    {
      'Patterns at $w(0)$ flipped by rounding\n(fraction of pairs)': curves(
        results.rounding_flips.isel(step=0)
      ),
      f'{ratio}, $t$ = {early.step.item()}': curves(early),
    },
    'width',
    'Hidden units $m$',
    'log',
  )
  by_width.axes[0].set_ylim(bottom=0)
  for ax in by_width.axes:
    panels.mark(ax, m)
  return {
    'precision_steps': drawing.explain_empty(by_step, results),
    'precision_widths': drawing.explain_empty(by_width, results),
  }


EXPERIMENT = command.Experiment(
  'precision', Config, PRESETS, run, _figures, _table, _claims
)
main = EXPERIMENT.main

if __name__ == '__main__':
  main()
