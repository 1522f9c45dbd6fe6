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
from ossgd.results.statistics import Cells, Every, Proportion

if TYPE_CHECKING:
  import xarray as xr

INF = float('inf')
NAN = float('nan')
ALPHA = 1 - statistics.LEVEL

# 'holds in all': a bound of every initialisation that no draw broke.
Verdict = Literal['holds', 'holds in all', 'fails', 'undecided', 'measured']
VERDICTS: tuple[Verdict, ...] = get_args(Verdict)
Kind = Literal['mean', 'proportion', 'every']


class Claim(NamedTuple):
  """One statement of the paper, made measurable."""

  where: str  # in the paper
  words: str  # what it says, in ours
  quantity: str  # what is measured, one value a seed
  measure: Callable[
    [xr.Dataset], xr.DataArray | np.ndarray | Cells | Proportion | Every
  ]
  low: float = -INF  # the claim holds in (low, high); unbounded: only measured
  high: float = INF
  setup: Mapping[str, Any] = MappingProxyType({})  # what it speaks of
  beside: str = ''  # what the paper has, where there is no range
  needs: str = ''  # a variable that not all results have


class Finding(NamedTuple):
  """A claim beside what was measured."""

  claim: Claim
  mean: float = NAN  # over seeds; of Every the worst value; NaN if nowhere
  std: float = NAN  # over seeds; NaN with fewer than two, and of Every
  interval: tuple[float, float] = (NAN, NAN)  # 95 %; of Every, P(broken)
  num_seeds: int = 0
  num_missing: int = 0  # seeds where the quantity does not exist
  verdict: Verdict = 'undecided'
  reason: str = ''  # of a verdict that the interval does not show
  p: float = NAN  # least alpha at which the interval decides; NaN if none
  kind: Kind = 'mean'  # of evidence
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

  Raises:
    ValueError: what is measured has not one value a seed.
  """
  if claim.needs and claim.needs not in results:
    reason = f'these results have no {claim.needs}'
    return Finding(claim, verdict='measured', reason=reason)
  found = _judged(claim, claim.measure(results), results.sizes['seed'])
  told = settings(results)
  away = [
    f'{name} {_shown(told[name])}, paper {_shown(value)}'
    for name, value in claim.setup.items()
    if told.get(name, value) != value
  ]
  if away:
    reason = f"away from the paper's set-up: {'; '.join(away)}"
  elif (claim.low, claim.high) == (-INF, INF):
    reason = claim.beside
  else:
    return found
  if found.num_missing:  # some may have no value at all
    reason = '; '.join(filter(None, (found.reason, reason)))
  return found._replace(verdict='measured', reason=reason, p=NAN)


def _judged(claim: Claim, evidence: Any, num_seeds: int) -> Finding:
  """By the kind of the evidence, from the seeds that have a value."""
  kind: Kind = 'mean'
  trials, shared = 0, False
  if isinstance(evidence, Proportion):
    kind, trials = 'proportion', int(evidence.trials or 0)
    shared = evidence.shared
    fraction = evidence.fraction.transpose(..., 'seed').values
    values = fraction.reshape(-1, fraction.shape[-1])
  elif isinstance(evidence, Cells):
    values = np.stack([_of_seeds(claim, side, num_seeds) for side in evidence])
  elif isinstance(evidence, Every):
    kind = 'every'
    values = _of_seeds(claim, evidence.values, num_seeds)[None]
  else:
    values = _of_seeds(claim, evidence, num_seeds)[None]
  known = np.isfinite(values).all(axis=0)
  missing = int(np.sum(~known))
  without = f'{missing} of {known.size} seeds without a value'
  finding = Finding(
    claim,
    num_seeds=known.size,
    num_missing=missing,
    reason=without if missing else '',
    kind=kind,
    trials=trials,
  )
  values = values[:, known].astype(np.float64)
  if kind == 'every':
    return _worst_case(finding, values[0])
  return _by_interval(finding, values, shared=shared)


def _of_seeds(claim: Claim, values: Any, num_seeds: int) -> np.ndarray:
  """One number a seed: others would be taken for more seeds.

  Raises:
    ValueError: they are not.
  """
  dims = getattr(values, 'dims', ('seed',))
  array = np.asarray(values)
  if dims != ('seed',) or array.shape != (num_seeds,):
    raise ValueError(
      f'the claim {claim.words!r:.100} measured {tuple(dims)} {array.shape}; '
      f'expected one value for each of the {num_seeds} seeds: choose a width '
      'and a step (isel), or take a mean, a largest one or a slope over them'
    )
  return array


def _worst_case(finding: Finding, known: np.ndarray) -> Finding:
  """One draw outside of [low, high] is enough to fail."""
  if not known.size:
    return finding
  low, high = finding.claim.low, finding.claim.high
  excess = np.maximum(known - high, low - known)
  broken = int(np.sum(excess > 0))
  finding = finding._replace(
    mean=float(known[np.argmax(excess)]),
    interval=statistics.broken_interval(broken, known.size),
  )
  if broken:
    reason = f'broken in {broken} of {known.size}'
    return finding._replace(verdict='fails', reason=reason)
  if finding.num_missing:
    return finding
  return finding._replace(
    verdict='holds in all',
    reason='broken with probability at most '
    f'{finding.interval[1]:.3g} (95 %, one-sided)',
  )


def _by_interval(
  finding: Finding, values: np.ndarray, *, shared: bool = False
) -> Finding:
  """Inside of (low, high), outside, or across an end: of (rows, seed)."""
  if values.size:
    finding = finding._replace(mean=float(np.mean(values)))
  if values.shape[1] < 2:
    few = f'too few seeds: {finding.num_seeds}'
    return finding._replace(reason=finding.reason or few)
  if finding.trials:
    counts = np.rint(values * finding.trials).astype(int)
    estimates = statistics.of_proportions(counts, finding.trials, shared=shared)
  elif finding.kind == 'proportion':
    return finding._replace(reason='how many trials there were is not known')
  elif any(map(statistics.no_spread, values)):
    ends = ' or '.join(dict.fromkeys(f'{row.mean():.3g}' for row in values))
    equal = f'no spread: all values are {ends}'
    return finding._replace(std=0.0, reason=finding.reason or equal)
  else:
    low = values[0]
    high = values[-1] if len(values) > 1 else low
    estimates = [statistics.of_mean(low, high)]
    values = values.mean(axis=0, keepdims=True)
  low, high = finding.claim.low, finding.claim.high
  # The p-values of lying in the range, and outside of it.
  sides = [
    (
      max(one.p(low, 'greater'), one.p(high, 'less')),
      min(one.p(low, 'less'), one.p(high, 'greater')),
    )
    for one in estimates
  ]
  # Of several the worst: the last to hold, among equals the first to fail,
  # then the one that lies furthest out.
  out = [max(low - one.value, one.value - high) for one in estimates]
  at = max(range(len(out)), key=lambda i: (sides[i][0], -sides[i][1], out[i]))
  finding = finding._replace(
    mean=estimates[at].value,
    std=float(np.std(values[at], ddof=1)),
    interval=estimates[at].interval,
  )
  return finding if finding.num_missing else _decided(finding, *sides[at])


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


def _shown(value: Any) -> str:
  return f'{value:g}' if isinstance(value, float) else str(value)
