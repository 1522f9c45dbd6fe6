"""Recorders: what is measured at every recorded step, each a pure function.

A recorder says what its function is a function of, and all engines know how to
measure that. The library's own are entries of a table, as a user's are.
"""

import dataclasses
import functools
import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from ossgd.paper import metrics, network
from ossgd.paper.model import PAPER, Model
from ossgd.paper.types import Params

Examples = Literal['test', 'train']  # which of the two data sets
EXAMPLES: tuple[Examples, ...] = get_args(Examples)
Reduction = Literal['sum', 'min', 'max']
Kind = Literal['of_logits', 'of_units', 'of_pattern', 'of_weights']
Record = dict[str, Any]  # what is measured, by name: arrays
KINDS: tuple[Kind, ...] = get_args(Kind)


@dataclasses.dataclass(frozen=True)
class Recorder:
  """A quantity of every recorded step: the results' variable of that name.

  Exactly one of four pure functions of JAX arrays says what it is; n are
  examples, b hidden units, k classes:

  of_logits(f, y): of logits (n, k) and labels (n,).
  of_units(h, h0, a): of any block of units: pre-activations <w_r(t), x> and
    <w_r(0), x>, (n, b) each, and output weights (k, b). The values of all
    blocks are added up; `reduce` keeps the least or the largest instead.
  of_pattern(p, p0): of activation patterns, today's and that of w(0), element
    by element: bool. Measured is the fraction of (unit, example) pairs where
    it is True.
  of_weights(w, w0): of weights (m, d) each, which only the plain engine has at
    every recorded step.

  A function returns an array of float32 or integers, of any shape that does
  not depend on b: the results have it with dims width, seed, step and NAME_0,
  NAME_1, ... So a mean over units is a sum, divided by m afterwards.
  """

  name: str  # a Python identifier
  of_logits: Callable[[jax.Array, jax.Array], jax.Array] | None = None
  of_units: Callable[[jax.Array, jax.Array, jax.Array], jax.Array] | None = None
  of_pattern: Callable[[Any, Any], Any] | None = None
  of_weights: Callable[[jax.Array, jax.Array], jax.Array] | None = None
  # All test examples, or the training examples that the loss is measured on.
  examples: Examples = 'test'
  reduce: Reduction = 'sum'  # over blocks of units
  # `of_logits` is the mean of what it is of each example alone, so that they
  # may come in parts; or, as int32, the number of examples of some kind, which
  # the results have divided by n, in float64.
  mean: bool = False

  @property
  def kind(self) -> Kind:
    """Which function it has.

    Raises:
      ValueError: it has none, or several.
    """
    kinds = [kind for kind in KINDS if getattr(self, kind) is not None]
    if len(kinds) != 1:
      raise ValueError(
        f'recorder {self.name} has {" and ".join(kinds) or "no function"}; '
        f'expected one of {", ".join(KINDS)}'
      )
    return kinds[0]

  @property
  def function(self) -> Callable[..., Any]:
    """The function that it has."""
    return getattr(self, self.kind)


DISTANCE = 'relative_distance'
# What every run measures, in the results' order.
STANDARD = (
  Recorder('test_loss', network.loss, mean=True),
  Recorder('pattern_difference', of_pattern=operator.ne),
  Recorder('train_loss', network.loss, examples='train', mean=True),
  Recorder(DISTANCE, of_weights=metrics.relative_distance),
  Recorder('test_accuracy', metrics.num_correct, mean=True),
  Recorder('train_accuracy', metrics.num_correct, examples='train', mean=True),
)


def standard(model: Model) -> tuple[Recorder, ...]:
  """STANDARD with the model's loss; of patterns only if it has them."""
  if model == PAPER:
    return STANDARD
  loss = functools.partial(network.loss, model=model)
  return tuple(
    dataclasses.replace(recorder, of_logits=loss)
    if recorder.of_logits is network.loss
    else recorder
    for recorder in STANDARD
    if recorder.of_pattern is None or model.piecewise_linear
  )


def of_kind(
  recorders: Iterable[Recorder], kind: Kind, examples: Examples | None = None
) -> list[Recorder]:
  """Those with such a function, of those examples if given."""
  return [
    recorder
    for recorder in recorders
    if recorder.kind == kind and examples in (None, recorder.examples)
  ]


