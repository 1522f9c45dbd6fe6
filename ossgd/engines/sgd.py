"""The plain engine: minibatch SGD on the hand-written gradient, by scan.

This is the definition the other engines are held to: any optax optimizer,
any data, the true or the pseudo-gradient. Measuring happens between steps, in
a function of the weights that cannot change them.
"""

import contextlib
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Float, Int, Key

from ossgd.engines import optimizers, orders
from ossgd.paper import gradients, network
from ossgd.paper.model import PAPER, Model
from ossgd.paper.types import Array, Dataset, Params

# (params, w0, x, y) -> (m, d)
GradientFn = Callable[[Params, jax.Array, jax.Array, jax.Array], jax.Array]


class WeightState(NamedTuple):
  """All that training carries from one step to the next."""

  w: Float[jax.Array, 'm d']  # hidden weights w_r(t): (m, d)
  optimizer: optax.OptState
  # The examples in this epoch's order: (n,) int32.
  permutation: Int[jax.Array, ' n']
  # Output weights a_{i,r}(t), (k, m), where they are trained.
  a: Float[jax.Array, 'k m'] | None = None


class Method(NamedTuple):
  """How to take a step; the numbers of Section 3's SGD."""

  optimizer: optax.GradientTransformation
  batch_size: int  # `orders.examples_per_step`: N with full batches
  order: orders.Order
  gradient_fn: GradientFn
  model: Model = PAPER  # of this module's gradients; others have their own


def true_gradient(
  params: Params,
  w0: Float[Array, 'm d'],
  x: Float[Array, 'n d'],
  y: Int[Array, ' n'],
  model: Model = PAPER,
) -> Any:
  """Eq. (1), the gradient SGD follows: (m, d).

  Of a model whose layers are both trained, Params of both gradients.
  """
  del w0
  hidden = gradients.gradient(params, x, y, model=model)
  if model.layers == 'hidden':
    return hidden
  return Params(hidden, gradients.output_gradient(params, x, y, model=model))


def pseudo_gradient(
  params: Params,
  w0: Float[Array, 'm d'],
  x: Float[Array, 'n d'],
  y: Int[Array, ' n'],
  model: Model = PAPER,
) -> Float[jax.Array, 'm d']:
  """Section 5's pseudo-gradient: eq. (1) with the slopes at w0: (m, d)."""
  p0 = model.slope(network.preactivations(w0, x))
  return gradients.pseudo_gradient(params, p0, x, y, model=model)


def pseudo_network_gradient(
  params: Params,
  w0: Float[Array, 'm d'],
  x: Float[Array, 'n d'],
  y: Int[Array, ' n'],
  model: Model = PAPER,
) -> Float[jax.Array, 'm d']:
  """The gradient of Section 5.1's g, whose pattern is that of w0: (m, d).

  With it g, f linearised at w0, is trained: loss and accuracy are those of g.
  """
  h, h0 = (network.preactivations(w, x) for w in (params.w, w0))
  g = network.linearised_outputs(params.a, h, h0, model)
  return gradients.pattern_gradient(
    params.a, model.slope(h0), x, model.residual(g, y)
  )


def gradient_of(method: Method) -> Callable[..., Any]:
  """The method's gradient; those of this module, of its model."""
  ours = (true_gradient, pseudo_gradient, pseudo_network_gradient)
  if method.gradient_fn not in ours:
    return method.gradient_fn
  return functools.partial(method.gradient_fn, model=method.model)


def trains_g(gradient_fn: GradientFn) -> bool:
  """Whether a gradient is that of g; all others train f."""
  return gradient_fn is pseudo_network_gradient


def has_loss(gradient_fn: GradientFn) -> bool:
  """Whether a gradient is that of a loss known here: of f's, or of g's."""
  return gradient_fn in (true_gradient, pseudo_network_gradient)


