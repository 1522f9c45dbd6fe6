"""One run: one seed at one width, started, advanced and measured.

Pure functions that `sweeps` compiles, alone or under `vmap` over seeds.
"""

import numbers
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from jax.typing import ArrayLike

from ossgd.engines import meshes
from ossgd.paper import metrics, network
from ossgd.paper.types import Dataset, Params, Split

# (params, params at initialisation, data) -> arrays by name
Extra = Callable[[Params, Params, Split], dict[str, jax.Array]]

# An evaluation holds at most this many pre-activations at a time, on each
# device (256 MB); between devices, every batch of it waits for a sum.
EVALUATED_AT_ONCE = 2**26


class SeedKeys(NamedTuple):
  """The named subkeys of one seed."""

  data: jax.Array
  init: jax.Array
  order: jax.Array
  transform: jax.Array


class Reference(NamedTuple):
  """Where a run began, which it is compared with ever after."""

  params: Params
  pattern: jax.Array  # of the test examples: (n, m) bool


class Record(NamedTuple):
  """What is measured at a recorded step: scalars."""

  test_correct: jax.Array  # number of examples, int32
  test_loss: jax.Array
  pattern_difference: jax.Array | None
  train_correct: jax.Array
  train_loss: jax.Array
  relative_distance: jax.Array


def check_seeds(seed: int, num_seeds: int) -> None:
  """Raises ValueError for seeds that do not exist.

  A seed travels as an int32: 2^32 would be seed 0 under another name, and what
  a negative one is depends on JAX's 64-bit mode.
  """
  for name, value in (('seed', seed), ('num_seeds', num_seeds)):
    if not isinstance(value, numbers.Integral):
      raise ValueError(f'{name} is {value!r}; expected an integer')
  if seed < 0 or seed + num_seeds > 2**31:
    raise ValueError(
      f'seed is {seed} and num_seeds {num_seeds}; expected seeds from 0 to '
      f'{2**31 - 1}'
    )


def seed_keys(seed: ArrayLike) -> SeedKeys:
  """Subkeys of the seed's master key, `jax.random.key(seed)`.

  All widths share the data and the order of the examples.
  """
  return SeedKeys(*jax.random.split(jax.random.key(seed), 4))


def draw_params(
  key: jax.Array, *, width: int, dim: int, num_classes: int, scale: float
) -> Params:
  """A seed's initialisation at one width, from its init key.

  The width is folded in: else the rows of a narrow network would be rows of
  every wider one, and widths would not be independent samples.
  """
  return network.init_params(
    jax.random.fold_in(key, width),
    width=width,
    dim=dim,
    num_classes=num_classes,
    scale=scale,
  )


def reference(params: Params, split: Split, *, shards: int = 1) -> Reference:
  """A run's initialisation, and the test examples' pattern there.

  The units are split into `shards` parts, each on a device of its own.
  """

  def initial_pattern(x):
    return network.pattern(params.w, x[None])[0]

  share = params.w.shape[0] // shards
  return Reference(params, _over_examples(initial_pattern, split.test.x, share))


def measure(
  w: jax.Array,
  begun: Reference,
  split: Split,
  *,
  num_train_eval: int | None,
  of_g: bool = False,
  shards: int = 1,
) -> Record:
  """What is measured at a recorded step, from the weights.

  Args:
    w: today's weights, (m, d).
    begun: where the run began.
    split: the data.
    num_train_eval: training loss and accuracy are over the first so many
      training examples; over all if None.
    of_g: loss and accuracy are those of the pseudo-network g, not of f.
    shards: parts that the units are split into, each on a device of its own.
  """
  params = Params(w, begun.params.a)
  w0 = begun.params.w if of_g else None
  some = Dataset(*(rows[:num_train_eval] for rows in split.train))
  train_correct, train_loss, _ = evaluate(params, some, w0=w0, shards=shards)
  correct, loss, difference = evaluate(
    params, split.test, begun.pattern, w0=w0, shards=shards
  )
  distance = metrics.relative_distance(w, begun.params.w)
  return Record(correct, loss, difference, train_correct, train_loss, distance)


