"""Tests of geometry against brute force and known arrangements."""

import math
import re

import numpy as np
from absl.testing import parameterized

from ossgd.data import geometry


def brute_force(x, y, component):
  """delta and the largest diameter from all n x n x d differences."""
  x = np.asarray(x, np.float64)
  gaps = np.sqrt(((x[:, None, :] - x[None, :, :]) ** 2).sum(axis=-1))
  same_class = y[:, None] == y[None, :]
  same = same_class & (component[:, None] == component[None, :])
  return gaps[~same_class].min(), gaps[same].max()


def cap_gaps(centers, num_components, radius):
  """Distances between caps of this angular radius, of different classes.

  From the half-angle atan2(|u - v|, |u + v|), not from an arcsine as the code.
  """
  label = np.arange(len(centers)) // num_components
  i, j = np.nonzero(label[:, None] < label)
  apart = np.linalg.norm(centers[i] - centers[j], axis=1)
  half = np.arctan2(apart, np.linalg.norm(centers[i] + centers[j], axis=1))
  return 2 * np.sin(half - radius)


def arranged(num_classes, num_components, dim, delta, ratio):
  """Gaps between caps of different classes, between any, between centres."""
  centers = geometry.arrangement(num_classes, num_components, dim, delta, ratio)
  count = num_classes * num_components
  assert centers.shape == (count, min(dim, count))
  np.testing.assert_allclose(np.linalg.norm(centers, axis=1), 1, atol=1e-12)
  radius = math.asin(ratio * delta / 2)
  return (
    cap_gaps(centers, num_components, radius),
    cap_gaps(centers, 1, radius),
    cap_gaps(centers, 1, 0.0),
  )


class MeasuredSeparationTest(parameterized.TestCase):
  @parameterized.parameters((0, 1250), (1250, 0), (3, 700), (600, 601))
  def test_against_brute_force(self, first, second):
    """Wherever the closest and widest pairs stand, all pairs are compared.

    1251 rows make three blocks, the last one short; the closest pair of two
    classes, then the widest pair of one component, are planted at the rows.
    """
    rng = np.random.default_rng(0)
    x = rng.normal(size=(1251, 3))
    y, component = rng.integers(0, 3, 1251), rng.integers(0, 2, 1251)
    y[first], y[second] = 0, 2
    x[second] = x[first] + 1e-4
    close = geometry.measured_separation(x, y, component)
    want = brute_force(x, y, component)
    np.testing.assert_allclose((close.delta, close.diameter), want, rtol=1e-9)
    np.testing.assert_allclose(close.delta, 1e-4 * math.sqrt(3), rtol=1e-9)
    y[second], component[second] = y[first], component[first]
    x[first], x[second] = -50, 50
    wide = geometry.measured_separation(x, y, component)
    want = brute_force(x, y, component)
    np.testing.assert_allclose((wide.delta, wide.diameter), want, rtol=1e-9)
    np.testing.assert_allclose(wide.diameter, 100 * math.sqrt(3), rtol=1e-9)

  def test_tiny_distances(self):
    """Points 1e-12 apart are told apart: |a|^2 + |b|^2 - 2 ab would not."""
    x = np.array([[0.6, 0.8], [0.6, 0.8 + 1e-12], [-1, 0]])
    got = geometry.measured_separation(
      x, np.array([0, 1, 1]), np.array([0, 0, 1])
    )
    np.testing.assert_allclose(got.delta, 1e-12, rtol=1e-3)

  @parameterized.parameters(
    # points of class 0 | l by the labels | does lambda <= 1 / (8 l) hold?
    ([0.0, 1.0], [0, 0], True),  # l = 1: 1/8 holds with equality
    ([0.0, 1.01], [0, 0], False),
    ([0.0, 0.5, -90.0], [0, 0, 1], True),  # l = 2: 1/16
    ([0.0, 0.51, -90.0], [0, 0, 1], False),
    ([0.0, 0.51, -90.0, -99.0], [0, 0, 1, 2], False),  # l = 3: 1/24
  )
  def test_separable(self, points, component, separable):
    """(A1) takes l as the most labels in one class; class 1 has one here."""
    x = np.array([*points, max(points) + 8])
    y = np.array([0] * len(points) + [1])
    got = geometry.measured_separation(x[:, None], y, np.array([*component, 7]))
    self.assertEqual(got.delta, 8)
    self.assertEqual(got.separable, separable)
    self.assertEqual(got.ratio, got.diameter / 8)
    self.assertFalse(got.unit_norm)

  def test_shared_point(self):
    """Two classes at one point are not separated; lambda has no value."""
    x, y = np.array([[1.0, 0.0], [1.0, 0.0]]), np.array([0, 1])
    got = geometry.measured_separation(x, y, np.zeros(2, int))
    self.assertEqual(got, (0, 0, math.inf, False, True))

  @parameterized.parameters((1e-6, True), (1e-4, False))
  def test_unit_norm(self, error, holds):
    """(A2) is judged to 1e-5, and one example is enough to break it."""
    x = np.array([[1.0, 0.0], [0.0, -1 - error], [0.0, 1.0]])
    got = geometry.measured_separation(x, np.arange(3), np.zeros(3, int))
    self.assertEqual(got.unit_norm, holds)

  def test_bad_input(self):
    """Shapes that disagree and a single class are refused by name."""
    x, y = np.zeros((3, 2)), np.array([0, 1, 1])
    with self.assertRaisesRegex(ValueError, r'\(3, 2\), \(3,\) and \(2,\)'):
      geometry.measured_separation(x, y, np.zeros(2, int))
    with self.assertRaisesRegex(ValueError, 'at least two classes'):
      geometry.measured_separation(x, np.ones(3, int), np.zeros(3, int))


