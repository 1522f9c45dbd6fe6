"""Widths by a loop, seeds side by side: from data to a labelled Dataset.

Its dims are width, seed, step and rank, with their real values as coordinates;
its variables:

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

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import jax
import numpy as np
import optax
from jax.sharding import Mesh

from ossgd.data import components
from ossgd.engines import cost, divergence, measuring, meshes, sgd
from ossgd.paper import metrics
from ossgd.paper.types import Split
from ossgd.running import compiled, datasets, execution, hosts, jobs, watching

if TYPE_CHECKING:
  import xarray as xr

# (fraction of the whole sweep that is done, the unit at work)
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
  plan = compiled.Plan(
    num_steps=num_steps,
    eval_every=eval_every,
    eval_growth=eval_growth,
    batch_size=batch_size,
    lr_times_width=lr_times_width,
    init_scale=init_scale,
    order=order,
    optimizer=optimizer,
    gradient_fn=gradient_fn,
    num_train_eval=num_train_eval,
    seeds_at_once=seeds_at_once or num_seeds,
    extra=extra,
    engine=engine,
    **datasets.of(data, num_train, num_test, transform),
  )
  check(plan, widths, num_seeds, target)
  check_seeds(plan, widths, seed, num_seeds)
  devices = meshes.make(
    mesh, widths=widths, num_seeds=num_seeds, seeds_at_once=seeds_at_once
  )
  # Batched matmuls are slower than a loop over seeds on a CPU.
  one_by_one = jax.default_backend() == 'cpu'
  fewest = meshes.shards(devices)[0]
  at_once = seeds_at_once or (fewest if one_by_one else num_seeds)
  plan = plan._replace(
    seeds_at_once=at_once,
    mesh=devices,
    shared=meshes.put(plan.shared, devices, of_seeds=False),
  )
  watch = watching.watch(progress)
  basis = '' if watch.store is None else _basis(plan, data, transform)
  if watch.store is not None and isinstance(data, Split):
    watch.store.data.add(jobs.data_digest(data))
  parts = watch.parts((f'm={width}', width) for width in widths)
  seeds = np.arange(seed, seed + num_seeds)
  # Before any training: a width that does not fit is refused at once.
  asked = [jobs.Job(int(width), None, engine, basis) for width in widths]
  chosen = [
    _engine(plan, job, seeds, part)
    for job, part in zip(asked, parts, strict=True)
  ]
  rows = []
  for job, name, part in zip(asked, chosen, parts, strict=True):
    begun = {'engine': np.frombuffer(name.encode(), np.uint8)}
    part.once('engine', job, lambda begun=begun: begun)
    unit = compiled.compile_unit(plan._replace(engine=name), job.width)
    of_width = _of_width(job, name, seeds)
    rows.append(execution.run_width(unit, plan, of_width, part))
  results = _label(rows, widths, seeds, plan, target)
  return results.assign_coords(engine=('width', chosen)).assign_attrs(
    mesh=meshes.text(devices), **_settings(plan, data)
  )


def _basis(
  plan: compiled.Plan,
  data: components.Spec | Split,
  transform: Callable[[jax.Array, Split], Split] | None,
) -> str:
  """All that the numbers of a sweep's jobs depend on, but their own."""
  names = (
    *('num_steps', 'eval_every', 'eval_growth', 'num_train_eval', 'order'),
    *('lr_times_width', 'init_scale', 'optimizer', 'gradient_fn', 'extra'),
    *('num_train', 'num_test'),
  )
  settings = {name: getattr(plan, name) for name in names}
  settings['batch_size'] = (
    None if plan.order == 'full_batch' else plan.batch_size
  )
  settings['data'] = jobs.data_digest(data) if isinstance(data, Split) else data
  return jobs.basis(settings | {'transform': transform}, __name__)


def _of_width(
  asked: jobs.Job, engine: str, seeds: np.ndarray
) -> list[jobs.Job]:
  return [asked._replace(seed=int(s), engine=engine) for s in seeds]


def _engine(
  plan: compiled.Plan,
  asked: jobs.Job,
  seeds: np.ndarray,
  watch: watching.Watch,
) -> str:
  """The engine that a width was begun with, or the best for it today.

  Raises:
    ValueError: it does not fit in memory, and there is work left for it.
  """
  begun = watch.load('engine', asked)
  if begun is None:
    return compiled.choose_engine(plan, asked.width)
  name = bytes(begun['engine']).decode()
  if all(
    watch.has(f'seed={job.seed} finished', job)
    for job in _of_width(asked, name, seeds)
  ):
    return name
  try:
    return compiled.choose_engine(plan._replace(engine=name), asked.width)
  except ValueError as error:
    raise ValueError(
      f'{error}; it was begun with engine {name} and goes on with it: its work '
      'waits until there is room'
    ) from error


