"""The kinds of component D_{i,j}: where centres stand, how to draw around one.

Every kind is a frozen dataclass of numbers, static under `jit`, written for
one example. The makers in `mixtures` say what each kind is.
"""

import abc
import dataclasses
import math
import numbers

import jax
import jax.numpy as jnp
import numpy as np

from ossgd.paper import types

Probabilities = tuple[tuple[float, ...], ...]


@dataclasses.dataclass(frozen=True)
class Spec(abc.ABC):
  """Components D_{i,j} around centres; a kind of spec is a subclass."""

  num_classes: int  # k
  num_components: int  # l, per class
  dim: int  # d
  probabilities: Probabilities | None  # p_{i,j}: k rows of l; None: 1 / (k l)

  def __post_init__(self):
    check_count('num_classes', self.num_classes, 2)
    check_count('num_components', self.num_components)
    check_count('dim', self.dim)
    p, shape = self.probabilities, (self.num_classes, self.num_components)
    if p is None:
      return
    nested = isinstance(p, tuple) and all(isinstance(row, tuple) for row in p)
    if not nested or [len(row) for row in p] != [shape[1]] * shape[0]:
      raise ValueError(
        f'probabilities must be a tuple of num_classes={shape[0]} tuples of '
        f'num_components={shape[1]} numbers, got {p!r}.'
      )
    if not np.all(np.array(p) >= 0) or abs(np.sum(p) - 1) > 1e-6:
      raise ValueError(
        f'probabilities must be non-negative and sum to one, got {p!r}.'
      )

  @property
  def weights(self) -> jax.Array:
    """p_{i,j} at i l + j: (k l,) float32."""
    count = self.num_classes * self.num_components
    p = self.probabilities or np.full(count, 1 / count)
    return jnp.asarray(p, jnp.float32).reshape(count)

  @abc.abstractmethod
  def centers(self, key: jax.Array) -> jax.Array:
    """The centre of D_{i,j} in row i l + j: (k l, d) float32."""

  @abc.abstractmethod
  def draw(self, key: jax.Array, center: jax.Array) -> jax.Array:
    """One example of the component around this centre: (d,) float32."""


@dataclasses.dataclass(frozen=True)
class Gaussian(Spec):
  """See `mixtures.gaussian`."""

  center_scale: float  # sigma_0
  noise_scale: float  # sigma
  normalize: bool

  def __post_init__(self):
    super().__post_init__()
    _check_range('center_scale', self.center_scale, 0, math.inf)
    _check_range('noise_scale', self.noise_scale, 0, math.inf)
    if self.normalize and self.center_scale == self.noise_scale == 0:
      raise ValueError(
        'center_scale and noise_scale are both zero: every example would be '
        'the zero vector, which normalize=True cannot scale to unit norm.'
      )

  def centers(self, key: jax.Array) -> jax.Array:
    """Means ~ N(0, sigma_0^2 / d I)."""
    shape = (self.num_classes * self.num_components, self.dim)
    scale = jnp.float32(self.center_scale / self.dim**0.5)
    return scale * jax.random.normal(key, shape, jnp.float32)

  def draw(self, key: jax.Array, center: jax.Array) -> jax.Array:
    """N(center, sigma^2 / d I), then scaled to unit norm if asked."""
    scale = jnp.float32(self.noise_scale / self.dim**0.5)
    x = center + scale * jax.random.normal(key, center.shape, jnp.float32)
    return types.unit_norm(x) if self.normalize else x


@dataclasses.dataclass(frozen=True)
class Bounded(Spec):
  """See `mixtures.bounded` and, with ratio 0, `mixtures.point_masses`."""

  separation: float  # delta
  ratio: float  # lambda

  def __post_init__(self):
    super().__post_init__()
    check_count('dim', self.dim, 2)
    _check_range('separation', self.separation, 0, 2)
    if self.separation == 0:
      raise ValueError('separation must be positive: (A1) requires delta > 0.')
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

    return arrangement(
      self.num_classes,
      self.num_components,
      self.dim,
      self.separation,
      self.ratio,
    )

  def centers(self, key: jax.Array) -> jax.Array:
    """The arrangement in a uniformly random orthonormal frame."""
    points = jnp.asarray(self._arrangement(), jnp.float32)
    rank = points.shape[1]
    frame = jax.random.orthogonal(key, self.dim, (), jnp.float32, rank)
    return types.unit_norm(types.matmul(points, frame.T))

  def draw(self, key: jax.Array, center: jax.Array) -> jax.Array:
    """A point of the cap whose projection is uniform in the tangent disc."""
    key_direction, key_radius = jax.random.split(key)
    normal = jax.random.normal(key_direction, center.shape, jnp.float32)
    tangent = normal - jnp.sum(normal * center) * center
    radius = jnp.float32(self.ratio * self.separation / 2)
    step = radius * _in_unit_ball(key_radius, tangent)
    return types.unit_norm(step + jnp.sqrt(1 - jnp.sum(step**2)) * center)


@dataclasses.dataclass(frozen=True)
class Xor(Spec):
  """See `mixtures.xor`; dim 3 is the lifted one."""

  def centers(self, key: jax.Array) -> jax.Array:
    """The four centres of Figure 3: (4, 2), the same for every key."""
    del key
    return jnp.array([[0, 0], [2, 2], [0, 2], [2, 0]], jnp.float32)

  def draw(self, key: jax.Array, center: jax.Array) -> jax.Array:
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


def check_count(name: str, value: int, least: int = 1):
  """Raises unless value is an integer of at least this."""
  if not isinstance(value, numbers.Integral) or value < least:
    raise ValueError(f'{name} must be an integer >= {least}, got {value!r}.')


def _check_range(name: str, value: float, low: float, high: float):
  """Raises unless value is finite and between low and high."""
  if not (math.isfinite(value) and low <= value <= high):
    raise ValueError(
      f'{name} must be a finite number from {low} to {high}, got {value!r}.'
    )
