"""Odd terminals and homes, by real processes: the folder is whole in any."""

import os
import pathlib
import subprocess
import sys
import tempfile

from absl.testing import parameterized

from experiments import mnist
from tests.experiments.command_test import WHOLE

ROOT = pathlib.Path(__file__).parents[2]
SCRIPT = """
from experiments.common import command
from tests.experiments.command_test import TOY
lines = 'mean ± std\\n' * 20000  # more than a pipe holds
command.main(TOY._replace(table=lambda ds: lines))
"""


class OddEndsTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    root = self.enter_context(tempfile.TemporaryDirectory())
    self.root = pathlib.Path(root)

  def shell(self, line: str, **env: str) -> subprocess.CompletedProcess:
    """A line in which $RUN is the script."""
    path = self.root / 'script.py'
    path.write_text(SCRIPT)
    run = f'{sys.executable} {path} --out={self.root / "out"}'
    return subprocess.run(
      ['bash', '-c', line.replace('$RUN', run)],
      cwd=self.root,
      env=os.environ | {'PYTHONPATH': str(ROOT), 'HOME': str(self.root)} | env,
      capture_output=True,
      timeout=200,
      check=False,
    )

  @parameterized.parameters(
    ('$RUN | head -1; exit ${PIPESTATUS[0]}', {}, ''),
    ('$RUN 2>&1 | head -1; exit ${PIPESTATUS[0]}', {}, ''),
    ('$RUN', {'PYTHONIOENCODING': 'ascii'}, 'mean ? std'),
    ('$RUN', {'LC_ALL': 'C', 'PYTHONUTF8': '0'}, 'mean '),
    ('$RUN >&-', {}, ''),
    ('$RUN 2>&-', {}, 'mean ± std'),
    ('$RUN >&- 2>&- <&-', {}, ''),
    ('$RUN <&-', {}, 'mean ± std'),
    ('$RUN >/dev/full', {}, ''),
    ('$RUN', {'TERM': 'dumb', 'NO_COLOR': '1', 'COLUMNS': '0'}, 'mean ± std'),
  )
  def test_all_is_on_disk(self, line, env, printed):
    """Whoever listens, and in whatever letters."""
    ended = self.shell(line, **env)
    err = ended.stderr.decode()
    self.assertEqual(ended.returncode, 0, err)
    self.assertIn(printed, ended.stdout.decode())
    for word in ('Traceback', 'BrokenPipe', 'UnicodeEncode', 'Exception'):
      self.assertNotIn(word, err)
    if 'full' in line:
      self.assertIn('cannot print: No space left on device', err)
    self.assertContainsSubset(WHOLE, os.listdir(self.root / 'out'))

  def test_help(self):
    """Of twenty pages the first line: as `less` and `head` want it."""
    ended = self.shell(
      f'{sys.executable} -m experiments.mnist --help | head -1; '
      'exit ${PIPESTATUS[0]}'
    )
    self.assertEqual((ended.returncode, ended.stderr), (0, b''))
    self.assertStartsWith(mnist.__doc__, ended.stdout.decode())
