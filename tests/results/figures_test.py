"""Every script's figures of results with nothing in them, or nearly nothing."""

import dataclasses
import functools
import importlib
import itertools
import os
import subprocess
import sys

import hypothesis
import jax
import numpy as np
import xarray as xr
from absl.testing import parameterized
from hypothesis import strategies as st

from experiments import synthetic
from experiments.common import command
from experiments.common.speed import growth
from ossgd.results import drawing
from ossgd.running import watching
from tests.results.drawn import RANK_NAMES, make_records

# Those that draw more than ossgd.results.plots does.
SCRIPTS = (
  'compression',
  'convergence',
  'coupling',
  'gradient_norm',
  'init_scale',
  'kernel',
  'precision',
  'processes',
  'random_labels',
  'separability',
  'theorem',
)
TINY = {
  'num_seeds': 1,
  'num_steps': 4,
  'batch_size': 4,
  'dim': 12,
  'num_classes': 2,
  'num_train': 24,
  'num_test': 8,
  'num_points': 4,
}


def experiment_of(name: str) -> command.Experiment:
  return importlib.import_module(f'experiments.{name}').EXPERIMENT


@functools.cache
def results_of(name: str) -> xr.Dataset:
  """A script's, as small as it can be: one seed, and one width where it may.

  Nothing in it diverges, so JAX's search for NaNs must not find one.
  """
  experiment = experiment_of(name)
  fields = {f.name: f.default for f in dataclasses.fields(experiment.config)}
  settings = {'widths': (16,)}
  for key, default in fields.items():
    if isinstance(default, tuple) and key not in settings:
      settings[key] = (TINY[key],) if key in TINY else default[:1]
    elif key in TINY:
      settings[key] = TINY[key]
  with jax.debug_nans(True):
    return experiment.run(
      experiment.config(**settings), watching.Watch(lambda f, label: None)
    )


KINDS = {
  'as measured': lambda values: values,
  'nothing': lambda values: values * np.nan,
  'zeros': lambda values: values * 0,
  'negative': lambda values: -1 - np.abs(values),
  'infinite': lambda values: values * 0 + np.inf,
  'large': lambda values: values * 0 + np.float32(3e38),
  'half': lambda values: np.where(
    np.arange(values.size).reshape(values.shape) % 2, values, np.nan
  ),
}


def changed(results: xr.Dataset, kinds) -> xr.Dataset:
  """Each measurement as its kind says."""
  floats = [n for n, v in results.items() if v.dtype.kind == 'f']
  pairs = zip(floats, itertools.cycle(kinds))
  new = {
    n: (results[n].dims, KINDS[kind](results[n].values)) for n, kind in pairs
  }
  return results.assign(new)


def draw(figures) -> None:
  for figure in figures.values():
    figure.canvas.draw()


def check_mixed(name: str, number: int) -> None:
  """A script draws whatever kinds its measurements are of, in so many mixes."""
  figures, results = experiment_of(name).figures, results_of(name)
  kinds = st.lists(st.sampled_from(list(KINDS)), min_size=1, max_size=9)

  @hypothesis.settings(max_examples=number, deadline=None, derandomize=True)
  @hypothesis.given(kinds)
  @hypothesis.example(['zeros'])
  @hypothesis.example(['large'])
  @hypothesis.example(list(KINDS))
  def check(kinds):
    draw(figures(changed(results, kinds)))

  check()


def notes(figure) -> list[str]:
  return [t.get_text() for ax in figure.axes for t in ax.texts]


class FiguresTest(parameterized.TestCase):
  @parameterized.parameters(*SCRIPTS)
  def test_nothing(self, name):
    """All runs diverged, or all is 0: drawn, with the reason in its place."""
    check_mixed(name, 1)  # more of them: python -m tests.results.figures_test
    figures, results = experiment_of(name).figures, results_of(name)
    empty = changed(results, ['nothing'])
    when = xr.full_like(results.seed, 3.0, float)
    drawn = figures(empty.assign(diverged_at=when))
    draw(drawn)
    said = [note for figure in drawn.values() for note in notes(figure)]
    self.assertIn(
      'too few finite values', '\n'.join(said).replace(' above 0', '')
    )
    if name != 'separability':
      self.assertIn('every run diverged at step 3', '\n'.join(said))

  def test_one_point(self):
    """A curve that ends where it begins cannot be seen; a marker can."""
    for marker, number in (('', 1), ('o', 0)):
      figure = drawing.new_figure(2, 2)
      ax = figure.subplots()
      ax.plot([0, 1, 2], [0.5, np.nan, np.nan], marker=marker)
      drawing.explain_empty(figure, xr.Dataset())
      self.assertLen(ax.texts, number)

  def test_sweep(self):
    """The paper's figures: curves up to the divergence, and no spectrum."""
    results = make_records(values=(8,), num_seeds=1)
    for name in ('test_accuracy', 'pattern_difference'):
      results[name][..., 2:] = np.nan
    for name in ('relative_distance', *RANK_NAMES):
      results[name][:] = np.nan
    results['diverged_at'] = (('width', 'seed'), [[2.0]])
    drawn = synthetic.EXPERIMENT.figures(results)
    draw(drawn)
    said = [len(ax.texts) for ax in drawn['figure1'].axes]
    self.assertEqual(said, [0, 0, 1, 1, 1, 0])
    self.assertIn('diverged at step 2', notes(drawn['figure1'])[0])

  def test_growth(self):
    """No number above 0 for a logarithmic axis."""
    name = 'dim = 1000, num_train = 1000, num_seeds = 1, devices = 1'
    for value in (np.nan, 0.0):
      results = xr.Dataset(
        {
          'growth_seconds': ('growth', [value]),
          'growth_bytes': ('growth', [value]),
          'growth_width': ('growth', [8]),
        },
        {'growth': [name]},
      )
      draw(growth.figures(results))

  @parameterized.parameters(
    'module://nowhere.to_be_found', 'no_such_backend', 'tkagg'
  )
  def test_backend(self, backend):
    """Of a notebook's child, or of a screen that is not there: not used."""
    code = """
import io, os, xarray
from ossgd import plots
ds = xarray.Dataset(
  dict(steps_to_accuracy=(('width', 'seed'), [[1.0]])),
  dict(width=[1], seed=[0], step=[1]),
  dict(target=0.5),
)
figure = plots.steps_figure(ds)
figure.savefig(io.BytesIO(), format='png')
print(type(figure.canvas).__name__, os.environ['MPLBACKEND'])
"""
    run = subprocess.run(
      [sys.executable, '-c', code],
      env=os.environ | {'MPLBACKEND': backend},
      capture_output=True,
      text=True,
      check=False,
    )
    self.assertEqual(run.stdout, f'FigureCanvasAgg {backend}\n', run.stderr)


if __name__ == '__main__':
  for script in SCRIPTS:
    check_mixed(script, 10)
