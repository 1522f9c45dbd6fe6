"""Fractions of units with a large pseudo-gradient, for one seed and setting."""

from __future__ import annotations

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np

from ossgd.paper import adversary, metrics, network, theory
from ossgd.paper.types import Params, matmul, unit_norm

from ..options import option
from . import cases

KINDS = ('initial', 'random', 'worst possible', 'worst in the box')
QUANTILES = np.linspace(0, 1, 101)
_DIMS = {
  'fraction': ('constant', 'kind'),
  'unit_sum': ('constant',),
  'norms': ('kind', 'quantile'),
  'twins': ('sign',),
}


@dataclasses.dataclass(frozen=True)
class Config(cases.Config):
  """A base point, and how hard to look for the worst v."""

  widths: tuple[int, ...] = option((4000,), 'm of the base point: one number.')
  num_seeds: int = option(5, 'Runs of each setting.')
  constant: tuple[float, ...] = option(
    (1.0, 10.0), 'c of the threshold c v delta / (k l).'
  )
  num_steps: int = option(300, 'Steps of projected descent to the worst v.')
  num_samples: int = option(5, 'Examples of each component, general case.')


def dims(name: str) -> tuple[str, ...]:
  """Of an array that is measured here."""
  return _DIMS.get(name, ())


def simplified(
  config: Config, seed: jax.Array, params: Params
) -> dict[str, jax.Array]:
  """The k l points of case (S)."""
  one = cases.simplified(config, seed, params, num_steps=1)
  count = config.num_classes * config.num_components
  return _measure(config, seed, one, jnp.arange(count))


def general(
  config: Config, seed: jax.Array, params: Params
) -> dict[str, jax.Array]:
  """A sample of each component; v is the same within a component."""
  count = config.num_classes * config.num_components
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
  count = config.num_classes * config.num_components
  units = adversary.Units(a, h0 >= 0, one.problem.gram, component)
  project = functools.partial(
    adversary.possible, num_components=config.num_components
  )
  f = network.gated_logits(a, h0, h0 >= 0)
  initial, _ = theory.component_means(
    theory.signed_errors(f, y), component, count
  )
  initial = initial / jnp.max(initial)
  drawn = jax.random.uniform(
    cases.adversary_key(seed), initial.shape, jnp.float32, minval=-1.0
  )
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
  key_x, key_w = jax.random.split(cases.adversary_key(seed))
  directions = unit_norm(jax.random.normal(key_x, (2, config.dim), jnp.float32))
  near = unit_norm(directions[0] + 1e-3 * directions[1])
  x = jnp.stack([directions[0], near])
  w = jax.random.normal(key_w, params.w.shape, jnp.float32)
  w /= params.w.shape[0] ** 0.5
  units = adversary.Units(
    one.problem.a, matmul(x, w.T) >= 0, matmul(x, x.T), jnp.arange(2)
  )
  count = config.num_classes * config.num_components
  only = jnp.zeros((2, config.num_classes), jnp.float32)
  above = jnp.stack(
    [
      metrics.share(
        adversary.norms(units, only.at[:, 0].set(jnp.float32([1.0, other])))
        >= config.separation / count
      )
      for other in (1.0, -1.0)
    ]
  )
  return {'twins': above}
