"""The words the other modules share: arrays that travel together, matmul.

In signatures n are examples, d coordinates, m hidden units, k classes; x
inputs, y labels in 0..k-1, w hidden and a output weights, h pre-activations, p
a pattern, f logits.
"""

import math
from typing import Any, NamedTuple, SupportsIndex

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int, Shaped

# Whatever JAX computes with.
Array = jax.Array | np.ndarray


class Params(NamedTuple):
  """A two-layer ReLU network without biases (Section 3)."""

  w: Float[jax.Array, 'm d']  # hidden weights w_r, trained: (m, d)
  # Output weights a_{i,r}, trained with layers='both' only: (k, m).
  a: Float[jax.Array, 'k m']


class Dataset(NamedTuple):
  """Labelled examples."""

  x: Float[jax.Array, 'n d']  # inputs x_s: (n, d)
  y: Int[jax.Array, ' n']  # labels y_s in 0..k-1: (n,) int32


class Split(NamedTuple):
  """Training and test sets; mixtures also say which component drew what."""

  train: Dataset
  test: Dataset
  train_component: Int[jax.Array, ' n'] | None = None  # j of z = (i, j): (n,)
  test_component: Int[jax.Array, ' n_test'] | None = None
  num_classes: int | None = None  # k, where it may be more than max(y) + 1


def matmul(
  a: Shaped[Array, '... p q'], b: Shaped[Array, '... q r']
) -> Shaped[jax.Array, '... p r']:
  """a @ b with the multiplications' precision stated, on every platform.

  Accelerators may round float32 operands to TF32 or bfloat16 by default, and
  rounding near <w_r, x> = 0 would then count as pattern change. The precision
  is the highest unless `jax.default_matmul_precision` asks for another.

  Args:
    a: (..., p, q).
    b: (..., q, r).
  """
  config: Any = jax.config  # its options are attributes made at run time
  precision = config.jax_default_matmul_precision or 'highest'
  return jnp.matmul(a, b, precision=precision)


def normal(
  key: jax.Array, shape: tuple[SupportsIndex, ...], dtype: Any = np.float32
) -> Float[jax.Array, '...']:
  """`jax.random.normal`, to the bit: N(0, 1), of that shape.

  Drawn in a row, which takes half as long to compile as in two dimensions.
  """
  return jax.random.normal(key, (math.prod(map(int, shape)),), dtype).reshape(
    shape
  )


def unit_norm(x: Float[Array, '*n d']) -> Float[jax.Array, '*n d']:
  """x / ||x||_2 along the last axis, assumption (A2).

  A zero vector has no direction and becomes NaN: check the data first.
  """
  return x / jnp.linalg.norm(x, axis=-1, keepdims=True)
