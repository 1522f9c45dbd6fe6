"""The paper's claims as data, and verdicts computed from measurements.

A claim is a quantity, one value a seed, and the range its mean must lie in.
The verdict follows from the 95 % interval of the mean (Student's t over the
seeds): inside the range it holds, outside it fails, across an end of the
range it is undecided at this sample size.
"""

from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

import numpy as np
import scipy.stats
import xarray as xr

INF = float('inf')


Verdict = Literal['holds', 'fails', 'undecided']


class Claim(NamedTuple):
  """One statement of the paper, made measurable."""

  where: str  # in the paper
  words: str  # what it says, in ours
  quantity: str  # what is measured, one value a seed
  low: float  # the claim holds if the mean is in (low, high)
  high: float
  measure: Callable[[xr.Dataset], xr.DataArray | np.ndarray]  # -> (seed,)


class Finding(NamedTuple):
  """A claim beside what was measured."""

  claim: Claim
  mean: float  # over the seeds where the quantity exists; NaN if nowhere
  std: float  # NaN with fewer than two
  interval: tuple[float, float]  # 95 %, of the mean
  num_seeds: int
  num_missing: int  # seeds where the quantity does not exist
  verdict: Verdict


def judge(claim: Claim, results: xr.Dataset) -> Finding:
  """Measures a claim and decides it.

  Where the quantity does not exist for a seed (a target never reached), the
  rest cannot make the claim hold. Fewer than two seeds decide nothing.

  Args:
    claim: the claim.
    results: what `claim.measure` reads, with a dim 'seed'.
  """
  values = np.asarray(claim.measure(results), np.float64)
  known = values[np.isfinite(values)]
  missing = values.size - known.size
  mean = float(np.mean(known)) if known.size else np.nan
  if known.size < 2:
    return Finding(
      claim, mean, np.nan, (np.nan, np.nan), values.size, missing, 'undecided'
    )
  std = float(np.std(known, ddof=1))
  half = scipy.stats.t.ppf(0.975, known.size - 1) * std / known.size**0.5
  low, high = mean - half, mean + half
  verdict: Verdict
  if high <= claim.low or low >= claim.high:
    verdict = 'fails'
  elif claim.low < low and high < claim.high and not missing:
    verdict = 'holds'
  else:
    verdict = 'undecided'
  return Finding(claim, mean, std, (low, high), values.size, missing, verdict)


def report(findings: Sequence[Finding]) -> str:
  """The findings as a Markdown table."""
  rows = [
    (
      f.claim.words,
      f.claim.where,
      f.claim.quantity,
      _range(f.claim.low, f.claim.high),
      f'{f.mean:.3g} ± {f.std:.2g}',
      f'{f.interval[0]:.3g} to {f.interval[1]:.3g}',
      f'{f.num_seeds}' + f' ({f.num_missing} without)' * (f.num_missing > 0),
      f'**{f.verdict}**',
    )
    for f in findings
  ]
  return markdown_table(
    (
      'claim',
      'paper',
      'quantity',
      'holds if',
      'mean ± std',
      '95 % interval',
      'seeds',
      'verdict',
    ),
    rows,
  )


def summary(findings: Sequence[Finding]) -> str:
  """One line a finding, for a terminal."""
  return '\n'.join(
    f'{f.verdict:>9}: {f.claim.words} ({f.mean:.3g} ± {f.std:.2g}; '
    f'{_range(f.claim.low, f.claim.high)})'
    for f in findings
  )


def markdown_table(header: Sequence[str], rows: Sequence[Sequence]) -> str:
  """A table that reads in Markdown and on a terminal alike."""
  cells = [
    [str(cell).replace('|', r'\|') for cell in row] for row in (header, *rows)
  ]
  widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
  cells.insert(1, ['-' * width for width in widths])
  lines = (
    ' | '.join(c.ljust(w) for c, w in zip(row, widths, strict=True))
    for row in cells
  )
  return '\n'.join(f'| {line} |' for line in lines) + '\n'


def _range(low: float, high: float) -> str:
  if low == -INF:
    return f'< {high:.3g}'
  return f'> {low:.3g}' if high == INF else f'{low:.3g} to {high:.3g}'


