"""Lemmas A.5 and B.5 against closed forms, grids and worst cases."""

import hypothesis
import numpy as np
import scipy.integrate
import scipy.special
from absl.testing import parameterized
from hypothesis import strategies as st

from ossgd.paper import convexity
from ossgd.paper.convexity import Convex

EXAMPLES = hypothesis.settings(derandomize=True, deadline=None, max_examples=80)
# What the lemmas could say, see their docstrings.
A5_INTEGRAL, A5_PROBABILITY = 1 / 4, 31 / 63
B5_INTEGRAL, B5_PROBABILITY = 1 / 16, 63 / 254

ABSOLUTE = convexity.max_affine([-1, 1], [0, 0])
ZERO = convexity.max_affine([0], [0])

# Eighths: lines meet in one point, and kinks fall on 0, tau/2 and tau, often.
numbers = st.integers(-32, 32).map(lambda i: i / 8)
taus = st.sampled_from([0.125, 0.5, 1.0, 2.0, 3.3, 8.0])
lines = st.lists(st.tuples(numbers, numbers), min_size=1, max_size=6)
max_affines = lines.map(
  lambda pairs: convexity.max_affine(*np.transpose(pairs))
)
softpluses = st.floats(0.1, 200).map(convexity.softplus)
quadratics = st.floats(0, 8).map(convexity.quadratic)
simple = st.one_of(max_affines, softpluses, quadratics)
convexes = st.one_of(simple, st.builds(convexity.add, simple, simple))
kinked = st.builds(convexity.add, st.just(ABSOLUTE), convexes)


def slope_change(function, left, right):
  return function.partial_max(right) - function.partial_min(left)


def check_on_grid(test, found, phi, ell, tau, threshold, n=2**16):
  """Both measured values by the midpoint rule: errors of about 1/n."""
  x = tau * ((2 * np.arange(n) + 1) / n - 1)
  h = np.abs(phi.value(x) - ell.value(x))
  integral = 2 * tau * h.mean()
  test.assertAlmostEqual(found.integral, integral, delta=1e-5 * integral)
  share = np.mean(h >= threshold)
  test.assertAlmostEqual(found.probability, share, delta=1e-4)


def line(slope, offset):
  return convexity.max_affine([slope], [offset])


class ConvexTest(parameterized.TestCase):
  @EXAMPLES
  @hypothesis.given(convexes, numbers)
  def test_one_sided_derivatives(self, phi, at):
    """They are limits of difference quotients from their own side."""
    e = 1e-6  # curvatures are at most 200 / 4 + 200 / 4
    right = (phi.value(at + e) - phi.value(at)) / e
    left = (phi.value(at) - phi.value(at - e)) / e
    self.assertAlmostEqual(phi.partial_max(at), right, delta=1e-4)
    self.assertAlmostEqual(phi.partial_min(at), left, delta=1e-4)

  @EXAMPLES
  @hypothesis.given(max_affines)
  def test_kinks_are_where_the_derivatives_differ(self, phi):
    """Every kink bends, and the slope is constant between two."""
    self.assertTrue(
      np.all(phi.partial_min(phi.kinks) < phi.partial_max(phi.kinks))
    )
    ends = np.array([-99, *phi.kinks, 99])
    right, left = phi.partial_max(ends[:-1]), phi.partial_min(ends[1:])
    np.testing.assert_array_equal(right, left)

  def test_hidden_lines(self):
    """Lines below the maximum, or through a kink, leave no trace."""
    phi = convexity.max_affine([1, 0, -1, 0, 1, 0.5], [0, -1, 0, 0, -3, 0])
    np.testing.assert_array_equal(phi.kinks, [0.0])
    self.assertEqual((phi.partial_min(0.0), phi.partial_max(0.0)), (-1, 1))

  def test_softplus_does_not_overflow(self):
    phi = convexity.softplus(100)
    x = np.array([-100.0, 0, 100])
    with np.errstate(over='raise', invalid='raise'):
      np.testing.assert_allclose(phi.value(x), [0, np.log(2) / 100, 100])
      np.testing.assert_allclose(phi.partial_max(x), [0, 0.5, 1], atol=1e-99)


