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

import dataclasses
import functools
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np
import optax

from ossgd.engines import measuring, sgd
from ossgd.paper import gradients, metrics, network
from ossgd.paper.types import Params, Split, matmul
from ossgd.results import drawing, panels, statistics, tables
from ossgd.results.claims import INF, Claim
from ossgd.results.statistics import Every
from ossgd.running import sweeps

from .common import command, section7, seeds

if TYPE_CHECKING:
  import xarray as xr
  from matplotlib.figure import Figure

# Bits of the significand that are stored; the leading one is not.
STORED_BITS = {'float32': 23, 'tensorfloat32': 10, 'bfloat16': 7}
_LOWER = ('tensorfloat32', 'bfloat16')
_EVALUATIONS = ('exact', 'rounded')
_NUM_RECORDS = 8  # at most and after step 0, evenly spaced in log t


@dataclasses.dataclass(frozen=True)
class Config(section7.Config):
  """Section 7's synthetic set-up, in three precisions."""


PRESETS = {'quick': {'widths': (500, 1000, 2000), 'num_seeds': 3}}


def run(
  config: Config, progress: sweeps.Progress = lambda fraction, label: None
) -> xr.Dataset:
  """Trains every width and seed in every precision.

  Returns:
    Dims precision, width, seed and step; evaluation where it matters.

  Raises:
    ValueError: a setting is out of range.
  """
  mesh = section7.devices(config)
  steps = section7.recorded(config, _NUM_RECORDS)
  trained = [
    jax.jit(functools.partial(_train, config, bits, steps))
    for bits in STORED_BITS.values()
  ]

  def measure(*start):
    found = (one(*start) for one in trained)
    return jax.tree.map(lambda *v: jnp.stack(v), *found)

  results = seeds.over_widths(
    config,
    section7.with_data(config, measure, mesh),
    progress,
    dims=_dims,
    mesh=mesh,
  )
  results = results.sortby('width').transpose('precision', ...)
  return tables.with_accuracies(results, config.num_test).assign_coords(
    precision=list(STORED_BITS), step=steps, evaluation=list(_EVALUATIONS)
  )


def _dims(name: str) -> tuple[str, ...]:
  """Of what is measured of a seed."""
  once = name in ('relative_distance', 'rounding_flips')
  return ('precision', 'step') if once else ('precision', 'step', 'evaluation')


def rounded_matmul(a: jax.Array, b: jax.Array, bits: int) -> jax.Array:
  """a @ b of operands rounded to nearest even, summed in float32.

  Args:
    a: (p, q).
    b: (q, r).
    bits: of the significand, stored; the eight of the exponent stay.

  Returns:
    (p, r).
  """
  a, b = (jax.lax.reduce_precision(v, 8, bits) for v in (a, b))
  return matmul(a, b)


def forward(
  params: Params, x: jax.Array, bits: int
) -> tuple[jax.Array, jax.Array]:
  """Pattern (n, m) and logits (n, k), by rounded matmuls."""
  h = rounded_matmul(x, params.w.T, bits)
  p = h >= 0
  return p, rounded_matmul(jnp.where(p, h, 0.0), params.a.T, bits)


