"""Tests of mixtures: sampling, its keys, and the assumptions it meets."""

import dataclasses
import functools
import math

import chex
import jax
import jax.numpy as jnp
import numpy as np
from absl.testing import parameterized

from ossgd.data import geometry, mixtures

UNEVEN = ((0.5, 0.125, 0.0), (0.25, 0.0625, 0.0625))
SPECS = (
  mixtures.gaussian(
    num_classes=2, num_components=3, dim=5, probabilities=UNEVEN
  ),
  mixtures.bounded(
    num_classes=3, num_components=2, dim=3, separation=0.5, ratio=1 / 16
  ),
  mixtures.xor(lift=True),
)

NOISELESS = dataclasses.replace(SPECS[0], noise_scale=0.0, normalize=False)

jitted = jax.jit(
  mixtures.sample, static_argnames=('spec', 'num_train', 'num_test')
)


def sample(spec, seed=0, num_train=400, num_test=20):
  return jitted(
    jax.random.key(seed), spec, num_train=num_train, num_test=num_test
  )


def measured(split, merge_components=False):
  component = np.asarray(split.train_component)
  if merge_components:
    component = np.zeros_like(component)
  return geometry.measured_separation(*split.train, component)


class SampleTest(chex.TestCase):
  @parameterized.parameters(*SPECS)
  def test_shapes(self, spec):
    """As many as asked for; every class and component is drawn."""
    split = sample(spec)
    chex.assert_shape(split.train.x, (400, spec.dim))
    chex.assert_shape(split.test.x, (20, spec.dim))
    chex.assert_type([split.train.x, split.test.x], jnp.float32)
    labels = (split.train.y, split.train_component)
    chex.assert_type([*labels, split.test.y, split.test_component], jnp.int32)
    classes, components = (set(leaf.tolist()) for leaf in labels)
    self.assertEqual(classes, set(range(spec.num_classes)))
    self.assertEqual(components, set(range(spec.num_components)))

  def test_component_frequencies(self):
    """z = (i, j) has probability p_{i,j}, in both sets; zero means never."""
    split = sample(NOISELESS, num_train=2000, num_test=2000)
    p = np.array(UNEVEN)
    error = 5 * np.sqrt(p * (1 - p) / 2000)
    for y, j in (
      (split.train.y, split.train_component),
      (split.test.y, split.test_component),
    ):
      counts = np.zeros((2, 3))
      np.add.at(counts, (np.asarray(y), np.asarray(j)), 1)
      self.assertTrue((np.abs(counts / 2000 - p) <= error).all(), counts)

  def test_examples_belong_to_their_component(self):
    """Both sets draw around the same centres, each where its labels say.

    Without noise an example is its centre, so rows of one (i, j) are equal
    across the sets, and rows of two (i, j) are not.
    """
    split = sample(NOISELESS, num_train=200, num_test=200)
    x = np.concatenate([split.train.x, split.test.x])
    y = np.concatenate([split.train.y, split.test.y])
    j = np.concatenate([split.train_component, split.test_component])
    equal = (x[:, None] == x[None]).all(axis=-1)
    np.testing.assert_array_equal(
      equal, (y[:, None] == y[None]) & (j[:, None] == j[None])
    )
    other = sample(NOISELESS, 1, num_train=200, num_test=200).train.x
    shared = set(map(tuple, x.tolist())) & set(map(tuple, other.tolist()))
    self.assertEmpty(shared, 'another key has centres of its own')

  @parameterized.parameters(*SPECS)
  def test_keys(self, spec):
    """One key gives one split, bit for bit; another key gives another.

    No two examples share their noise, within a set, across the two, or
    across the keys.
    """
    split, again, other = sample(spec), sample(spec), sample(spec, seed=1)
    chex.assert_trees_all_equal(split, again)
    x = [split.train.x, split.test.x, other.train.x, other.test.x]
    self.assertLen(np.unique(np.concatenate(x), axis=0), 840)
    self.assertFalse(np.array_equal(split.train.y[:20], split.test.y))
    self.assertFalse(np.array_equal(split.train.y, other.train.y))

  def test_train_does_not_depend_on_num_test(self):
    """A larger test set leaves the training set bit for bit as it was."""
    few, many = sample(SPECS[0]), sample(SPECS[0], num_test=50)
    chex.assert_trees_all_equal(few.train, many.train)
    chex.assert_trees_all_equal(few.train_component, many.train_component)

  @parameterized.parameters(*SPECS[1:])
  def test_vmap(self, spec):
    """Batched over keys, a split is the one drawn by itself."""
    keys = jax.vmap(jax.random.key)(jnp.arange(3))
    draw = functools.partial(jitted, spec=spec, num_train=400, num_test=20)
    batched = jax.vmap(draw)(keys)
    for seed in range(3):
      one = jax.tree.map(lambda leaf, seed=seed: leaf[seed], batched)
      chex.assert_trees_all_close(one, sample(spec, seed), atol=1e-6)

  def test_jit(self):
    """Compiled, with the spec static, a split is the one drawn op by op."""
    key = jax.random.key(0)
    split = mixtures.sample(key, SPECS[2], num_train=400, num_test=20)
    chex.assert_trees_all_close(split, sample(SPECS[2]), atol=1e-6)

  @parameterized.parameters('num_train', 'num_test')
  def test_bad_sizes(self, name):
    """An empty set is refused by name."""
    with self.assertRaisesRegex(ValueError, f'{name} must be an integer >= 1'):
      mixtures.sample(jax.random.key(0), SPECS[0], **{name: 0})