class ArrangementTest(parameterized.TestCase):
  @parameterized.parameters(
    (10, 2, 1000, 1.0, 1 / 16),
    (10, 2, 20, 0.01, 1 / 16),
    (3, 4, 20, 1.1, 1 / 32),
    (2, 1, 2, 1.9, 0.02),
    (4, 1, 3, math.sqrt(8 / 3), 0.0),  # the tetrahedron: k l > d, yet exact
  )
  def test_equal_angles(self, *case):
    """Given room, every two caps of different classes are delta apart."""
    between_classes, between_any, _ = arranged(*case)
    np.testing.assert_allclose(between_classes, case[3], rtol=1e-9)
    np.testing.assert_allclose(between_any, case[3], rtol=1e-9)

  @parameterized.parameters(
    (10, 2, 1000, 1.485, 0.001), (2, 3, 9, 1.9, 1 / 24), (3, 2, 6, 1.7, 0.0)
  )
  def test_classes_far_apart(self, *case):
    """Past the simplex of k l centres, those of one class come closer.

    Different classes are still at delta exactly, and no two centres coincide.
    """
    between_classes, _, between_centers = arranged(*case)
    np.testing.assert_allclose(between_classes, case[3], rtol=1e-9)
    self.assertBetween(between_centers.min(), 0.1, 0.99 * case[3])

  @parameterized.parameters(
    (10, 2, 3, 0.5, 1 / 16),
    (10, 2, 19, 1.0, 1 / 16),
    (5, 4, 8, 0.01, 1 / 32),
    (2, 2, 2, 1.3, 1 / 16),
    (2, 2, 2, 1.7, 0.0),  # only with the classes side by side: ++--
    (12, 1, 3, 1.05, 0.0),  # the icosahedron has 1.0515
    (6, 1, 3, 1.41, 0.0),  # the octahedron has sqrt(2)
  )
  def test_few_dimensions(self, *case):
    """In too few dimensions the closest two classes are delta apart, exactly.

    The other pairs are further; components of one class are not merged.
    """
    between_classes, _, between_centers = arranged(*case)
    np.testing.assert_allclose(between_classes.min(), case[3], rtol=1e-9)
    self.assertGreater(between_classes.max(), case[3] * (1 + 1e-6))
    self.assertGreater(between_centers.min(), case[3] / 16)

  @parameterized.parameters(
    (12, 1, 3, 1.06, 0.0, 1.0514),  # more than the icosahedron
    (5, 1, 2, 1.2, 0.0, 1.1755),  # more than the pentagon, 2 sin(pi / 5)
    (3, 1, 100, 1.74, 0.0, 1.7320),  # more than the triangle, sqrt(3)
    (2, 3, 100, 2.0, 1 / 24, 1.9982),  # two caps face to face
  )
  def test_refusal(self, *case):
    """The error names the best separation, and asking for that succeeds.

    Facing caps: arcsin(delta / 2) + arcsin(lambda delta / 2) = pi / 2, which
    is (delta / 2)^2 (1 + lambda^2) = 1.
    """
    *shape, delta, ratio, best = case
    with self.assertRaisesRegex(ValueError, 'No arrangement') as refused:
      geometry.arrangement(*shape, delta, ratio)
    message = str(refused.exception)
    self.assertIn(f'separation={delta}', message)
    self.assertIn(f'num_classes={shape[0]}', message)
    named = re.search(r'ratio is (\d\.\d+):', message)
    assert named is not None
    self.assertAlmostEqual(float(named[1]), best, delta=1.5e-4)
    geometry.arrangement(*shape, float(named[1]), ratio)

  def test_deterministic_and_shared(self):
    """The search starts from fixed seeds; its cached result is read-only."""
    case = (4, 2, 3, 0.7, 1 / 16)
    first = geometry.arrangement(*case)
    geometry.arrangement.cache_clear()
    np.testing.assert_array_equal(first, geometry.arrangement(*case))
    self.assertFalse(first.flags.writeable)
