"""Mixtures of k classes with l components each (Section 3): spec and sample.

A spec is a frozen dataclass of numbers, static under `jit`. `sample` draws the
centres and the examples around them, all from one key:

  spec = mixtures.gaussian(num_components=3)
  split = mixtures.sample(jax.random.key(0), spec, num_train=500)
"""

import jax
import jax.numpy as jnp

from ossgd.data.components import (
  Bounded,
  Gaussian,
  Probabilities,
  Spec,
  Xor,
  check_count,
)
from ossgd.paper import types

# Numbers, of inputs that are drawn side by side: random bits take three times
# the memory of what they become.
DRAWN_AT_ONCE = 2**24


def gaussian(
  *,
  num_classes: int = 10,
  num_components: int = 2,
  dim: int = 1000,
  center_scale: float = 5.0,
  noise_scale: float = 1.0,
  normalize: bool = True,
  probabilities: Probabilities | None = None,
) -> Gaussian:
  """The synthetic data of Section 7: D_{i,j} = N(mu_{i,j}, sigma^2 / d I).

  mu_{i,j} ~ N(0, sigma_0^2 / d I), drawn once per sample. Appendices D.2 and
  D.3 write the covariance as sigma / sqrt(d) I, which is read as Section 7's.

  Args:
    num_classes: k.
    num_components: l, per class.
    dim: d.
    center_scale: sigma_0.
    noise_scale: sigma.
    normalize: scale every example to unit norm, (A2).
    probabilities: p_{i,j}, k tuples of l numbers; uniform if not given.

  Returns:
    The spec, for `sample`.

  Raises:
    ValueError: a count, scale or probability out of range.
  """
  return Gaussian(
    num_classes,
    num_components,
    dim,
    probabilities,
    center_scale,
    noise_scale,
    normalize,
  )


def bounded(
  *,
  num_classes: int,
  num_components: int,
  dim: int,
  separation: float,
  ratio: float,
  probabilities: Probabilities | None = None,
) -> Bounded:
  """Spherical caps that meet (A1) with this very delta and lambda, and (A2).

  Every D_{i,j} lives on a cap of the unit sphere of diameter lambda delta, and
  the closest caps of different classes are delta apart, both to float32
  rounding (about 1e-6). With dim >= k l all pairs of caps are equally far
  apart wherever that is possible. Inside a cap the density is uniform up to a
  factor of 0.99. In many dimensions two examples rarely are at opposite ends
  of a cap: a sample shows a larger delta and a smaller diameter.

  Args:
    num_classes: k.
    num_components: l, per class.
    dim: d, at least 2.
    separation: delta, in (0, 2].
    ratio: lambda, at most 1 / (8 l).
    probabilities: p_{i,j}, k tuples of l numbers; uniform if not given.

  Returns:
    The spec, for `sample`, which turns the caps by a random rotation.

  Raises:
    ValueError: an argument out of range, or no such caps found on the sphere.
  """
  return Bounded(
    num_classes, num_components, dim, probabilities, separation, ratio
  )


def point_masses(
  *,
  num_classes: int,
  num_components: int,
  dim: int,
  separation: float,
  probabilities: Probabilities | None = None,
) -> Bounded:
  """Case (S) of Appendix A: each D_{i,j} is one unit vector, lambda = 0.

  The arguments and the arrangement are those of `bounded`.
  """
  return Bounded(
    num_classes, num_components, dim, probabilities, separation, ratio=0.0
  )


def xor(*, lift: bool = False) -> Xor:
  """Figure 3: uniform discs of diameter 1/10, class 0 is +, class 1 is -.

  Class 0 has the centres (0, 0), (2, 2), class 1 has (0, 2), (2, 0), each with
  probability 1/4: delta = 19/10 and lambda = 1/19 meet (A1) with l = 2.

  A network without biases is positively homogeneous, f(c x) = c f(x), so its
  decision is the same along a ray: it cannot classify the disc around (0, 0).

  Args:
    lift: append a constant coordinate 1 and scale to unit norm in R^3, (A2).
      The network can then learn it. The sphere brings the classes closer:
      delta = 0.678 and lambda = 0.147, above the 1/16 that (A1) asks for.

  Returns:
    The spec, for `sample`.
  """
  return Xor(2, 2, 3 if lift else 2, None)


def sample(
  key: jax.Array,
  spec: Spec,
  *,
  num_train: int = 1000,
  num_test: int = 1000,
) -> types.Split:
  """Independent training and test examples of one mixture D, Section 3.

  z = (i, j) ~ p_{i,j}, y = i, x ~ D_z. Both sets share the centres, and the
  training set does not depend on num_test.

  Args:
    key: PRNG key, consumed.
    spec: what `gaussian`, `bounded`, `point_masses` or `xor` returned.
    num_train: n of the training set.
    num_test: n of the test set.

  Returns:
    Split of Dataset(x (n, d) float32, y (n,) int32) and components (n,) int32.

  Raises:
    ValueError: a size is not a positive integer.
  """
  check_count('num_train', num_train)
  check_count('num_test', num_test)
  key_centers, key_train, key_test = jax.random.split(key, 3)
  centers = spec.centers(key_centers)
  train, train_component = _examples(key_train, spec, centers, num_train)
  test, test_component = _examples(key_test, spec, centers, num_test)
  return types.Split(train, test, train_component, test_component)


def point_set(key: jax.Array, spec: Bounded) -> tuple[types.Dataset, jax.Array]:
  """The k l points of case (S) once each, for full-batch descent.

  Args:
    key: PRNG key, consumed; `sample` draws from the same points under it.
    spec: what `point_masses` returned.

  Returns:
    Dataset(x (k l, d), y (k l,)), row i l + j for D_{i,j}, and p_{i,j} (k l,).

  Raises:
    ValueError: the components are not single points.
  """
  if not isinstance(spec, Bounded) or spec.ratio > 0:
    raise ValueError(
      'point_set needs components that are single points, as point_masses '
      f'makes them; got {spec}.'
    )
  key_centers, _, _ = jax.random.split(key, 3)
  z = jnp.arange(spec.num_classes * spec.num_components, dtype=jnp.int32)
  x = spec.centers(key_centers)
  return types.Dataset(x, z // spec.num_components), spec.weights


def _examples(
  key: jax.Array, spec: Spec, centers: jax.Array, n: int
) -> tuple[types.Dataset, jax.Array]:
  """n examples and their components j: the mixture's step (1), then (2)."""
  key_z, key_x = jax.random.split(key)
  z = jax.random.choice(key_z, len(centers), (n,), p=spec.weights)
  x = jax.lax.map(
    lambda drawn: spec.draw(drawn[0], centers[drawn[1]]),
    (jax.random.split(key_x, n), z),
    batch_size=max(1, DRAWN_AT_ONCE // spec.dim),
  )
  y, component = jnp.divmod(z.astype(jnp.int32), spec.num_components)
  return types.Dataset(x, y), component
