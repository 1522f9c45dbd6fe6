"""Section 7's synthetic runs by `sgd` itself, for what no sweep measures."""

from __future__ import annotations

import dataclasses

import jax
import numpy as np

from experiments.options import option
from ossgd import mixtures, runs, sgd
from ossgd.base import Params, Split
from ossgd.claims import INF


@dataclasses.dataclass(frozen=True)
class Config:
  """Section 7's synthetic set-up, trained by plain SGD."""

  widths: tuple[int, ...] = option(
    (500, 1000, 2000, 4000, 8000), 'm, hidden units (our choice).'
  )
  num_seeds: int = option(5, 'Runs per width (Section 7: 5).')
  seed: int = option(0, 'The first seed; run s is the same whatever this is.')
  num_steps: int = option(400, 'T, SGD steps (Section 7: 400).')
  batch_size: int = option(16, 'B, examples (Section 7: 16).')
  lr_times_width: float = option(
    10.0, 'eta m, step size times width (Section 7: 10).'
  )
  normalize: bool = option(
    True, 'Scale every input to unit norm, assumption (A2) of Section 3.'
  )
  dim: int = option(1000, 'd, input coordinates (Section 7: 1000).')
  num_classes: int = option(10, 'k (Section 7: 10).')
  num_train: int = option(1000, 'N, training examples (Section 7: 1000).')
  num_test: int = option(1000, 'Test examples (Section 7: 1000).')


def check(config: Config) -> None:
  """Raises ValueError for a setting that no run can have."""
  for name in ('num_seeds', 'num_steps', 'lr_times_width', 'widths'):
    value = getattr(config, name)
    if not all(0 < v < INF for v in np.atleast_1d(value)):
      raise ValueError(f'{name} is {value}; expected positive numbers')
  if not config.widths or len(set(config.widths)) < len(config.widths):
    raise ValueError(
      f'widths are {config.widths}; expected at least one, all different'
    )
  sgd.check_order(
    'epochs', config.num_train, config.batch_size, config.num_steps
  )


def draw(config: Config, width: int, seed: jax.Array) -> tuple[Split, Params]:
  """The data of a seed and its initialisation, those of the sweeps."""
  spec = mixtures.gaussian(
    num_classes=config.num_classes, dim=config.dim, normalize=config.normalize
  )
  keys = runs.seed_keys(seed)
  split = mixtures.sample(
    keys.data, spec, num_train=config.num_train, num_test=config.num_test
  )
  return split, runs.init_params(
    keys.init,
    width=width,
    dim=config.dim,
    num_classes=config.num_classes,
    scale=1.0,
  )


def recorded(config: Config, most: int) -> np.ndarray:
  """Step 0 and up to so many more, evenly spaced in log t: (r,)."""
  spaced = np.geomspace(1, config.num_steps, most)
  return np.unique(np.append(0, np.rint(spaced).astype(int)))
