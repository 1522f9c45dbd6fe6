"""Figure 1, 4a and 5a: the paper's synthetic data, over widths and seeds.

Section 7: k = 10 classes of l = 2 Gaussian components in d = 1000 dimensions,
1000 training and 1000 test examples, T = 400 steps of SGD with B = 16 and
eta = 10 / m. Needs no download.

  python -m experiments.synthetic --preset=quick --out=/tmp/quick
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from ossgd.results import paper_claims, tables
from ossgd.running import sweeps

from .common import command, training

if TYPE_CHECKING:
  import xarray as xr


@dataclasses.dataclass(frozen=True)
class Config(training.DataConfig):
  """Section 7's synthetic set-up."""


PRESETS = {'quick': {'widths': (500, 1000, 2000), 'num_seeds': 3}}


def run(
  config: Config, progress: sweeps.Progress = lambda fraction, label: None
) -> xr.Dataset:
  """Trains every width with every seed on data of its own."""
  return training.sweep(config, training.data(config), progress)


EXPERIMENT = command.Experiment(
  'synthetic',
  Config,
  PRESETS,
  run,
  figures=lambda ds: training.figures(ds, 'figure1', reference=2 / 3),
  table=tables.sweep_table,
  claims=lambda ds: paper_claims.training_claims(
    'Figure 1', num_patterns=ds.attrs.get('num_patterns'), constant=2 / 3
  ),
  data=training.data,
)


main = EXPERIMENT.main

if __name__ == '__main__':
  main()
