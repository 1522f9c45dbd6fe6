"""What optax's optimizers want besides a gradient, and where they are judged.

An optimizer is a function of the step size that returns a transformation. Its
updates are given the weights, and the loss to those that ask for it; random
keys in its state become each seed's own; and some train at one point and are to
be judged at another.
"""

import functools
import inspect
import itertools
import re
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from ossgd.paper import network
from ossgd.paper.model import Model
from ossgd.paper.types import Dataset, Params

Optimizer = Callable[[float], optax.GradientTransformation]
Loss = Callable[[Any], jax.Array]  # of what is moved -> scalar

_OF_THE_LOSS = ('value', 'grad', 'value_fn')  # optax's names
_EPOCHS = 2**32 - 1  # more than there are: the order of each is folded in, too


def is_linear(optimizer: Optimizer) -> bool:
  """Whether updates are known to be a product with the step size.

  Then it may be traced. Others may branch on it, or round it otherwise.
  """
  if isinstance(optimizer, functools.partial):
    named = optimizer.args or 'learning_rate' in optimizer.keywords
    return optimizer.func is optax.sgd and not named
  return optimizer is optax.sgd


def batch_loss(
  start_params: Params, batch: Dataset, model: Model, *, of_g: bool
) -> Loss:
  """The loss of a batch, that of f or of g, as a function of what is moved.

  That is w, (m, d), or the parameters where both layers are trained.

  Args:
    start_params: at w(0), whose pattern g has, and a where it stays.
    batch: examples.
    model: what is trained.
    of_g: g's loss, not f's.
  """

  def loss(moving):
    both = isinstance(moving, Params)
    w, a = moving if both else (moving, start_params.a)
    h = network.preactivations(w, batch.x)
    if of_g:
      h0 = network.preactivations(start_params.w, batch.x)
      f = network.linearised_outputs(a, h, h0, model)
    else:
      f = network.outputs(a, h, model)
    return network.loss(f, batch.y, model=model)

  return loss


def update(
  transformation: optax.GradientTransformation,
  gradient: Any,
  state: optax.OptState,
  moving: Any,
  loss: Loss | None,
) -> tuple[Any, optax.OptState]:
  """An optimizer's update, and its state after it.

  Args:
    transformation: what the optimizer made.
    gradient: in what is moved.
    state: of the optimizer.
    moving: w, (m, d), or the parameters where both layers are trained.
    loss: what the gradient is that of, for an optimizer that asks for `value`,
      `grad` or `value_fn`; None where there is no such function.

  Raises:
    ValueError: it asks, and there is none.
  """
  names = asked_for(transformation, moving)
  if not names:
    return transformation.update(gradient, state, moving)
  if loss is None:
    raise ValueError(
      'it asks for the loss, and gradient_fn is the gradient of none that is '
      'known; expected sgd.true_gradient or sgd.pseudo_network_gradient with it'
    )
  known = {'value': loss(moving), 'grad': gradient, 'value_fn': loss}
  extra: Any = transformation.update  # its extra arguments have no type
  return extra(gradient, state, moving, **{n: known[n] for n in names})


def asked_for(
  transformation: optax.GradientTransformation, moving: Any
) -> tuple[str, ...]:
  """The extra arguments that an update makes use of, or that it stops without.

  Most take any and look at none: they are not given a loss that would have to
  be computed.
  """
  if not isinstance(transformation, optax.GradientTransformationExtraArgs):
    return ()
  parameters = inspect.signature(transformation.update).parameters
  takes_any = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
  names = tuple(n for n in _OF_THE_LOSS if takes_any or n in parameters)
  unusable = dict.fromkeys(names, object())

  def without(values):
    state = transformation.init(values)
    return transformation.update(values, state, values, **unusable)

  try:
    jax.eval_shape(without, moving)
  except Exception:  # of whatever kind: it is another's code
    return names
  return ()


def seeded(state: optax.OptState, key: jax.Array, width: int) -> optax.OptState:
  """An optimizer's first state, with random keys that are the seed's own.

  An optimizer knows no seed, so all would draw the same noise. Its keys are
  folded with the seed's and the width: those of JAX's key type wherever they
  are, and those of uint32 in a field that is named for a key. Two that are the
  same are so no longer.

  Args:
    state: before the first step.
    key: of the seed's order of examples, not consumed.
    width: m.
  """

  counted = itertools.count()

  def own(known):
    mine = jax.random.fold_in(jax.random.fold_in(key, _EPOCHS), width)
    mine = jax.random.fold_in(mine, next(counted))
    return jax.random.fold_in(known, jax.random.bits(mine, dtype=jnp.uint32))

  def one(path, leaf):
    kind = jnp.result_type(leaf)  # of Python's numbers as well
    if jax.dtypes.issubdtype(kind, jax.dtypes.prng_key):
      return own(leaf)
    named = path and re.search('key|rng', str(path[-1]))
    if not named or kind != jnp.uint32:
      return leaf
    return jax.random.key_data(own(jax.random.wrap_key_data(leaf)))

  return jax.tree_util.tree_map_with_path(one, state)


