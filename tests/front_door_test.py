"""Tests of what is public, and of what is loaded before it is needed."""

import re
import subprocess
import sys

from absl.testing import parameterized

import ossgd
from tests.imports_test import DRAWING, OURS, ROOT, SCRIPTS


def loaded(script: str) -> list[set[str]]:
  """The modules that a fresh process prints, a set a line."""
  run = subprocess.run(
    [sys.executable, '-c', script],
    capture_output=True,
    text=True,
    check=True,
    cwd=ROOT,
  )
  return [set(line.split()) for line in run.stdout.splitlines()]


class FrontDoorTest(parameterized.TestCase):
  def test_names(self):
    """Each is there, has its line in the docstring, and is what it says."""
    self.assertBetween(len(ossgd.__all__), 20, 30)
    lines = re.findall(r'^  (\w[\w, ]*?)   *\w', ossgd.__doc__, re.MULTILINE)
    named = {name for line in lines for name in line.split(', ')}
    self.assertContainsSubset(set(ossgd.__all__), named)
    for name in ossgd.__all__:
      found = getattr(ossgd, name)
      self.assertIsNotNone(found.__doc__)
      self.assertIn(name, dir(ossgd))
    with self.assertRaisesRegex(AttributeError, "'ossgd' has no .*'sweeep'"):
      _ = ossgd.sweeep

  def test_is_free(self):
    """`import ossgd` loads no numbers; a name loads what it needs."""
    script = """
import sys, ossgd
print(*sys.modules)
from ossgd import network
print(*sys.modules)
"""
    first, second = loaded(script)
    self.assertNoCommonElements(first, {'jax', 'numpy', 'ossgd.paper'})
    self.assertIn('ossgd.paper.network', second)
    self.assertNotIn('ossgd.running', second)


class StartUpTest(parameterized.TestCase):
  def test_light_imports(self):
    """What is slow to import, or opens windows, is not there unasked."""
    script = f"""
import importlib, sys
for name in {OURS}:
  if name.split('.')[-1] not in {DRAWING}:
    importlib.import_module(name)
print(*sys.modules)
from ossgd import plots, records
import xarray
plots.steps_figure(
  xarray.Dataset(
    dict(steps_to_accuracy=(('width', 'seed'), [[1.0]])),
    dict(width=[1], seed=[0], step=[1]),
    dict(target=0.5),
  )
)
print(*sys.modules)
"""
    light, drawing = loaded(script)
    self.assertContainsSubset(
      {'ossgd.running.sweeps', 'ossgd.data.images'}, light
    )
    heavy = {'tensorflow', 'tensorflow_datasets', 'matplotlib', 'IPython'}
    self.assertNoCommonElements(light, heavy)
    self.assertIn('matplotlib', drawing)
    self.assertNoCommonElements(drawing, heavy - {'matplotlib'})
    self.assertNotIn('matplotlib.pyplot', drawing)

  def test_help_waits_for_jax_only(self):
    """--help answers in about a second: tables and figures come later.

    One after the other: what a script loads is there for all that follow.
    """
    script = f"""
import contextlib, importlib, io, sys
for name in {SCRIPTS}:
  main = importlib.import_module(name).main
  with contextlib.redirect_stdout(io.StringIO()):
    with contextlib.suppress(SystemExit):
      main(['script', '--help'])
  print(name, *sys.modules)
"""
    late = {'xarray', 'matplotlib', 'scipy', 'sklearn', 'torch'}
    for name, found in zip(SCRIPTS, loaded(script), strict=True):
      self.assertContainsSubset(
        {name, 'jax', 'experiments.common.options'}, found
      )
      self.assertNoCommonElements(found, late, name)