class LemmaA5Test(parameterized.TestCase):
  @EXAMPLES
  @hypothesis.given(kinked, numbers, numbers, taus)
  def test_holds(self, phi, slope, offset, tau):
    """As stated, and with the best constants; the distance is the grid's."""
    found = convexity.lemma_a5(phi, slope, offset, tau)
    rho = slope_change(phi, 0.0, 0.0)
    self.assertGreaterEqual(rho, 2)
    self.assertTrue(found.holds)
    self.assertEqual(found.integral_bound, tau**2 * rho / 8)
    self.assertEqual(found.probability_bound, 1 / 16)
    best = A5_INTEGRAL * tau**2 * rho
    self.assertGreaterEqual(found.integral, best * (1 - 1e-9))
    self.assertGreaterEqual(found.probability, A5_PROBABILITY - 1e-9)
    check_on_grid(self, found, phi, line(slope, offset), tau, tau * rho / 128)

  @parameterized.product(tau=(0.3, 1.0, 5.0), b=(0, 0.005, 0.3, 0.5, 0.9, 1))
  def test_absolute_value_and_a_constant(self, tau, b):
    """||alpha| - b tau| is two triangles on either side."""
    found = convexity.lemma_a5(ABSOLUTE, 0, b * tau, tau)
    integral = tau**2 * (b**2 + (1 - b) ** 2)
    t = 1 / 64  # the threshold over tau: rho = 2
    probability = 1 - (min(1, b + t) - max(0, b - t))
    self.assertAlmostEqual(found.integral, integral, delta=1e-14 * tau**2)
    self.assertAlmostEqual(found.probability, probability, delta=1e-13)
    if b == 0.5:  # the closest of all lines
      best = A5_INTEGRAL * tau**2 * 2
      self.assertAlmostEqual(found.integral, best, delta=1e-14 * tau**2)

  @parameterized.parameters(0.25, 1.0, 40.0)
  def test_closest_in_probability(self, tau):
    """Left of 0 it stays within the threshold; 31/63 is reached."""
    t = 1 / 128
    phi = convexity.max_affine([-2 * t, 1 - 2 * t], [-t * tau, -t * tau])
    found = convexity.lemma_a5(phi, 0, 0, tau)
    self.assertAlmostEqual(found.probability, A5_PROBABILITY, delta=1e-12)

  @parameterized.parameters(1.0, 30.0, 1000.0)
  def test_softplus_against_polylogarithm(self, sharpness):
    """int_0^t log(1 + e^-x) dx = pi^2 / 12 + Li_2(-e^-t)."""
    phi = convexity.softplus(sharpness)
    found = convexity.lemma_a5(phi, 0, -0.5, 0.7)
    # softplus(x) = x + softplus(-x): the two halves differ by a triangle.
    area = 2 * (
      np.pi**2 / 12 + scipy.special.spence(1 + np.exp(-0.7 * sharpness))
    )
    expected = area / sharpness**2 + 0.7**2 / 2 + 0.7
    self.assertAlmostEqual(found.integral, expected, delta=1e-13)
    self.assertEqual(found.integral_bound, 0)
    self.assertAlmostEqual(found.probability, 1, delta=1e-12)

  def test_a_function_that_is_not_convex_can_fail(self):
    """min(|alpha|, 1/100) has the kink, and stays close to 0."""
    phi = Convex(
      lambda x: np.minimum(np.abs(x), 0.01),
      lambda x: np.where(np.abs(x) < 0.01, np.where(x < 0, -1, 1), 0),
      lambda x: np.where(np.abs(x) < 0.01, np.where(x > 0, 1, -1), 0),
      np.array([-0.01, 0, 0.01]),
    )
    found = convexity.lemma_a5(phi, 0, 0, 1.0)
    self.assertAlmostEqual(found.integral, 0.0199, delta=1e-12)
    self.assertEqual(found.probability, 0)
    self.assertFalse(found.holds)

  def test_either_inequality_decides(self):
    found = convexity.lemma_a5(ABSOLUTE, 0, 0.5, 1.0)
    self.assertIs(found.holds, True)
    more = A5_INTEGRAL * 2 * 1.001
    self.assertIs(found._replace(integral_bound=more).holds, False)
    self.assertIs(found._replace(probability_bound=0.97).holds, False)

  @parameterized.parameters(0.0, -1.0, np.nan)
  def test_tau_must_be_positive(self, tau):
    with self.assertRaisesRegex(ValueError, 'tau'):
      convexity.lemma_a5(ABSOLUTE, 0, 0, tau)


