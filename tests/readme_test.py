"""Tests of README.md: its Python runs as it stands, it stays short."""

import contextlib
import io
import pathlib
import re
import tempfile
from typing import Any

import xarray as xr
from absl.testing import absltest
from matplotlib.figure import Figure

import ossgd
from ossgd.running import sweeps

README = (pathlib.Path(__file__).parents[1] / 'README.md').read_text()


def python_block() -> str:
  """The one block of Python there."""
  (block,) = re.findall(r'^```python\n(.*?)^```$', README, re.M | re.S)
  return block


def documented_variables() -> dict[str, tuple[str, ...]]:
  """Dims by variable, as the docstring lists a sweep's Dataset."""
  listed = re.findall(r'^([\w, ]+) \(([\w, ]+)\)$', str(sweeps.__doc__), re.M)
  return {
    name: tuple(dims.split(', '))
    for names, dims in listed
    for name in names.split(', ')
  }


class ReadmeTest(absltest.TestCase):
  def test_python(self):
    """It runs, says what its comments promise, and matches the docs."""
    names: dict[str, Any] = {'__name__': '__main__'}
    folder = self.enter_context(tempfile.TemporaryDirectory())
    with (
      contextlib.redirect_stdout(io.StringIO()) as printed,
      contextlib.chdir(folder),
    ):
      exec(compile(python_block(), 'README.md', 'exec'), names)

    # One step of the example changes some patterns, so the gradients differ.
    (changed,) = re.findall(
      r'^patterns changed (\S+)$', printed.getvalue(), re.M
    )
    self.assertBetween(float(changed), 1e-6, 0.1)
    (differ,) = re.findall(
      r'^gradients differ (\S+)$', printed.getvalue(), re.M
    )
    self.assertBetween(float(differ), 1e-6, 1.0)
    self.assertIsInstance(names['figure'], Figure)

    ds = names['ds']
    self.assertIsInstance(ds, xr.Dataset)
    self.assertEqual(ds.width.values.tolist(), [512])
    self.assertEqual(ds.sizes['seed'], 2)
    self.assertEqual(ds.step[-1], 200)
    xr.testing.assert_identical(ossgd.load(f'{folder}/runs/mine'), ds)
    self.assertEqual(
      {name: ds[name].dims for name in ds}, documented_variables()
    )

  def test_length(self):
    """A page that a reader ends: the rest is in RESULTS.md and docstrings."""
    self.assertLess(len(README.encode()), 9216)
