"""Where the seeds of a sweep have their data from."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ossgd.data import arrays, components, mixtures
from ossgd.engines import measuring
from ossgd.paper.types import Dataset, Split


def checked(data: components.Spec | Split | tuple) -> components.Spec | Split:
  """A mixture as it is; anything else as a Split that can be trained on.

  Raises:
    ValueError: the data are not what they should be.
  """
  if isinstance(data, components.Spec):
    return data
  split = data if isinstance(data, Split) else arrays.to_split(*data)
  split = _float32(split)
  arrays.validate(split)
  return split


class Source(NamedTuple):
  """Where seeds have their data from, and what these are like."""

  draw: Callable[[jax.Array], Split]  # of a seed or a block of them, compiled
  shared: Split | None  # the data of all seeds, if they have the same
  sizes: dict[str, Any]  # fields of a `Setup`


def source(
  data: components.Spec | Split,
  num_train: int,
  num_test: int,
  transform: Callable[[jax.Array, Split], Split] | None,
) -> Source:
  """The source of a mixture, of which so many are drawn, or of fixed data."""
  if isinstance(data, components.Spec):
    spec, fixed = data, None
    num_classes, dim = data.num_classes, data.dim
  else:
    spec, fixed = None, data._replace(num_classes=None)  # arrays only
    num_train = len(data.train.y)
    num_classes = data.num_classes or int(data.train.y.max()) + 1
    num_test, dim = len(data.test.y), data.train.x.shape[1]
  draw = functools.partial(
    _draw,
    fixed=fixed,
    spec=spec,
    num_train=num_train,
    num_test=num_test,
    transform=transform,
  )
  shared = fixed if transform is None else None
  sizes = {
    'num_classes': num_classes,
    'dim': dim,
    'num_train': num_train,
    'num_test': num_test,
    'used_columns': None if shared is None else _used_columns(shared),
  }
  return Source(draw, shared, sizes)


def _used_columns(split: Split) -> tuple[int, ...] | None:
  """Those that are not zero in every example; None if all are."""
  used = np.any(split.train.x, axis=0) | np.any(split.test.x, axis=0)
  return None if used.all() else tuple(np.flatnonzero(used).tolist())


@functools.partial(
  jax.jit, static_argnames=('spec', 'num_train', 'num_test', 'transform')
)
def _draw(
  seeds: jax.Array,
  *,
  fixed: Split | None,
  spec: components.Spec | None,
  num_train: int,
  num_test: int,
  transform: Callable[[jax.Array, Any], Split] | None,
) -> Split:
  """The data of one seed, or of a block of them."""

  def one(seed):
    keys = measuring.seed_keys(seed)
    split = fixed
    if spec is not None:
      split = mixtures.sample(
        keys.data, spec, num_train=num_train, num_test=num_test
      )
    if transform is not None:
      split = _float32(transform(keys.transform, split))
    return split

  return jax.vmap(one)(seeds) if seeds.ndim else one(seeds)


def _float32(split: Split) -> Split:
  """Inputs of the type that all else has, in JAX's 64-bit mode as well."""
  train, test = (
    Dataset(jnp.asarray(x, jnp.float32), y)
    for x, y in (split.train, split.test)
  )
  return split._replace(train=train, test=test)
