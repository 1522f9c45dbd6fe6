"""Fractions of units with a large pseudo-gradient, and what A.3 expects."""

from __future__ import annotations

import dataclasses
import functools
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from ossgd.engines import measuring
from ossgd.paper import adversary, metrics, network, theory
from ossgd.paper.types import Params, matmul, unit_norm

from ..options import option
from . import cases

if TYPE_CHECKING:
  import xarray as xr

KINDS = ('initial', 'random', 'worst possible', 'worst in the box')
QUANTILES = np.linspace(0, 1, 101)
DIMS = {
  'fraction': ('constant', 'kind'),
  'unit_sum': ('constant',),
  'norms': ('kind', 'quantile'),
  'twins': ('sign',),
}
# What case (S) is varied along, one at a time: the list of a Config, the
# letter, and how Lemma A.3's delta / (k l) depends on it.
VARIED = {
  'separation': ('separations', 'delta', 1),
  'num_classes': ('classes', 'k', -1),
  'num_components': ('components', 'l', -1),
  'width': ('growing_widths', 'm', 0),
}


@dataclasses.dataclass(frozen=True)
class Config(cases.Config):
  """A base point, how hard to look for the worst v, and what is varied."""

  widths: tuple[int, ...] = option((4000,), 'm of the base point: one number.')
  num_seeds: int = option(5, 'Runs of each setting.')
  constant: tuple[float, ...] = option(
    (1.0, 10.0), 'c of the threshold c v delta / (k l).'
  )
  num_steps: int = option(300, 'Steps of projected descent to the worst v.')
  num_samples: int = option(5, 'Examples of each component, general case.')
  separations: tuple[float, ...] = option((0.1, 0.2, 0.4, 0.8, 1.2), 'delta.')
  classes: tuple[int, ...] = option((2, 5, 10, 20), 'k.')
  components: tuple[int, ...] = option((1, 2, 4, 8), 'l.')
  growing_widths: tuple[int, ...] = option(
    (500, 1000, 2000, 4000, 8000, 16000), 'm.'
  )


def lines(config: Config) -> list[tuple[str, Any, Config]]:
  """What varies, its value there, and a Config with that value and one m."""
  return [
    (
      name,
      value,
      dataclasses.replace(
        config, **({'widths': (value,)} if name == 'width' else {name: value})
      ),
    )
    for name, (option_name, *_) in VARIED.items()
    for value in getattr(config, option_name)
  ]


def share(results: xr.Dataset, name: str) -> Any:
  """delta / (k l) along a setting, or at the base point."""
  base = results.attrs['separation'] / results.attrs['num_points']
  if name == 'separation':
    return results.separation / results.attrs['num_points']
  if name in ('num_classes', 'num_components'):
    return base * results.attrs[name] / results[name]
  return base


def relative(
  results: xr.Dataset, name: str, by: str = '', **at: Any
) -> xr.DataArray:
  """Fractions over delta / (k l), along a setting or at the base point."""
  return results[name].sel(at) / share(results, by)


def along(
  results: xr.Dataset, name: str, kind: str = 'worst possible'
) -> xr.DataArray:
  """Fractions along a setting, at the largest threshold."""
  return results[f'fraction_by_{name}'].sel(kind=kind).isel(constant=-1)


def least_relative(results: xr.Dataset, kind: str) -> xr.DataArray:
  """Least fraction above v delta / (k l), over delta / (k l): (seed,)."""
  at = {'kind': kind, 'constant': results.constant.values[0]}
  least = [
    relative(results, f'fraction_by_{by}', by, **at).min(by) for by in VARIED
  ]
  smallest = np.min([one.values for one in least], axis=0)
  return least[0].copy(deep=False, data=smallest)


def simplified(
  config: Config, seed: jax.Array, params: Params
) -> dict[str, jax.Array]:
  """The k l points of case (S)."""
  one = cases.simplified(config, seed, params, num_steps=1)
  return _measure(config, seed, one, jnp.arange(config.num_points))


