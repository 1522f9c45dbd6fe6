"""Where the seeds of a sweep have their data from."""

import functools
from collections.abc import Callable
from typing import Any

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


def of(
  data: components.Spec | Split,
  num_train: int,
  num_test: int,
  transform: Callable[[jax.Array, Split], Split] | None,
) -> dict[str, Any]:
  """The part of a `units.Plan` that says where seeds have their data from.

  Args:
    data: a mixture spec, or a Split from `checked`.
    num_train: examples to draw for training, where data is a spec.
    num_test: examples to draw for testing, where data is a spec.
    transform: (key, split) -> split, if any.
  """
  spec = data if isinstance(data, components.Spec) else None
  if isinstance(data, components.Spec):
    fixed, num_classes, dim = None, data.num_classes, data.dim
  else:
    fixed = data
    num_train, num_classes = len(fixed.train.y), int(fixed.train.y.max()) + 1
    num_test, dim = len(fixed.test.y), fixed.train.x.shape[1]
  draw = functools.partial(
    _draw,
    fixed=fixed,
    spec=spec,
    num_train=num_train,
    num_test=num_test,
    transform=transform,
  )
  shared: Split | None = fixed if transform is None else None
  columns = None
  if shared is not None:
    used = np.any(shared.train.x, axis=0) | np.any(shared.test.x, axis=0)
    columns = None if used.all() else np.flatnonzero(used)
  return dict(
    num_classes=num_classes,
    dim=dim,
    num_train=num_train,
    num_test=num_test,
    draw=draw,
    shared=shared,
    columns=columns,
  )


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
