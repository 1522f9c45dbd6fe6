"""Gradient descent followed in the span of its inputs, for the lemmas.

Every update of a unit is a combination of inputs, so n coefficients stand for
d coordinates:

  w_r(t) = w_r(0) + sum_s c_{s,r}(t) x_s,   <w_r(t), x> = h_0 + K c_r(t)

with the Gram matrix K = X X^T. With the few points of case (S) a step costs
n^2 m, whatever d. The displacement is held apart from w(0), so steps far below
float32's resolution of w(0), which the lemmas' times ask for, are not lost.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
from jaxtyping import Float, Int, Key

from ossgd.paper import network, theory
from ossgd.paper.model import PAPER
from ossgd.paper.types import Array, Dataset, Params, matmul


class Problem(NamedTuple):
  """Examples and a network at its initialisation."""

  gram: Float[jax.Array, 'n n']  # K = X X^T: (n, n)
  y: Int[jax.Array, ' n']  # labels: (n,) int32
  h0: Float[jax.Array, 'n m']  # pre-activations <w_r(0), x_s>: (n, m)
  a: Float[jax.Array, 'k m']  # output weights: (k, m)


class View(NamedTuple):
  """What one step may be asked about, before it is taken."""

  step: Int[jax.Array, '']  # t, scalar
  coefficients: Float[jax.Array, 'n m']  # c of w(t) - w(0): (n, m)
  h: Float[jax.Array, 'n m']  # pre-activations today: (n, m)
  errors: Float[jax.Array, 'n k']  # v_{i,s}: (n, k)
  loss: Float[jax.Array, ' n']  # cross entropy of each example: (n,)
  gradient: Float[jax.Array, 'n m']  # dL/dw_r in the span, coefficients: (n, m)


def problem(params: Params, data: Dataset) -> Problem:
  """Examples (n, d) and a network of m units, as descent sees them."""
  gram = matmul(data.x, data.x.T)
  return Problem(
    gram, data.y, network.preactivations(params.w, data.x), params.a
  )


def descend(
  problem: Problem,
  weights: Float[Array, 'T n'],
  step_size: float | jax.Array,
  observe: Callable[[View], Any],
) -> Any:
  """Gradient descent on L(w) = sum_s p_s L(w, x_s, y_s), observed every step.

  c_{s,r}(t+1) = c_{s,r}(t) - eta p_s (sum_i a_{i,r} residual_{s,i}) 1[h >= 0]

  Args:
    problem: examples and initialisation.
    weights: p_s of each step, (T, n). The same row T times is full-batch
      descent (Appendix A); 1/B on the examples of a batch and zero elsewhere
      is SGD (Section 3). An example that never has weight is for observing.
    step_size: eta.
    observe: a pure function of the state before the step.

  Returns:
    What observe returned at steps 0, ..., T, stacked (T + 1, ...).
  """
  chex.assert_rank([problem.gram, weights, problem.h0], 2)

  def view(step, coefficients, p):
    h = problem.h0 + matmul(problem.gram, coefficients)
    f = network.gated_logits(problem.a, h, h >= 0)
    errors = theory.signed_errors(f, problem.y)
    slopes = -p[:, None] * errors
    gradient = jnp.where(h >= 0, matmul(slopes, problem.a), 0)
    loss = PAPER.losses(f, problem.y)
    return View(step, coefficients, h, errors, loss, gradient)

  def step_fn(coefficients, step_and_weights):
    step, p = step_and_weights
    today = view(step, coefficients, p)
    return coefficients - step_size * today.gradient, observe(today)

  steps = jnp.arange(weights.shape[0] + 1)
  # The last state is observed too; its gradient is at the last weights.
  rows = jnp.concatenate([weights, weights[-1:]])
  start = jnp.zeros_like(problem.h0)
  return jax.lax.scan(step_fn, start, (steps, rows))[1]


def batch_weights(
  key: Key[Array, ''], num_examples: int, batch_size: int, num_steps: int
) -> Float[jax.Array, 'num_steps num_examples']:
  """Weights (T, n) of SGD that passes once over the first T B examples.

  The training examples are independent draws, so a random division of them
  into batches (Section 3) is a random permutation.

  Args:
    key: consumed.
    num_examples: n; those from T B on have no weight and are for observing.
    batch_size: B.
    num_steps: T.

  Raises:
    ValueError: T B > n.
  """
  if num_steps * batch_size > num_examples:
    raise ValueError(
      f'{num_steps} steps of batches of {batch_size} take more than the '
      f'{num_examples} examples; expected at most {num_examples // batch_size} '
      'steps'
    )
  order = jax.random.permutation(key, num_steps * batch_size)
  batch = (
    jnp.zeros(num_examples, int)
    .at[order]
    .set(jnp.arange(num_steps * batch_size) // batch_size)
  )
  used = jnp.arange(num_examples) < num_steps * batch_size
  member = (jnp.arange(num_steps)[:, None] == batch[None]) & used[None]
  return member / batch_size
