"""Measurements as a labelled Dataset; `sweeps` lists its variables."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import jax
import numpy as np
from jax.sharding import Mesh

from ossgd.data import components
from ossgd.engines import measuring, meshes, optimizers, sgd
from ossgd.engines.setup import Setup
from ossgd.paper import metrics
from ossgd.recording import divergence
from ossgd.recording.recorders import DISTANCE, Record
from ossgd.running import blocks, execution, jobs, watching

if TYPE_CHECKING:
  import xarray as xr


# (job, step, what was measured up to it, by the results' names) -> stop it?
Callback = Callable[[jobs.Job, int, Record], object]
# Of the last step's arrays, those that each width has variables of its own of:
# their dims after the seed.
WEIGHTS = {
  'initial_weights': ('unit_{}', 'input'),
  'final_weights': ('unit_{}', 'input'),
  'output_weights': ('class', 'unit_{}'),
}


def with_weights(extra: measuring.Extra | None) -> measuring.Extra:
  """An `Extra` that has w(0), w(T) and a as well."""

  def both(params, begun, split):
    arrays = (begun.w, params.w, params.a)
    weights = dict(zip(WEIGHTS, arrays, strict=True))
    return weights | (extra(params, begun, split) if extra else {})

  return both


def of_jobs(
  callback: Callback | None, setup: Setup
) -> watching.Callback | None:
  """A user's callback as jobs at work call it."""
  if callback is None:
    return None
  steps = setup.record_steps  # of all widths

  def of_job(job, record):
    told = as_told(record, setup, record)
    return callback(job, int(steps[len(told[DISTANCE]) - 1]), told)

  return of_job


def as_told(record: Record, setup: Setup, raw: Record) -> Record:
  """Measurements in the order and the units of the results.

  Args:
    record: what is to be told.
    setup: of the runs.
    raw: the same as engines have it, where a mean's integers are counts.
  """
  sizes = {'test': setup.num_test, 'train': setup.num_evaluated}
  return {
    recorder.name: record[recorder.name] / sizes[recorder.examples]
    if recorder.mean and raw[recorder.name].dtype == np.int32
    else record[recorder.name]
    for recorder in setup.measured
  }


def settings(setup: Setup, data: Any) -> dict[str, Any]:
  """What the numbers are of, as attributes; see `paper_claims.FIGURE_1`."""
  aside = ['width', 'eval_every', 'eval_growth', 'engine', 'used_columns']
  aside += ['model', 'output_lr_times_width']
  aside += ['recorders']
  told = {n: v for n, v in vars(setup).items() if n not in aside}
  told |= setup.model.names()
  if setup.model.layers == 'both':
    of_outputs = setup.output_lr_times_width or setup.lr_times_width
    told['output_lr_times_width'] = of_outputs
  told['num_train_eval'] = setup.num_evaluated
  for name in ('optimizer', 'gradient_fn'):
    told[name] = optimizers.name_of(told[name])
  if callable(data):
    return told | {'dataset': f'function {optimizers.name_of(data)}'}
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


def results(
  rows: list[blocks.Row],
  chosen: Sequence[Setup],
  seeds: Sequence[int | None],
  *,
  setup: Setup,
  data: Any,
  known_as: str,
  target: float,
  mesh: Mesh | None,
) -> xr.Dataset:
  """Some widths and seeds, with all that is known of them.

  Args:
    rows: what each width left.
    chosen: the setup that each width was trained with.
    seeds: of every width.
    setup: that was asked for.
    data: that they were trained on.
    known_as: what those are told from others by.
    target: the test accuracy of Figures 4 and 5.
    mesh: of devices, if there were several.
  """
  widths = [one.width for one in chosen]
  found = label(rows, widths, np.array(seeds), setup, target)
  engines = ('width', [one.engine for one in chosen])
  return found.assign_coords(engine=engines).assign_attrs(
    mesh=meshes.text(mesh), data=known_as, **settings(setup, data)
  )


