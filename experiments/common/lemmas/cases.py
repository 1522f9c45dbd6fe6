"""The two cases of the proofs as problems for `descent`: settings and data."""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from ossgd.data import components, mixtures
from ossgd.engines import measuring
from ossgd.paper import descent
from ossgd.paper.types import Dataset, Params

from .. import seeds
from ..options import option


@dataclasses.dataclass(frozen=True)
class Config(seeds.Config):
  """Data that meets (A1) and (A2) exactly, and networks to try on it."""

  widths: tuple[int, ...] = option(
    (500, 2000, 8000, 32000), 'm, hidden units. Our choice.'
  )
  num_seeds: int = option(20, 'Runs of each setting.')
  num_components: int = option(2, 'l, components per class (Section 7: 2).')
  dim: int = option(
    100, 'd, input coordinates; at least k l puts all points equally far apart.'
  )
  separation: float = option(
    0.8, 'delta of (A1), met exactly: the distance between classes.'
  )

  @property
  def num_points(self) -> int:
    """Of case (S): k l."""
    return self.num_classes * self.num_components


class Case(NamedTuple):
  """One seed of one case at one width."""

  problem: descent.Problem
  weights: jax.Array  # p_s of every step: (T, n)
  observed: jax.Array  # examples to observe on, p_{a,b} or 1 / number: (n,)


def simplified(
  config: Config, seed: jax.Array, params: Params, *, num_steps: int
) -> Case:
  """Case (S) of Appendix A: k l points, full-batch descent."""
  keys = measuring.seed_keys(seed)
  data, p = mixtures.point_set(keys.data, points(config))
  weights = jnp.broadcast_to(p, (num_steps, *p.shape))
  return Case(descent.problem(params, data), weights, p)


def general(
  config: Config,
  seed: jax.Array,
  params: Params,
  *,
  num_steps: int,
  batch_size: int,
  num_test: int,
) -> Case:
  """Appendix B: caps with lambda = 1/(8 l), SGD that passes once.

  The last `num_test` examples are never trained on: a sample of D.
  """
  keys = measuring.seed_keys(seed)
  num_train = num_steps * batch_size
  split = mixtures.sample(
    keys.data, _caps(config), num_train=num_train, num_test=num_test
  )
  both = zip(split.train, split.test, strict=True)
  data = Dataset(*(jnp.concatenate(rows) for rows in both))
  n = num_train + num_test
  weights = descent.batch_weights(keys.order, n, batch_size, num_steps)
  observed = (jnp.arange(n) >= num_train) / num_test
  return Case(descent.problem(params, data), weights, observed)


def sampled(
  config: Config, seed: jax.Array, params: Params, *, num_samples: int
) -> tuple[Case, jax.Array]:
  """Caps with as many examples of each component, and their components.

  Returns:
    The case, without steps, and a l + b of each example, (k l n,) int.
  """
  spec, keys = _caps(config), measuring.seed_keys(seed)
  centers = spec.centers(keys.data)
  component = jnp.repeat(jnp.arange(len(centers)), num_samples)
  draws = jax.random.split(keys.order, len(component))
  x = jax.vmap(spec.draw)(draws, centers[component])
  data = Dataset(x, component // config.num_components)
  observed = jnp.full(len(component), 1 / len(component))
  none = jnp.zeros((0, len(component)))
  return Case(descent.problem(params, data), none, observed), component


def check(config: Config) -> None:
  """Raises ValueError where there are no such points or caps."""
  points(config)
  _caps(config)


def points(config: Config) -> components.Spec:
  """The k l points of case (S).

  Raises:
    ValueError: there are none as far apart.
  """
  return mixtures.point_masses(**_data(config))


def _caps(config: Config) -> components.Bounded:
  """Of lambda = 1 / (8 l), the most that (A1) allows."""
  ratio = 1 / (8 * config.num_components)
  return mixtures.bounded(**_data(config), ratio=ratio)


def _data(config: Config) -> dict[str, Any]:
  names = ('num_classes', 'num_components', 'dim', 'separation')
  return {name: getattr(config, name) for name in names}
