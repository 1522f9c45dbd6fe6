"""Widths by a loop, seeds side by side: from data to a labelled Dataset.

Its dims are width, seed, step and rank, with their real values as coordinates;
its variables are those of `recorders.STANDARD` and what follows from them:

test_accuracy, train_accuracy (width, seed, step)
  Fraction with f_y > f_j for all j != y.
test_loss, train_loss (width, seed, step)
  Mean cross entropy, nats; with another model its loss.
pattern_difference (width, seed, step)
  Fraction of (unit, test example) pairs whose pattern is not the initial one;
  not there with an activation that is not piecewise linear.
relative_distance (width, seed, step)
  ||w(t) - w(0)||_F / ||w(0)||_F.
singular_values_update, singular_values_weights (width, seed, rank)
  Of w(T) - w(0) and of w(T), descending; NaN beyond min(m, d).
steps_to_accuracy, distance_at_accuracy (width, seed)
  First recorded step at the accuracy in the attribute `target`, and the
  distance there; NaN if never.
diverged_at (width, seed)
  First recorded step where a loss or a weight is not finite, from which on all
  is NaN; NaN if never.

Each of `recorders` is one more: width, seed, step, NAME_0, NAME_1, ...

Where they are asked for, with dims of their own:

stopped_at: the step where a `callback` stopped a run, which has no numbers from
there on; NaN where it did not (width, seed).
initial_weights_M, final_weights_M, output_weights_M: w(0), w(T) and a of width
M, with `keep='weights'` (seed, unit_M, input) and (seed, class, unit_M).

The coordinate `engine` says how each width was trained, the attribute `mesh` on
which devices.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Literal

import jax
import optax
from jax.sharding import Mesh

from ossgd.engines import measuring, meshes, optimizers, orders, sgd
from ossgd.engines.setup import Setup
from ossgd.paper.model import PAPER, Model
from ossgd.paper.types import Split
from ossgd.recording.recorders import Recorder
from ossgd.running import (
  asking,
  blocks,
  compiled,
  datasets,
  execution,
  labels,
  watching,
)

if TYPE_CHECKING:
  import xarray as xr

# (fraction of the whole sweep that is done, the job at work)
Progress = Callable[[float, str], None]


def sweep(
  data: datasets.Given,
  *,
  widths: Sequence[int],
  num_seeds: int = 5,
  seed: int = 0,
  num_steps: int = 400,
  batch_size: int = 16,
  lr_times_width: float = 10.0,
  init_scale: float = 1.0,
  eval_every: int = 1,
  eval_growth: float = 0.05,
  order: orders.Order = 'epochs',
  optimizer: optimizers.Optimizer = optax.sgd,
  gradient_fn: sgd.GradientFn = sgd.true_gradient,
  target: float = 0.98,
  num_train: int = 1000,
  num_test: int = 1000,
  num_train_eval: int | None = None,
  seeds_at_once: int | None = None,
  transform: Callable[[jax.Array, Split], Split] | None = None,
  extra: measuring.Extra | None = None,
  engine: str = 'auto',
  mesh: str | Mesh = 'auto',
  progress: Progress = lambda fraction, label: None,
  model: Model = PAPER,
  output_lr_times_width: float | None = None,
  recorders: tuple[Recorder, ...] = (),
  callback: labels.Callback | None = None,
  keep: Literal['weights'] | None = None,
) -> xr.Dataset:
  """Trains every width with every seed, measuring as it goes (Section 7).

  The run of seed s has master key `jax.random.key(s)`: asked for alone, it
  gives the same numbers. All widths see the same data in the same order;
  their initialisations are independent.

  Args:
    data: a mixture spec, or a function key -> Split that JAX can trace, both
      fresh for every seed, where the function's data of seed 0 say how many
      classes there are; or a Split, whose inputs are used as they are; or
      arrays of any library, scaled to unit norm: (x_train, y_train, x_test,
      y_test), ((x_train, y_train), (x_test, y_test)) or two Bunches. Labels of
      a Split and of arrays are read as `arrays.to_split` reads them.
    widths: the values of m, all different.
    num_seeds: runs per width.
    seed: the first seed.
    num_steps: T.
    batch_size: B; not used with order 'full_batch'.
    lr_times_width: eta m; the optimizer is given eta = lr_times_width / m.
    init_scale: multiplies 1 / sqrt(m), the initial standard deviation.
    eval_every: steps between measurements, at least; step 0 and the last are
      always measured.
    eval_growth: gaps double while they stay below this fraction of the step,
      so that few measurements resolve early steps and late ones alike; 0 for
      even gaps.
    order: 'epochs' reshuffled (Section 7), 'one_pass' (Section 3) or
      'full_batch' (the simplified case).
    optimizer: from step size to transformation, such as `optax.sgd` or
      `functools.partial(optax.sgd, momentum=0.9)`. One that asks for `value`,
      `grad` and `value_fn`, such as `optax.lbfgs`, is given the batch's loss,
      of what is trained. Random keys in its state become each seed's own, and
      `optax.contrib.schedule_free` is measured where it is to be judged.
    gradient_fn: `sgd.true_gradient`, `sgd.pseudo_gradient` or the like. With
      `sgd.pseudo_network_gradient` loss and accuracy are those of g, which it
      trains; the attribute `network` says 'f' or 'g'.
    target: the test accuracy of Figures 4 and 5.
    num_train: examples drawn for training, where data is a spec.
    num_test: examples drawn for testing, where data is a spec.
    num_train_eval: training loss and accuracy are measured on the first so
      many training examples; on all if not given.
    seeds_at_once: seeds trained side by side under `vmap`. By default one on
      a CPU, where batched matmuls are slower, and all on an accelerator. Where
      it is one, threads train as many as there are cores and memory for.
    transform: (key, split) -> split, applied to each seed's data with a key
      of its own, to corrupt labels say. Sizes and classes stay as they are.
    extra: (params, params at initialisation, split) -> arrays by name, to be
      measured after the last step, of one shape at all widths; those called
      singular_values_NAME, (min(m, d),) each, have dim rank.
    engine: 'plain' is the definition; 'fast' gives its numbers, to float32
      rounding, for `optax.sgd` on the true gradient ('blocked' and 'gram' say
      which way); 'auto' is the fastest that is exact and fits in memory.
    mesh: 'seed:2,unit:4' splits the seeds that are trained side by side over 2
      devices and the units of each over 4; 'auto' uses as many devices as
      divide both; a Mesh of these axes. Numbers are those of one device to
      float32 rounding.
    progress: called with the fraction of the work that is done; a
      `watching.Watch` with a store keeps what is done on disk as well.
    model: activation, loss, output law, start and layers, by name or as
      functions; the paper's if not given. `kernels`, `theory` and the verdicts
      are about the paper's. A log line says where a network begins too large,
      or moves too little, to learn with the paper's step size.
    output_lr_times_width: step size of a, times m, where the model trains both
      layers; lr_times_width if not given. To move f as much as w does, a needs
      about m times the step size of w.
    recorders: measures of your own at every recorded step, a variable each;
      see `ossgd.Recorder`.
    callback: called between chunks of steps with (job, step, record): the job
      has `width` and `seed`; the record is a dict of arrays (recorded steps,)
      up to this step, by the names that results have. What it returns stops
      this run if it is true: `stopped_at` says where, later measurements are
      NaN, and spectra and weights are those of that step. No number depends on
      it. What it raises ends the sweep.
    keep: 'weights' for w(0), w(T) and a of every run as well, 8 m d + 4 k m
      bytes each.

  Returns:
    Dataset with dims width, seed, step and rank, whose variables
    `help(ossgd.sweeps)` lists; the arrays of `extra` have dims width, seed and
    NAME_0, NAME_1, ..., those of `recorders` width, seed, step and the same.

  Raises:
    ValueError: a setting or the data does not fit, said before any training.
  """
  data, widths = datasets.checked(data), asking.widths(widths)
  source = datasets.source(data, num_train, num_test, transform)
  setup = Setup(
    width=0,  # one after the other
    **source.sizes,
    num_steps=num_steps,
    batch_size=batch_size,
    lr_times_width=lr_times_width,
    init_scale=init_scale,
    eval_every=eval_every,
    eval_growth=eval_growth,
    order=order,
    optimizer=optimizer,
    gradient_fn=gradient_fn,
    num_train_eval=num_train_eval,
    engine=engine,
    model=model,
    output_lr_times_width=output_lr_times_width,
    recorders=recorders,
  )
  asking.check(
    setup, widths, seed, num_seeds, seeds_at_once, target, keep, source, extra
  )
  grouping = compiled.group(
    mesh, widths, num_seeds, seeds_at_once, shared=source.shared is not None
  )
  source = source._replace(
    shared=meshes.put(source.shared, grouping.mesh, of_seeds=False)
  )
  watch = watching.watch(progress)
  labelled = functools.partial(
    labels.results,
    setup=setup,
    data=data,
    known_as=asking.known_as(data, transform),
    target=target,
    mesh=grouping.mesh,
  )
  work = execution.Work(
    source,
    grouping,
    asking.basis(setup, data, transform, extra, keep, watch.store),
    labels.with_weights(extra) if keep else extra,
    list(range(seed, seed + num_seeds)),
    labels.of_jobs(callback, setup),
    lambda one, job, row: labels.to_arrays(labelled([row], [one], [job.seed])),
  )
  rows, chosen = _run(setup, widths, work, watch)
  return labelled(rows, chosen, work.seeds)


def _run(
  setup: Setup,
  widths: Sequence[int],
  work: execution.Work,
  watch: watching.Watch,
) -> tuple[list[blocks.Row], list[Setup]]:
  """What each width leaves, and the setup that it was trained with."""
  parts = watch.parts((f'm={width}', width) for width in widths)
  asked = [dataclasses.replace(setup, width=int(m)) for m in widths]
  # Before any training: a width that does not fit is refused at once.
  chosen = [
    execution.with_engine(one, work, part)
    for one, part in zip(asked, parts, strict=True)
  ]
  return execution.run(asked, chosen, parts, work, watch.tell), chosen