def rounded_gradient(
  params: Params, w0: jax.Array, x: jax.Array, y: jax.Array, *, bits: int
) -> jax.Array:
  """Eq. (1) averaged over a batch, by rounded matmuls: (m, d)."""
  del w0
  p, f = forward(params, x, bits)
  slopes = gradients.residual(f, y) / len(y)
  backward = rounded_matmul(slopes, params.a, bits)
  return rounded_matmul(jnp.where(p, backward, 0.0).T, x, bits)


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
    functools.partial(rounded_gradient, bits=bits),
  )
  both = (STORED_BITS['float32'], bits)  # exact and rounded
  begun = [forward(start, split.test.x, some)[0] for some in both]

  def observe(params):
    (exact, p), (rounded, rounded_p) = (
      _evaluate(params, split, p0, some)
      for p0, some in zip(begun, both, strict=True)
    )
    return jax.tree.map(lambda *v: jnp.stack(v), exact, rounded) | {
      'relative_distance': metrics.relative_distance(params.w, start.w),
      'rounding_flips': metrics.pattern_difference(rounded_p, p),
    }

  order = measuring.seed_keys(seed).order
  return sgd.train(
    order,
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
  test = split.test
  p, f = forward(params, test.x, bits)
  f_train = forward(params, split.train.x, bits)[1]
  return {
    'test_correct': metrics.num_correct(f, test.y),
    'pattern_difference': metrics.pattern_difference(p, p0),
    'train_loss': network.loss(f_train, split.train.y),
  }, p


def inflation(results: xr.Dataset) -> xr.DataArray:
  """Pattern difference in its own arithmetic / float32's, less one; step > 0.

  Args:
    results: of `run`.

  Returns:
    Dims precision, width, seed and step.
  """
  reported = results.pattern_difference.sel(evaluation='rounded')
  reported = reported.where(reported.step > 0, drop=True)
  return reported / reported.sel(precision='float32') - 1


def _claims(results: xr.Dataset) -> list[Claim]:
  """What one would hope of a precision that is faster."""
  widths = results.width.values
  ends = f'm = {widths.min()} to {widths.max()}'

  def most(values, *dims):
    return abs(values).max(['width', *dims], skipna=False)

  def accuracy(ds):
    own = ds.test_accuracy.sel(evaluation='rounded')
    mean = statistics.mean_over_steps(own)
    return most(mean - mean.sel(precision='float32'))

  def distance(ds):
    last = ds.relative_distance.isel(step=-1)
    return most(last / last.sel(precision='float32') - 1)

  def flips(ds):
    return ds.rounding_flips.isel(step=0)

  def share(ds, precision):
    last = ds.pattern_difference.isel(step=-1).sel(evaluation='exact')
    return statistics.log_slope((flips(ds) / last).sel(precision=precision))

  def at(measure):
    return lambda ds, precision: measure(ds).sel(precision=precision)

  ratio = 'pattern difference / that of float32'
  quantities = (
    (
      'learns as float32 does',
      f'|mean test accuracy over steps - that of float32|, most over {ends}',
      -INF,
      0.005,
      at(accuracy),
    ),
    (
      'ends as far from w(0) as float32 does',
      f'|relative distance / that of float32 - 1| at T, most over {ends}',
      -INF,
      0.01,
      at(distance),
    ),
    (
      'ends with the pattern difference of float32',
      f'|{ratio} - 1| at T, most over {ends}',
      -INF,
      0.01,
      at(lambda ds: most(inflation(ds).isel(step=-1))),
    ),
    (
      'never inflates the pattern difference by a tenth',
      f'|{ratio} - 1|, most over steps and {ends}',
      -INF,
      0.1,
      lambda ds, precision: Every(
        at(lambda ds: most(inflation(ds), 'step'))(ds, precision)
      ),
    ),
    (
      'flips fewer than one pattern in a thousand at w(0)',
      f'patterns at w(0) that rounding flips, most over {ends}',
      -INF,
      0.001,
      at(lambda ds: most(flips(ds))),
    ),
    (
      'matters more for wider networks, whose patterns change less',
      f'slope of log (flips at w(0) / pattern difference) in log m, {ends}',
      0.0,
      INF,
      share,
    ),
  )
  return [
    Claim(
      'beyond the paper',
      f'{precision} {words}',
      quantity,
      low,
      high,
      functools.partial(measure, precision=precision),
    )
    for precision in _LOWER
    for words, quantity, low, high, measure in quantities
  ]


def _table(results: xr.Dataset) -> str:
  """A row a precision and width, after the last step if nothing is said."""
  last = results.isel(step=-1)
  columns = {
    f'{name}, {evaluation}': last[variable].sel(evaluation=evaluation)
    for name, variable in (
      ('test accuracy', 'test_accuracy'),
      ('pattern difference', 'pattern_difference'),
      ('train loss', 'train_loss'),
    )
    for evaluation in _EVALUATIONS
  }
  early = inflation(results).isel(step=0)
  columns |= {
    'relative distance': last.relative_distance,
    'patterns flipped by rounding at w(0)': results.rounding_flips.isel(step=0),
    'at w(T)': last.rounding_flips,
    f'inflation of the pattern difference at step {early.step.item()}': early,
  }
  return tables.means_table(columns, precision='matmuls', width='m')


def _figures(results: xr.Dataset) -> dict[str, Figure]:
  """Against the step at the widest, and against width."""
  accuracy = 'Test accuracy\n(fraction of examples)'
  ratio = 'Pattern difference\n(ratio to that of float32)'
  flips = 'Patterns at $w(0)$ flipped by rounding\n(fraction of pairs)'
  inflated = inflation(results) + 1
  first = inflated.step[0].item()
  learnt = results.test_accuracy.sel(evaluation='rounded')
  widest = {'width': results.width.max()}

  def curves(values, names=_LOWER):
    return {name: values.sel(precision=name) for name in names}

  by_step = panels.panels_figure(
    {
      accuracy: curves(learnt.sel(widest), STORED_BITS),
      ratio: curves(inflated.sel(widest)),
    },
    'step',
    'Step $t$ (SGD updates)',
    'symlog',
  )
  by_step.suptitle(f'$m$ = {widest["width"].item()}', size='medium')
  by_width = panels.panels_figure(
    {
      flips: curves(results.rounding_flips.isel(step=0)),
      f'{ratio}, $t$ = {first}': curves(inflated.isel(step=0)),
    },
    'width',
    'Hidden units $m$',
    'log',
  )
  by_width.axes[0].set_ylim(bottom=0)
  for ax in by_width.axes:
    panels.mark(ax, results.width.values)
  return {
    name: drawing.explain_empty(fig, results)
    for name, fig in (
      ('precision_steps', by_step),
      ('precision_widths', by_width),
    )
  }


EXPERIMENT = command.Experiment(
  'precision', Config, PRESETS, run, _figures, _table, _claims
)


main = EXPERIMENT.main

if __name__ == '__main__':
  main()
