#!/usr/bin/env bash
# jax 0.10.2, default 32-bit mode: seeds past 32 bits repeat those below, and
# whether 3000000000 is a seed depends on how it is handed over.
#
# jax.random.key(2**32) is jax.random.key(0) to the bit, and 2**32 + 5 is 5: no
# error, no warning. As a Python int, 3000000000 makes a key where key() is
# called directly, and raises OverflowError where it is an argument of a jitted
# function that calls key(). With JAX_ENABLE_X64=1 the keys of 0 and 2**32
# differ, so a seed's stream depends on the mode as well: that of -1 does, too.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q jax==0.10.2 jaxlib==0.10.2 numpy==2.4.6
cat >"$work/seeds.py" <<'PY'
import jax
import numpy as np


def data(seed):
  return np.asarray(jax.random.key_data(jax.random.key(seed))).tolist()


x64 = jax.config.jax_enable_x64
print('jax', jax.__version__, 'x64', x64)
for seed in (0, -1, 2**32, 2**32 + 5):
  print(f'{seed:>11}', data(seed))
if x64:
  assert data(2**32) == [1, 0]
  assert data(-1) == [4294967295, 4294967295]
else:
  assert data(2**32) == data(0) == [0, 0]
  assert data(2**32 + 5) == data(5) == [0, 5]
  assert data(-1) == data(2**32 - 1) == [0, 4294967295]
  assert data(3_000_000_000) == [0, 3_000_000_000]
  try:
    jax.jit(jax.random.key)(3_000_000_000)
  except OverflowError as error:
    print('3000000000 under jit:', type(error).__name__)
  else:
    raise AssertionError('3000000000 was accepted under jit')
PY
export JAX_PLATFORMS=cpu
"$work/venv/bin/python" "$work/seeds.py"
JAX_ENABLE_X64=1 "$work/venv/bin/python" "$work/seeds.py"
