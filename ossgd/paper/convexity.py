"""Lemmas A.5, B.5 and B.6: both sides of their inequalities, in float64 NumPy.

Nothing here assumes what a lemma claims, so a function that is not what the
lemma asks for can be seen to break it.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike


class Convex(NamedTuple):
  """A convex function R -> R; its parts act on arrays element by element."""

  value: Callable
  partial_max: Callable  # the right derivative
  partial_min: Callable  # the left derivative
  kinks: np.ndarray  # where these two differ: (q,)


class Distance(NamedTuple):
  """How far apart two functions are on (-tau, tau), and what the paper says."""

  integral: float  # int_{-tau}^{tau} |phi - l|
  integral_bound: float
  probability: float  # Pr_{alpha ~ U(-tau, tau)}[|phi - l| >= threshold]
  probability_bound: float

  @property
  def holds(self) -> bool:
    """Both measured values reach their bounds."""
    far = self.integral >= self.integral_bound
    return bool(far and self.probability >= self.probability_bound)


class Differentiable(NamedTuple):
  """g or one of the g_i of Lemma B.6."""

  value: Callable
  gradient: Callable


class Change(NamedTuple):
  """A change of f(w) = g(sum_i g_i(w_i)) and the bounds on it."""

  change: float
  linear: float  # sum_{i in [m-r]} <df/dw_i, delta_i>
  paper_bound: float
  repaired_bound: float


def max_affine(slopes: ArrayLike, offsets: ArrayLike) -> Convex:
  """max_j (slope_j alpha + offset_j): (q,) twice, q > 0."""
  slopes, offsets = np.asarray(slopes, float), np.asarray(offsets, float)
  line = np.lexsort((-offsets, slopes))[0]  # the largest at -infinity
  active, kinks = [slopes[line]], []
  while (steeper := np.flatnonzero(slopes > slopes[line])).size:
    meets = offsets[line] - offsets[steeper]
    meets /= slopes[steeper] - slopes[line]
    # Of lines that take over at one point the steepest is the largest after.
    line = steeper[np.lexsort((-slopes[steeper], meets))[0]]
    active.append(slopes[line])
    kinks.append(meets.min())
  pieces, ends = np.array(active), np.array(kinks)
  return Convex(
    lambda x: np.max(np.multiply.outer(x, slopes) + offsets, axis=-1),
    lambda x: pieces[np.searchsorted(ends, x, side='right')],
    lambda x: pieces[np.searchsorted(ends, x, side='left')],
    ends,
  )


def softplus(sharpness: float) -> Convex:
  """log(1 + e^{c alpha}) / c, which becomes a ReLU as c grows."""

  def slope(x):
    return np.exp(-np.logaddexp(0, -sharpness * x))

  def value(x):
    return np.logaddexp(0, sharpness * x) / sharpness

  return Convex(value, slope, slope, np.empty(0))


def quadratic(curvature: float) -> Convex:
  """c alpha^2 / 2."""

  def slope(x):
    return curvature * x

  return Convex(lambda x: slope(x) * x / 2, slope, slope, np.empty(0))


def add(phi: Convex, psi: Convex) -> Convex:
  """phi + psi."""
  return Convex(
    lambda x: phi.value(x) + psi.value(x),
    lambda x: phi.partial_max(x) + psi.partial_max(x),
    lambda x: phi.partial_min(x) + psi.partial_min(x),
    np.union1d(phi.kinks, psi.kinks),
  )


def lemma_a5(phi: Convex, slope: float, offset: float, tau: float) -> Distance:
  """A convex function with a kink is far from every line, Lemma A.5.

  With rho = partial_max phi(0) - partial_min phi(0) and l any line,

    int_{-tau}^{tau} |phi - l| >= tau^2 rho / 8,
    Pr_{alpha ~ U(-tau, tau)}[|phi - l| >= tau rho / 128] >= 1/16.

  The best constants are 1/4, from phi - l integrated against sign(|alpha| -
  tau/2) and reached by |alpha| and l = tau/2, and 31/63.

  Args:
    phi: convex.
    slope, offset: l(alpha) = slope alpha + offset.
    tau: positive, else ValueError.
  """
  rho = float(phi.partial_max(0.0) - phi.partial_min(0.0))
  line = max_affine([slope], [offset])
  integral, probability = _distance(phi, line, tau, tau * rho / 128)
  return Distance(integral, tau**2 * rho / 8, probability, 1 / 16)


def lemma_b5(phi: Convex, ell: Convex, tau: float) -> Distance:
  """A convex function is far from one that bends less, Lemma B.5.

  With gamma = (partial_max phi(tau/2) - partial_min phi(-tau/2))
               - (partial_max l(tau) - partial_min l(-tau)),

    int_{-tau}^{tau} |phi - l| >= tau^2 gamma / 32,
    Pr_{alpha ~ U(-tau, tau)}[|phi - l| >= tau gamma / 512] >= 1/64.

  The best constants are 1/16 and 63/254, approached but not reached. The first
  is the integral of phi - l against K'', where K = tau^2/16 up to tau/2 and
  goes down to 0 at tau in two parabolas with K'' = -1 and 1.

  Args:
    phi: convex.
    ell: l, convex.
    tau: positive, else ValueError.
  """
  bend = phi.partial_max(tau / 2) - phi.partial_min(-tau / 2)
  gamma = float(bend - (ell.partial_max(tau) - ell.partial_min(-tau)))
  integral, probability = _distance(phi, ell, tau, tau * gamma / 512)
  return Distance(integral, tau**2 * gamma / 32, probability, 1 / 64)


def lemma_b6(
  outer: Differentiable,
  inner: Sequence[Differentiable],
  w: np.ndarray,
  step: np.ndarray,
  *,
  lipschitz: float,
  num_kinked: int,
) -> Change:
  """A step on f(w) = g(sum_i g_i(w_i)) where r units have kinks, Lemma B.6.

  The paper bounds f(w + delta) - f(w) by linear + L^3 m^2 p^2 + L^2 r p. Its
  proof leaves out how far g_i is from its tangent, L p^2 / 2, times the slope L
  of g. Proved is linear + (L^3 m^2 + L^2 m) p^2 / 2 + L^2 r p, no more than the
  paper's if L m >= 1; else the paper's can fail.

  Args:
    outer: g, L-Lipschitz and L-smooth.
    inner: g_i: (d,) -> scalar, L-Lipschitz; all but the last r L-smooth.
    w: (m, d) float64.
    step: delta, (m, d); p is the largest ||delta_i||.
    lipschitz: L.
    num_kinked: r, units whose gradient is not asked for.
  """
  m = len(inner)
  before = sum(g.value(v) for g, v in zip(inner, w, strict=True))
  after = sum(g.value(v) for g, v in zip(inner, w + step, strict=True))
  linear = outer.gradient(before) * sum(
    np.dot(inner[i].gradient(w[i]), step[i]) for i in range(m - num_kinked)
  )
  p = np.max(np.linalg.norm(step, axis=1))
  square, tangent = lipschitz**3 * m**2 * p**2, lipschitz**2 * m * p**2
  kinked = lipschitz**2 * num_kinked * p
  return Change(
    outer.value(after) - outer.value(before),
    linear,
    linear + square + kinked,
    linear + (square + tangent) / 2 + kinked,
  )


def _distance(phi, ell, tau, threshold) -> tuple[float, float]:
  """int |phi - l| and Pr[|phi - l| >= threshold] on (-tau, tau).

  Right to rounding for piecewise linear and quadratic functions, to about 1e-9
  for softplus. Pr may be wrong by a piece (see `_pieces`) in which phi - l
  turns back within 1e-9 of the threshold, in units of tau max |slope|.
  """
  if not tau > 0:
    raise ValueError(f'tau is {tau}, not positive')

  def difference(x):
    return phi.value(x) - ell.value(x)

  points = _pieces(phi, ell, tau)
  for level in (-threshold, 0.0, threshold):
    points = np.union1d(points, _crossings(difference, points, level))
  # Between two points neither phi - l nor its distance from the threshold
  # changes sign: Gauss's rule sees no kink, and one value stands for all.
  middle, half = (points[1:] + points[:-1]) / 2, np.diff(points) / 2
  nodes, weights = np.polynomial.legendre.leggauss(8)
  values = np.abs(difference(middle[:, None] + half[:, None] * nodes))
  far = np.abs(difference(middle)) >= threshold
  return float(half @ values @ weights), float(half @ far / tau)


def _pieces(phi: Convex, ell: Convex, tau: float) -> np.ndarray:
  """Points from -tau to tau between which phi - l is monotone and smooth.

  A convex function's slopes at the ends of a piece bound those inside, so two
  functions' bound the slope of phi - l. A piece where they allow both signs is
  halved until phi - l cannot move there, any other until Gauss's rule fits.
  """
  kinks = np.concatenate([phi.kinks, ell.kinks])
  points = np.unique([-tau, *kinks[np.abs(kinks) < tau], tau])
  steepest = np.abs([phi.partial_max(points), ell.partial_max(points)]).max()
  while True:
    a, b = points[:-1], points[1:]
    low = phi.partial_max(a) - ell.partial_min(b)
    high = phi.partial_min(b) - ell.partial_max(a)
    allowed = np.where(low * high < 0, 2.0**-30, 2.0**-16) * tau * steepest
    split = (high - low) * (b - a) > allowed
    if not split.any():
      return points
    points = np.sort(np.concatenate([points, (a + b)[split] / 2]))


def _crossings(difference, points: np.ndarray, level: float) -> np.ndarray:
  """Where a function, monotone between the points, crosses a level."""
  above = difference(points) > level
  (piece,) = np.nonzero(above[1:] != above[:-1])
  a, b, rising = points[piece], points[piece + 1], above[piece + 1]
  for _ in range(60):  # halvings, more than float64 can tell apart
    middle = (a + b) / 2
    passed = (difference(middle) > level) == rising
    a, b = np.where(passed, a, middle), np.where(passed, middle, b)
  return b