def initial_state(
  key: Key[jax.Array, ''],
  w: Float[jax.Array, 'm d'],
  num_examples: int,
  method: Method,
  a: Float[jax.Array, 'k m'] | None = None,
) -> WeightState:
  """Before the first step, with `advance`'s key; with a both layers train."""
  permutation = jnp.arange(num_examples, dtype=jnp.int32)
  optimizer = method.optimizer.init(w if a is None else Params(w, a))
  optimizer = optimizers.seeded(optimizer, key, len(w))
  return WeightState(w, optimizer, permutation, a)


def trained(state: WeightState, start_params: Params) -> Params:
  """The parameters of a state, whichever of them are trained."""
  return Params(state.w, start_params.a if state.a is None else state.a)


def advance(
  key: Key[jax.Array, ''],
  state: WeightState,
  start_params: Params,
  data: Dataset,
  first: Int[Array, ''] | int,
  end: Int[Array, ''] | int,
  *,
  method: Method,
) -> WeightState:
  """Takes the steps first, ..., end - 1.

  Args:
    key: the order's key, the same in every call of one run.
    state: before step `first`.
    start_params: w(0), which the pseudo-gradient's pattern needs, and a.
    data: the training set.
    first: scalar int; 0 is the first step of a run.
    end: scalar int. Under `vmap` keep both unmapped, or each step is computed
      and thrown away for the slowest.
    method: optimizer, batch size, order and gradient.

  Returns:
    The state before step `end`.
  """
  chex.assert_rank(state.w, 2)
  w0 = start_params.w
  gradient_fn = gradient_of(method)

  def next_batch(step, permutation):
    if method.order == 'full_batch':
      return data, permutation
    rows, permutation = orders.next_rows(
      key, step, permutation, order=method.order, batch_size=method.batch_size
    )
    return Dataset(data.x[rows], data.y[rows]), permutation

  def loss_of(batch):
    if not has_loss(method.gradient_fn):
      return None
    of_g = trains_g(method.gradient_fn)
    return optimizers.batch_loss(start_params, batch, method.model, of_g=of_g)

  def step_fn(step, state):
    batch, permutation = next_batch(step, state.permutation)
    params = trained(state, start_params)
    gradient = gradient_fn(params, w0, batch.x, batch.y)
    moving = state.w if state.a is None else params
    updates, optimizer = optimizers.update(
      method.optimizer, gradient, state.optimizer, moving, loss_of(batch)
    )
    moved = optax.apply_updates(moving, updates)
    w, a = (moved, None) if state.a is None else moved
    return WeightState(w, optimizer, permutation, a)

  return jax.lax.fori_loop(first, end, step_fn, state)


def train(
  key: Key[jax.Array, ''],
  params: Params,
  data: Dataset,
  *,
  record_steps: Int[Array, ' r'],
  method: Method,
  observe: Callable[[Params], Any],
) -> tuple[Params, Any]:
  """Trains from params and observes at record_steps, Section 3.

  w_r(t+1) = w_r(t) - eta 1/B sum_{s in B_t} dL(w(t), x_s, y_s)/dw_r

  Memory holds one state and what observe returns, however many the steps.

  Args:
    key: decides the order of the examples, consumed.
    params: at initialisation.
    data: the training set.
    record_steps: (r,) int, non-decreasing; 0 is the initialisation. Training
      ends at the last of them.
    method: optimizer, batch size, order and gradient.
    observe: a pure function of the parameters.

  Returns:
    The trained parameters, and what observe returned, stacked (r, ...).

  Raises:
    ValueError: the order cannot give that many batches (where the steps are
      concrete).
  """

  def interval(state, ends):
    state = advance(key, state, params, data, *ends, method=method)
    return state, observe(trained(state, params))

  num_examples = data.x.shape[0]
  with contextlib.suppress(jax.errors.ConcretizationTypeError):
    last = int(record_steps[-1])
    orders.check(method.order, num_examples, method.batch_size, last)
  begins = jnp.concatenate([jnp.zeros_like(record_steps[:1]), record_steps])
  a = params.a if method.model.layers == 'both' else None
  state, records = jax.lax.scan(
    interval,
    initial_state(key, params.w, num_examples, method, a),
    (begins[:-1], record_steps),
  )
  return trained(state, params), records
