"""Figure 7: synthetic data with more components in each class.

Appendix D.3: l = 1 to 7, all else as in Section 7. All runs have one width.

  python -m experiments.components --preset=quick --out=/tmp/quick
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
  """Appendix D.3's set-up."""

  widths: tuple[int, ...] = option((4000,), 'm, hidden units: one number.')
  num_components: tuple[int, ...] = option(
    (1, 2, 3, 4, 5, 6, 7), 'l, components per class, a curve each (D.3: 1-7).'
  )


PRESETS = {
  'quick': {'widths': (1000,), 'num_seeds': 3, 'num_components': (1, 3, 7)}
}


def run(
  config: Config, progress: sweeps.Progress = lambda fraction, label: None
) -> xr.Dataset:
  """Trains one width at every l with every seed: dim `num_components`."""
  return training.over(config, 'num_components', progress)


def _claims(results: xr.Dataset) -> list[Claim]:
  """What D.3 says of Figure 7, early and late where the step matters."""
  claim = functools.partial(
    Claim, 'D.3, Figure 7', setup=paper_claims.but('num_components')
  )
  last = int(results.step[-1])

  def rise(name, step):
    return lambda ds: statistics.rise(ds[name].sel(step=step), 'num_components')

  found = [
    claim(
      'the test accuracy falls with l',
      'final test accuracy, largest l - smallest',
      rise('test_accuracy', last),
      high=0.0,
    ),
    claim(
      'a good solution takes longer with a larger l',
      'mean test error over the first 50 steps, largest l - smallest',
      lambda ds: statistics.rise(training.early_error(ds), 'num_components'),
      low=0.0,
    ),
  ]
  # The first while it still rises: the record nearest to step 20.
  early = int(results.step[1:].sel(step=20, method='nearest'))
  for step in sorted({early, last}):
    found += [
      claim(
        f'a larger l couples more tightly at the same step ({step})',
        f'pattern difference at step {step}, largest l - smallest',
        rise('pattern_difference', step),
        high=0.0,
        needs='pattern_difference',
      ),
      claim(
        f'a larger l is closer to the start at the same step ({step})',
        f'relative distance at step {step}, largest l - smallest',
        rise('relative_distance', step),
        high=0.0,
      ),
    ]
  return found


EXPERIMENT = command.Experiment(
  'components',
  Config,
  PRESETS,
  run,
  figures=lambda ds: {'figure7': plots.training_figure(ds, 'num_components')},
  table=lambda ds: tables.sweep_table(ds, 'num_components', 'l'),
  claims=_claims,
)


main = EXPERIMENT.main

if __name__ == '__main__':
  main()
