"""Widths by a loop, seeds side by side: from data to a labelled Dataset.

Its dims are width, seed, step and rank, with their real values as coordinates;
its variables are those of `measuring.METRICS` and what follows from them:

test_accuracy, train_accuracy (width, seed, step)
  Fraction with f_y > f_j for all j != y.
test_loss, train_loss (width, seed, step)
  Mean cross entropy, nats.
pattern_difference (width, seed, step)
  Fraction of (unit, test example) pairs whose pattern is not the initial one.
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

The coordinate `engine` says how each width was trained, the attribute `mesh` on
which devices.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import jax
import numpy as np
import optax
from jax.sharding import Mesh

from ossgd.engines import cost, measuring, meshes, sgd
from ossgd.engines.setup import Setup
from ossgd.paper.types import Split
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
  order: sgd.Order = 'epochs',
  optimizer: Callable[[float], optax.GradientTransformation] = optax.sgd,
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
      `functools.partial(optax.sgd, momentum=0.9)`.
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

  Returns:
    Dataset with dims width, seed, step and rank, as listed above; the
    arrays of `extra` have dims width, seed and NAME_0, NAME_1, ...

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
  )
  _check(setup, widths, seed, num_seeds, seeds_at_once, source)
  if not 0 < target <= 1:
    raise ValueError(f'target is {target}; expected an accuracy in (0, 1]')
  grouping = _grouping(mesh, widths, num_seeds, seeds_at_once, source)
  source = source._replace(
    shared=meshes.put(source.shared, grouping.mesh, of_seeds=False)
  )
  watch = watching.watch(progress)
  basis = ''
  if watch.store is not None:
    basis = _basis(setup, data, transform, extra)
    if isinstance(data, Split):
      watch.store.data.add(jobs.data_digest(data))
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
  setup: Setup,
  data: datasets.Known,
  transform: Callable[[jax.Array, Split], Split] | None,
  extra: measuring.Extra | None,
) -> str:
  """All that the numbers of a sweep's jobs depend on, but their own."""
  aside = {'width', 'engine', 'used_columns'}
  if setup.order == 'full_batch':
    aside.add('batch_size')
  settings = {n: v for n, v in vars(setup).items() if n not in aside}
  content = jobs.data_digest(data) if isinstance(data, Split) else data
  more = {'data': content, 'transform': transform, 'extra': extra}
  return jobs.basis(settings | more, __name__)


def _check(
  setup: Setup,
  widths: Sequence[int],
  seed: int,
  num_seeds: int,
  seeds_at_once: int | None,
  source: datasets.Source,
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
  for width in widths:
    dataclasses.replace(setup, width=width).check()
  measuring.check_seeds(seed, num_seeds)
  num_records = len(setup.record_steps)
  needed = num_seeds * sum(
    cost.results(width, setup.dim, num_records) for width in widths
  )
  free = hosts.least(free_memory.of_host())
  if needed > free:
    raise ValueError(
      f'the results of {num_seeds} seeds need about {needed / 1e9:.3g} GB, but '
      f'{free / 1e9:.3g} GB are free; lower num_seeds, widths or num_steps, or '
      'raise eval_every'
    )
  datasets.check_seeds(source, range(seed, seed + num_seeds))
