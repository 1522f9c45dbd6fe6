"""One run: one seed at one width, started, advanced and measured.

Pure functions that `compiled` makes programs of, alone or under `vmap` over
seeds.
"""

import functools
import numbers
import operator
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from jax.typing import ArrayLike

from ossgd.engines import meshes
from ossgd.paper import metrics, network
from ossgd.paper.model import PAPER, Model
from ossgd.paper.types import Dataset, Params, Split

Examples = Literal['test', 'train']  # which of the two data sets
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
  pattern: jax.Array | None  # of the test examples, if any: (n, m) bool


class Metric(NamedTuple):
  """A quantity of every recorded step: results' variable of that name.

  `needs` says what `value` is a function of:

  'logits': (f, y) -> scalar, (n, k) and (n,), of the test set or of the
    training set: a mean over examples, or, if `counted`, how many of them,
    int32, which becomes a fraction in the results.
  'pattern': (p, p0) -> bool, the pattern of today and of w(0), element by
    element: measured is the fraction of (unit, test example) pairs where it
    is True.
  'weights': (w, w0) -> scalar, (m, d) each. All engines know the distance; for
    any other one `plain` is the only engine.
  """

  name: str
  needs: Literal['logits', 'pattern', 'weights']
  value: Callable
  examples: Examples = 'test'
  counted: bool = False


DISTANCE = 'relative_distance'
# All that is measured at a recorded step, in the results' order: engines,
# checkpoints and results follow from it.
METRICS = (
  Metric('test_loss', 'logits', network.loss),
  Metric('pattern_difference', 'pattern', operator.ne),
  Metric('train_loss', 'logits', network.loss, 'train'),
  Metric(DISTANCE, 'weights', metrics.relative_distance),
  Metric('test_accuracy', 'logits', metrics.num_correct, counted=True),
  Metric('train_accuracy', 'logits', metrics.num_correct, 'train', True),
)
Record = dict[str, Any]  # what is measured, by name: arrays


def metrics_of(model: Model) -> tuple[Metric, ...]:
  """METRICS with the model's loss, and of patterns only where it has them."""
  loss = functools.partial(network.loss, model=model)
  return tuple(
    metric._replace(value=loss) if metric.value is network.loss else metric
    for metric in METRICS
    if metric.needs != 'pattern' or model.piecewise_linear
  )


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
  key: jax.Array,
  *,
  width: int,
  dim: int,
  num_classes: int,
  scale: float,
  model: Model = PAPER,
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
    model=model,
  )


def reference(
  params: Params, split: Split, *, shards: int = 1, model: Model = PAPER
) -> Reference:
  """A run's initialisation, and the test examples' pattern there, if any.

  The units are split into `shards` parts, each on a device of its own.
  """
  if not model.piecewise_linear:
    return Reference(params, None)

  def initial_pattern(x):
    return network.pattern(params.w, x[None])[0]

  share = params.w.shape[0] // shards
  return Reference(params, _over_examples(initial_pattern, split.test.x, share))


def measure(
  params: Params,
  begun: Reference,
  split: Split,
  *,
  num_train_eval: int | None,
  of_g: bool = False,
  shards: int = 1,
  model: Model = PAPER,
) -> Record:
  """What is measured at a recorded step, from the weights.

  Args:
    params: today's.
    begun: where the run began.
    split: the data.
    num_train_eval: training loss and accuracy are over the first so many
      training examples; over all if None.
    of_g: loss and accuracy are those of the pseudo-network g, not of f.
    shards: parts that the units are split into, each on a device of its own.
    model: of activation and loss.
  """
  some = Dataset(*(rows[:num_train_eval] for rows in split.train))
  evaluated = functools.partial(
    evaluate,
    params=params,
    w0=begun.params.w if of_g else None,
    shards=shards,
    model=model,
  )
  return (
    evaluated('train', data=some)
    | evaluated('test', data=split.test, pattern=begun.pattern)
    | {
      metric.name: metric.value(params.w, begun.params.w)
      for metric in METRICS
      if metric.needs == 'weights'
    }
  )


def of_logits(
  examples: Examples, f: jax.Array, y: jax.Array, model: Model = PAPER
) -> Record:
  """The metrics of a data set's logits: (n, k) and labels (n,) -> scalars."""
  return {
    metric.name: metric.value(f, y)
    for metric in metrics_of(model)
    if (metric.needs, metric.examples) == ('logits', examples)
  }


def of_pattern(p: ArrayLike, p0: ArrayLike) -> dict[str, jax.Array]:
  """Where the metrics of the pattern are True: (n, m) twice -> (n, m)."""
  return {
    metric.name: metric.value(p, p0)
    for metric in METRICS
    if metric.needs == 'pattern'
  }


def evaluate(
  examples: Examples,
  params: Params,
  data: Dataset,
  pattern: jax.Array | None = None,
  *,
  w0: jax.Array | None = None,
  shards: int = 1,
  model: Model = PAPER,
) -> Record:
  """The metrics of logits and of the pattern, in bounded memory.

  Args:
    examples: what the data are.
    params: w (m, d), a (k, m).
    data: n examples.
    pattern: the pattern to compare with, (n, m) bool, if any.
    w0: w(0), (m, d), for the outputs of g, which is f linearised there.
    shards: parts that the units are split into, each on a device of its own.
    model: of activation and loss.
  """

  def one(example):
    x, y, p0 = example
    h = network.preactivations(params.w, x[None])
    if w0 is None:
      f = network.outputs(params.a, h, model)
    else:
      h0 = network.preactivations(w0, x[None])
      f = network.linearised_outputs(params.a, h, h0, model)
    found = of_logits(examples, f, y[None], model)
    if p0 is not None:
      found |= jax.tree.map(metrics.share, of_pattern(h[0] >= 0, p0))
    return found

  each = _over_examples(one, (*data, pattern), params.w.shape[0] // shards)
  counted = {metric.name for metric in METRICS if metric.counted}
  return {
    name: jnp.sum(v, dtype=jnp.int32) if name in counted else jnp.mean(v)
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