def none_of(
  recorders: Iterable[Recorder], shapes: Mapping[str, jax.ShapeDtypeStruct]
) -> Record:
  """What recorders of units have of no unit, in shapes and dtypes by name."""

  def one(reduce, shape):
    if reduce == 'sum':
      return jnp.zeros(shape.shape, shape.dtype)
    ends: Any = (-np.inf, np.inf)
    if jnp.issubdtype(shape.dtype, jnp.integer):
      ends = jnp.iinfo(shape.dtype).min, jnp.iinfo(shape.dtype).max
    return jnp.full(shape.shape, ends[reduce == 'min'], shape.dtype)

  return {
    recorder.name: one(recorder.reduce, shapes[recorder.name])
    for recorder in of_kind(recorders, 'of_units')
  }


def together(
  recorders: Iterable[Recorder], record: Record, other: Record
) -> Record:
  """What recorders of units have of two blocks of them."""
  both = {'sum': jnp.add, 'min': jnp.minimum, 'max': jnp.maximum}
  return {
    recorder.name: both[recorder.reduce](
      record[recorder.name], other[recorder.name]
    )
    for recorder in of_kind(recorders, 'of_units')
  }


def across(recorders: Iterable[Recorder], record: Record, axis: str) -> Record:
  """What they have of the units of all devices along a mesh's axis."""
  all_of = {'sum': jax.lax.psum, 'min': jax.lax.pmin, 'max': jax.lax.pmax}
  return {
    recorder.name: all_of[recorder.reduce](record[recorder.name], axis)
    for recorder in of_kind(recorders, 'of_units')
  }


def of_logits(
  recorders: Iterable[Recorder],
  examples: Examples,
  f: jax.Array,
  y: jax.Array,
) -> Record:
  """What is measured of a data set's logits (n, k) and labels (n,)."""
  return {
    recorder.name: jnp.asarray(recorder.function(f, y))
    for recorder in of_kind(recorders, 'of_logits', examples)
  }


def of_pattern(
  recorders: Iterable[Recorder],
  examples: Examples,
  p: ArrayLike,
  p0: ArrayLike,
) -> Record:
  """Where recorders of a pattern are True: (n, m) bool twice -> (n, m)."""
  return {
    recorder.name: recorder.function(p, p0)
    for recorder in of_kind(recorders, 'of_pattern', examples)
  }


def of_weights(
  recorders: Iterable[Recorder], w: jax.Array, w0: jax.Array
) -> Record:
  """What is measured of weights, (m, d) twice."""
  return {
    recorder.name: jnp.asarray(recorder.function(w, w0))
    for recorder in of_kind(recorders, 'of_weights')
  }


def of_units(
  recorders: Iterable[Recorder],
  h: Mapping[Examples, jax.Array],
  h0: Mapping[Examples, jax.Array],
  a: jax.Array,
) -> Record:
  """What is measured of a block of units.

  Args:
    recorders: those of other kinds are passed over.
    h: pre-activations of each data set, (n, b).
    h0: the same at w(0), or anything where no recorder looks at them.
    a: output weights, (k, b).
  """
  found = {}
  for recorder in of_kind(recorders, 'of_units'):
    both = h[recorder.examples], h0[recorder.examples]
    found[recorder.name] = jnp.asarray(recorder.function(*both, a))
  return found


def of_all_units(
  recorders: Sequence[Recorder],
  params: Params,
  w0: jax.Array,
  x: Mapping[Examples, jax.Array],
  units_at_once: int,
) -> Record:
  """What is measured of units, from their weights.

  Args:
    recorders: those of other kinds are passed over.
    params: w (m, d), a (k, m).
    w0: w(0), (m, d).
    x: inputs of each data set, (n, d).
    units_at_once: in a block.
  """
  units = params.w.shape[0]
  size = min(units, units_at_once)

  def block(first, size):
    rows, columns, begun = (
      jax.lax.dynamic_slice_in_dim(v, first, size, axis)
      for v, axis in ((params.w, 0), (params.a, 1), (w0, 0))
    )
    h, h0 = (
      {name: network.preactivations(w, inputs) for name, inputs in x.items()}
      for w in (rows, begun)
    )
    return of_units(recorders, h, h0, columns)

  record = none_of(recorders, jax.eval_shape(lambda: block(0, 1)))
  whole, rest = divmod(units, size)

  def add(i, record):
    return together(recorders, record, block(i * size, size))

  record = jax.lax.fori_loop(0, whole, add, record)
  if rest:
    record = together(recorders, record, block(whole * size, rest))
  return record
