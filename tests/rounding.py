"""SGD of Section 3 in float64 NumPy, and what float32 may make of its numbers.

A few copies of the run are trained beside it, whose products and sums are
rounded at random by one unit of float32 at every step, with the run's own
patterns. How far they get away is how far rounding is carried by the dynamics,
whatever those amplify; an engine may be `_SPARE` times as far from the run.

A pre-activation that is within that distance of zero may round to the other
side, and its unit's step is then another one. So a run can be asked for with
such gates the other way: an engine that is further away than the copies has to
be found again, in all its numbers, by turning gates that are in doubt.
"""

from collections.abc import Set
from typing import NamedTuple

import numpy as np

_EPS = 2.0**-23  # of float32
_COPIES = 3
_SPARE = 8
_MOST_TURNED = 10

Gate = tuple[int, int, int]  # step, unit, example of the batch


class Problem(NamedTuple):
  """One run, float64 and int."""

  w: np.ndarray  # w(0): (m, d)
  a: np.ndarray  # (k, m)
  x: np.ndarray  # training examples, then test examples: (n, d)
  y: np.ndarray  # (n,)
  rows: np.ndarray  # the batch of every step: (T, B)
  num_train: int  # N
  num_train_eval: int
  step_size: float  # eta


class Expected(NamedTuple):
  """By name, what the run has, and how far rounding may lead from it."""

  values: dict[str, np.ndarray]
  allowed: dict[str, np.ndarray]
  doubtful: dict[Gate, float]  # gates near zero, the margin in what is allowed


