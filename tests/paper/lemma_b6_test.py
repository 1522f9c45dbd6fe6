"""Lemma B.6 against its formulas written out, and worst cases."""

import hypothesis
import numpy as np
from absl.testing import parameterized
from hypothesis import strategies as st

from ossgd.paper import convexity
from ossgd.paper.convexity import Differentiable

EXAMPLES = hypothesis.settings(derandomize=True, deadline=None, max_examples=80)


def wave(scale, direction, phase):
  """L sin(<u, v> + c), whose slope and curvature reach L."""
  return Differentiable(
    lambda v: scale * np.sin(np.dot(direction, v) + phase),
    lambda v: scale * np.cos(np.dot(direction, v) + phase) * direction,
  )


def bend(scale, direction, phase=0):
  """L |<u, v>|, kinked: its derivative is no part of the lemma."""
  del phase
  return Differentiable(
    lambda v: scale * np.abs(direction @ v), lambda v: v * np.nan
  )


def huber(scale, shift=0.0):
  """Of one number: L s^2 / 2 up to |s| = 1, from there on with slope L."""
  return Differentiable(
    lambda s: (
      shift + scale * np.where(np.abs(s) < 1, s * s / 2, np.abs(s) - 0.5).sum()
    ),
    lambda s: scale * np.clip(s, -1, 1),
  )


def linear(slope):
  return Differentiable(lambda s: slope * s, lambda s: slope)


def problem(seed, lipschitz, m, num_kinked, p, d=3):
  """Random g, g_i, w and delta as the lemma asks for."""
  rng = np.random.default_rng(seed)
  u = rng.normal(size=(m, d))
  u /= np.linalg.norm(u, axis=1, keepdims=True)
  phases = rng.uniform(-np.pi, np.pi, size=m)
  makers = [wave] * (m - num_kinked) + [bend] * num_kinked
  inner = [
    f(lipschitz, *pair) for f, *pair in zip(makers, u, phases, strict=True)
  ]
  outer = wave(lipschitz, 1.0, rng.uniform(-np.pi, np.pi))
  w = rng.normal(size=(m, d))
  # Steps of length p, many of them along u, where the g_i move most.
  step = u * rng.choice([-1, 1], size=(m, 1)) + 0.3 * rng.normal(size=(m, d))
  step *= p / np.linalg.norm(step, axis=1, keepdims=True)
  return outer, inner, w, step


def same_step(outer, inner, w, p, lipschitz, num_kinked=0):
  """What Lemma B.6 says of equal units of one weight, which move equally."""
  at, step = (np.full((len(inner), 1), v) for v in (w, p))
  return convexity.lemma_b6(
    outer, inner, at, step, lipschitz=lipschitz, num_kinked=num_kinked
  )


class LemmaB6Test(parameterized.TestCase):
  @EXAMPLES
  @hypothesis.given(
    st.integers(0, 2**32),
    st.sampled_from([0.05, 0.3, 0.5, 1.0, 3.0]),
    st.integers(1, 6),
    st.data(),
    st.sampled_from([1e-3, 0.03, 0.3, 2.0]),
  )
  def test_holds(self, seed, lipschitz, m, data, p):
    """The repaired bound always; the paper's where L m >= 1."""
    r = data.draw(st.integers(0, m))
    found = convexity.lemma_b6(
      *problem(seed, lipschitz, m, r, p), lipschitz=lipschitz, num_kinked=r
    )
    rounding = 1e-13 * (1 + lipschitz * m)
    self.assertLessEqual(found.change, found.repaired_bound + rounding)
    if lipschitz * m >= 1:
      self.assertLessEqual(found.change, found.paper_bound + rounding)

  def test_bounds_and_linear_part(self):
    """Against the formulas written out, the linear part by differences."""
    outer, inner, w, step = problem(0, 1.5, m=4, num_kinked=1, p=0.1)
    found = convexity.lemma_b6(
      outer, inner, w, step, lipschitz=1.5, num_kinked=1
    )

    def f(w):
      return outer.value(sum(g.value(v) for g, v in zip(inner, w, strict=True)))

    smooth = step * np.array([1, 1, 1, 0])[:, None]
    slope = (f(w + 1e-6 * smooth) - f(w - 1e-6 * smooth)) / 2e-6
    self.assertAlmostEqual(found.linear, slope, delta=1e-8)
    self.assertAlmostEqual(found.change, f(w + step) - f(w), delta=1e-14)
    paper = slope + 1.5**3 * 16 * 0.01 + 1.5**2 * 0.1
    self.assertAlmostEqual(found.paper_bound, paper, delta=1e-8)
    repaired = slope + (1.5**3 * 16 + 1.5**2 * 4) * 0.01 / 2 + 1.5**2 * 0.1
    self.assertAlmostEqual(found.repaired_bound, repaired, delta=1e-8)

  def test_a_kink_needs_its_term(self):
    """|w| at 0 rises by p, with no linear part to announce it."""
    kink = [bend(1.0, np.ones(1))]
    found = same_step(linear(1.0), kink, 0, 0.01, 1.0, num_kinked=1)
    self.assertEqual((found.change, found.linear), (0.01, 0))
    self.assertLessEqual(found.change, found.paper_bound)
    smooth = 0.01**2
    self.assertGreater(found.change, found.paper_bound - 0.01 + smooth)

  @parameterized.parameters((0.25, 1), (0.05, 3), (0.3, 1))
  def test_counterexample_with_linear_outer(self, lipschitz, m):
    """g = L s and g_i = L w^2 / 2 at 0: the change L^2 m p^2 / 2 > L^3 m^2 p^2.

    This takes L m < 1/2.
    """
    p, inner = 0.5, [huber(lipschitz)] * m
    found = same_step(linear(lipschitz), inner, 0, p, lipschitz)
    self.assertEqual(found.linear, 0)
    change = lipschitz**2 * m * p**2 / 2
    self.assertAlmostEqual(found.change, change, delta=1e-15)
    self.assertGreater(found.change, found.paper_bound)
    self.assertLess(found.change, found.repaired_bound)

  @parameterized.parameters((0.5, 1), (0.3, 3), (0.95, 1))
  def test_counterexample_with_both_curved(self, lipschitz, m):
    """Slopes and curvatures of nearly L everywhere: the repair is sharp.

    Every function runs in its parabola and ends where its slope is L. As p
    goes to 0 the change beyond the linear part is the repaired bound's, which
    is more than the paper's for every L m < 1.
    """
    p = 1e-3
    move = m * lipschitz * (p - p**2 / 2)
    start = m * lipschitz * (1 - p) ** 2 / 2
    shift = (1 - move - start) / m  # so that the sum ends at 1
    inner = [huber(lipschitz, shift)] * m
    found = same_step(huber(lipschitz), inner, 1 - p, p, lipschitz)
    self.assertGreater(found.change, found.paper_bound)
    self.assertLess(found.change, found.repaired_bound)
    used = (found.change - found.linear) / (found.repaired_bound - found.linear)
    self.assertGreater(used, 0.99)

  def test_too_small_a_constant_can_fail(self):
    """With L half of what the functions have, neither bound holds."""
    found = same_step(huber(2.0), [huber(2.0)], 0.5, 0.1, 1.0)
    self.assertGreater(found.change, found.paper_bound)
    self.assertGreater(found.change, found.repaired_bound)
