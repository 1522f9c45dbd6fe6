"""Activations and losses, by name, and what one of them consists of."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Float, Shaped

from ossgd.paper.types import Array


class Activation(NamedTuple):
  """phi and its slope: functions of pre-activations, element by element."""

  phi: Callable[[Any], jax.Array]
  # Where phi has a kink the side is a choice; 0 and 1 may be False and True.
  slope: Callable[[Any], jax.Array]
  # Whether phi(h) = slope(h) h, with one slope for h >= 0 and one for h < 0:
  # then patterns and the pseudo-network g say what they say in the paper.
  piecewise_linear: bool = False


class Loss(NamedTuple):
  """Of logits (n, k) and labels (n,) in 0..k-1: one loss an example."""

  value: Callable[[Any, Any], jax.Array]  # -> (n,)
  residual: Callable[[Any, Any], jax.Array]  # its slope in f: (n, k)


def _gelu_slope(h):
  density = jnp.exp(-(h**2) / 2) / (2 * jnp.pi) ** 0.5
  return jax.scipy.stats.norm.cdf(h) + h * density


ACTIVATIONS = {
  # 1 at 0, as eq. (1) has it; so are the other kinks' slopes those of h > 0.
  'relu': Activation(
    lambda h: jnp.where(h >= 0, h, 0), lambda h: h >= 0, piecewise_linear=True
  ),
  'leaky_relu': Activation(
    lambda h: jnp.where(h >= 0, h, 0.01 * h),
    lambda h: jnp.where(h >= 0, 1.0, 0.01).astype(h.dtype),
    piecewise_linear=True,
  ),
  'abs': Activation(
    jnp.abs,
    lambda h: jnp.where(h >= 0, 1.0, -1.0).astype(h.dtype),
    piecewise_linear=True,
  ),
  'identity': Activation(
    lambda h: h, lambda h: jnp.ones_like(h, bool), piecewise_linear=True
  ),
  'quadratic': Activation(lambda h: h**2, lambda h: 2 * h),
  'tanh': Activation(jnp.tanh, lambda h: 1 - jnp.tanh(h) ** 2),
  'erf': Activation(
    jax.scipy.special.erf, lambda h: 2 / jnp.pi**0.5 * jnp.exp(-(h**2))
  ),
  'gelu': Activation(lambda h: h * jax.scipy.stats.norm.cdf(h), _gelu_slope),
  'softplus': Activation(jax.nn.softplus, jax.nn.sigmoid),
}


def _one_hot(f, y):
  return jax.nn.one_hot(y, f.shape[-1], dtype=f.dtype)


def _squared(f, y):
  return jnp.sum((f - _one_hot(f, y)) ** 2, axis=-1) / 2


def _worst_excess(f, y):
  """1 + max_{i != y} f_i - f_y, and which i it is, one-hot: (n,), (n, k)."""
  own = _one_hot(f, y)
  others = jnp.where(own > 0, -jnp.inf, f)
  excess = 1 + jnp.max(others, axis=-1) - jnp.sum(own * f, axis=-1)
  return excess, _one_hot(f, jnp.argmax(others, axis=-1))


def _hinge(f, y):
  return jnp.maximum(_worst_excess(f, y)[0], 0)


def _hinge_residual(f, y):
  excess, worst = _worst_excess(f, y)
  return jnp.where(excess[:, None] > 0, worst - _one_hot(f, y), 0)


def _margin(f, y):
  """f_y - f_{1-y}, and the sign that each logit has in it: (n,), (n, k)."""
  signs = 2 * _one_hot(f, y) - 1
  return jnp.sum(signs * f, axis=-1), signs


def _logistic(f, y):
  return jax.nn.softplus(-_margin(f, y)[0])


def _logistic_residual(f, y):
  margin, signs = _margin(f, y)
  return -jax.nn.sigmoid(-margin)[:, None] * signs


LOSSES = {
  # -log o_y, o = softmax(f).
  'cross_entropy': Loss(
    optax.softmax_cross_entropy_with_integer_labels,
    lambda f, y: jax.nn.softmax(f) - _one_hot(f, y),
  ),
  # 1/2 sum_i (f_i - 1[i = y])^2.
  'squared': Loss(_squared, lambda f, y: f - _one_hot(f, y)),
  # Crammer & Singer: max(0, 1 + max_{i != y} f_i - f_y). Of several largest
  # f_i the first one's slope; none where the maximum is 0.
  'hinge': Loss(_hinge, _hinge_residual),
  # log(1 + exp(f_{1-y} - f_y)), for k = 2: there it is the cross entropy.
  'logistic': Loss(_logistic, _logistic_residual),
}


def gated(
  values: Float[Array, '*n'], slopes: Shaped[Array, '*n']
) -> Float[jax.Array, '*n']:
  """values * slopes, where slopes of 0 or 1 may be a pattern, bool."""
  if slopes.dtype == bool:
    return jnp.where(slopes, values, jnp.zeros((), values.dtype))
  return jnp.multiply(values, slopes)
