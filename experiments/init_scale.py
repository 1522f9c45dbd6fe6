"""Section 6: it is essential to set the scale of the initialization carefully.

The same network at one width with the initial weights scaled up and down over
three decades. Near the initialisation, patterns stay and gradients look like
those of fixed patterns; the scale decides how near is near.

  python -m experiments.init_scale --preset=quick --out=/tmp/quick
"""

import dataclasses

import numpy as np
import xarray as xr

from experiments import command, training
from experiments.options import option
from ossgd import paper_claims, plots, sweeps
from ossgd.claims import INF, Claim


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
  """Trains one width at every scale with every seed: dim `init_scale`."""
  return training.over(config, 'init_scale', progress)


def _claims(results: xr.Dataset) -> list[Claim]:
  """What Section 6 says of the scale, made measurable."""
  where = 'Section 6'
  scales = results.init_scale.values
  ours = float(scales[np.argmin(np.abs(np.log(scales)))])  # nearest to 1

  def at_ours(name):
    return lambda ds: ds[name].isel(step=-1).sel(init_scale=ours)

  def slope(name):
    return lambda ds: paper_claims.log_slope(
      ds[name].isel(step=-1), 'init_scale'
    )

  return [
    Claim(
      where,
      f"at the paper's scale ({ours:g}) the network learns",
      'final test accuracy',
      0.99,
      INF,
      at_ours('test_accuracy'),
    ),
    Claim(
      where,
      f"at the paper's scale ({ours:g}) the patterns couple",
      'final pattern difference',
      -INF,
      0.1,
      at_ours('pattern_difference'),
    ),
    Claim(
      where,
      'a larger scale couples more tightly',
      'slope of log final pattern difference in log scale',
      -INF,
      0.0,
      slope('pattern_difference'),
    ),
    Claim(
      where,
      'a larger scale stays closer to the start',
      'slope of log final relative distance in log scale',
      -INF,
      0.0,
      slope('relative_distance'),
    ),
    Claim(
      where,
      'too small a scale loses the coupling',
      'final pattern difference at the smallest scale',
      0.1,
      INF,
      lambda ds: ds.pattern_difference.isel(step=-1).sortby('init_scale')[0],
    ),
    Claim(
      where,
      'too large a scale slows learning',
      "mean test error over the first 50 steps, largest scale - the paper's",
      0.0,
      INF,
      lambda ds: (
        training.early_error(ds).sortby('init_scale')[-1]
        - training.early_error(ds).sel(init_scale=ours)
      ),
    ),
  ]


EXPERIMENT = command.Experiment(
  'init_scale',
  Config,
  PRESETS,
  run,
  figures=lambda ds: {
    'init_scale': plots.training_figure(ds, 'init_scale'),
  },
  table=lambda ds: training.table(ds, 'init_scale', 'scale'),
  claims=_claims,
)


def main(argv: list[str] | None = None) -> None:
  """Flags in, run folder out."""
  command.main(EXPERIMENT, argv)


if __name__ == '__main__':
  main()
