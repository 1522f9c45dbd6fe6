"""Section 7's synthetic runs by `sgd` itself, for what no sweep measures."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from ossgd.data import components, mixtures
from ossgd.engines import measuring, meshes, orders
from ossgd.paper.types import Params, Split
from ossgd.results.claims import INF

from . import seeds
from .options import option


@dataclasses.dataclass(frozen=True)
class Config(seeds.Config):
  """Section 7's synthetic set-up, trained by plain SGD."""

  num_steps: int = option(400, 'T, SGD steps (Section 7: 400).')
  batch_size: int = option(16, 'B, examples (Section 7: 16).')
  lr_times_width: float = option(
    10.0, 'eta m, step size times width (Section 7: 10).'
  )
  normalize: bool = option(
    True, 'Scale every input to unit norm, assumption (A2) of Section 3.'
  )
  num_train: int = option(1000, 'N, training examples (Section 7: 1000).')
  num_test: int = option(1000, 'Test examples (Section 7: 1000).')


def devices(config: Config) -> Mesh | None:
  """`seeds.devices`, and all that can be wrong with a Config besides.

  Raises:
    ValueError: a setting that no run can have.
  """
  for name in ('num_steps', 'lr_times_width'):
    value = getattr(config, name)
    if not 0 < value < INF:
      raise ValueError(f'{name} is {value}; expected a positive number')
  orders.check('epochs', config.num_train, config.batch_size, config.num_steps)
  _mixture(config)
  return seeds.devices(config, config.widths)


@functools.partial(jax.jit, static_argnums=0)
def data(config: Config, seed: int) -> Split:
  """The data of a seed, those of the sweeps."""
  return mixtures.sample(
    measuring.seed_keys(seed).data,
    _mixture(config),
    num_train=config.num_train,
    num_test=config.num_test,
  )


def _mixture(config: Config) -> components.Spec:
  return mixtures.gaussian(
    num_classes=config.num_classes, dim=config.dim, normalize=config.normalize
  )


def with_data(
  config: Config,
  measure: Callable[[int, Split, Params], dict[str, Any]],
  mesh: Mesh | None,
) -> Callable[[int, Params], dict[str, Any]]:
  """What `seeds` asks for: the seed's data are whole on every device."""

  def measured(seed, start):
    split = meshes.put(data(config, seed), mesh, of_seeds=False)
    return measure(seed, split, start)

  return measured


def recorded(config: Config, most: int) -> np.ndarray:
  """Step 0 and up to so many more, evenly spaced in log t: (r,)."""
  spaced = np.geomspace(1, config.num_steps, most)
  return np.unique(np.append(0, np.rint(spaced).astype(int)))
