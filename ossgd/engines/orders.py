"""In which order training sees the examples: one pass, epochs, all at once."""

from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Int, Key

from ossgd.paper.types import Array

Order = Literal['one_pass', 'epochs', 'full_batch']


def check(
  order: str, num_examples: int, batch_size: int, num_steps: int
) -> None:
  """Raises ValueError where an order cannot give that many batches."""
  if order not in ('one_pass', 'epochs', 'full_batch'):
    raise ValueError(
      f'order is {order!r}; expected one_pass, epochs or full_batch'
    )
  if order == 'full_batch':
    return
  if not 1 <= batch_size <= num_examples:
    raise ValueError(
      f'batch_size is {batch_size}; expected 1 to {num_examples}, the number '
      'of training examples'
    )
  most = num_examples // batch_size
  if order == 'one_pass' and num_steps > most:
    raise ValueError(
      f'one pass over {num_examples} examples in batches of {batch_size} has '
      f'{most} steps, but num_steps is {num_steps}; ask for at most {most} '
      'steps, draw more examples, or use order=epochs'
    )


def examples_per_step(order: Order, num_examples: int, batch_size: int) -> int:
  """B as it is used: with `full_batch` all examples, whatever was asked."""
  return num_examples if order == 'full_batch' else batch_size


def steps_per_epoch(order: Order, num_examples: int, batch_size: int) -> int:
  """Whole batches in one pass over the data.

  What is left over when the batch size does not divide the data waits for the
  next shuffle; with `full_batch` the batch is the data.
  """
  return num_examples // examples_per_step(order, num_examples, batch_size)


def next_rows(
  key: Key[jax.Array, ''],
  step: Int[Array, ''] | int,
  permutation: Int[jax.Array, ' n'],
  *,
  order: Order,
  batch_size: int,
) -> tuple[Int[jax.Array, ' b'], Int[jax.Array, ' n']]:
  """The rows of the batch of one step, and its epoch's permutation.

  Batch t of an epoch is rows t B to (t + 1) B of that epoch's permutation,
  which is a function of the key and the epoch alone: the same key gives the
  same order however a run is cut into calls.

  Args:
    key: the order's key, the same in every call of one run.
    step: scalar int. Under `vmap` keep it unmapped, or every step shuffles.
    permutation: of the epoch that the step before belongs to, (n,).
    order: as in Method.
    batch_size: B.

  Returns:
    Rows (B,), or (n,) with `full_batch`; and the permutation, (n,).
  """
  if order == 'full_batch':
    return permutation, permutation
  num_examples = permutation.shape[0]
  batches = steps_per_epoch(order, num_examples, batch_size)

  def shuffle():
    epoch_key = jax.random.fold_in(key, step // batches)
    return jax.random.permutation(
      epoch_key, jnp.arange(num_examples, dtype=jnp.int32)
    )

  permutation = jax.lax.cond(step % batches == 0, shuffle, lambda: permutation)
  first = (step % batches) * batch_size
  rows = jax.lax.dynamic_slice(permutation, (first,), (batch_size,))
  return rows, permutation
