"""How many units are coupled at every step of a seed, and the bounds."""

from __future__ import annotations

import dataclasses
import functools
import math
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np

from ossgd.paper import descent, metrics, theory
from ossgd.paper.types import Params

from ..options import option
from . import cases

if TYPE_CHECKING:
  import xarray as xr

CASES = ('S', 'general')
# Of what `measure` gives, those not of every step size and step.
AT_START = ('largest_output_weight', 'constant', 'repaired_constant')


@dataclasses.dataclass(frozen=True)
class Config(cases.Config):
  """Points (S) or caps, and two step sizes."""

  lr_times_width: tuple[float, ...] = option(
    (0.01, 10.0), 'eta m: one within reach of the bounds, and Section 7.'
  )
  num_steps: int = option(30, 'T.')
  batch_size: int = option(4, 'B of SGD in the general case.')
  num_test: int = option(60, 'Points x of Lemma B.1, never trained on.')


def measure(
  config: Config, case: str, seed: jax.Array, params: Params
) -> dict[str, jax.Array]:
  """One seed: quantities at every step size and step, and at the start."""
  width = params.w.shape[0]
  one = (
    cases.simplified(config, seed, params, num_steps=config.num_steps)
    if case == 'S'
    else cases.general(
      config,
      seed,
      params,
      num_steps=config.num_steps,
      batch_size=config.batch_size,
      num_test=config.num_test,
    )
  )
  h0, a = one.problem.h0, one.problem.a
  on = one.observed[:, None] > 0  # the points that the lemmas speak of
  margin = jnp.min(jnp.where(on, jnp.abs(h0), jnp.inf), axis=0)

  def at(lr_times_width):
    step_size = lr_times_width / width
    observe = functools.partial(_observe, one, margin, step_size)
    return descent.descend(one.problem, one.weights, step_size, observe)

  constant = functools.partial(
    theory.coupling_constant, margin, width**-0.5, config.num_points
  )
  return jax.lax.map(at, jnp.float32(config.lr_times_width)) | {
    'largest_output_weight': jnp.max(jnp.abs(a)),
    'constant': constant(),
    'repaired_constant': constant(spared=theory.spared_units()),
  }


def _observe(
  one: cases.Case, margin: jax.Array, step_size: jax.Array, view: descent.View
) -> dict[str, jax.Array]:
  """What the lemmas bound, after a step; margin: least |<w_r(0), x>|, (m,)."""
  gram, _, h0, a = one.problem
  p0, p = h0 >= 0, view.h >= 0
  on = one.observed > 0
  tau = theory.reach(a, step_size, view.step)
  firm = (p == p0) & (jnp.abs(view.h) >= tau)
  at_points = jnp.where(on, metrics.share(firm, axis=1), 1.0)
  return {
    'coupled': metrics.share(theory.coupled(jnp.where(on[:, None], p, p0), p0)),
    'coupled_at_point': jnp.min(at_points),
    'within_margin': metrics.share(margin >= tau),
    'drift': jnp.max(theory.span_norms(view.coefficients, gram)),
    'gradient_norm': jnp.max(theory.span_norms(view.gradient, gram)),
    'tau': tau,
    'loss': jnp.sum(one.observed * view.loss),
  }


def with_bounds(results: xr.Dataset) -> xr.Dataset:
  """Adds the lemmas' bounds and what is measured relative to them."""
  import xarray as xr

  ds, num_points = results, results.attrs['num_points']
  sigma = ds.width**-0.5
  later = ds.where(ds.step > 0)  # at step 0 both sides are exact
  bound = theory.coupling_bound(ds.tau, sigma, num_points)
  at_point = theory.point_coupling_bound(ds.tau, sigma)
  # What would do in place of e, and of 10.
  needed = xr.where(
    ds.case == 'S',
    (1 - later.coupled) * sigma / (ds.tau * num_points),
    (1 - later.coupled_at_point) * sigma / ds.tau,
  )
  halved = ds.loss <= ds.loss.sel(step=0) / 2
  steps_to_half = halved.idxmax('step').where(halved.any('step'))
  reach_of_step = ds.tau.sel(step=1) * num_points * math.e
  run = ['step', 'lr_times_width']

  def fewer(fraction, bound):
    """Counted in units: a float32 mean of as many ones may be below one."""
    return np.rint(fraction * ds.width) < bound * ds.width

  return ds.assign(
    bound=bound,
    bound_at_point=at_point,
    below=fewer(ds.coupled, bound).sum(run),
    below_at_point=fewer(ds.coupled_at_point, at_point).sum(run),
    drift_ratio=(later.drift / (ds.tau / 2)).max(run),
    gradient_ratio=ds.gradient_norm.max(run) / ds.largest_output_weight,
    constant_needed=needed.max(run),
    # sigma / (e tau k l) = 1 at the step that halves the loss.
    width_to_halve=(reach_of_step * steps_to_half * ds.width) ** 2,
  )
