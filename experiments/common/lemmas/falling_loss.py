"""How far every step of descent, and of SGD, decreases the loss of a seed."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp

from ossgd.paper import descent, metrics, theory
from ossgd.paper.types import Params, matmul

from ..options import option
from . import cases

PATHS = ('largest_error', 'loss')  # by step, up to a width's own T
DIMS = {
  **dict.fromkeys(PATHS, ('step',)),
  'least_decrease': ('step_size',),
  'falling_steps': ('batch_size',),
  'decrease_ratio': ('batch_size',),
}


@dataclasses.dataclass(frozen=True)
class Config(cases.Config):
  """Step sizes, horizons and batch sizes."""

  num_seeds: int = option(5, 'Runs of each setting.')
  lr_times_width: float = option(
    10.0, 'eta m of the trajectories (Section 7: 10).'
  )
  horizon: float = option(
    50.0, 'T = horizon sqrt(m) / (eta m), in steps: to where v^2 is averaged.'
  )
  step_sizes: tuple[float, ...] = option(
    tuple(round(2.0 ** (i / 2), 3) for i in range(25)),
    'eta m tried for the largest with which the loss only decreases.',
  )
  num_steps: int = option(25, 'T of those, and of SGD in the general case.')
  batch_sizes: tuple[int, ...] = option((1, 2, 4, 8, 16), 'B, general case.')
  num_test: int = option(200, 'Sample that stands for D, general case.')


def horizon(config: Config, width: int) -> int:
  """T of Lemma A.4 in steps."""
  return max(2, round(config.horizon * width**0.5 / config.lr_times_width))


def measure(
  config: Config, seed: jax.Array, params: Params
) -> dict[str, jax.Array]:
  """One seed at one width; after its T, to the longest, a path stands still."""
  longest = horizon(config, max(config.widths))

  def padded(path):
    return jnp.pad(path, (0, longest + 1 - len(path)), mode='edge')

  found = _simplified(config, seed, params)
  by_batch = [
    _general(config, seed, params, batch_size)
    for batch_size in config.batch_sizes
  ]
  return (
    found
    | {name: padded(found[name]) for name in PATHS}
    | jax.tree.map(lambda *v: jnp.stack(v), *by_batch)
  )


def _simplified(
  config: Config, seed: jax.Array, params: Params
) -> dict[str, jax.Array]:
  """Full-batch descent on points, up to T, and from every step size."""
  width = params.w.shape[0]
  step_size = config.lr_times_width / width
  one = cases.simplified(config, seed, params, num_steps=horizon(config, width))
  path = _descend(one, step_size)
  decrease, square = -jnp.diff(path['loss']), path['square'][:-1]
  shape = theory.decrease_bound(
    step_size, width, path['v'][:-1], config.separation, config.num_points
  )
  short = one._replace(weights=one.weights[: config.num_steps])

  def least_decrease(lr_times_width):
    loss = _descend(short, lr_times_width / width)['loss']
    return jnp.min(-jnp.diff(loss))

  return {
    'largest_error': path['v'],
    'loss': path['loss'],
    # Means over t = 1, ..., T, as the lemma has them.
    'mean_square': jnp.mean(path['v'][1:] ** 2),
    'least_ratio': jnp.min(decrease / (step_size * square)),
    'least_shape_ratio': jnp.min(decrease / shape),
    'least_decrease': jax.lax.map(
      least_decrease, jnp.float32(config.step_sizes)
    ),
  }


def _descend(one: cases.Case, step_size) -> dict[str, jax.Array]:
  """v, the loss and the squared gradient on the observed examples by step."""
  gram, _, h0, a = one.problem
  del h0

  def observe(view):
    slopes = -one.observed[:, None] * view.errors
    gradient = jnp.where(view.h >= 0, matmul(slopes, a), 0)
    return {
      'v': theory.largest_error(view.errors, one.observed),
      'loss': jnp.sum(one.observed * view.loss),
      'square': jnp.sum(theory.span_norms(gradient, gram) ** 2),
    }

  return descent.descend(one.problem, one.weights, step_size, observe)


def _general(
  config: Config, seed: jax.Array, params: Params, batch_size: int
) -> dict[str, jax.Array]:
  """SGD on caps: what its steps do to the loss on a sample of D."""
  one = cases.general(
    config,
    seed,
    params,
    num_steps=config.num_steps,
    batch_size=batch_size,
    num_test=config.num_test,
  )
  step_size = config.lr_times_width / params.w.shape[0]
  path = _descend(one, step_size)
  decrease, square = -jnp.diff(path['loss']), path['square'][:-1]
  return {
    'falling_steps': metrics.share(decrease > 0),
    'decrease_ratio': jnp.mean(decrease) / (step_size * jnp.mean(square)),
  }
