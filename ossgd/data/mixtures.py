"""Mixtures of k classes with l components each (Section 3): spec and sample.

`sample` draws a spec's centres and the examples around them, all from one key:

  spec = mixtures.gaussian(num_components=3)
  split = mixtures.sample(jax.random.key(0), spec, num_train=500)
"""

import jax
import jax.numpy as jnp
from jaxtyping import Float32, Int32

from ossgd.data.components import (
  Bounded,
  Centers,
  Gaussian,
  OneKey,
  Probabilities,
  Spec,
  Xor,
  check_count,
)
from ossgd.paper import types

# Numbers, of inputs that are drawn side by side: random bits take three times
# the memory of what they become.
DRAWN_AT_ONCE = 2**24

# A spec is its own maker.
gaussian = Gaussian
bounded = Bounded


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
    num_classes=num_classes,
    num_components=num_components,
    dim=dim,
    separation=separation,
    ratio=0.0,
    probabilities=probabilities,
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
  """
  return Xor(num_classes=2, num_components=2, dim=3 if lift else 2)


def sample(
  key: OneKey, spec: Spec, *, num_train: int = 1000, num_test: int = 1000
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


def point_set(
  key: OneKey, spec: Spec
) -> tuple[types.Dataset, Float32[jax.Array, ' kl']]:
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
  key: OneKey, spec: Spec, centers: Centers, n: int
) -> tuple[types.Dataset, Int32[jax.Array, ' n']]:
  """n examples and their components j: the mixture's step (1), then (2)."""
  key_z, key_x = jax.random.split(key)
  # As `jax.random.choice` does, whose binary search takes long to compile.
  ends = jnp.cumsum(spec.weights)
  drawn = ends[-1] * (1 - jax.random.uniform(key_z, (n,), jnp.float32))
  z = jnp.searchsorted(ends, drawn, method='compare_all')
  x = jax.lax.map(
    lambda drawn: spec.draw(drawn[0], centers[drawn[1]]),
    (jax.random.split(key_x, n), z),
    batch_size=max(1, DRAWN_AT_ONCE // spec.dim),
  )
  y, component = jnp.divmod(z.astype(jnp.int32), spec.num_components)
  return types.Dataset(x, y), component