class _Rounded:
  """The run, first, and its copies: arrays (copy, ...)."""

  def __init__(self, problem: Problem):
    self._rng = np.random.default_rng(0)
    self._furthest: dict[str, np.ndarray] = {}
    self.w = np.repeat(problem.w[None], 1 + _COPIES, axis=0)

  def rounded(self, values: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """The copies' values rounded, those of the run as they are."""
    noise = self._rng.random(values[1:].shape, np.float32) - 0.5
    values[1:] += _EPS * scale[1:] * (4 * noise)  # about as a normal one
    return values

  def preactivations(self, x: np.ndarray) -> np.ndarray:
    """h: (copy, m, n)."""
    lengths = np.linalg.norm(self.w, axis=2)[:, :, None]
    return self.rounded(self.w @ x.T, lengths * np.linalg.norm(x, axis=1))

  def logits(self, a, h, p) -> np.ndarray:
    """f: (copy, k, n)."""
    gated = np.where(p, h, 0)
    return self.rounded(a @ gated, np.abs(a) @ np.abs(gated))

  def step(self, change: np.ndarray) -> None:
    """w + change, rounded."""
    self.w += change
    self.rounded(self.w, np.abs(self.w))

  def allowed(self, name: str, values: np.ndarray) -> np.ndarray:
    """How far from the run's value: the furthest that a copy ever was."""
    apart = np.max(np.abs(values[1:] - values[:1]))
    furthest = max(self._furthest.get(name, 0), _SPARE * apart)
    self._furthest[name] = furthest
    return furthest


def expected(
  problem: Problem, record_steps: np.ndarray, turned: Set[Gate] = frozenset()
) -> Expected:
  """The run's measurements at recorded steps, and its end.

  Args:
    problem: the run.
    record_steps: non-decreasing, from 0 to T.
    turned: gates that are open where their pre-activation says closed, and
      the other way round.
  """
  copies, doubtful, measured = _Rounded(problem), {}, []
  begun = copies.preactivations(problem.x)[:, :, problem.num_train :]
  for t in range(len(problem.rows) + 1):
    if t in record_steps:
      measured.append(_measure(problem, copies, begun))
    if t == len(problem.rows):
      break
    x, y = problem.x[problem.rows[t]], problem.y[problem.rows[t]]
    h = copies.preactivations(x)
    p = h[0] >= 0
    near = np.abs(h[0]) / copies.allowed('batch', h)
    for r, s in np.argwhere(near <= 1):
      doubtful[t, int(r), int(s)] = near[r, s]
    for step, r, s in turned:
      p[r, s] ^= step == t
    f = copies.logits(problem.a, h, p)
    back = np.where(p, problem.a.T @ _residual(f, y), 0)
    back = copies.rounded(back, np.abs(back))
    copies.step(-problem.step_size / len(x) * (back @ x))
  values, allowed = (
    {name: np.array([m[i][name] for m in measured]) for name in measured[0][i]}
    for i in (0, 1)
  )
  for found, ended in zip(
    (values, allowed), _ended(problem, copies), strict=True
  ):
    found.update(ended)
  return Expected(values, allowed, doubtful)


def _residual(f: np.ndarray, y: np.ndarray) -> np.ndarray:
  """o - 1[i = y]: (copy, k, n)."""
  o = np.exp(f - f.max(axis=1, keepdims=True))
  o /= o.sum(axis=1, keepdims=True)
  o[:, y, np.arange(len(y))] -= 1
  return o


def _measure(problem, copies, begun) -> tuple[dict, dict]:
  """Values and what is allowed, of one recorded step."""
  h = copies.preactivations(problem.x)
  f = copies.logits(problem.a, h, h[0] >= 0)
  away = np.linalg.norm(copies.w - problem.w, axis=(1, 2))
  distance = away / np.linalg.norm(problem.w)
  values = {'relative_distance': distance[0]}
  allowed = {
    'relative_distance': copies.allowed('distance', distance)
    + 4 * _EPS * distance[0]
  }
  near = copies.allowed('h', h)
  now, then = h[0][:, problem.num_train :], begun[0]
  values['pattern_difference'] = np.mean((now >= 0) != (then >= 0))
  unclear = (np.abs(now) <= near) | (np.abs(then) <= near)
  allowed['pattern_difference'] = np.mean(unclear) + 4 * _EPS
  parts = {
    'train': slice(problem.num_train_eval),
    'test': slice(problem.num_train, None),
  }
  for name, part in parts.items():
    y = problem.y[part]
    own = np.take_along_axis(f[:, :, part], y[None, None], 1)
    others = f[:, :, part].copy()
    others[:, y, np.arange(len(y))] = -np.inf
    margins = own[0, 0] - others[0].max(axis=0)
    loss = np.mean(np.logaddexp.reduce(f[:, :, part] - own, axis=1), axis=1)
    values[f'{name}_loss'] = loss[0]
    allowed[f'{name}_loss'] = copies.allowed(name, loss) + 4 * _EPS * (
      1 + loss[0]
    )
    values[f'{name}_accuracy'] = np.mean(margins > 0)
    near = 2 * copies.allowed('f', f)
    allowed[f'{name}_accuracy'] = np.mean(np.abs(margins) <= near) + 4 * _EPS
  return values, allowed


def _ended(problem, copies) -> tuple[dict, dict]:
  """Final weights and spectra; no singular value moves further than w."""
  w = copies.w[0]
  update = w - problem.w
  apart = np.linalg.norm(copies.w[1:] - w, axis=(1, 2)).max()
  near = _SPARE * (apart + _EPS * np.linalg.norm(w))
  values = {
    'w': w,
    'singular_values_update': np.linalg.svd(update, compute_uv=False),
    'singular_values_weights': np.linalg.svd(w, compute_uv=False),
  }
  return values, dict.fromkeys(values, near)


def distances(expected: Expected, found: dict) -> dict[str, np.ndarray]:
  """How far an engine is from the run, in what is allowed, by name."""
  apart = {}
  for name, values in expected.values.items():
    error = np.abs(np.asarray(found[name], np.float64) - values)
    if name == 'w':
      error = np.linalg.norm(error)
    ratio = error / np.maximum(expected.allowed[name], 1e-30)
    apart[name] = np.where(np.isnan(ratio), np.inf, ratio)
  return apart


def closest(
  problem: Problem, expected_: Expected, found: dict
) -> tuple[dict[str, np.ndarray], int]:
  """`distances` where gates in doubt are as the engine has them; how many.

  The unit whose weights end furthest away had another gate, if any had. Where
  a later step made up for it, so that no weights tell, it was one of the last
  before the first measurement that is too far away. None makes up for a number
  that is not finite.
  """
  turned: set[Gate] = set()
  apart = distances(expected_, found)
  while 1 < _furthest(apart) < np.inf and len(turned) < _MOST_TURNED:
    away = np.linalg.norm(found['w'] - expected_.values['w'], axis=1)
    unit, at = int(np.argmax(away)), _first_too_far(apart)
    last = range(*found['step'][[max(at - 1, 0), at]])

    def of_unit(other, unit=unit):
      return np.linalg.norm(found['w'][unit] - other.values['w'][unit])

    def of_time(other, at=at):
      return _furthest_at(distances(other, found), at)

    def halved(gates, error, run=expected_):
      """The gate that halves an error, and the run with it turned."""
      tried = [
        (error(other), gate, other)
        for gate in gates - turned
        for other in [expected(problem, found['step'], turned | {gate})]
      ]
      best = min(tried, default=(np.inf,))
      return best[1:] if best[0] <= error(run) / 2 else None

    doubtful = set(expected_.doubtful)
    turn = halved({g for g in doubtful if g[1] == unit}, of_unit) or halved(
      {g for g in doubtful if g[0] in last}, of_time
    )
    if turn is None:
      break
    gate, expected_ = turn
    turned.add(gate)
    apart = distances(expected_, found)
  return apart, len(turned)


def _furthest(apart: dict[str, np.ndarray]) -> float:
  """Of all measurements."""
  return max(map(np.max, apart.values()))


def _first_too_far(apart: dict[str, np.ndarray]) -> int:
  """Index of the first recorded step with a number too far away, else last."""
  last = apart['relative_distance'].size - 1
  wrong = (_furthest_at(apart, i) > 1 for i in range(last))
  return next((i for i, is_wrong in enumerate(wrong) if is_wrong), last)


def _furthest_at(apart: dict[str, np.ndarray], index: int) -> float:
  """Of the measurements of a recorded step."""
  ended = ('w', 'singular_values_update', 'singular_values_weights')
  return max(v[index] for name, v in apart.items() if name not in ended)