class AssumptionsTest(chex.TestCase):
  @parameterized.parameters(
    SPECS[1],
    mixtures.bounded(
      num_classes=10,
      num_components=2,
      dim=1000,
      separation=1.0,
      ratio=1 / 16,
    ),
  )
  def test_bounded_meets_a1_and_a2(self, spec):
    """Examples of two classes are never closer than delta.

    Those of one component are never further apart than lambda delta, and all
    have unit norm. In three dimensions the sample fills its caps, so both
    numbers are nearly attained; in many, two examples are never at facing rims.
    """
    split = sample(spec)
    x, y, j = (
      np.asarray(leaf, np.float64)
      for leaf in (*split.train, split.train_component)
    )
    across, inside = math.inf, 0.0
    for point, label, component in zip(x, y, j, strict=True):
      gaps = np.sqrt(((x - point) ** 2).sum(axis=1))
      across = min(across, gaps[y != label].min())
      inside = max(inside, gaps[(y == label) & (j == component)].max())
    delta, slack = spec.separation, spec.ratio * spec.separation
    self.assertGreater(across, delta - 1e-6)
    self.assertLess(inside, slack + 1e-6)
    np.testing.assert_allclose(np.linalg.norm(x, axis=1), 1, atol=1e-6)
    self.assertLess(across, delta + (0.2 if spec.dim == 3 else 1) * slack)
    self.assertGreater(inside, (0.9 if spec.dim == 3 else 0.6) * slack)
    self.assertTrue(measured(split).separable)

  def test_figure_3(self):
    """XOR meets (A1) with l = 2 and fails it with each class as one component.

    delta = 2 - 1/10 and lambda = 1/19 by the figure; one component has a
    diameter of 2 sqrt(2) + 1/10.
    """
    split = sample(mixtures.xor())
    two = measured(split)
    self.assertBetween(two.delta, 1.9 - 1e-6, 1.93)
    self.assertBetween(two.diameter, 0.09, 0.1 + 1e-6)
    self.assertTrue(two.separable)
    self.assertFalse(two.unit_norm)
    one = measured(split, merge_components=True)
    self.assertEqual(one.delta, two.delta)
    self.assertBetween(one.diameter, 2.87, math.sqrt(8) + 0.1 + 1e-6)
    self.assertFalse(one.separable)

  def test_figure_3_labels(self):
    """+ is class 0 at (0, 0), (2, 2); - is class 1 at (0, 2), (2, 0)."""
    split = sample(mixtures.xor())
    nearest = np.round(np.asarray(split.train.x))
    crossed = nearest[:, 0] != nearest[:, 1]
    np.testing.assert_array_equal(split.train.y, crossed)
    np.testing.assert_array_equal(split.train_component, nearest[:, 0] / 2)


class PointSetTest(chex.TestCase):
  def test_points_and_weights(self):
    """Each of the k l points once, in order, with its p_{i,j}.

    The sample drawn under the same key consists of exactly these points, and
    as lambda = 0, its own delta is the one asked for.
    """
    spec = mixtures.point_masses(
      num_classes=2,
      num_components=3,
      dim=8,
      separation=1.2,
      probabilities=UNEVEN,
    )
    points, weights = jax.jit(mixtures.point_set, static_argnums=1)(
      jax.random.key(3), spec
    )
    np.testing.assert_array_equal(points.y, [0, 0, 0, 1, 1, 1])
    np.testing.assert_array_equal(weights, [*UNEVEN[0], *UNEVEN[1]])
    self.assertEqual(weights.sum(), 1)
    chex.assert_type([points.x, points.y], [jnp.float32, jnp.int32])
    x = np.asarray(points.x, np.float64)
    np.testing.assert_allclose(np.linalg.norm(x, axis=1), 1, atol=1e-6)
    gaps = np.linalg.norm(x[:3, None] - x[None, 3:], axis=-1)
    np.testing.assert_allclose(gaps, 1.2, atol=1e-6)
    split = sample(spec, seed=3)
    rows = 3 * split.train.y + split.train_component
    np.testing.assert_allclose(split.train.x, points.x[rows], atol=1e-6)
    got = measured(split)
    self.assertAlmostEqual(got.delta, 1.2, delta=1e-6)
    self.assertLess(got.diameter, 1e-6)
    self.assertTrue(got.separable)
    self.assertTrue(got.unit_norm)

  @parameterized.parameters(*SPECS)
  def test_refuses_components_with_variance(self, spec):
    """Only case (S) is its centres; any other mixture would lose its noise."""
    with self.assertRaisesRegex(ValueError, 'point_set needs .* point_masses'):
      mixtures.point_set(jax.random.key(0), spec)
