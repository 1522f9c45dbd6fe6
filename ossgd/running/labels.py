"""Measurements as a labelled Dataset; `sweeps` lists its variables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from ossgd.data import components
from ossgd.engines import divergence, sgd
from ossgd.engines.setup import Setup
from ossgd.paper import metrics
from ossgd.recording.recorders import DISTANCE, Record

if TYPE_CHECKING:
  import xarray as xr


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
    function = told[name]
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
  record = jax.tree.map(
    lambda *v: np.stack(v), *(divergence.marked(row[0]) for row in rows)
  )
  sizes = {'test': setup.num_test, 'train': setup.num_evaluated}
  measured = {
    recorder.name: record[recorder.name] / sizes[recorder.examples]
    if recorder.mean and rows[0][0][recorder.name].dtype == np.int32
    else record[recorder.name]
    for recorder in setup.measured
  }
  accuracy = measured['test_accuracy']
  reached = metrics.steps_to_accuracy(accuracy, steps, target)
  distance = metrics.at_accuracy(measured[DISTANCE], accuracy, target)
  of_seed, of_step = ('width', 'seed'), ('width', 'seed', 'step')

  def dims(name, values):
    return *of_step, *(f'{name}_{i}' for i in range(values.ndim - 3))

  variables = {
    **{name: (dims(name, v), v) for name, v in measured.items()},
    **{
      name: _stacked(name, [row[1][name] for row in rows], diverged)
      for name in rows[0][1]
    },
    'steps_to_accuracy': (of_seed, np.asarray(reached)),
    'distance_at_accuracy': (of_seed, np.asarray(distance)),
    'diverged_at': (of_seed, diverged),
  }
  rank = variables['singular_values_update'][1].shape[-1]
  network = 'g' if sgd.trains_g(setup.gradient_fn) else 'f'
  return xr.Dataset(
    variables,
    {
      'width': list(widths),
      'seed': seeds,
      'step': steps,
      'rank': np.arange(rank) + 1,
    },
    {'target': target, 'network': network},
  )


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
  if np.issubdtype(together.dtype, np.floating):
    together = np.where(gone, np.nan, together)
  return ('width', 'seed', *dims), together