def shapes(width: int, dim: int, num_classes: int, model: Model) -> Any:
  """What is moved, as shapes: w, or Params where both layers are trained."""
  m, d, k = int(width), int(dim), int(num_classes)
  w: Any = jax.ShapeDtypeStruct((m, d), jnp.float32)
  a: Any = jax.ShapeDtypeStruct((k, m), jnp.float32)
  return Params(w, a) if model.layers == 'both' else w


def size(transformation: optax.GradientTransformation, moving: Any) -> int:
  """How many numbers an optimizer keeps of what it moves, given as shapes."""
  state = jax.eval_shape(transformation.init, moving)
  return sum(leaf.size for leaf in jax.tree.leaves(state))


def averages(
  state: optax.OptState,
) -> tuple[optax.contrib.ScheduleFreeState, ...]:
  """What `judged` needs of an optimizer's state."""
  kind = optax.contrib.ScheduleFreeState
  nodes = jax.tree.leaves(state, is_leaf=lambda node: isinstance(node, kind))
  found = (node for node in nodes if isinstance(node, kind))
  return tuple(node._replace(base_optimizer_state=()) for node in found)


def judged(
  found: tuple[optax.contrib.ScheduleFreeState, ...], moving: Any
) -> Any:
  """The weights that an optimizer is to be judged at, of those it moves.

  They are the same, but for `optax.contrib.schedule_free`. It moves y and is
  judged at the average x, with y = (1 - b_1) z + b_1 x:

    x = y + (1 / b_1 - 1) (y - z),

  which is w(0) to the bit before the first step.

  Args:
    found: of its state, by `averages`.
    moving: w, or the parameters.
  """
  for one in found:

    def average(y, z, rest=1 / one.b1 - 1):
      another = isinstance(z, optax.MaskedNode)  # of another optimizer
      return y if another else y + rest * (y - z)

    moving = jax.tree.map(average, moving, one.z)
  return moving


def check(
  optimizer: Optimizer,
  make: Callable[[], optax.GradientTransformation],
  moving: Any,
  *,
  loss: bool,
) -> None:
  """Tries an optimizer on the shapes of a run; nothing is computed.

  Args:
    optimizer: from step size to transformation.
    make: the transformation of a run, which it makes.
    moving: what it moves, as shapes: w, or the parameters.
    loss: whether the gradient is that of a known loss.

  Raises:
    ValueError: it fails, asks for what it cannot have, or its updates or states
      have shapes of their own.
  """

  def any_loss(values):
    # Fails on a part of what is moved, as the loss of both layers would.
    each = jax.tree.map(lambda _, v: jnp.sum(v), moving, values)
    return sum(jax.tree.leaves(each))

  def first(values, key):
    state = seeded(transformation.init(values), key, 1)
    known = any_loss if loss else None
    return state, *update(transformation, values, state, values, known)

  try:
    transformation = make()
    key = jax.eval_shape(lambda: jax.random.key(0))
    before, updates, after = jax.eval_shape(first, moving, key)
  except Exception as error:  # of whatever kind: it is another's code
    said = (str(error) or type(error).__name__).strip().splitlines()[0]
    said = f'optimizer {name_of(optimizer)} cannot be used: {said.rstrip(".")}'
    if '; expected ' not in said:
      said += (
        '; expected a function of the step size alone, such as optax.adam or '
        'functools.partial(optax.sgd, momentum=0.9), whose update needs no '
        'more than params, value, grad and value_fn'
      )
    raise ValueError(said) from error
  shapes, own = (
    jax.tree.map(lambda v: v.shape, tree) for tree in (moving, updates)
  )
  if own != shapes:
    raise ValueError(
      f'optimizer {name_of(optimizer)} cannot be used: of a gradient {shapes} '
      f'it makes an update {own}; expected the same shape'
    )
  changed = [f'{there} to {here}' for there, here in _changes(before, after)]
  if changed:
    raise ValueError(
      f'optimizer {name_of(optimizer)} cannot be used: an update changes its '
      f'state from {changed[0]}; expected the same shapes and types'
    )


def _changes(before: Any, after: Any) -> list[tuple[str, str]]:
  """How a tree of arrays differs from another one."""
  there, here = (str(jax.tree.structure(tree)) for tree in (before, after))
  if there != here:
    return [(there, here)]
  types = (
    [f'{v.dtype}{list(v.shape)}' for v in jax.tree.leaves(tree)]
    for tree in (before, after)
  )
  return [pair for pair in zip(*types, strict=True) if pair[0] != pair[1]]


def name_of(function: Any) -> str:
  """What it is called where it comes from, with what a partial gives it."""
  if not isinstance(function, functools.partial):
    return getattr(function, '__name__', type(function).__name__)
  given = [f'{name}={value!r:.50}' for name, value in function.keywords.items()]
  given = [f'{value!r:.50}' for value in function.args] + given
  return f'{name_of(function.func)}({", ".join(given)})'
