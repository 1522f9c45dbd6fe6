#!/usr/bin/env bash
# jax 0.10.2 on a CPU: an entry of the compilation cache that was cut short when
# it was written is never replaced.
#
# An entry is written under its final name. Where that stops half way, as on a
# disk that is full or past a quota, the half stays. Every later process warns
# that it cannot read it and compiles, and then keeps nothing, since a file of
# that name is there. So one program is compiled again in each process, until
# someone deletes the file. Here a limit on the size of files stands for the
# quota.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q jax==0.10.2 jaxlib==0.10.2 numpy==2.4.6
cat >"$work/compile.py" <<'PY'
import resource
import sys
import warnings

import jax
import jax.numpy as jnp

jax.config.update('jax_compilation_cache_dir', sys.argv[1])
jax.config.update('jax_persistent_cache_min_compile_time_secs', 0.0)


def spectrum(x):
  return jnp.linalg.svd(x, compute_uv=False)


x = jnp.asarray([[1.0, 2.0], [3.0, 4.0]])
if sys.argv[2] != 'unlimited':
  size = int(sys.argv[2])
  resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
with warnings.catch_warnings(record=True) as told:
  warnings.simplefilter('always')
  jax.jit(spectrum)(x).block_until_ready()
print([str(w.message) for w in told if 'jit_spectrum' in str(w.message)])
PY
run() {
  JAX_PLATFORMS=cpu "$work/venv/bin/python" "$work/compile.py" "$work/$1" "$2"
}
entry() { stat -c '%n %s' "$work/$1"/jit_spectrum-*; }

run whole unlimited | tee "$work/told"
grep -qx '\[\]' "$work/told"
whole=$(entry whole | cut -d' ' -f2)
echo "whole: $whole bytes"
run whole unlimited | grep -qx '\[\]'

run cut $((whole / 2)) | tee "$work/told"
grep -q 'Error writing.*File too large' "$work/told"
cut=$(entry cut)
echo "cut: ${cut##* } bytes"
[ "${cut##* }" -eq $((whole / 2)) ]
for _ in 1 2 3; do
  run cut unlimited | tee "$work/told"
  grep -q "Error reading.*jit_spectrum" "$work/told"
  [ "$(entry cut)" = "$cut" ]
done
rm "$work"/cut/jit_spectrum-*
run cut unlimited | grep -qx '\[\]'
run cut unlimited | grep -qx '\[\]'
echo "deleted by hand, it is whole again: $(entry cut | cut -d' ' -f2) bytes"
