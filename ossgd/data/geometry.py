"""(A1) as geometry, in NumPy: measured on samples, met by arrangements."""

import functools
import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import optimize, special
from scipy.spatial import distance

_BLOCK = 512  # rows of the distance matrix held at once


class Separation(NamedTuple):
  """What a labelled sample shows of assumptions (A1) and (A2)."""

  delta: float  # smallest distance between points of different classes
  diameter: float  # largest diameter of a component
  ratio: float  # lambda = diameter / delta
  separable: bool  # (A1): delta > 0 and lambda <= 1 / (8 l)
  unit_norm: bool  # (A2), to 1e-5


def measured_separation(
  x: npt.ArrayLike, y: npt.ArrayLike, component: npt.ArrayLike
) -> Separation:
  """delta and lambda of (A1), Section 3, under a given component labelling.

  l is the largest number of component labels in a class. A sample lies inside
  its distribution's support: delta of the support is at most the measured
  one, its diameter at least.

  Args:
    x: inputs, (n, d).
    y: class labels, (n,).
    component: component labels j inside each class, (n,) int; all zero takes
      each class as one component.

  Returns:
    A Separation. lambda is infinite if two classes share a point.

  Raises:
    ValueError: shapes disagree, or there are fewer than two classes.
  """
  x = np.asarray(x, np.float64)
  y, component = np.asarray(y), np.asarray(component)
  if x.ndim != 2 or not y.shape == component.shape == x.shape[:1]:
    raise ValueError(
      'x must be (n, d) and y, component (n,), got '
      f'{x.shape}, {y.shape} and {component.shape}.'
    )
  if np.unique(y).size < 2:
    raise ValueError('delta needs examples of at least two classes in y.')
  delta, diameter = math.inf, 0.0
  for start in range(0, len(x), _BLOCK):
    rows = slice(start, start + _BLOCK)
    gaps = distance.cdist(x[rows], x[start:])  # symmetric: one half is enough
    same = y[rows, None] == y[start:]
    delta = min(delta, np.min(gaps, where=~same, initial=math.inf))
    same &= component[rows, None] == component[start:]
    diameter = max(diameter, np.max(gaps, where=same, initial=0.0))
  pairs = np.unique(np.stack([y, component], axis=1), axis=0)
  num_components = np.unique(pairs[:, 0], return_counts=True)[1].max()
  ratio = float(diameter / delta) if delta > 0 else math.inf
  norm_error = np.abs(np.linalg.norm(x, axis=1) - 1).max()
  return Separation(
    delta=float(delta),
    diameter=float(diameter),
    ratio=ratio,
    separable=bool(ratio <= 1 / (8 * num_components)),
    unit_norm=bool(norm_error <= 1e-5),
  )


@functools.lru_cache
def arrangement(
  num_classes: int,
  num_components: int,
  dim: int,
  separation: float,
  ratio: float,
) -> np.ndarray:
  """Centres of k l spherical caps that meet (A1) with equality, up to rotation.

  A cap of angular radius t has diameter 2 sin t, and two of them whose centres
  stand at the angle s are 2 sin(s / 2 - t) apart. So sin t = lambda delta / 2,
  and the smallest angle between classes is s = 2 (arcsin(delta / 2) + t).

  Given room (dim >= k l is enough) every pair of centres stands at the angle
  s, and those of one class closer only if s leaves no other choice; at the
  largest s they coincide. In fewer dimensions the centres are spread out by a
  search from fixed random starts, and then drawn together until the closest
  classes stand at s.

  Returns:
    Unit vectors, (k l, min(d, k l)) float64, row i l + j for component (i, j).

  Raises:
    ValueError: no such arrangement exists, or the search found none.
  """
  angle = 2 * (math.asin(separation / 2) + math.asin(ratio * separation / 2))
  limit = math.acos(-1 / (num_classes - 1))  # of a regular simplex of classes
  if angle > limit + 1e-9:
    problem = f'exists for num_classes={num_classes} in any dim'
    raise _refusal(problem, limit, separation, ratio)
  shape = num_classes, num_components, dim
  centers, missing = _equal_angles(*shape, min(angle, limit))
  if missing > 1e-9 * angle**2:
    centers, reached = _spread_out(*shape, angle)
    if reached < angle:
      problem = (
        f'was found for num_classes={num_classes}, num_components='
        f'{num_components} in dim={dim} (the most room is in dim='
        f'{num_classes * num_components})'
      )
      raise _refusal(problem, reached, separation, ratio)
    centers = _drawn_together(centers, num_components, angle)
  centers.setflags(write=False)  # shared through the cache
  return centers