class LemmaB5Test(parameterized.TestCase):
  @EXAMPLES
  @hypothesis.given(convexes, convexes, taus)
  def test_holds(self, phi, ell, tau):
    """As stated, and with the best constants."""
    found = convexity.lemma_b5(phi, ell, tau)
    gamma = slope_change(phi, -tau / 2, tau / 2) - slope_change(ell, -tau, tau)
    self.assertTrue(found.holds)
    self.assertEqual(found.integral_bound, tau**2 * gamma / 32)
    self.assertEqual(found.probability_bound, 1 / 64)
    best = B5_INTEGRAL * tau**2 * gamma
    self.assertGreaterEqual(found.integral, best - 1e-9 * abs(best))
    if gamma > 0:
      self.assertGreaterEqual(found.probability, B5_PROBABILITY - 1e-9)
    else:
      self.assertAlmostEqual(found.probability, 1, delta=1e-12)

  @EXAMPLES
  @hypothesis.given(kinked, convexes, taus)
  def test_against_grid(self, phi, ell, tau):
    found = convexity.lemma_b5(phi, ell, tau)
    gamma = slope_change(phi, -tau / 2, tau / 2) - slope_change(ell, -tau, tau)
    check_on_grid(self, found, phi, ell, tau, tau * gamma / 512)

  @parameterized.parameters((1.0, 3.0), (0.2, 0.5), (7.0, 0.01))
  def test_quadratic(self, tau, curvature):
    """|phi - 0| = c alpha^2 / 2 in closed form; gamma = c tau."""
    found = convexity.lemma_b5(convexity.quadratic(curvature), ZERO, tau)
    integral = curvature * tau**3 / 3
    self.assertAlmostEqual(found.integral / integral, 1, delta=1e-13)
    # c alpha^2 / 2 >= tau^2 c / 512 from |alpha| = tau / 16 on.
    self.assertAlmostEqual(found.probability, 15 / 16, delta=1e-12)
    self.assertEqual(found.integral_bound, tau**2 * (curvature * tau) / 32)

  def test_kinks_of_all_functions_are_known(self):
    """The area between lines is right to rounding, whoever's the kinks are."""
    phi = convexity.add(ABSOLUTE, convexity.max_affine([0, 1], [0, -1 / 3]))
    ell = convexity.max_affine([0, 1], [-5, 1 / 7 - 5])
    found = convexity.lemma_b5(phi, ell, 1.0)
    expected = 1 + (2 / 3) ** 2 / 2 - (8 / 7) ** 2 / 2 + 10
    self.assertAlmostEqual(found.integral, expected, delta=1e-14)

  @parameterized.parameters(1e-2, 1e-4, 1e-6)
  def test_two_roots_close_to_each_other(self, dip):
    """A minimum just below -threshold, anywhere, is found and measured."""
    c, at, threshold = 2.0, np.pi / 10, 2 / 512
    phi = convexity.quadratic(c)
    ell = line(c * at, threshold + dip * threshold - c * at**2 / 2)
    found = convexity.lemma_b5(phi, ell, 1.0)
    # phi - l = c (alpha - at)^2 / 2 - (1 + dip) threshold
    below = 2 * np.sqrt(2 * dip * threshold / c)
    inside = 2 * np.sqrt(2 * (2 + dip) * threshold / c)
    expected = 1 - (inside - below) / 2
    self.assertAlmostEqual(found.probability, expected, delta=1e-10)

  def test_kinks_at_the_ends_count(self):
    """The subdifferentials at +-tau/2 and +-tau belong to gamma whole."""
    phi = convexity.max_affine([-1, 0, 1], [-1, 0, -1])  # kinks at -1 and 1
    for pair, tau, bound in (
      ((phi, ZERO), 2.0, 4 * 2 / 32),
      ((phi, ZERO), 1.9, 0),
      ((ZERO, phi), 1.0, -2 / 32),
    ):
      found = convexity.lemma_b5(*pair, tau)
      self.assertEqual(found.integral_bound, bound)

  @parameterized.parameters(1e-2, 1e-4, 1e-6)
  def test_closest_in_area(self, width):
    """phi - l is 0, falls to -1/4 within the width before 1/2, and rises by 1.

    Two triangles with sides 1/4, which have the area tau^2 gamma / 16.
    """
    steep = 1 / (4 * width)
    phi = convexity.max_affine([0, steep + 1], [0, -(steep + 1) / 2])
    ell = convexity.max_affine([0, steep], [0, steep * (width - 0.5)])
    found = convexity.lemma_b5(phi, ell, 1.0)
    fall = width / 8
    self.assertAlmostEqual(found.integral, B5_INTEGRAL + fall, delta=1e-9)

  @parameterized.parameters(1.0, 8.0)
  def test_closest_in_probability(self, tau):
    """Up to tau/2 it stays just within the threshold: 63/254 is the limit."""
    t = 1 / 512
    phi = convexity.max_affine(
      [-4 * t, 0, 1 - 4 * t],
      np.array([-3 * t, -t, -t - (1 - 4 * t) / 2]) * tau,
    )
    found = convexity.lemma_b5(phi, line(0, -1e-9), tau)
    self.assertAlmostEqual(found.probability, B5_PROBABILITY, delta=1e-6)

  @parameterized.parameters((3.0, 4.0), (50.0, 1.0), (50.0, 20.0))
  def test_smooth_pair_against_adaptive_quadrature(self, sharpness, other):
    """Neither function is a polynomial, and they cross."""
    phi = convexity.softplus(sharpness)
    ell = convexity.add(convexity.softplus(other), line(0.1, -0.15))
    found = convexity.lemma_b5(phi, ell, 1.3)
    expected, _ = scipy.integrate.quad(
      lambda x: abs(phi.value(x) - ell.value(x)), -1.3, 1.3, limit=500
    )
    self.assertAlmostEqual(found.integral, expected, delta=1e-8)

  def test_equal_functions(self):
    """There is no distance, and as gamma < 0 none is needed."""
    phi = convexity.softplus(5.0)
    found = convexity.lemma_b5(phi, phi, 1.0)
    self.assertEqual((found.integral, found.probability), (0, 1))
    self.assertTrue(found.holds)

  def test_a_function_that_is_not_convex_can_fail(self):
    """A ripple has slopes of -1 and 1 but no height."""
    n = 101
    phi = Convex(
      lambda x: np.abs((n * x + 0.5) % 1 - 0.5) / n,
      lambda x: np.where((n * x) % 1 < 0.5, 1, -1),
      lambda x: -np.where((-n * x) % 1 < 0.5, 1, -1),
      np.arange(-2 * n, 2 * n + 1) / (2 * n),
    )
    # +-tau/2 are kinks where it turns upwards.
    found = convexity.lemma_b5(phi, ZERO, 200 / n)
    self.assertEqual(found.integral_bound, (200 / n) ** 2 * 2 / 32)
    self.assertFalse(found.holds)
