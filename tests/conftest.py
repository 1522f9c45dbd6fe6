"""Settings every test runs under."""

import os
import pathlib
import shutil
import tempfile

import jaxtyping
import pytest

from tests import typechecker

# Tests compile the same programs again and again, in other processes too: what
# one of them has compiled is there for all, and for the next session as well
# (`--cache-clear` deletes it). JAX takes one folder for as long as a process
# lives, so it is told before JAX is imported.
_CACHE = 'JAX_COMPILATION_CACHE_DIR'
_MOST = 2**30  # bytes; past that it begins anew
_own = None  # the folder, in the process that tells the others

# Tests of these compare numbers with a definition, in programs as users have
# them. Elsewhere (data, files, folders, scripts, figures) XLA optimises little:
# most of the time goes into compiling, and that takes half as long then.
_OPTIMISED = ('paper', 'engines', 'compact')
_LITTLE = 'jax_disable_most_optimizations'


def pytest_configure(config):
  """Where programs are kept, and what JAX refuses in tests."""
  if _CACHE not in os.environ:
    global _own
    _own = _folder(config)
    os.environ[_CACHE] = str(_own)
    os.environ['JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS'] = '0'
  import jax

  jax.config.update('jax_numpy_rank_promotion', 'raise')
  jax.config.update('jax_debug_key_reuse', True)


def _folder(config):
  """Where pytest keeps what it knows; or, where it cannot, for this session."""
  try:
    folder = config.cache.mkdir('programs')
    (folder / 'written').touch()
    if sum(entry.stat().st_size for entry in folder.iterdir()) > _MOST:
      shutil.rmtree(folder)
  except (AttributeError, OSError):  # switched off, read-only, or just emptied
    folder = tempfile.mkdtemp(prefix='ossgd-tests-')
    config.add_cleanup(lambda: shutil.rmtree(folder, ignore_errors=True))
  return pathlib.Path(folder)


def pytest_warning_recorded(warning_message):
  """A program that a killed process wrote by half is written again."""
  from ossgd.machine import compilations

  if _own is not None:
    compilations.delete_unread(_own, str(warning_message.message))


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item):
  """How much XLA optimises, here and in processes that a test starts."""
  little = str(int(item.path.parent.name not in _OPTIMISED))
  if os.environ.get(_LITTLE.upper()) != little:
    import jax

    os.environ[_LITTLE.upper()] = little
    jax.config.update(_LITTLE, little == '1')
    jax.clear_caches()  # no program of the other kind is used


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
