"""Section 7's measurements against NumPy float64 and hand-made cases."""

import jax
import jax.numpy as jnp
import numpy as np
from absl.testing import parameterized

from ossgd.paper import metrics


class MetricsTest(parameterized.TestCase):
  def test_accuracy(self):
    """Theorem 4.1: strictly larger than all others; ties and NaN are errors."""
    f = jnp.array(
      [[1.0, 2.0, 0.0], [3.0, 1.0, 2.0], [1.0, 1.0, 0.0], [0.0, jnp.nan, 1.0]]
    )
    self.assertEqual(metrics.accuracy(f, jnp.array([1, 0, 0, 2])), 0.5)
    self.assertEqual(metrics.accuracy(f, jnp.array([0, 0, 1, 1])), 0.25)
    negative = jnp.array([[-3.0, -1.0]])
    self.assertEqual(metrics.accuracy(negative, jnp.array([1])), 1.0)
    self.assertEqual(metrics.accuracy(negative, jnp.array([0])), 0.0)

  def test_every_answer_right_is_one(self):
    """Of as many examples as you like, also where n (1/n) is below 1."""
    sizes = [n for n in range(1, 400) if np.float32(1) / n * n < 1] + [10000]
    self.assertGreater(len(sizes), 30)  # 1/n is rounded there

    def shares(every):
      return [tuple(map(metrics.share, pair)) for pair in every]

    # Arguments, of which XLA does not know the values.
    every = [(np.arange(n) < n - n // 50, np.ones(n, bool)) for n in sizes]
    for found in (shares(every), jax.jit(shares)(every)):
      for n, (some, all_of_them) in zip(sizes, found, strict=True):
        self.assertEqual(all_of_them, 1.0, n)
        self.assertEqual(some, np.float32((n - n // 50) / n), n)

  def test_constant_divisor_stays_a_divisor(self):
    """XLA has turned it into a factor before, which no value here shows."""
    compiled = jax.jit(metrics.share).lower(jnp.ones(41, bool)).compile()
    self.assertIn('divide', compiled.as_text())

  @parameterized.parameters((41, None), (55, 0.98), (10000, 0.98))
  def test_counts_meet_a_target_exactly(self, n, target):
    """9800 of 10000 are 0.98; so is no smaller number."""
    right = n if target is None else int(np.ceil(n * target - 1e-9))
    f = jnp.zeros((n, 2)).at[:, 1].set(jnp.where(jnp.arange(n) < right, 1, -1))
    y = jnp.ones(n, jnp.int32)
    count = jax.jit(metrics.num_correct)(f, y)
    self.assertEqual((count, count.dtype), (right, jnp.int32))
    accuracies = np.array([int(count) - 1, int(count)]) / n
    np.testing.assert_array_equal(
      metrics.steps_to_accuracy(accuracies, [3, 4], target or 1.0), 4
    )

  def test_pattern_difference_of_many_pairs(self):
    """Past 2^24, where float32 has no number for every count."""
    p = jnp.arange(2**25 + 6).reshape(2, -1) % 3 == 0
    expected = np.mean(np.asarray(p), dtype=np.float64)
    value = jax.jit(metrics.pattern_difference)(p, jnp.zeros_like(p))
    np.testing.assert_allclose(value, expected, rtol=1e-7)

  def test_pattern_difference(self):
    """The fraction of (unit, example) pairs, zero for equal patterns."""
    p = jnp.array([[True, False, True], [True, True, False]])
    q = p.at[0, 1].set(True).at[1, 0].set(False)
    self.assertEqual(metrics.pattern_difference(p, p), 0.0)
    self.assertAlmostEqual(float(metrics.pattern_difference(q, p)), 2 / 6)

  def test_relative_distance(self):
    """Relative to the norm of the initialisation, not of today's weights."""
    w0 = jnp.array([[3.0, 0.0], [0.0, 4.0]])
    w = w0 + jnp.array([[0.0, 1.0], [0.0, 0.0]])
    self.assertAlmostEqual(float(metrics.relative_distance(w, w0)), 0.2)
    self.assertEqual(metrics.relative_distance(w0, w0), 0.0)

  @parameterized.product(
    shape=((40, 25), (25, 40), (30, 30)), vmapped=(False, True)
  )
  def test_spectrum(self, shape, vmapped):
    """Within 1e-5 of the largest, where a float32 Gram matrix is not."""
    rng = np.random.default_rng(0)
    rank = min(shape)
    left = np.linalg.qr(rng.normal(size=(shape[0], rank)))[0]
    right = np.linalg.qr(rng.normal(size=(shape[1], rank)))[0]
    expected = np.logspace(2, -4, rank)
    w = ((left * expected) @ right.T).astype(np.float32)
    if vmapped:
      value = jax.vmap(metrics.spectrum)(jnp.stack([w, 2 * w]))[1] / 2
    else:
      value = metrics.spectrum(jnp.asarray(w))
    self.assertEqual(value.shape, (rank,))
    self.assertLess(np.abs(value - expected).max(), 1e-5 * expected[0])
    gram = w.T @ w if shape[0] >= shape[1] else w @ w.T
    squares = np.clip(np.linalg.eigvalsh(gram)[::-1], 0, None)
    gram_error = np.abs(np.sqrt(squares) - expected).max()
    self.assertGreater(gram_error, 1e-5 * expected[0])

  def test_at_accuracy(self):
    """The first recorded step at the target; NaN where it is never met."""
    steps = jnp.array([0, 3, 7, 20])
    accuracies = jnp.array(
      [[0.1, 0.6, 0.9, 0.8], [0.9, 0.1, 0.1, 0.1], [0.0, 0.1, 0.2, 0.3]]
    )
    values = jnp.arange(12.0).reshape(3, 4)
    np.testing.assert_array_equal(
      metrics.steps_to_accuracy(accuracies, steps, 0.9), [7, 0, np.nan]
    )
    np.testing.assert_array_equal(
      metrics.at_accuracy(values, accuracies, 0.6), [1, 4, np.nan]
    )
