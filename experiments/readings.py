"""Readings of the paper that its text leaves open, beside its own numbers.

Is the data of Section 7 scaled to unit norm (A2)? Is N(0, 1/sqrt m) a standard
deviation, as in (A3), or a variance? Does SGD take one pass (Section 3) or
several (Section 7: 400 x 16 > 1000)? Each reading is trained at several widths
and held against what the paper reports: the constant of Figure 5 (2/3; 8 on
MNIST), its slope -1/2, the bounds of 0.1, and the k l singular values.

  python -m experiments.readings --preset=quick --out=/tmp/quick
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np

from experiments import command, training
from experiments.options import option
from ossgd import checkpoints, claims, components, paper_claims, plots, sweeps
from ossgd.base import Split
from ossgd.claims import INF, Claim

if TYPE_CHECKING:
  import xarray as xr
  from matplotlib.figure import Figure

READINGS = ('paper', 'raw_inputs', 'variance', 'one_pass')
_WORDS = {
  'paper': 'ours: unit norm, std 1/sqrt(m), epochs',
  'raw_inputs': 'inputs not scaled to unit norm',
  'variance': 'N(0, 1/sqrt m) as a variance: std m^(-1/4)',
  'one_pass': 'one pass over T B training examples',
}


@dataclasses.dataclass(frozen=True)
class Config(training.DataConfig):
  """Section 7's set-up, read in four ways."""

  widths: tuple[int, ...] = option(
    (1000, 2000, 4000, 8000), 'm, hidden units (our choice).'
  )
  constant: float = option(
    2 / 3, "Figure 5's constant to compare with (D.1: 2/3; MNIST 8)."
  )


PRESETS = {
  'quick': {'widths': (500, 1000, 2000), 'num_seeds': 2, 'num_steps': 100},
  'mnist': {
    'dataset': 'mnist',
    'constant': 8.0,
    'target': 0.95,
    'widths': (500, 1000, 2000),
    'num_steps': 937,
    'batch_size': 64,
    'lr_times_width': 400.0,
    'eval_every': 20,
  },
}


def run(
  config: Config, progress: sweeps.Progress = lambda fraction, label: None
) -> xr.Dataset:
  """Trains every width under every reading: dim `reading`."""
  import xarray as xr

  parts = checkpoints.watch(progress).parts((r, 1) for r in READINGS)
  read = [
    _read(config, reading, part)
    for reading, part in zip(READINGS, parts, strict=True)
  ]
  results = xr.concat(read, xr.Variable('reading', list(READINGS)))
  return results.assign_attrs(constant=config.constant)


def _read(
  config: Config, reading: str, progress: sweeps.Progress
) -> xr.Dataset:
  """A sweep over widths under one reading."""
  if reading == 'raw_inputs':
    config = dataclasses.replace(config, normalize=False)
  if reading == 'one_pass':
    enough = config.num_steps * config.batch_size
    config = dataclasses.replace(config, order='one_pass', num_train=enough)
  data = training.data(config)
  if reading != 'variance':
    return training.sweep(config, data, progress)
  return _variance(config, data, progress)


def _variance(
  config: Config, data: components.Spec | Split, progress: sweeps.Progress
) -> xr.Dataset:
  """std m^(-1/4) = m^(1/4) / sqrt(m): a scale of its own for every width."""
  import xarray as xr

  widths = ((f'm={width}', width) for width in config.widths)
  parts = checkpoints.watch(progress).parts(widths)
  found = []
  for width, part in zip(config.widths, parts, strict=True):
    one = dataclasses.replace(
      config, widths=(width,), init_scale=config.init_scale * width**0.25
    )
    found.append(training.sweep(one, data, part))
  return xr.concat(found, 'width', join='outer')


def _claims(results: xr.Dataset) -> list[Claim]:
  """The paper's numbers, asked of every reading."""
  fit = results.attrs['constant']
  quantities = [
    (
      'sqrt(m) x distance at the target',
      0.9 * fit,
      1.1 * fit,
      lambda ds: (ds.distance_at_accuracy * np.sqrt(ds.width)).mean(
        'width', skipna=False
      ),
    ),
    (
      'slope of log distance at the target in log m',
      -0.55,
      -0.45,
      lambda ds: paper_claims.log_slope(ds.distance_at_accuracy),
    ),
    (
      'largest pattern difference',
      -INF,
      0.1,
      lambda ds: ds.pattern_difference.max(['width', 'step'], skipna=False),
    ),
    (
      'largest relative distance',
      -INF,
      0.1,
      lambda ds: ds.relative_distance.max(['width', 'step'], skipna=False),
    ),
  ]
  if 'cliff' in results:
    quantities.append(
      (
        'singular value k l / (k l + 1), lowest over widths',
        10.0,
        INF,
        lambda ds: ds.cliff.min('width', skipna=False),
      )
    )

  def claim(reading, quantity, low, high, measure):
    return Claim(
      'Section 7 and D.1',
      _WORDS[reading],
      quantity,
      low,
      high,
      lambda ds: measure(ds.sel(reading=reading)),
    )

  return [claim(r, *q) for r in READINGS for q in quantities]


def _table(results: xr.Dataset) -> str:
  """A row a reading, and which fits the paper's numbers best."""
  findings = [claims.judge(claim, results) for claim in _claims(results)]
  count = len(findings) // len(READINGS)
  rows, misfits, met = [], {}, {}
  for i, reading in enumerate(READINGS):
    own = findings[i * count : (i + 1) * count]
    misfits[reading] = abs(np.log(own[0].mean / results.attrs['constant']))
    met[reading] = sum(f.verdict == 'holds' for f in own)
    cells = [f'{f.mean:.3g} ± {f.std:.2g} {f.verdict}' for f in own]
    rows.append((_WORDS[reading], *cells, f'{met[reading]} of {count}'))
  header = [f.claim.quantity for f in findings[:count]]
  nearest = min(misfits, key=lambda r: np.nan_to_num(misfits[r], nan=np.inf))
  most = max(met.values())
  best = [_WORDS[r] for r in READINGS if met[r] == most]
  return (
    claims.markdown_table(('reading', *header, 'hold'), rows)
    + f'\nMost of the numbers ({most} of {count}) hold with: '
    + '; '.join(best)
    + f'.\nNearest to the constant {results.attrs["constant"]:.3g}: '
    f'{_WORDS[nearest]}, off by {100 * np.expm1(misfits[nearest]):.0f} %; '
    f'ours is off by {100 * np.expm1(misfits["paper"]):.0f} %.\n'
  )


def _figures(results: xr.Dataset) -> dict[str, Figure]:
  """Figure 5 under every reading."""
  return {
    f'figure5_{reading}': plots.distance_figure(
      results.sel(reading=reading), results.attrs['constant']
    )
    for reading in READINGS
  }


EXPERIMENT = command.Experiment(
  'readings', Config, PRESETS, run, _figures, _table, _claims
)


def main(argv: list[str] | None = None) -> None:
  """Flags in, run folder out."""
  command.main(EXPERIMENT, argv)


if __name__ == '__main__':
  main()
