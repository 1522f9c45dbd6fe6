"""Figure 2, 4b and 5b: MNIST, over widths and seeds.

Section 7: T = 20000 steps of SGD with B = 64 and eta = 400 / m. The data come
from a prepared TFDS directory, TFDS's download or an npm package, whichever is
there; TensorFlow is never needed. Also for the like of MNIST, and own files.

  python -m experiments.mnist --preset=quick --out=/tmp/quick
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, get_args

from ossgd.data import arrays
from ossgd.results import paper_claims, tables
from ossgd.running import sweeps

from .common import command, training
from .common.options import DATASETS, option

if TYPE_CHECKING:
  import xarray as xr


@dataclasses.dataclass(frozen=True)
class Config(training.Config):
  """Section 7's set-up for MNIST."""

  num_steps: int = option(20000, 'T, SGD steps (Section 7: 20000).')
  batch_size: int = option(64, 'B, examples (Section 7: 64).')
  lr_times_width: float = option(
    400.0, 'eta m, step size times width (Section 7: 400).'
  )
  eval_every: int = option(20, 'Steps between measurements, at least.')
  target: float = option(
    0.95, 'Test accuracy of Figures 4 and 5, in (0, 1] (D.1: 0.95).'
  )
  dataset: str = option(
    'mnist',
    f'{DATASETS}.',
  )
  data_dir: str = option('', 'The TFDS directory; empty: the default one.')
  preprocess: str | None = option(
    None, training.PREPROCESS, get_args(arrays.Preprocess)
  )
  num_train_eval: int = option(
    5000, 'Training loss and accuracy are over the first so many examples.'
  )


PRESETS = {
  'quick': {
    'widths': (500, 1000, 2000),
    'num_seeds': 3,
    'num_steps': 1000,
    'eval_every': 50,
    'num_train_eval': 1000,
  }
}


def run(
  config: Config, progress: sweeps.Progress = lambda fraction, label: None
) -> xr.Dataset:
  """Trains every width with every seed on the same images."""
  return training.sweep(config, training.data(config), progress)


EXPERIMENT = command.Experiment(
  'mnist',
  Config,
  PRESETS,
  run,
  figures=lambda ds: training.figures(ds, 'figure2', reference=8),
  table=tables.sweep_table,
  claims=lambda ds: paper_claims.training_claims(
    'Figure 2', num_patterns=None, constant=8, accuracy=0.95
  ),
  data=training.data,
)


main = EXPERIMENT.main

if __name__ == '__main__':
  main()
