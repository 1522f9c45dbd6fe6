"""One run: one seed at one width, started, advanced and measured.

Pure functions that `compiled` makes programs of, alone or under `vmap` over
seeds.
"""

import numbers
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from jax.typing import ArrayLike

from ossgd.engines import meshes
from ossgd.paper import metrics, network
from ossgd.paper.model import PAPER, Model
from ossgd.paper.types import Dataset, Params, Split
from ossgd.recording import recorders as recording
from ossgd.recording.recorders import STANDARD, Examples, Record, Recorder

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
  # Of the examples that recorders look at it for: (n, m) bool.
  patterns: dict[Examples, jax.Array]


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


def draw_params(key: jax.Array, *, width: int, **others: Any) -> Params:
  """A seed's initialisation at one width: `network.init_params`, by its key.

  The width is folded in: else the rows of a narrow network would be rows of
  every wider one, and widths would not be independent samples.
  """
  own = jax.random.fold_in(key, width)
  return network.init_params(own, width=width, **others)


def evaluated(
  split: Split, num_train_eval: int | None
) -> dict[Examples, Dataset]:
  """What is measured on: the first so many training examples, all if None."""
  some = Dataset(*(rows[:num_train_eval] for rows in split.train))
  return {'train': some, 'test': split.test}


def reference(
  params: Params,
  split: Split,
  *,
  num_train_eval: int | None = None,
  shards: int = 1,
  recorders: Sequence[Recorder] = STANDARD,
) -> Reference:
  """A run's initialisation, and the examples' patterns there.

  The units are split into `shards` parts, each on a device of its own.
  """

  def initial_pattern(x):
    return network.pattern(params.w, x[None])[0]

  share = params.w.shape[0] // shards
  wanted = {r.examples for r in recording.of_kind(recorders, 'of_pattern')}
  patterns = {
    examples: _over_examples(initial_pattern, data.x, share)
    for examples, data in evaluated(split, num_train_eval).items()
    if examples in wanted
  }
  return Reference(params, patterns)


def measure(
  params: Params,
  begun: Reference,
  split: Split,
  *,
  num_train_eval: int | None,
  of_g: bool = False,
  mesh: Mesh | None = None,
  recorders: Sequence[Recorder] = STANDARD,
  model: Model = PAPER,
) -> Record:
  """What is measured at a recorded step, from the weights.

  Args:
    params: today's.
    begun: where the run began.
    split: the data.
    num_train_eval: of the training examples the first so many; all if None.
    of_g: logits are those of the pseudo-network g, not of f.
    mesh: over which the units are split, if any.
    recorders: what to measure.
    model: of the activation.
  """
  w0 = begun.params.w
  data = evaluated(split, num_train_eval)
  record = _of_units(recorders, params, w0, data, mesh)
  for examples, some in data.items():
    record |= evaluate(
      examples,
      params,
      some,
      begun.patterns.get(examples),
      w0=w0 if of_g else None,
      shards=meshes.shards(mesh)[1],
      recorders=recorders,
      model=model,
    )
  return record | recording.of_weights(recorders, params.w, w0)


def _of_units(
  recorders: Sequence[Recorder],
  params: Params,
  w0: jax.Array,
  data: dict[Examples, Dataset],
  mesh: Mesh | None,
) -> Record:
  """What is measured of units; on a mesh every device goes through its own."""
  wanted = {r.examples for r in recording.of_kind(recorders, 'of_units')}
  inputs = {name: data[name].x for name in data if name in wanted}
  if not inputs:
    return {}
  # Pre-activations of today and of w(0), and what is computed of them.
  held = 4 * sum(x.shape[0] for x in inputs.values())

  def of_own(params, w0, inputs):
    at_once = max(1, EVALUATED_AT_ONCE // held)
    record = recording.of_all_units(recorders, params, w0, inputs, at_once)
    if mesh is None:
      return record
    return recording.across(recorders, record, meshes.UNIT)

  if mesh is None:
    return of_own(params, w0, inputs)
  return jax.shard_map(
    of_own,
    mesh=mesh,
    in_specs=(Params(meshes.ROWS, meshes.COLUMNS), meshes.ROWS, meshes.WHOLE),
    out_specs=meshes.WHOLE,
    check_vma=False,  # they begin with nothing, the same on all devices
  )(params, w0, inputs)


def evaluate(
  examples: Examples,
  params: Params,
  data: Dataset,
  pattern: jax.Array | None = None,
  *,
  w0: jax.Array | None = None,
  shards: int = 1,
  recorders: Sequence[Recorder] = STANDARD,
  model: Model = PAPER,
) -> Record:
  """What is measured of logits and of the pattern, in bounded memory.

  Args:
    examples: what the data are.
    params: w (m, d), a (k, m).
    data: n examples.
    pattern: the pattern to compare with, (n, m) bool, if any.
    w0: w(0), (m, d), for the outputs of g, which is f linearised there.
    shards: parts that the units are split into, each on a device of its own.
    recorders: what to measure.
    model: of the activation.
  """

  apart, whole = (
    [recorder for recorder in recorders if recorder.mean == mean]
    for mean in (True, False)
  )
  of_whole = recording.of_kind(whole, 'of_logits', examples)

  def one(example):
    x, y, p0 = example
    h = network.preactivations(params.w, x[None])
    if w0 is None:
      f = network.outputs(params.a, h, model)
    else:
      h0 = network.preactivations(w0, x[None])
      f = network.linearised_outputs(params.a, h, h0, model)
    found = recording.of_logits(apart, examples, f, y[None])
    if p0 is not None:
      holds = recording.of_pattern(recorders, examples, h[0] >= 0, p0)
      found |= jax.tree.map(metrics.share, holds)
    return found, f[0] if of_whole else None

  share = params.w.shape[0] // shards
  each, f = _over_examples(one, (*data, pattern), share)
  return recording.of_logits(of_whole, examples, f, data.y) | {
    name: jnp.sum(v, dtype=jnp.int32) if v.dtype == jnp.int32 else jnp.mean(v)
    for name, v in each.items()
  }


def finish(
  trained: Params,
  begun: Params,
  split: Split,
  *,
  extra: Extra | None,
  mesh: Mesh | None = None,
) -> dict[str, jax.Array]:
  """What is measured once, after the last step.

  Args:
    trained: the parameters after the last step.
    begun: the parameters at initialisation.
    split: the data.
    extra: more to measure.
    mesh: over which the units are split, if any.

  Returns:
    Singular values of the accumulated update w(T) - w(0) and of w(T), each
    (min(m, d),), and what `extra` returned.
  """
  spectra = {
    'singular_values_update': _spectrum(trained.w - begun.w, mesh),
    'singular_values_weights': _spectrum(trained.w, mesh),
  }
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
