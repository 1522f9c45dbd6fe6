"""The paper's claims as data, and verdicts computed from measurements.

A claim is a quantity, measured once a seed, and the range it must lie in. What
`measure` returns says by what evidence it is judged (see `statistics`): by the
95 % interval of its mean, by exact limits of a proportion, or by its worst case
where it is said of every initialisation. An interval inside the range holds,
outside fails. All else is undecided, with the reason.

A claim about a set-up of the paper is only measured where the results are of
another one, and so is a quantity without a range.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, get_args

import numpy as np

from ossgd.results import statistics
from ossgd.results.statistics import Cells, Estimate, Every, Proportion

if TYPE_CHECKING:
  import xarray as xr

INF = float('inf')
NAN = float('nan')
ALPHA = 1 - statistics.LEVEL

# 'holds in all': a bound of every initialisation that no draw broke.
Verdict = Literal['holds', 'holds in all', 'fails', 'undecided', 'measured']
VERDICTS: tuple[Verdict, ...] = get_args(Verdict)


class Claim(NamedTuple):
  """One statement of the paper, made measurable."""

  where: str  # in the paper
  words: str  # what it says, in ours
  quantity: str  # what is measured, one value a seed
  low: float  # the claim holds in (low, high); unbounded: only measured
  high: float
  measure: Callable[
    [xr.Dataset], xr.DataArray | np.ndarray | Cells | Proportion | Every
  ]
  setup: Mapping[str, Any] = MappingProxyType({})  # what it speaks of
  beside: str = ''  # what the paper has, where there is no range


class Finding(NamedTuple):
  """A claim beside what was measured."""

  claim: Claim
  mean: float  # over seeds; of Every the worst value; NaN if nowhere
  std: float  # over seeds; NaN with fewer than two, and of Every
  interval: tuple[float, float]  # 95 %; of Every, for how often it is broken
  num_seeds: int
  num_missing: int  # seeds where the quantity does not exist
  verdict: Verdict
  reason: str  # of a verdict that the interval does not show; may be empty
  p: float  # least alpha at which the interval decides; NaN if there is none
  kind: Literal['mean', 'proportion', 'every']  # of evidence
  trials: int = 0  # of a proportion, in each seed


def about(setup: Mapping[str, Any], claims: Iterable[Claim]) -> list[Claim]:
  """The claims, as statements about a set-up of the paper."""
  return [claim._replace(setup=setup) for claim in claims]


def settings(results: xr.Dataset) -> dict[str, Any]:
  """What results say of how they were made: their attributes, their flags."""
  config = json.loads(results.attrs.get('config', '{}'))
  return config.get('settings', {}) | results.attrs


def judge(claim: Claim, results: xr.Dataset) -> Finding:
  """Measures a claim and decides it.

  Where the quantity does not exist for a seed (a target never reached), the
  rest cannot decide. Neither can fewer than two seeds, nor equal values, of
  which no interval of a mean comes.

  Args:
    claim: the claim.
    results: what `claim.measure` reads, with a dim 'seed'. What its attributes
      do not say of `claim.setup` is taken to be the paper's.
  """
  evidence = claim.measure(results)
  found = (
    _worst_case(claim, evidence.values)
    if isinstance(evidence, Every)
    else _by_interval(claim, evidence)
  )
  told = settings(results)
  away = [
    f'{name} {_shown(told[name])}, paper {_shown(value)}'
    for name, value in claim.setup.items()
    if told.get(name, value) != value
  ]
  if away:
    reason = f"away from the paper's set-up: {'; '.join(away)}"
    return found._replace(verdict='measured', reason=reason, p=NAN)
  if (claim.low, claim.high) == (-INF, INF):
    return found._replace(verdict='measured', reason=claim.beside, p=NAN)
  return found


def _worst_case(claim: Claim, worst: xr.DataArray | np.ndarray) -> Finding:
  """One draw outside of [low, high] is enough to fail."""
  values = np.asarray(worst, np.float64)
  known = values[np.isfinite(values)]
  missing = values.size - known.size
  finding = Finding(
    claim,
    mean=NAN,
    std=NAN,
    interval=(NAN, NAN),
    num_seeds=values.size,
    num_missing=missing,
    verdict='undecided',
    reason=_without(missing, values.size),
    p=NAN,
    kind='every',
  )
  if not known.size:
    return finding
  excess = np.maximum(known - claim.high, claim.low - known)
  broken = int(np.sum(excess > 0))
  finding = finding._replace(
    mean=float(known[np.argmax(excess)]),
    interval=statistics.broken_interval(broken, known.size),
  )
  if broken:
    reason = f'broken in {broken} of {known.size}'
    return finding._replace(verdict='fails', reason=reason)
  if missing:
    return finding
  return finding._replace(
    verdict='holds in all',
    reason='broken with probability at most '
    f'{finding.interval[1]:.3g} (95 %, one-sided)',
  )


def _by_interval(
  claim: Claim, evidence: xr.DataArray | np.ndarray | Cells | Proportion
) -> Finding:
  """Inside of (low, high), outside, or across an end."""
  proportion = isinstance(evidence, Proportion)
  trials = int(evidence.trials or 0) if isinstance(evidence, Proportion) else 0
  values = _rows(evidence)
  known = np.isfinite(values).all(axis=0)
  missing = int(np.sum(~known))
  values = values[:, known]
  finding = Finding(
    claim,
    mean=float(np.mean(values)) if values.size else NAN,
    std=NAN,
    interval=(NAN, NAN),
    num_seeds=known.size,
    num_missing=missing,
    verdict='undecided',
    reason=_without(missing, known.size),
    p=NAN,
    kind='proportion' if proportion else 'mean',
    trials=trials,
  )
  if values.shape[1] < 2:
    few = f'too few seeds: {known.size}'
    return finding._replace(reason=finding.reason or few)
  if proportion and not trials:
    return finding._replace(reason='how many trials there were is not known')
  if trials:
    counts = np.rint(values * trials).astype(int)
    estimates = statistics.of_proportions(counts, trials)
  elif any(map(statistics.no_spread, values)):
    equal = f'no spread: all values are {finding.mean:.3g}'
    return finding._replace(std=0.0, reason=finding.reason or equal)
  else:
    values = values[[0, -1]]
    estimates = [statistics.of_mean(*values)]
  sides = [_sides(claim, estimate) for estimate in estimates]
  # Of several the worst: the last to hold, among equals the first to fail.
  at = max(range(len(sides)), key=lambda i: (sides[i][0], -sides[i][1]))
  own = values[at] if trials else values.mean(axis=0)
  finding = finding._replace(
    mean=estimates[at].value,
    std=float(np.std(own, ddof=1)),
    interval=estimates[at].interval,
  )
  return finding if missing else _decided(finding, *sides[at])


def _rows(evidence: Any) -> np.ndarray:
  """One kind or another of evidence as (rows, seed)."""
  if isinstance(evidence, Cells):
    rows = np.stack([np.asarray(side) for side in evidence])
  elif isinstance(evidence, Proportion):
    fraction = evidence.fraction.transpose(..., 'seed').values
    rows = fraction.reshape(-1, fraction.shape[-1])
  else:
    rows = np.asarray(evidence)[None]
  return rows.astype(np.float64)


def _sides(claim: Claim, estimate: Estimate) -> tuple[float, float]:
  """The p-values of lying in the range, and outside of it."""
  return (
    max(estimate.above(claim.low), estimate.below(claim.high)),
    min(estimate.below(claim.low), estimate.above(claim.high)),
  )


def _decided(finding: Finding, inside: float, outside: float) -> Finding:
  """With its verdict."""
  finding = finding._replace(p=min(inside, outside))
  if inside <= ALPHA:
    return finding._replace(verdict='holds')
  if outside <= ALPHA:
    return finding._replace(verdict='fails')
  low, high = finding.interval
  ends = [
    f'{end:.3g}'
    for end in (finding.claim.low, finding.claim.high)
    if low <= end <= high
  ]
  reason = f'the interval crosses {" and ".join(ends)}'
  return finding._replace(reason=reason)


def _without(missing: int, count: int) -> str:
  return f'{missing} of {count} seeds without a value' if missing else ''


def _shown(value: Any) -> str:
  return f'{value:g}' if isinstance(value, float) else str(value)
