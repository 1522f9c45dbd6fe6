"""What no engine goes below: the work it cannot save, the machine's speed."""

import functools
import time

import jax
import jax.numpy as jnp

from ossgd.engines import blocked

from . import rivals


def unavoidable(case: rivals.Case) -> tuple[float, float]:
  """FLOPs and bytes of one training that no exact engine of ours can save.

  With metrics, every pre-activation moves by a batch and is summed into the
  logits at every step, whole blocks of steps staying in cache; before the first
  step it is computed from w(0), with the Gram matrix, and after the last one
  w(T) follows from all training examples. Without, the weights (or
  pre-activations, whichever are fewer) meet every example twice.
  """
  setup = case.setup
  n = setup.num_train + setup.num_test
  m, batch, steps = setup.width, setup.batch_size, case.num_steps
  num_blocks = steps / blocked.size(batch, m)
  if case.metrics:
    step = 2 * n * m * (batch + setup.num_classes)
    ends = 2 * setup.dim * (n * m + setup.num_train * (n + m))
    return float(step * steps + ends), 8.0 * n * m * num_blocks
  rows = min(n, 2 * setup.dim)
  return 2.0 * rows * m * batch * steps, 8.0 * m * setup.dim * num_blocks


def machine(
  side: int = 3000, numbers: int = 2**26, times: int = 1
) -> tuple[float, float]:
  """Matmul FLOP/s and copied bytes/s (read and written), of large arrays.

  Args:
    side: of the square matrices, float32 at highest precision.
    numbers: in the array that is copied, float32.
    times: how often, one after the other without waiting.
  """
  a = jnp.ones((side, side))
  b = jnp.ones(numbers)
  matmul = jax.jit(functools.partial(jnp.matmul, precision='highest'))
  copy = jax.jit(lambda x: x + 1)
  taken = []
  for f, args in ((matmul, (a, a)), (copy, (b,))):
    jax.block_until_ready(f(*args))
    begin = time.perf_counter()
    for _ in range(times):
      found = f(*args)
    jax.block_until_ready(found)
    taken.append((time.perf_counter() - begin) / times)
  return 2 * a.shape[0] ** 3 / taken[0], 2 * b.nbytes / taken[1]
