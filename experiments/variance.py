"""Figure 6: synthetic data with larger variances inside the components.

Appendix D.2: sigma_0 = 5 is fixed and sigma varies; the list of sigmas is
ours, the paper names none. All runs have one width.

  python -m experiments.variance --preset=quick --out=/tmp/quick
"""

from __future__ import annotations

import dataclasses
import functools
from typing import TYPE_CHECKING

from ossgd.results import paper_claims, plots, statistics, tables
from ossgd.results.claims import Claim
from ossgd.running import sweeps

from .common import command, training
from .common.options import option

if TYPE_CHECKING:
  import xarray as xr


@dataclasses.dataclass(frozen=True)
class Config(training.MixtureConfig):
  """Appendix D.2's set-up."""

  widths: tuple[int, ...] = option((4000,), 'm, hidden units: one number.')
  noise_scale: tuple[float, ...] = option(
    (1.0, 2.0, 3.0, 4.0, 5.0, 7.0),
    'sigma: examples ~ N(mean, sigma^2/d I), a curve each (our list).',
  )


PRESETS = {
  'quick': {'widths': (1000,), 'num_seeds': 3, 'noise_scale': (1.0, 4.0, 7.0)}
}


def run(
  config: Config, progress: sweeps.Progress = lambda fraction, label: None
) -> xr.Dataset:
  """Trains one width at every sigma with every seed: dim `noise_scale`."""
  return training.over(config, 'noise_scale', progress)


def _claims(results: xr.Dataset) -> list[Claim]:
  """What D.2 says of Figure 6."""
  claim = functools.partial(
    Claim, 'D.2, Figure 6', setup=paper_claims.but('noise_scale')
  )

  def largest(name):
    return lambda ds: ds[name].max(['noise_scale', 'step'], skipna=False)

  return [
    claim(
      'the test accuracy falls with sigma',
      'final test accuracy at the largest sigma - at the smallest',
      lambda ds: statistics.rise(ds.test_accuracy.isel(step=-1), 'noise_scale'),
      high=0.0,
    ),
    claim(
      'a good solution takes longer with a larger sigma',
      'mean test error over the first 50 steps, largest sigma - smallest',
      lambda ds: statistics.rise(training.early_error(ds), 'noise_scale'),
      low=0.0,
    ),
    claim(
      'the trend of the activation patterns stays: few change',
      'largest pattern difference, over sigmas and steps',
      largest('pattern_difference'),
      high=0.1,
      needs='pattern_difference',
    ),
    claim(
      'the trend of the distance stays: it is small',
      'largest relative distance, over sigmas and steps',
      largest('relative_distance'),
      high=0.1,
    ),
    claim(
      'the trend of the rank stays: the top k l values are much larger',
      'value k l / value k l + 1 of the update at the largest sigma',
      lambda ds: ds.cliff.sel(noise_scale=ds.noise_scale.max()),
      low=10.0,
    ),
  ]


EXPERIMENT = command.Experiment(
  'variance',
  Config,
  PRESETS,
  run,
  figures=lambda ds: {'figure6': plots.training_figure(ds, 'noise_scale')},
  table=lambda ds: tables.sweep_table(ds, 'noise_scale', 'sigma'),
  claims=_claims,
)


main = EXPERIMENT.main

if __name__ == '__main__':
  main()