def log_slope(values: xr.DataArray, dim: str = 'width') -> np.ndarray:
  """Least-squares slope of log values in log coordinate: (seed,).

  NaN for a seed where a value is missing or not positive, and everywhere with
  fewer than two coordinates.
  """
  values = values.transpose(dim, 'seed')
  if values.sizes[dim] < 2:
    return np.full(values.sizes['seed'], np.nan)
  with np.errstate(divide='ignore', invalid='ignore'):
    y = np.log(values.values.astype(np.float64))
  y[~np.isfinite(y)] = np.nan
  x = np.log(values[dim].values.astype(np.float64))
  x = x - x.mean()
  return x @ y / (x @ x)


def training_claims(
  figure: str, *, num_patterns: int | None, constant: float
) -> list[Claim]:
  """What Section 7 and D.1 say of a sweep over widths.

  Args:
    figure: where in the paper, such as 'Figure 1'.
    num_patterns: k l, the singular values that stand out of the update; None
      where it is not known.
    constant: c of Figure 5's line c / sqrt(m).
  """

  def scaled_distance(ds):
    return (ds.distance_at_accuracy * np.sqrt(ds.width)).mean(
      'width', skipna=False
    )

  def spread(ds):
    steps = ds.steps_to_accuracy
    return steps.max('width', skipna=False) / steps.min('width', skipna=False)

  where = f'Section 7, {figure}'
  return [
    Claim(
      where,
      'the test accuracy goes to 100 %',
      'final test accuracy, lowest over widths',
      0.99,
      INF,
      lambda ds: ds.test_accuracy.isel(step=-1).min('width', skipna=False),
    ),
    Claim(
      where,
      'wider networks get there sooner',
      'slope of log (1 - mean test accuracy over recorded steps) in log m',
      -INF,
      0.0,
      lambda ds: log_slope(1 - ds.test_accuracy.mean('step', skipna=False)),
    ),
    Claim(
      where,
      'fewer than one pattern in ten changes',
      'largest pattern difference, over widths and steps',
      -INF,
      0.1,
      lambda ds: ds.pattern_difference.max(['width', 'step'], skipna=False),
    ),
    Claim(
      where,
      'the coupling tightens with width',
      'slope of log final pattern difference in log m',
      -INF,
      0.0,
      lambda ds: log_slope(ds.pattern_difference.isel(step=-1)),
    ),
    Claim(
      where,
      'the solution stays within a tenth of the initial norm',
      'largest relative distance, over widths and steps',
      -INF,
      0.1,
      lambda ds: ds.relative_distance.max(['width', 'step'], skipna=False),
    ),
    *(_cliff_claims(where, num_patterns) if num_patterns else ()),
    Claim(
      'D.1, Figure 4',
      'the steps to the target accuracy do not depend on width',
      'steps to the target, largest / smallest over widths',
      -INF,
      2.0,
      spread,
    ),
    Claim(
      'D.1, Figure 5',
      'the relative distance at the target falls as 1/sqrt(m)',
      'slope of log relative distance at the target in log m',
      -0.55,
      -0.45,
      lambda ds: log_slope(ds.distance_at_accuracy),
    ),
    Claim(
      'D.1, Figure 5',
      f'and closely matches {constant:.3g} / sqrt(m)',
      'sqrt(m) x relative distance at the target, mean over widths',
      0.9 * constant,
      1.1 * constant,
      scaled_distance,
    ),
  ]


def cliff(spectrum: xr.DataArray, num_patterns: int) -> xr.DataArray:
  """Singular value k l over the next one; NaN where there is no next one."""
  pair = spectrum.reindex(rank=[num_patterns, num_patterns + 1])
  return pair.isel(rank=0) / pair.isel(rank=1)


def _cliff_claims(where: str, count: int) -> list[Claim]:
  return [
    Claim(
      where,
      f'the top {count} singular values of the update are much larger',
      f'value {count} / value {count + 1} of the update, lowest over widths',
      10.0,
      INF,
      lambda ds: cliff(ds.singular_values_update, count).min(
        'width', skipna=False
      ),
    ),
    Claim(
      where,
      'the final weights have no such cliff',
      f'value {count} / value {count + 1} of the weights, largest over widths',
      -INF,
      1.1,
      lambda ds: cliff(ds.singular_values_weights, count).max(
        'width', skipna=False
      ),
    ),
  ]
