"""The kinds of component D_{i,j}: where centres stand, how to draw around one.

Every kind is a frozen dataclass of numbers, static under `jit`, written for
one example. In shapes kl is k l, all components, and c the coordinates of a
centre.
"""

import abc
import dataclasses
import math
import numbers
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float32, Key

from ossgd.paper import types

Probabilities = tuple[tuple[float, ...], ...]
OneKey = Key[jax.Array, '']
Center = Float32[jax.Array, ' c']
Centers = Float32[jax.Array, 'kl c']
Example = Float32[jax.Array, ' d']


@dataclasses.dataclass(frozen=True, kw_only=True)
class Spec(abc.ABC):
  """Components D_{i,j} around centres; a kind of spec is a subclass."""

  num_classes: int  # k
  num_components: int  # l, per class
  dim: int  # d
  probabilities: Probabilities | None = None  # p_{i,j}; None: 1 / (k l) each

  def __post_init__(self):
    check_count('num_classes', self.num_classes, 2)
    check_count('num_components', self.num_components)
    check_count('dim', self.dim)
    p, k, count = self.probabilities, self.num_classes, self.num_components
    if p is None:
      return
    nested = isinstance(p, tuple) and all(isinstance(row, tuple) for row in p)
    if not nested or [len(row) for row in p] != [count] * k:
      raise ValueError(
        f'probabilities must be a tuple of num_classes={k} tuples of '
        f'num_components={count} numbers, got {p!r}.'
      )
    if not np.all(np.array(p) >= 0) or abs(np.sum(p) - 1) > 1e-6:
      raise ValueError(
        f'probabilities must be non-negative and sum to one, got {p!r}.'
      )

  @property
  def weights(self) -> Float32[jax.Array, ' kl']:
    """p_{i,j} at i l + j: (k l,) float32."""
    count = self.num_classes * self.num_components
    p = self.probabilities or np.full(count, 1 / count)
    return jnp.asarray(p, jnp.float32).reshape(count)

  @abc.abstractmethod
  def centers(self, key: OneKey) -> Centers:
    """The centre of D_{i,j} in row i l + j: (k l, d) float32."""

  @abc.abstractmethod
  def draw(self, key: OneKey, center: Center) -> Example:
    """One example of the component around this centre: (d,) float32."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Gaussian(Spec):
  """The synthetic data of Section 7: D_{i,j} = N(mu_{i,j}, sigma^2 / d I).

  mu_{i,j} ~ N(0, sigma_0^2 / d I), drawn once per sample. Appendices D.2 and
  D.3 write the covariance as sigma / sqrt(d) I, which is read as Section 7's.

  Args:
    num_classes, num_components, dim: k, l per class and d.
    center_scale: sigma_0.
    noise_scale: sigma.
    normalize: scale every example to unit norm, (A2).
    probabilities: p_{i,j}, k tuples of l numbers; uniform if not given.

  Raises:
    ValueError: a count, scale or probability out of range.
  """

  num_classes: int = 10
  num_components: int = 2
  dim: int = 1000
  center_scale: float = 5.0
  noise_scale: float = 1.0
  normalize: bool = True

  def __post_init__(self):
    super().__post_init__()
    for name in ('center_scale', 'noise_scale'):
      if not 0 <= (scale := getattr(self, name)) < math.inf:
        raise ValueError(f'{name} must be a finite number >= 0, got {scale!r}.')
    if self.normalize and self.center_scale == self.noise_scale == 0:
      raise ValueError(
        'center_scale and noise_scale are both zero: every example would be '
        'the zero vector, which normalize=True cannot scale to unit norm.'
      )

  def centers(self, key: OneKey) -> Centers:
    """Means ~ N(0, sigma_0^2 / d I)."""
    shape = (self.num_classes * self.num_components, self.dim)
    scale = jnp.float32(self.center_scale / self.dim**0.5)
    return scale * types.normal(key, shape)

  def draw(self, key: OneKey, center: Center) -> Example:
    """N(center, sigma^2 / d I), then scaled to unit norm if asked."""
    scale = jnp.float32(self.noise_scale / self.dim**0.5)
    x = center + scale * jax.random.normal(key, center.shape, jnp.float32)
    return types.unit_norm(x) if self.normalize else x


@dataclasses.dataclass(frozen=True, kw_only=True)
class Bounded(Spec):
  """Spherical caps that meet (A1) with this very delta and lambda, and (A2).

  Every D_{i,j} lives on a cap of the unit sphere of diameter lambda delta, and
  the closest caps of different classes are delta apart, both to float32
  rounding (about 1e-6). With dim >= k l all pairs of caps are equally far
  apart wherever that is possible. Inside a cap the density is uniform up to a
  factor of 0.99. In many dimensions two examples rarely are at opposite ends
  of a cap: a sample shows a larger delta and a smaller diameter. A sample's
  caps are turned by a random rotation.

  Args:
    num_classes, num_components, dim: k, l per class and d, at least 2.
    separation: delta, in (0, 2].
    ratio: lambda, at most 1 / (8 l).
    probabilities: p_{i,j}, k tuples of l numbers; uniform if not given.

  Raises:
    ValueError: an argument out of range, or no such caps found on the sphere.
  """

  separation: float
  ratio: float

  def __post_init__(self):
    super().__post_init__()
    check_count('dim', self.dim, 2)
    if not 0 < self.separation <= 2:
      raise ValueError(
        '(A1) on the unit sphere requires 0 < separation <= 2, got '
        f'{self.separation!r}.'
      )
    if not 0 <= self.ratio <= 1 / (8 * self.num_components):
      raise ValueError(
        '(A1) requires 0 <= ratio <= 1 / (8 num_components) = '
        f'{1 / (8 * self.num_components)}, got ratio={self.ratio}.'
      )
    self._arrangement()  # an impossible spec fails here, before any compute

  def _arrangement(self) -> np.ndarray:
    """The centres up to rotation; worked out once and cached."""
    # SciPy's optimizers take as long to import as JAX: only who needs them.
    from ossgd.data.geometry import arrangement

    shape = self.num_classes, self.num_components, self.dim
    return arrangement(*shape, self.separation, self.ratio)

  def centers(self, key: OneKey) -> Centers:
    """The arrangement in a uniformly random orthonormal frame."""
    points = jnp.asarray(self._arrangement(), jnp.float32)
    rank = points.shape[1]
    frame = jax.random.orthogonal(key, self.dim, (), jnp.float32, rank)
    return types.unit_norm(types.matmul(points, frame.T))

  def draw(self, key: OneKey, center: Center) -> Example:
    """A point of the cap whose projection is uniform in the tangent disc."""
    key_direction, key_radius = jax.random.split(key)
    normal = jax.random.normal(key_direction, center.shape, jnp.float32)
    tangent = normal - jnp.sum(normal * center) * center
    radius = jnp.float32(self.ratio * self.separation / 2)
    step = radius * _in_unit_ball(key_radius, tangent)
    return types.unit_norm(step + jnp.sqrt(1 - jnp.sum(step**2)) * center)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Xor(Spec):
  """See `mixtures.xor`; dim 3 is the lifted one."""

  def centers(self, key: OneKey) -> Centers:
    """The four centres of Figure 3: (4, 2), the same for every key."""
    del key
    return jnp.array([[0, 0], [2, 2], [0, 2], [2, 0]], jnp.float32)

  def draw(self, key: OneKey, center: Center) -> Example:
    """Uniform in the disc of diameter 1/10 around the centre, then lifted."""
    key_direction, key_radius = jax.random.split(key)
    normal = jax.random.normal(key_direction, center.shape, jnp.float32)
    x = center + _in_unit_ball(key_radius, normal) / 20
    return types.unit_norm(jnp.append(x, 1.0)) if self.dim == 3 else x


def _in_unit_ball(key: jax.Array, normal: jax.Array) -> jax.Array:
  """Uniform in the unit ball of the space `normal` is standard normal in.

  Two more normals put the vector on the sphere two dimensions up, and the
  shadow of that sphere is a uniform ball; their squares sum to 2 Exp(1).
  """
  extra = 2 * jax.random.exponential(key, dtype=jnp.float32)
  return normal / jnp.sqrt(jnp.sum(normal**2) + extra)


def check_count(name: str, value: Any, least: int = 1):
  """Raises unless value is an integer of at least this."""
  if not isinstance(value, numbers.Integral) or value < least:
    raise ValueError(f'{name} must be an integer >= {least}, got {value!r}.')