def measure_logits(
  logits: jax.Array, split: Split, num_train_eval: int | None
) -> Record:
  """What logits alone say, several times: training examples first, (P, n, k).

  Pattern difference and distance are left to be filled in.
  """
  num_train = split.train.x.shape[0]
  train = Dataset(*(rows[:num_train_eval] for rows in split.train))

  def one(f):
    f_train, f_test = f[: len(train.y)], f[num_train:]
    return Record(
      test_correct=metrics.num_correct(f_test, split.test.y),
      test_loss=network.loss(f_test, split.test.y),
      pattern_difference=None,
      train_correct=metrics.num_correct(f_train, train.y),
      train_loss=network.loss(f_train, train.y),
      relative_distance=jnp.zeros(()),
    )

  return jax.vmap(one)(logits)


def evaluate(
  params: Params,
  data: Dataset,
  pattern: jax.Array | None = None,
  *,
  w0: jax.Array | None = None,
  shards: int = 1,
) -> tuple[jax.Array, jax.Array, jax.Array | None]:
  """Correct answers, loss and pattern difference, in bounded memory.

  Args:
    params: w (m, d), a (k, m).
    data: n examples.
    pattern: the pattern to compare with, (n, m) bool, if any.
    w0: w(0), (m, d), for the outputs of g, whose pattern is that of w(0).
    shards: parts that the units are split into, each on a device of its own.

  Returns:
    Three scalars, the first an int32; the last is None without a pattern.
  """

  def one(example):
    x, y, p0 = example
    h = network.preactivations(params.w, x[None])
    p = h >= 0
    gate = p if w0 is None else network.pattern(w0, x[None])
    f = network.gated_logits(params.a, h, gate)
    difference = None if p0 is None else metrics.pattern_difference(p[0], p0)
    correct = metrics.num_correct(f, y[None])
    return correct, network.loss(f, y[None]), difference

  correct, *means = _over_examples(
    one, (*data, pattern), params.w.shape[0] // shards
  )
  loss, difference = jax.tree.map(jnp.mean, means)
  return jnp.sum(correct, dtype=jnp.int32), loss, difference


def finish(
  w: jax.Array,
  begun: Params,
  split: Split,
  *,
  extra: Extra | None,
  mesh: Mesh | None = None,
) -> dict[str, jax.Array]:
  """What is measured once, after the last step.

  Args:
    w: w(T), (m, d).
    begun: the parameters at initialisation.
    split: the data.
    extra: more to measure.
    mesh: over which the units are split, if any.

  Returns:
    Singular values of the accumulated update w(T) - w(0) and of w(T), each
    (min(m, d),), and what `extra` returned.
  """
  spectra = {
    'singular_values_update': _spectrum(w - begun.w, mesh),
    'singular_values_weights': _spectrum(w, mesh),
  }
  trained = Params(w, begun.a)
  return spectra | (extra(trained, begun, split) if extra else {})


def _spectrum(w: jax.Array, mesh: Mesh | None) -> jax.Array:
  """`metrics.spectrum`; devices with more units than coordinates begin alone.

  Each sends its triangle, which has the Gram matrix of its rows.
  """
  share = w.shape[0] // meshes.shards(mesh)[1]
  if mesh is not None and share > w.shape[1]:
    w = jax.shard_map(
      metrics.triangle,
      mesh=mesh,
      in_specs=meshes.ROWS,
      out_specs=meshes.ROWS,
      check_vma=False,
    )(w)
  return metrics.spectrum(w)


def _over_examples(one: Callable, examples, share: int):
  """`vmap` in batches small enough for a device's share of each one's units."""
  at_once = max(1, EVALUATED_AT_ONCE // share)
  return jax.lax.map(one, examples, batch_size=at_once)