def _refusal(
  problem: str, angle: float, separation: float, ratio: float
) -> ValueError:
  half = angle / 2  # = arcsin(delta / 2) + arcsin(lambda delta / 2)
  best = 2 * math.sin(math.atan2(math.sin(half), ratio + math.cos(half)))
  return ValueError(
    f'No arrangement on the unit sphere with separation={separation} and '
    f'ratio={ratio} {problem}. The best separation reached with this ratio is '
    f'{math.floor(best * 1e4) / 1e4}: ask for less.'
  )


def _equal_angles(
  num_classes: int, num_components: int, dim: int, angle: float
) -> tuple[np.ndarray, float]:
  """Centres with one angle between classes, one inside them, from their Gram.

  Also returns the squared length that does not fit into dim dimensions.
  """
  count = num_classes * num_components
  between = within = math.cos(angle)
  if num_components > 1:  # no eigenvalue of the Gram matrix may be negative
    least = -(1 + (count - num_components) * between) / (num_components - 1)
    within = max(between, least)
  block = np.full((num_components, num_components), within - between)
  gram = np.kron(np.eye(num_classes), block) + between
  np.fill_diagonal(gram, 1)
  values, vectors = np.linalg.eigh(gram)
  values = np.maximum(values, 0)
  room = min(dim, count)
  return vectors[:, -room:] * np.sqrt(values[-room:]), values[:-room].sum()


def _spread_out(
  num_classes: int, num_components: int, dim: int, angle: float
) -> tuple[np.ndarray, float]:
  """The first arrangement found at this angle or more, else the best one.

  Keeps all centres apart if it can, else lets those of one class come near: an
  eighth of the distance between classes counts as much.
  """
  label = np.arange(num_classes * num_components) // num_components
  same = label[:, None] == label
  best, best_angle = np.empty((len(label), dim)), 0.0
  for scale in (1, 1 / 8) if num_components > 1 else (1,):
    log_scale = np.where(same, 2 * math.log(scale), 0)
    np.fill_diagonal(log_scale, -math.inf)
    for seed in range(4):
      points = np.random.default_rng(seed).standard_normal(best.shape)
      for power in (4, 32, 256, 2048):  # at the end the smallest one counts
        found = optimize.minimize(
          _repulsion,
          points.ravel(),
          (log_scale, power),
          method='L-BFGS-B',
          jac=True,
          options={'maxiter': 300},
        )
        points = _unit(found.x.reshape(best.shape))
        reached = _class_angle(points, label)
        if reached > best_angle:
          best, best_angle = points, reached
        if reached >= angle:
          return best, best_angle
  return best, best_angle


def _repulsion(
  flat: np.ndarray, log_scale: np.ndarray, power: int
) -> tuple[float, np.ndarray]:
  """log sum_{i != j} (scale_ij / |u_i - u_j|)^(2 power) / power, and slope."""
  points = flat.reshape(len(log_scale), -1)
  u = _unit(points)
  gaps = np.maximum(2 - 2 * u @ u.T, 1e-12)
  np.fill_diagonal(gaps, 1)
  forces = power * (log_scale - np.log(gaps))
  slope = 4 * (special.softmax(forces) / gaps) @ u
  slope -= np.sum(slope * u, axis=1, keepdims=True) * u
  slope /= np.linalg.norm(points, axis=1, keepdims=True)
  return special.logsumexp(forces) / power, slope.ravel()


def _drawn_together(
  points: np.ndarray, num_components: int, angle: float
) -> np.ndarray:
  """Moves all points towards a pole until the closest classes stand at angle.

  The closest angle is continuous and ends at zero: it passes every value.
  """
  label = np.arange(len(points)) // num_components
  pole = _unit(np.random.default_rng(0).standard_normal((1, points.shape[1])))

  def moved(share):
    return _unit((1 - share) * points + share * pole)

  def excess(share):
    return _class_angle(moved(share), label) - angle

  return moved(optimize.brentq(excess, 0, 1))


def _unit(points: np.ndarray) -> np.ndarray:
  return points / np.linalg.norm(points, axis=1, keepdims=True)


def _class_angle(points: np.ndarray, label: np.ndarray) -> float:
  """The smallest angle between unit vectors of different classes."""
  delta = measured_separation(points, label, label).delta
  return 2 * math.asin(min(delta / 2, 1))
