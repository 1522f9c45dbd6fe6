"""Where the seeds of a sweep have their data from."""

import functools
import logging
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ossgd.data import arrays, components, mixtures
from ossgd.data.own import containers
from ossgd.engines import measuring
from ossgd.paper.types import Dataset, Split
from ossgd.running import caching

Generator = Callable[[jax.Array], Split]  # of a key
# Fresh for every seed, fresh by a function of one's own, or one for all.
Known = components.Spec | Generator | Split
# The same, or four arrays in any other container.
Given = Known | Sequence[Any]


def checked(data: Given) -> Known:
  """What a sweep can be trained on, of all that it may be given.

  A Split has been prepared: its labels are read and all of it is checked as
  `arrays.to_split` does, and its inputs stay as they are. Arrays in any other
  container are scaled to unit norm. The log says which of it was done.

  Raises:
    ValueError: the data are not what they should be.
  """
  if isinstance(data, components.Spec):
    return data
  if isinstance(data, Split):
    split = arrays.to_split(
      *data.train, *data.test, normalize=False, num_classes=data.num_classes
    )
    _tell_norms(split.train.x)
    return data._replace(train=split.train, test=split.test)
  if isinstance(data, type):
    raise ValueError(
      f'data is the class {data.__name__}; expected data, or a function of a '
      f'key that returns a Split: call {data.__name__}(...) first'
    )
  if callable(data):
    return data
  split = arrays.to_split(*containers.four(data))
  logging.info('inputs scaled to unit norm; those of a Split stay as they are')
  return split


class Source(NamedTuple):
  """Where seeds have their data from, and what these are like."""

  draw: caching.Program  # of a seed or a block of them
  shared: Split | None  # the data of all seeds, if they have the same
  sizes: dict[str, Any]  # fields of a `Setup`
  generated: caching.Program | None = None  # by a function, alone

  @property
  def shapes(self) -> Split:
    """Of one seed's data, with dtypes; nothing is drawn."""
    return self.draw.shapes(_seed(0))


def source(
  data: Known,
  num_train: int,
  num_test: int,
  transform: Callable[[jax.Array, Split], Split] | None,
) -> Source:
  """The source of a mixture, of a function of a key, or of fixed data.

  Of a mixture so many examples are drawn. A function says with its data of
  seed 0 how many classes there are, whichever seeds are asked for.

  Raises:
    ValueError: what a function returns cannot be trained on, or a transform
      changes sizes.
  """
  fixed = said = None
  if isinstance(data, Split):
    fixed, said = data._replace(num_classes=None), data.num_classes
  origin = None if isinstance(data, Split) else data
  generated = None

  def drawing(transform):
    made = caching.remembered(_drawing, origin, num_train, num_test, transform)
    return made.telling(fixed)

  if isinstance(data, components.Spec):
    num_classes, dim = data.num_classes, data.dim
  else:
    example: Any = fixed
    if not isinstance(data, Split):
      generated = drawing(None)
      _check_shapes(data)
      example = generated(_seed(0))
      _validate(example, 0, None)
    train, test = example.train, example.test
    num_train, num_classes = len(train.y), said or int(train.y.max()) + 1
    num_test, dim = len(test.y), train.x.shape[1]
  shared = fixed if transform is None else None
  sizes = {
    'num_classes': int(num_classes),  # NumPy's too
    'dim': int(dim),
    'num_train': int(num_train),
    'num_test': int(num_test),
    'used_columns': None if shared is None else _used_columns(shared),
  }
  draw = drawing(transform)
  if transform is not None:
    split = draw.shapes(_seed(0))
    _check_sizes(split, num_train, num_test, dim)
  return Source(draw, shared, sizes, generated)


def check_seeds(source: Source, seeds: Iterable[int]) -> None:
  """Draws what a function gives for each seed, and checks its values.

  Inside of a compiled program a NaN or a label out of range goes unnoticed.

  Raises:
    ValueError: the data of a seed cannot be trained on.
  """
  if source.generated is not None:
    for seed in seeds:
      split = source.generated(_seed(seed))
      _validate(split, seed, source.sizes['num_classes'])


def _seed(seed: int) -> jax.Array:
  return jnp.asarray(np.asarray(seed))  # of the type that blocks of them have


def _check_shapes(function: Generator) -> None:
  """Of what a function of a key returns, found out without any number of it."""
  split = jax.eval_shape(
    lambda seed: function(measuring.seed_keys(seed).data), _seed(0)
  )
  parts = split[:2] if isinstance(split, Split) else (split,)
  if not all(isinstance(part, Dataset) for part in parts):
    raise ValueError(
      f'data(key) returns a {type(split).__name__}; expected '
      'ossgd.base.Split(train, test), each an ossgd.base.Dataset(x, y)'
    )
  if isinstance(split, Split) and split.num_classes is not None:
    raise ValueError(
      'data(key) says num_classes, which only fixed data can; leave it out: it '
      'is that of the labels of seed 0'
    )
  try:
    arrays.check_shapes(split)
  except ValueError as error:
    raise ValueError(f'data(key): {error}') from error


def _check_sizes(split: Split, num_train: int, num_test: int, dim: int) -> None:
  """Of what a transform makes: accuracies are counts over these numbers."""
  for name, data, n in (
    ('training', split.train, num_train),
    ('test', split.test, num_test),
  ):
    if data.x.shape != (n, dim) or data.y.shape != (n,):
      raise ValueError(
        f'transform makes {name} inputs {data.x.shape} and labels '
        f'{data.y.shape}; expected the sizes that it was given, {(n, dim)} and '
        f'{(n,)}'
      )


def _validate(split: Split, seed: int, num_classes: int | None) -> None:
  try:
    arrays.validate(split, num_classes)
  except ValueError as error:
    raise ValueError(f'data(key) of seed {seed}: {error}') from error


def _tell_norms(x: jax.Array) -> None:
  """Says so where inputs that stay as they are have no unit norm, (A2)."""
  norms = np.sqrt(np.einsum('nd,nd->n', x, x))
  low, high = norms.min(), norms.max()
  if not 0.999 < low <= high < 1.001:
    logging.info(
      'inputs of a Split stay as they are: norms from %.3g to %.3g', low, high
    )


def _used_columns(split: Split) -> tuple[int, ...] | None:
  """Those that are not zero in every example; None if all are."""
  used = np.any(split.train.x, axis=0) | np.any(split.test.x, axis=0)
  return None if used.all() else tuple(np.flatnonzero(used).tolist())


def _drawing(
  origin: components.Spec | Generator | None,
  num_train: int,
  num_test: int,
  transform: Callable[[jax.Array, Any], Split] | None,
) -> caching.Program:
  """The data of one seed, or of a block of them; told fixed data."""

  def one(seed, fixed):
    keys = measuring.seed_keys(seed)
    split = fixed
    if isinstance(origin, components.Spec):
      split = mixtures.sample(
        keys.data, origin, num_train=num_train, num_test=num_test
      )
    elif origin is not None:
      split = _float32(origin(keys.data))
    if transform is not None:
      split = _float32(transform(keys.transform, split))
    return split

  def draw(seeds, fixed):
    own = functools.partial(one, fixed=fixed)
    return jax.vmap(own)(seeds) if seeds.ndim else own(seeds)

  return caching.Program(caching.jit(draw))


def _float32(split: Split) -> Split:
  """Inputs of the type that all else has, in JAX's 64-bit mode as well."""
  train, test = (
    Dataset(jnp.asarray(x, jnp.float32), y)
    for x, y in (split.train, split.test)
  )
  return split._replace(train=train, test=test)
