"""The v that leaves as few units as possible a large pseudo-gradient.

Lemmas 5.2, A.3 and B.3 speak of every v, also of one chosen after w(0) and a.
Projected descent looks for a bad one; what it finds is an upper bound on the
worst. All is homogeneous in v, so the largest entry is 1.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Bool, Float, Int

from ossgd.paper import metrics, theory
from ossgd.paper.types import Array, matmul


class Units(NamedTuple):
  """A network's units on a set of examples, of k l components."""

  a: Float[jax.Array, 'k m']  # output weights: (k, m)
  p0: Bool[jax.Array, 'n m']  # initial pattern: (n, m) bool
  gram: Float[jax.Array, 'n n']  # x_s . x_t: (n, n)
  component: Int[jax.Array, ' n']  # a l + b of every example: (n,) int


def norms(units: Units, errors: Float[Array, 'c k']) -> Float[jax.Array, ' m']:
  """||pseudo-gradient|| of every unit for v equal within components: (m,).

  E_{x ~ D_{a,b}}[p v 1[<w_r(0), x> >= 0] x] is the mean over the component's
  examples, which in case (S) is one.

  Args:
    units: the network on its examples.
    errors: p_{a,b} v_{i,a,b}, (k l, k).
  """
  member = units.component[:, None] == jnp.arange(errors.shape[0])[None]
  number = jnp.sum(member, axis=0)[None]  # none of a small sample's may be
  share = member / jnp.maximum(number, 1)
  spread = matmul(share.astype(errors.dtype), errors)
  return theory.gradient_norms(units.a, units.p0, spread, units.gram)


def possible(
  errors: Float[Array, 'c k'], num_components: int
) -> Float[jax.Array, 'c k']:
  """The nearest v that a softmax can give, with p_{1,1} v_{1,1,1} = v = 1.

  v_{a,a,b} in [0, 1], v_{i,a,b} <= 0 for i != a, and sum_i v_{i,a,b} = 0.

  Args:
    num_components: l.
  """
  count, k = errors.shape
  own = jnp.arange(count)[:, None] // num_components == jnp.arange(k)[None]
  others = jnp.where(own, 0, jnp.maximum(-errors, 0))
  # On the simplex if the mass is too large, or has to be one; the own class
  # takes no part.
  masked = jnp.where(own, -jnp.inf, -errors)
  on_simplex = jax.vmap(_project_simplex)(masked)
  full = (jnp.sum(others, axis=1) > 1) | (jnp.arange(count) == 0)
  others = jnp.where(full[:, None], on_simplex, others)
  return jnp.where(own, jnp.sum(others, axis=1, keepdims=True), -others)


def _project_simplex(v: jax.Array) -> jax.Array:
  """optax's projection, with -inf for what takes no part."""
  finite = jnp.isfinite(v)
  # Far below the others is as good as absent, and keeps the sums finite.
  low = jnp.min(jnp.where(finite, v, jnp.inf)) - 2.0
  return jnp.where(
    finite, optax.projections.projection_simplex(jnp.where(finite, v, low)), 0
  )


def boxed(errors: Float[Array, 'c k']) -> Float[jax.Array, 'c k']:
  """The nearest v in [-1, 1] with v_{1,1,1} = 1, as Lemma A.3 is written."""
  return jnp.clip(errors, -1, 1).at[0, 0].set(1.0)


def worst(
  units: Units,
  start: Float[Array, 'c k'],
  threshold: float | jax.Array,
  project,
  num_steps: int = 300,
) -> Float[jax.Array, 'c k']:
  """Projected descent on sum_r log(norm_r^2 + threshold^2), from `start`.

  A smooth stand-in for the number of units above the threshold: what is far
  above it already counts little more than what is just above.

  Args:
    units: the network on its examples.
    start: p_{a,b} v_{i,a,b}, (k l, k).
    threshold: c v delta / (k l), with v = 1.
    project: the nearest allowed v, as `boxed` or `possible`.
    num_steps: of descent.

  Returns:
    The v of the fewest units above the threshold on the way, (k l, k).
  """

  def above(errors):
    return metrics.share(norms(units, errors) >= threshold)

  def objective(errors):
    return jnp.mean(jnp.log(norms(units, errors) ** 2 + threshold**2))

  optimizer = optax.adam(optax.cosine_decay_schedule(0.1, num_steps))

  def step(carry, _):
    errors, state, best, least = carry
    slope = jax.grad(objective)(errors)
    updates, state = optimizer.update(slope, state)
    errors = project(errors + updates)
    fraction = above(errors)
    best = jnp.where(fraction < least, errors, best)
    return (errors, state, best, jnp.minimum(fraction, least)), None

  first = project(start)
  carry = (first, optimizer.init(first), first, above(first))
  return jax.lax.scan(step, carry, None, length=num_steps)[0][2]