def check(
  plan: compiled.Plan, widths: Sequence[int], num_seeds: int, target: float
) -> None:
  """Raises ValueError for a setting that no sweep can have."""
  some = plan.num_train if plan.num_train_eval is None else plan.num_train_eval
  for name, value in (
    ('num_seeds', num_seeds),
    ('seeds_at_once', plan.seeds_at_once),
    ('num_train', plan.num_train),
    ('num_train_eval', some),
    ('num_steps', plan.num_steps),
    ('eval_every', plan.eval_every),
    ('lr_times_width', plan.lr_times_width),
    ('init_scale', plan.init_scale),
    *(('width', width) for width in widths),
  ):
    if not 0 < value < float('inf'):
      raise ValueError(f'{name} is {value}; expected a positive number')
  if not 0 <= plan.eval_growth < float('inf'):
    raise ValueError(
      f'eval_growth is {plan.eval_growth}; expected zero or more'
    )
  if not widths or len(set(widths)) < len(widths):
    raise ValueError(
      f'widths are {tuple(widths)}; expected at least one, all different'
    )
  if not 0 < target <= 1:
    raise ValueError(f'target is {target}; expected an accuracy in (0, 1]')
  sgd.check_order(plan.order, plan.num_train, plan.batch_size, plan.num_steps)


def check_seeds(
  plan: compiled.Plan, widths: Sequence[int], seed: int, num_seeds: int
) -> None:
  """Raises ValueError for seeds that do not exist, or more than fit."""
  measuring.check_seeds(seed, num_seeds)
  needed = num_seeds * sum(
    cost.results(width, plan.dim, len(plan.record_steps)) for width in widths
  )
  free = hosts.least(cost.host_available())
  if needed > free:
    raise ValueError(
      f'the results of {num_seeds} seeds need about {needed / 1e9:.3g} GB, but '
      f'{free / 1e9:.3g} GB are free; lower num_seeds, widths or num_steps, or '
      'raise eval_every'
    )


def _settings(plan: compiled.Plan, data: Any) -> dict[str, Any]:
  """What the numbers are of, as attributes; see `paper_claims.FIGURE_1`."""
  told = {
    name: getattr(plan, name)
    for name in (
      'num_steps',
      'batch_size',
      'lr_times_width',
      'init_scale',
      'order',
      'num_classes',
      'dim',
      'num_train',
      'num_test',
    )
  }
  told['num_train_eval'] = _num_train_eval(plan)
  for name in ('optimizer', 'gradient_fn'):
    function = getattr(plan, name)
    told[name] = getattr(function, '__name__', type(function).__name__)
  if not isinstance(data, components.Spec):
    return told | {'dataset': 'arrays'}
  told['num_components'] = data.num_components
  if not isinstance(data, components.Gaussian):
    return told | {'dataset': type(data).__name__}
  return told | {
    'dataset': 'synthetic',
    'center_scale': data.center_scale,
    'noise_scale': data.noise_scale,
    'normalize': int(data.normalize),  # netCDF has no booleans
  }


def _num_train_eval(plan: compiled.Plan) -> int:
  """The training examples that loss and accuracy are measured on."""
  return min(plan.num_train_eval or plan.num_train, plan.num_train)


def _label(
  rows: list[tuple[measuring.Record, dict[str, np.ndarray]]],
  widths: Sequence[int],
  seeds: np.ndarray,
  plan: compiled.Plan,
  target: float,
) -> xr.Dataset:
  """Stacks the widths and names every axis; short spectra end in NaN."""
  import xarray as xr

  steps = plan.record_steps
  diverged = [divergence.steps(row[0], steps) for row in rows]
  record = jax.tree.map(
    lambda *v: np.stack(v), *(divergence.marked(row[0]) for row in rows)
  )
  sizes = {
    'test': plan.num_test,
    'train': _num_train_eval(plan),
  }
  measured = record._asdict()
  for name, size in sizes.items():
    measured[f'{name}_accuracy'] = measured.pop(f'{name}_correct') / size
  accuracy = measured['test_accuracy']
  reached = metrics.steps_to_accuracy(accuracy, steps, target)
  distance = metrics.at_accuracy(record.relative_distance, accuracy, target)
  variables: dict[str, tuple[tuple[str, ...], np.ndarray]] = {
    name: (('width', 'seed', 'step'), values)
    for name, values in measured.items()
  }
  for name in rows[0][1]:
    values = [row[1][name] for row in rows]
    dims = tuple(f'{name}_{i}' for i in range(values[0].ndim - 1))
    if name.startswith('singular_values_'):
      dims = ('rank',)
      longest = max(v.shape[1] for v in values)
      values = [
        np.pad(v, ((0, 0), (0, longest - v.shape[1])), constant_values=np.nan)
        for v in values
      ]
    together = np.stack(values)
    gone = np.isfinite(diverged).reshape(together.shape[:2] + (1,) * len(dims))
    if np.issubdtype(together.dtype, np.floating):
      together = np.where(gone, np.nan, together)
    variables[name] = (('width', 'seed', *dims), together)
  return xr.Dataset(
    variables
    | {
      'steps_to_accuracy': (('width', 'seed'), np.asarray(reached)),
      'distance_at_accuracy': (('width', 'seed'), np.asarray(distance)),
      'diverged_at': (('width', 'seed'), np.stack(diverged)),
    },
    coords={
      'width': list(widths),
      'seed': seeds,
      'step': steps,
      'rank': np.arange(variables['singular_values_update'][1].shape[-1]) + 1,
    },
    attrs={
      'target': target,
      'network': 'g' if sgd.trains_g(plan.gradient_fn) else 'f',
    },
  )
