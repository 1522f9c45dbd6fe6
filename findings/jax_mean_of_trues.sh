#!/usr/bin/env bash
# jax 0.10.2 on a CPU: the mean of n values that are all True is not always 1.
#
# jnp.mean divides the sum by the static n, and XLA turns the division by a
# constant into a multiplication by its rounded reciprocal. So jnp.mean of all
# True is 0.99999994 in float32 for n = 41, 47, 55, 61, 82, ...: an accuracy
# that is perfect fails `== 1`, and 9800 right of 10000 fails `>= 0.98`. NumPy,
# and JAX outside of a compiled program, divide and get 1 for every n. An
# optimization barrier around n keeps the division.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q jax==0.10.2 jaxlib==0.10.2 numpy==2.4.6
JAX_PLATFORMS=cpu "$work/venv/bin/python" - <<'PY'
import jax
import jax.numpy as jnp
import numpy as np


def barrier_mean(x):
  size = jax.lax.optimization_barrier(jnp.float32(x.size))
  return jnp.sum(x, dtype=jnp.float32) / size


sizes = range(1, 200)
below = [n for n in sizes if float(jnp.mean(jnp.ones(n, bool))) < 1]
print('jax', jax.__version__, 'below 1 for n =', below)
assert below[:7] == [41, 47, 55, 61, 82, 83, 94], below
assert len(below) == 23, len(below)

right = jnp.arange(10_000) < 9_800
print('9800 of 10000:', float(jnp.mean(right)), '>= 0.98:',
      bool(jnp.mean(right) >= 0.98))
assert not jnp.mean(right) >= 0.98

assert all(np.mean(np.ones(n, bool), dtype=np.float32) == 1 for n in sizes)
assert all(jax.jit(barrier_mean)(jnp.ones(n, bool)) == 1 for n in sizes)
PY
