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
The coordinate `engine` says how each width was trained, the attribute `mesh` on
which devices.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import jax
import numpy as np
import optax
from jax.sharding import Mesh

from ossgd.data import components
from ossgd.engines import cost, measuring, meshes, optimizers, sgd
from ossgd.engines.setup import Setup
from ossgd.paper.model import PAPER, Model
from ossgd.paper.types import Split
from ossgd.recording import shapes
from ossgd.recording.recorders import Recorder
from ossgd.running import (
  compiled,
  datasets,
  execution,
  free_memory,
  hosts,
  jobs,
  labels,
  watching,
)

if TYPE_CHECKING:
  import xarray as xr

# (fraction of the whole sweep that is done, the job at work)
Progress = Callable[[float, str], None]


def sweep(
  data: components.Spec | Split | tuple,
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
  order: sgd.Order = 'epochs',
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
) -> xr.Dataset:
  """Trains every width with every seed, measuring as it goes (Section 7).

  The run of seed s has master key `jax.random.key(s)`: asked for alone, it
  gives the same numbers. All widths see the same data in the same order;
  their initialisations are independent.

  Args:
    data: a mixture spec (fresh data for every seed), a Split (used as it is),
      or arrays (x_train, y_train, x_test, y_test), scaled to unit norm.
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
      a CPU, where batched matmuls are slower, and all on an accelerator.
    transform: (key, split) -> split, applied to each seed's data with a key
      of its own, to corrupt labels say. Sizes and classes stay as they are.
    extra: (params, params at initialisation, split) -> arrays by name, to be
      measured after the last step.
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

  Returns:
    Dataset with dims width, seed, step and rank, as listed above; the
    arrays of `extra` have dims width, seed and NAME_0, NAME_1, ..., those of
    `recorders` width, seed, step and NAME_0, NAME_1, ...

  Raises:
    ValueError: a setting or the data does not fit, said before any training.
  """
  data = datasets.checked(data)
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
  _check(setup, widths, seed, num_seeds, seeds_at_once)
  if not 0 < target <= 1:
    raise ValueError(f'target is {target}; expected an accuracy in (0, 1]')
  grouping = _grouping(mesh, widths, num_seeds, seeds_at_once, source)
  source = source._replace(
    shared=meshes.put(source.shared, grouping.mesh, of_seeds=False)
  )
  watch = watching.watch(progress)
  basis = _basis(watch, setup, data, transform, extra)
  seeds = np.arange(seed, seed + num_seeds)
  work = execution.Work(source, grouping, basis, extra, seeds.tolist())
  parts = watch.parts((f'm={width}', width) for width in widths)
  asked = [dataclasses.replace(setup, width=int(m)) for m in widths]
  # Before any training: a width that does not fit is refused at once.
  chosen = [
    execution.with_engine(one, work, part)
    for one, part in zip(asked, parts, strict=True)
  ]
  rows = [
    execution.run_width(*of_width, work)
    for of_width in zip(asked, chosen, parts, strict=True)
  ]
  results = labels.label(rows, widths, seeds, setup, target)
  engines = [one.engine for one in chosen]
  return results.assign_coords(engine=('width', engines)).assign_attrs(
    mesh=meshes.text(grouping.mesh), **labels.settings(setup, data)
  )


def _grouping(
  mesh: str | Mesh,
  widths: Sequence[int],
  num_seeds: int,
  seeds_at_once: int | None,
  source: datasets.Source,
) -> compiled.Grouping:
  """Devices, and as many seeds at once as suit them."""
  devices = meshes.make(
    mesh, widths=widths, num_seeds=num_seeds, seeds_at_once=seeds_at_once
  )
  # Batched matmuls are slower than a loop over seeds on a CPU.
  one_by_one = jax.default_backend() == 'cpu'
  fewest = meshes.shards(devices)[0]
  at_once = seeds_at_once or (fewest if one_by_one else num_seeds)
  return compiled.Grouping(at_once, devices, source.shared is not None)


def _basis(
  watch: watching.Watch,
  setup: Setup,
  data: components.Spec | Split,
  transform: Callable[[jax.Array, Split], Split] | None,
  extra: measuring.Extra | None,
) -> str:
  """All that the numbers of a sweep's jobs depend on, but their own.

  Nothing where nothing is stored; a store is told of fixed data.
  """
  if watch.store is None:
    return ''
  aside = {'width', 'engine', 'used_columns'}
  if setup.order == 'full_batch':
    aside.add('batch_size')
  if setup.model == PAPER:  # as jobs were known before there were others
    aside |= {'model', 'output_lr_times_width'}
  if not setup.recorders:
    aside.add('recorders')
  settings = {n: v for n, v in vars(setup).items() if n not in aside}
  content: Any = data
  if isinstance(data, Split):
    content = jobs.data_digest(data)
    watch.store.data.add(content)
  more = {'data': content, 'transform': transform, 'extra': extra}
  return jobs.basis(settings | more, __name__)


def _check(
  setup: Setup,
  widths: Sequence[int],
  seed: int,
  num_seeds: int,
  seeds_at_once: int | None,
) -> None:
  """Raises ValueError for settings that no sweep can have."""
  for name, value in (
    ('num_seeds', num_seeds),
    ('seeds_at_once', 1 if seeds_at_once is None else seeds_at_once),
  ):
    if value < 1:
      raise ValueError(f'{name} is {value}; expected a positive number')
  if not widths or len(set(widths)) < len(widths):
    raise ValueError(
      f'widths are {tuple(widths)}; expected at least one, all different'
    )
  of_widths = [dataclasses.replace(setup, width=width) for width in widths]
  for of_width in of_widths:
    of_width.check()
  for remark in of_widths[-1].remarks():
    logging.getLogger(__name__).warning(remark)
  measuring.check_seeds(seed, num_seeds)
  shapes.check(setup.recorders, *(one.recorder_sizes for one in of_widths))
  needed = num_seeds * sum(map(cost.results, of_widths))
  free = hosts.least(free_memory.of_host())
  if needed > free:
    raise ValueError(
      f'the results of {num_seeds} seeds need about {needed / 1e9:.3g} GB, but '
      f'{free / 1e9:.3g} GB are free; lower num_seeds, widths or num_steps, or '
      'raise eval_every'
    )
