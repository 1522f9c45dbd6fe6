"""Figure 1, 4a and 5a: the paper's synthetic data, over widths and seeds.

Section 7: k = 10 classes of l = 2 Gaussian components in d = 1000 dimensions,
1000 training and 1000 test examples, T = 400 steps of SGD with B = 16 and
eta = 10 / m. Needs no download.

  python -m experiments.synthetic --preset=quick --out=/tmp/quick
"""

import dataclasses

import xarray as xr

from experiments import command, training
from experiments.options import option
from ossgd import claims, mixtures, sweeps


@dataclasses.dataclass(frozen=True)
class Config(training.Config):
  """Section 7's synthetic set-up."""

  dim: int = option(1000, 'd, input coordinates (Section 7: 1000).')
  num_classes: int = option(10, 'k (Section 7: 10).')
  num_components: int = option(2, 'l, components per class (Section 7: 2).')
  center_scale: float = option(
    5.0, 'sigma_0: component means ~ N(0, sigma_0^2/d I) (Section 7: 5).'
  )
  noise_scale: float = option(
    1.0, 'sigma: examples ~ N(mean, sigma^2/d I) (Section 7: 1).'
  )
  num_train: int = option(1000, 'N, training examples (Section 7: 1000).')
  num_test: int = option(1000, 'Test examples (Section 7: 1000).')


PRESETS = {'quick': {'widths': (500, 1000, 2000), 'num_seeds': 3}}


def run(
  config: Config, progress: sweeps.Progress = lambda fraction, label: None
) -> xr.Dataset:
  """Trains every width with every seed on data of its own."""
  spec = mixtures.gaussian(
    num_classes=config.num_classes,
    num_components=config.num_components,
    dim=config.dim,
    center_scale=config.center_scale,
    noise_scale=config.noise_scale,
    normalize=config.normalize,
  )
  results = training.sweep(
    config,
    spec,
    progress,
    num_train=config.num_train,
    num_test=config.num_test,
  )
  return results.assign_attrs(
    num_patterns=config.num_classes * config.num_components
  )


EXPERIMENT = command.Experiment(
  'synthetic',
  Config,
  PRESETS,
  run,
  figures=lambda ds: training.figures(ds, 'figure1', reference=2 / 3),
  table=lambda ds: training.table(ds, ds.num_patterns),
  claims=lambda ds: claims.training_claims(
    'Figure 1', num_patterns=ds.num_patterns, constant=2 / 3
  ),
)


def main(argv: list[str] | None = None) -> None:
  """Flags in, run folder out."""
  command.main(EXPERIMENT, argv)


if __name__ == '__main__':
  main()
