"""What JAX keeps of programs is whole, and where someone has chosen."""

import os
import pathlib
import subprocess
import sys
import tempfile
import types
import warnings
from unittest import mock

import jax
from absl.testing import parameterized

from ossgd.machine import compilations


class KeptTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    self.out = pathlib.Path(self.enter_context(tempfile.TemporaryDirectory()))

  def test_no_home(self):
    """An unknown user has no home folder: said, and done without a cache."""
    cache = 'jax_compilation_cache_dir'
    with (
      mock.patch.dict(os.environ, {'XDG_CACHE_HOME': 'relative'}),
      mock.patch.object(jax, 'config', types.SimpleNamespace(**{cache: None})),
      mock.patch.object(os.path, 'expanduser', lambda path: path),
      self.assertLogs(level='WARNING') as logs,
      compilations.kept(),
    ):
      pass
    self.assertIn('no home folder', logs.output[0])

  def test_cut_short(self):
    """A kept program that was cut short is told once, and whole thereafter."""
    code = """if True:
      import logging
      import jax
      from ossgd.machine import compilations
      logging.basicConfig(level='INFO')
      with compilations.kept():
        jax.jit(lambda x: x + 1)(1.0)
    """
    env = dict(os.environ, XDG_CACHE_HOME=str(self.out))
    env.pop('JAX_COMPILATION_CACHE_DIR', None)
    # What the user has chosen is not changed.
    env['JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS'] = '0'

    def told() -> str:
      return subprocess.run(
        [sys.executable, '-W', 'ignore', '-c', code],
        env=env,
        check=True,
        stderr=subprocess.PIPE,
        text=True,
      ).stderr

    self.assertNotIn('damaged', told())
    (entry,) = (self.out / 'ossgd').glob('jit__lambda*')
    whole = entry.read_bytes()
    entry.write_bytes(whole[:-9])
    self.assertRegex(told(), 'damaged in .*ossgd, compiled again: jit__lambda')
    self.assertGreater(len(entry.read_bytes()), len(whole) - 9)
    self.assertNotIn('damaged', told())

  def test_what_else_is_warned_of(self):
    """Is shown as ever, and nothing is deleted for it."""
    kept = self.out / 'cache' / 'jit_f-0a-cache'
    kept.parent.mkdir(parents=True)
    kept.write_bytes(b'')
    reading = 'Error reading persistent compilation cache entry for '
    for said in (
      "Error reading image cache entry for 'jit_f': error: damaged",
      reading + "'../cache/jit_f': error: damaged",
      reading + "'jit_f': PermissionError: [Errno 13] Permission denied",
      reading + "'jit_g': error: damaged",
      'jit_f is slow',
    ):
      with warnings.catch_warnings(record=True) as told:
        compilations.mend(kept.parent)
        warnings.warn(said, stacklevel=1)
      self.assertEqual([str(w.message) for w in told], [said])
      self.assertTrue(kept.exists())
    self.assertEqual(
      compilations.delete_unread(
        kept.parent, reading + "'jit_f': error: damaged"
      ),
      'jit_f',
    )
    self.assertFalse(kept.exists())
