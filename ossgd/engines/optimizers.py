"""What optax's optimizers want besides a gradient, and where they are judged.

An optimizer is a function of the step size that returns a transformation. Its
updates are given the weights, and the loss to those that ask for it; random
keys in its state become each seed's own; and some train at one point and are to
be judged at another.
"""

import inspect
import re
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

Optimizer = Callable[[float], optax.GradientTransformation]
Loss = Callable[[jax.Array], jax.Array]  # of the batch: w (m, d) -> scalar

_OF_THE_LOSS = ('value', 'grad', 'value_fn')  # optax's names
_EPOCHS = 2**32 - 1  # more than there are: the order of each is folded in, too


def update(
  transformation: optax.GradientTransformation,
  gradient: jax.Array,
  state: optax.OptState,
  w: jax.Array,
  loss: Loss | None,
) -> tuple[jax.Array, optax.OptState]:
  """An optimizer's update, and its state after it.

  Args:
    transformation: what the optimizer made.
    gradient: in w, (m, d).
    state: of the optimizer.
    w: weights, (m, d).
    loss: what the gradient is that of, for an optimizer that asks for `value`,
      `grad` or `value_fn`; None where there is no such function.

  Raises:
    ValueError: it asks, and there is none.
  """
  names = asked_for(transformation, w)
  if not names:
    return transformation.update(gradient, state, w)
  if loss is None:
    raise ValueError(
      'it asks for the loss, and gradient_fn is the gradient of none that is '
      'known; expected sgd.true_gradient or sgd.pseudo_network_gradient with it'
    )
  known = {'value': loss(w), 'grad': gradient, 'value_fn': loss}
  extra: Any = transformation.update  # its extra arguments have no type
  return extra(gradient, state, w, **{name: known[name] for name in names})


def asked_for(
  transformation: optax.GradientTransformation, w: Any
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

  def without(w):
    return transformation.update(w, transformation.init(w), w, **unusable)

  try:
    jax.eval_shape(without, w)
  except Exception:  # of whatever kind: it is another's code
    return names
  return ()


def seeded(state: optax.OptState, key: jax.Array, width: int) -> optax.OptState:
  """An optimizer's first state, with random keys that are the seed's own.

  An optimizer knows no seed, so all would draw the same noise. Its keys are
  folded with the seed's and the width: those of JAX's key type wherever they
  are, and those of uint32 in a field that is named for a key.

  Args:
    state: before the first step.
    key: of the seed's order of examples, not consumed.
    width: m.
  """

  def own(known):
    mine = jax.random.fold_in(jax.random.fold_in(key, _EPOCHS), width)
    return jax.random.fold_in(known, jax.random.bits(mine, dtype=jnp.uint32))

  def one(path, leaf):
    if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
      return own(leaf)
    named = path and re.search('key|rng', str(path[-1]))
    if not named or leaf.dtype != jnp.uint32:
      return leaf
    return jax.random.key_data(own(jax.random.wrap_key_data(leaf)))

  return jax.tree_util.tree_map_with_path(one, state)


def size(optimizer: Optimizer, step_size: float, shape: tuple[int, int]) -> int:
  """How many numbers an optimizer keeps from one step to the next.

  Args:
    optimizer: from step size to transformation.
    step_size: eta.
    shape: of w, (m, d).
  """
  w = jax.ShapeDtypeStruct(shape, jnp.float32)
  state = jax.eval_shape(optimizer(step_size).init, w)
  return sum(leaf.size for leaf in jax.tree.leaves(state))


def averaged(state: optax.OptState) -> optax.contrib.ScheduleFreeState | None:
  """What `judged` needs of an optimizer's state."""
  kind = optax.contrib.ScheduleFreeState
  nodes = jax.tree.leaves(state, is_leaf=lambda node: isinstance(node, kind))
  found = next((node for node in nodes if isinstance(node, kind)), None)
  return found and found._replace(base_optimizer_state=())


def judged(state: optax.OptState, w: jax.Array) -> jax.Array:
  """The weights that an optimizer is to be judged at: (m, d).

  They are w, but for `optax.contrib.schedule_free`. It trains y = w and is
  judged at the average x, with y = (1 - b_1) z + b_1 x:

    x = y + (1 / b_1 - 1) (y - z),

  which is w(0) to the bit before the first step.
  """
  found = averaged(state)
  return w if found is None else w + (1 / found.b1 - 1) * (w - found.z)


def check(
  optimizer: Optimizer, step_size: float, shape: tuple[int, int], *, loss: bool
) -> None:
  """Tries an optimizer on the shapes of a run; nothing is computed.

  Args:
    optimizer: from step size to transformation.
    step_size: eta.
    shape: of w, (m, d).
    loss: whether the gradient is that of a known loss.

  Raises:
    ValueError: it fails, asks for what it cannot have, or its updates or states
      have shapes of their own.
  """

  def first(w, key):
    state = seeded(transformation.init(w), key, shape[0])
    known = (lambda w: jnp.sum(w)) if loss else None
    return state, *update(transformation, w, state, w, known)

  try:
    transformation = optimizer(step_size)
    w = jax.ShapeDtypeStruct(shape, jnp.float32)
    key = jax.eval_shape(lambda: jax.random.key(0))
    before, updates, after = jax.eval_shape(first, w, key)
  except Exception as error:  # of whatever kind: it is another's code
    said = (str(error) or type(error).__name__).strip().splitlines()[0]
    raise ValueError(
      f'optimizer {_name(optimizer)} cannot be used: {said.rstrip(".")}; '
      'expected a function of the step size alone, such as optax.adam or '
      'functools.partial(optax.sgd, momentum=0.9), whose update needs no more '
      'than params, value, grad and value_fn'
    ) from error
  shapes = jax.tree.map(lambda v: v.shape, updates)
  if shapes != shape:
    raise ValueError(
      f'optimizer {_name(optimizer)} cannot be used: of a gradient {shape} it '
      f'makes an update {shapes}; expected the same shape'
    )
  changed = [f'{there} to {here}' for there, here in _changes(before, after)]
  if changed:
    raise ValueError(
      f'optimizer {_name(optimizer)} cannot be used: an update changes its '
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


def _name(optimizer: Any) -> str:
  """What it is called where it comes from."""
  while hasattr(optimizer, 'func'):  # functools.partial
    optimizer = optimizer.func
  return getattr(optimizer, '__name__', type(optimizer).__name__)
