"""Settings every test runs under."""

import os
import platform
import shutil
import tempfile
from importlib import metadata

import jaxtyping

from tests import typechecker

# Tests compile the same programs again and again, in other processes too: what
# one of them has compiled is there for all, until the end of the session. JAX
# takes one folder for as long as a process lives, so it is set before all else.
_CACHE = 'JAX_COMPILATION_CACHE_DIR'
_OWN = None
if _CACHE not in os.environ:
  _OWN = os.environ[_CACHE] = tempfile.mkdtemp(prefix='ossgd-tests-')
  os.environ['JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS'] = '0'

# Most of the time goes into compiling, which takes a third as long where XLA
# optimises little and makes no loops by way of MLIR. Products and sums are then
# rounded apart: else a number would have other bits in another program.
# Programs as users have them are those of a process with _AS_USERS, which
# `as_users_test` has.
_AS_USERS = 'OSSGD_TESTS_AS_USERS'
_QUICKLY = '--xla_cpu_use_fusion_emitters=false --xla_cpu_max_isa=AVX'
if _AS_USERS not in os.environ:
  os.environ['JAX_DISABLE_MOST_OPTIMIZATIONS'] = '1'
  known = tuple(map(int, metadata.version('jaxlib').split('.')[:2])) < (0, 11)
  flags = os.environ.get('XLA_FLAGS', '')
  if known and platform.machine() == 'x86_64' and _QUICKLY not in flags:
    os.environ['XLA_FLAGS'] = f'{flags} {_QUICKLY}'.strip()


def pytest_configure():
  """What JAX refuses in tests."""
  import jax

  jax.config.update('jax_numpy_rank_promotion', 'raise')
  jax.config.update('jax_debug_key_reuse', True)


def pytest_unconfigure():
  """The process that made the folder is the last one to end."""
  if _OWN is not None:
    shutil.rmtree(_OWN, ignore_errors=True)


# Shapes and types of the mathematics, of steps and of data are checked in every
# call: before they are imported.
jaxtyping.install_import_hook(
  ['ossgd.paper', 'ossgd.data.own', 'ossgd.engines.sgd'],
  f'{typechecker.__name__}.checked',
)
jaxtyping.install_import_hook(
  [f'ossgd.data.{n}' for n in ('arrays', 'components', 'images', 'mixtures')],
  f'{typechecker.__name__}.checked_in_depth',
)