def general(
  config: Config, seed: jax.Array, params: Params
) -> dict[str, jax.Array]:
  """A sample of each component; v is the same within a component."""
  count = config.num_points
  one, component = cases.sampled(
    config, seed, params, num_samples=config.num_samples
  )
  problem = one.problem
  f = network.gated_logits(problem.a, problem.h0, problem.h0 >= 0)
  errors = theory.signed_errors(f, problem.y)
  mean, spread = theory.component_means(errors, component, count)
  found = _measure(config, seed, one, component)
  largest = jnp.argmax(mean)
  return found | {
    'largest_error': jnp.max(mean) / count,
    'largest_error_std': spread.reshape(-1)[largest] / count,
  }


def _measure(
  config: Config, seed: jax.Array, one: cases.Case, component: jax.Array
) -> dict[str, jax.Array]:
  """Fractions of units above the thresholds for every kind of v."""
  _, y, h0, a = one.problem
  count = config.num_points
  units = adversary.Units(a, h0 >= 0, one.problem.gram, component)
  project = functools.partial(
    adversary.possible, num_components=config.num_components
  )
  f = network.gated_logits(a, h0, h0 >= 0)
  initial, _ = theory.component_means(
    theory.signed_errors(f, y), component, count
  )
  initial = initial / jnp.max(initial)
  key = measuring.seed_keys(seed).transform  # of no data, w(0) or order
  drawn = jax.random.uniform(key, initial.shape, jnp.float32, minval=-1.0)
  random = project(drawn)
  thresholds = jnp.array(config.constant, jnp.float32)
  thresholds *= config.separation / count

  def candidates(threshold):
    """One v of each kind; the worst of two starts."""
    # The start without any other v leaves half of the units no gradient.
    starts = jnp.stack([jnp.zeros_like(drawn), drawn])
    kinds = [initial, random]
    for allowed in (project, adversary.boxed):
      found = jax.vmap(
        lambda start, allowed=allowed: adversary.worst(
          units, start, threshold, allowed, config.num_steps
        )
      )(starts)
      above = jax.vmap(lambda v: metrics.share(norms(v) >= threshold))(found)
      kinds.append(found[jnp.argmin(above)])
    lengths = jnp.stack([norms(v) for v in kinds])
    return metrics.share(lengths >= threshold, axis=1), lengths

  norms = functools.partial(adversary.norms, units)
  fractions, lengths = jax.lax.map(candidates, thresholds)
  # Lemma A.2's P_{1,r} is the gradient of a network with a_1 = 1 alone.
  alone = units._replace(a=jnp.zeros_like(a).at[0].set(1.0))
  sums = adversary.norms(alone, random)
  return {
    'fraction': fractions,
    'unit_sum': metrics.share(sums[None] >= thresholds[:, None], axis=1),
    'norms': jnp.quantile(lengths[0], jnp.float32(QUANTILES), axis=1).T,
  }


def twins(
  config: Config, seed: jax.Array, params: Params
) -> dict[str, jax.Array]:
  """Fraction above v delta / (k l) for two points 0.001 apart in one class.

  With p v = 1 at both, and with 1 and -1: the box allows it, a softmax not.
  """
  one = cases.simplified(config, seed, params, num_steps=1)
  key = measuring.seed_keys(seed).transform
  key_x, key_w = jax.random.split(key)
  directions = unit_norm(jax.random.normal(key_x, (2, config.dim), jnp.float32))
  near = unit_norm(directions[0] + 1e-3 * directions[1])
  x = jnp.stack([directions[0], near])
  w = jax.random.normal(key_w, params.w.shape, jnp.float32)
  w /= params.w.shape[0] ** 0.5
  units = adversary.Units(
    one.problem.a, matmul(x, w.T) >= 0, matmul(x, x.T), jnp.arange(2)
  )
  only = jnp.zeros((2, config.num_classes), jnp.float32)
  least = config.separation / config.num_points

  def above(other):
    v = only.at[:, 0].set(jnp.float32([1.0, other]))
    return metrics.share(adversary.norms(units, v) >= least)

  return {'twins': jnp.stack([above(1.0), above(-1.0)])}
