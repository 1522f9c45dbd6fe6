"""Section 6: it is essential to set the scale of the initialization carefully.

The same network at one width with the initial weights scaled up and down over
three decades. Near the initialisation, patterns stay and gradients look like
those of fixed patterns; the scale decides how near is near. The output weights
and the step size stay, so only the start differs.

  python -m experiments.init_scale --preset=quick --out=/tmp/quick
"""

from __future__ import annotations

import dataclasses
import functools
from typing import TYPE_CHECKING

from ossgd.results import (
  drawing,
  panels,
  paper_claims,
  plots,
  statistics,
  tables,
)
from ossgd.results.claims import INF, Claim
from ossgd.running import sweeps

from .common import command, training
from .common.options import option

if TYPE_CHECKING:
  import xarray as xr
  from matplotlib.figure import Figure


@dataclasses.dataclass(frozen=True)
class Config(training.DataConfig):
  """Section 7's set-up at several initial scales."""

  widths: tuple[int, ...] = option((4000,), 'm, hidden units: one number.')
  init_scale: tuple[float, ...] = option(
    (0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0),
    'Each multiplies 1/sqrt(m), the standard deviation of the initial weights '
    '(A3), a curve each (our list; the paper has 1).',
  )


PRESETS = {
  'quick': {'widths': (1000,), 'num_seeds': 3, 'init_scale': (0.03, 1.0, 30.0)}
}


def run(
  config: Config, progress: sweeps.Progress = lambda fraction, label: None
) -> xr.Dataset:
  """Trains one width at every scale with every seed: dim `init_scale`.

  Raises:
    ValueError: a scale is not a positive number.
  """
  if not all(0 < scale < INF for scale in config.init_scale):
    raise ValueError(
      f'init_scale is {config.init_scale}; expected positive numbers'
    )
  return training.over(config, 'init_scale', progress)


_claim = functools.partial(
  Claim, 'Section 6', setup=paper_claims.but('init_scale')
)


def _claims(results: xr.Dataset) -> list[Claim]:
  """What Section 6 says of the scale, made measurable."""
  scales = results.init_scale.values
  least, most = float(scales.min()), float(scales.max())
  found = _of_scales()
  if 1 in scales:  # the paper's, which others are beside
    found += _of_ours()
  if 1 in scales and most > 1:
    found += _of_large(most)
  if 1 in scales and least < 1:
    found += _of_small(least)
  return found


def _of_scales() -> list[Claim]:
  """What all scales say together."""

  def slope(name):
    return lambda ds: statistics.log_slope(ds[name].isel(step=-1), 'init_scale')

  return [
    _claim(
      'a larger scale couples more tightly',
      'slope of log final pattern difference in log scale',
      slope('pattern_difference'),
      high=0.0,
      needs='pattern_difference',
    ),
    _claim(
      'a larger scale stays closer to the start',
      'slope of log final relative distance in log scale',
      slope('relative_distance'),
      high=0.0,
    ),
  ]


def _of_ours() -> list[Claim]:
  return [
    _claim(
      'with a proper scale (the paper has 1) the network learns',
      'final test accuracy at scale 1',
      lambda ds: paper_claims.right(
        ds, ds.test_accuracy.isel(step=-1).sel(init_scale=1)
      ),
      low=0.99,
    ),
    _claim(
      'with a proper scale (the paper has 1) the patterns couple',
      'final pattern difference at scale 1',
      lambda ds: ds.pattern_difference.isel(step=-1).sel(init_scale=1),
      high=0.1,
      needs='pattern_difference',
    ),
  ]


def _more(values: xr.DataArray, scale: float) -> xr.DataArray:
  return values.sel(init_scale=scale) - values.sel(init_scale=1)


def _of_large(scale: float) -> list[Claim]:
  than = f'at scale {scale:g}, that at 1 subtracted'
  return [
    _claim(
      'too large a scale slows learning',
      f'mean test error over the first 50 steps {than}',
      lambda ds: _more(training.early_error(ds), scale),
      low=0.0,
    ),
    _claim(
      'a proper scale helps generalization: too large a one harms it',
      f'final test accuracy {than}',
      lambda ds: _more(ds.test_accuracy.isel(step=-1), scale),
      high=0.0,
    ),
  ]


def _of_small(scale: float) -> list[Claim]:
  return [
    _claim(
      'too small a scale loses the coupling',
      f'final pattern difference at scale {scale:g}',
      lambda ds: ds.pattern_difference.isel(step=-1).sel(init_scale=scale),
      low=0.1,
      needs='pattern_difference',
    ),
    _claim(
      'and so does too small a one',
      f'final test accuracy at scale {scale:g}, that at 1 subtracted',
      lambda ds: _more(ds.test_accuracy.isel(step=-1), scale),
      high=0.0,
    ),
  ]


def _figures(results: xr.Dataset) -> dict[str, Figure]:
  """What Section 7 reports, at the target or at the end, against scale."""
  last = results.isel(step=-1)
  steps = f'Steps to {100 * results.target:g} % test accuracy\n(SGD updates)'
  shown = {
    'Final test accuracy\n(fraction of examples)': last.test_accuracy,
    steps: results.steps_to_accuracy,
    'Final activation pattern difference\n(fraction of unit-example pairs)': (
      last.get('pattern_difference')
    ),
    'Final relative distance (ratio)': last.relative_distance,
  }
  fig = panels.panels_figure(
    {label: {'': v} for label, v in shown.items() if v is not None},
    'init_scale',
    r'Initial standard deviation $\times \sqrt{m}$',
    'log',
  )
  accuracy, *others = fig.axes
  accuracy.set_ylim(0, 1.03)
  for ax in others:
    ax.set_yscale('log')
    ax.set_xlim(accuracy.get_xlim())  # also where the target is not reached
  return {
    'init_scale': drawing.explain_empty(fig, results),
    'init_scale_training': plots.training_figure(results, 'init_scale'),
  }


EXPERIMENT = command.Experiment(
  'init_scale',
  Config,
  PRESETS,
  run,
  _figures,
  lambda ds: tables.sweep_table(ds, 'init_scale', 'scale'),
  _claims,
  training.data,
)


main = EXPERIMENT.main

if __name__ == '__main__':
  main()
