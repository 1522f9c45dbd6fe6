"""Programs as users have them: with all of XLA's optimisations.

The suite compiles quickly, see `conftest`; here what compares numbers with a
definition runs once more, in a process that compiles as theirs do.
"""

import os
import pathlib
import re
import subprocess
import sys

from absl.testing import parameterized

ROOT = pathlib.Path(__file__).parents[1]
QUICKLY = 'JAX_DISABLE_MOST_OPTIMIZATIONS', 'XLA_FLAGS'
ENGINES = 'tests/engines/engines_test.py::RecursionTest::test'
MEMORY = 'tests/engines/cost_test.py::MemoryTest::test'
MODELS = 'tests/engines/models_test.py::EnginesTest::test_against_autodiff'
AGAIN = (
  'tests/compact',
  'tests/engines/cost_test.py::WorkTest',
  f'{MEMORY}_evaluation_in_batches',
  *(f'{MEMORY}_estimate_covers_what_xla_allocates{i}' for i in (0, 2, 4, 7)),
  f'{ENGINES}_updates_against_descent',
  *(f'{ENGINES}_against_descent{engine}' for engine in range(3)),
  f'{ENGINES}_gram_over_many_small_steps2',
  'tests/engines/measuring_test.py::RecorderTest::test_every_step2',
  *(f'{MODELS}{kind}' for kind in (1, 3)),
  'tests/paper/metrics_test.py',
)


class AsUsersTest(parameterized.TestCase):
  def test_once_more(self):
    """Their report is shown if any fails."""
    env = {k: v for k, v in os.environ.items() if k not in QUICKLY}
    run = subprocess.run(
      [sys.executable, '-m', 'pytest', '-n0', '--dist=no', *AGAIN],
      cwd=ROOT,
      env=env | {'OSSGD_TESTS_AS_USERS': '1'},
      capture_output=True,
      text=True,
      timeout=900,
      check=False,
    )
    self.assertEqual(run.returncode, 0, run.stdout + run.stderr)
    (number,) = re.findall(r'(\d+) passed', run.stdout)
    self.assertGreater(int(number), 40)