def label(
  rows: list[tuple[Record, dict[str, np.ndarray]]],
  widths: Sequence[int],
  seeds: np.ndarray,
  setup: Setup,
  target: float,
) -> xr.Dataset:
  """Stacks the widths and names every axis; short spectra end in NaN."""
  import xarray as xr

  steps = setup.record_steps
  diverged = np.stack([divergence.steps(row[0], steps) for row in rows])
  if execution.STOPPED in rows[0][1]:  # what was stopped has no numbers either
    stopped = np.stack([row[1][execution.STOPPED] for row in rows])
    diverged = np.where(diverged > stopped, np.nan, diverged)
  record = jax.tree.map(
    lambda *v: np.stack(v), *(divergence.marked(row[0]) for row in rows)
  )
  measured = as_told(record, setup, rows[0][0])
  of_seed, of_step = ('width', 'seed'), ('width', 'seed', 'step')

  def dims(name, values):
    return *of_step, *(f'{name}_{i}' for i in range(values.ndim - 3))

  variables = {
    **{name: (dims(name, v), v) for name, v in measured.items()},
    **{
      name: _stacked(name, [row[1][name] for row in rows], diverged)
      for name in rows[0][1]
      if name not in WEIGHTS
    },
    **_weights(rows, widths),
    'diverged_at': (of_seed, diverged),
  }
  rank = variables['singular_values_update'][1].shape[-1]
  network = 'g' if sgd.trains_g(setup.gradient_fn) else 'f'
  found = xr.Dataset(
    variables,
    {
      'width': list(widths),
      'seed': seeds,
      'step': steps,
      'rank': np.arange(rank) + 1,
    },
    {'network': network},
  )
  return at_target(found, target)


def at_target(results: xr.Dataset, target: float) -> xr.Dataset:
  """With the first step at a test accuracy, and the distance there."""
  accuracy = results.test_accuracy.transpose(..., 'step')
  dims, accuracies = accuracy.dims[:-1], accuracy.values
  distances = results[DISTANCE].transpose(*accuracy.dims).values
  steps = metrics.steps_to_accuracy(accuracies, results.step.values, target)
  distance = metrics.at_accuracy(distances, accuracies, target)
  return results.assign(
    steps_to_accuracy=(dims, steps), distance_at_accuracy=(dims, distance)
  ).assign_attrs(target=target)


def _weights(
  rows: list[blocks.Row], widths: Sequence[int]
) -> dict[str, tuple[tuple[str, ...], np.ndarray]]:
  """Of each width a variable of its own, where weights were asked for."""
  return {
    f'{name}_{width}': (
      tuple(dim.format(width) for dim in ('seed', *dims)),
      row[1][name],
    )
    for width, row in zip(widths, rows, strict=True)
    for name, dims in WEIGHTS.items()
    if name in row[1]
  }


def _stacked(
  name: str, values: list[np.ndarray], diverged: np.ndarray
) -> tuple[tuple[str, ...], np.ndarray]:
  """Dims, and an array of all widths' last step; NaN where a run diverged."""
  dims = tuple(f'{name}_{i}' for i in range(values[0].ndim - 1))
  if name.startswith('singular_values_'):
    dims = ('rank',)
    longest = max(v.shape[1] for v in values)
    values = [
      np.pad(v, ((0, 0), (0, longest - v.shape[1])), constant_values=np.nan)
      for v in values
    ]
  together = np.stack(values)
  gone = np.isfinite(diverged).reshape(diverged.shape + (1,) * len(dims))
  if together.dtype.kind in 'iuf' and gone.any():  # a count has no NaN
    together = np.where(gone, np.nan, together)
  return ('width', 'seed', *dims), together


def _kind(name: Any) -> str:
  """Of a variable, without a width at its end."""
  return re.sub(r'_\d+$', '', str(name))


def to_arrays(results: xr.Dataset) -> dict[str, np.ndarray]:
  """A Dataset as arrays of numbers, which a store can keep among others."""
  numbers, texts = {}, {}
  for name, variable in results.variables.items():
    if variable.dtype.kind in 'OU':
      texts[str(name)] = variable.values.tolist()
    elif _kind(name) not in WEIGHTS:  # these are there as they are
      numbers[execution.TOLD + str(name)] = variable.values
  about = {
    'dims': {str(n): list(v.dims) for n, v in results.variables.items()},
    'coords': [str(name) for name in results.coords],
    'texts': texts,
    'attrs': {str(n): np.asarray(v).tolist() for n, v in results.attrs.items()},
  }
  text = np.frombuffer(json.dumps(about).encode(), np.uint8)
  return {f'{execution.TOLD} about': text, **numbers}


def from_arrays(arrays: Mapping[str, np.ndarray]) -> xr.Dataset:
  """The Dataset of `to_arrays`, among other arrays."""
  import xarray as xr

  about = json.loads(bytes(arrays[f'{execution.TOLD} about']))
  texts = about['texts']

  def value(name):
    if name in texts:
      return np.array(texts[name])
    kind = _kind(name)
    weights = f'last_{kind}'
    return arrays[weights if kind in WEIGHTS else execution.TOLD + name]

  values = {name: value(name) for name in about['dims']}
  found = {name: (dims, values[name]) for name, dims in about['dims'].items()}
  results = xr.Dataset(found, attrs=about['attrs'])
  return results.set_coords(about['coords'])
