"""Settings every test runs under."""

import os
import shutil
import tempfile

import jaxtyping
import pytest

from tests import typechecker

# Tests compile the same programs again and again, in other processes too: what
# one of them has compiled is there for all, until the end of the session. JAX
# takes one folder for as long as a process lives, so it is set before all else.
_CACHE = 'JAX_COMPILATION_CACHE_DIR'
_OWN = None
if _CACHE not in os.environ:
  _OWN = os.environ[_CACHE] = tempfile.mkdtemp(prefix='ossgd-tests-')
  os.environ['JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS'] = '0'

# Tests of these compare numbers with a definition, in programs as users have
# them. Elsewhere (data, files, folders, scripts, figures) XLA optimises little:
# most of the time goes into compiling, and that takes half as long then.
_OPTIMISED = ('paper', 'engines', 'compact')
_LITTLE = 'jax_disable_most_optimizations'


def pytest_configure():
  """What JAX refuses in tests."""
  import jax

  jax.config.update('jax_numpy_rank_promotion', 'raise')
  jax.config.update('jax_debug_key_reuse', True)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item):
  """How much XLA optimises, here and in processes that a test starts."""
  little = str(int(item.path.parent.name not in _OPTIMISED))
  if os.environ.get(_LITTLE.upper()) != little:
    import jax

    os.environ[_LITTLE.upper()] = little
    jax.config.update(_LITTLE, little == '1')
    jax.clear_caches()  # no program of the other kind is used


def pytest_unconfigure():
  """The process that made the folder is the last one to end."""
  if _OWN is not None:
    shutil.rmtree(_OWN, ignore_errors=True)


# Shapes and types of the mathematics, of steps and of data are checked in every
# call: before they are imported.
jaxtyping.install_import_hook(
  [
    'ossgd.paper',
    'ossgd.data.own',
    'ossgd.engines.orders',
    'ossgd.engines.sgd',
  ],
  f'{typechecker.__name__}.checked',
)
jaxtyping.install_import_hook(
  [f'ossgd.data.{n}' for n in ('arrays', 'components', 'images', 'mixtures')],
  f'{typechecker.__name__}.checked_in_depth',
)
