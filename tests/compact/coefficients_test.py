"""C from patterns is C from numbers."""

import jax
import jax.numpy as jnp
import numpy as np
from absl.testing import parameterized

from ossgd.compact import coefficients
from ossgd.compact.coefficients import Visited

N, M, K = 12, 9, 3


class CoefficientsTest(parameterized.TestCase):
  @parameterized.parameters(1, 7, 11)
  def test_against_sums(self, num_visits):
    """Of several visits to every example, more than a byte of them too."""
    rng = np.random.default_rng(num_visits)
    a = rng.normal(size=(K, M)).astype(np.float32)
    visits = coefficients.nothing(num_visits, N, K, M)
    expected = np.zeros((N, M))
    for v in range(num_visits):
      for some in np.split(rng.permutation(N), 3):
        slopes = rng.normal(size=(len(some), K)).astype(np.float32)
        slopes[1] = 0  # is not to count
        u = np.where(rng.random((len(some), M)) < 0.5, slopes @ a, 0)
        np.add.at(expected, some, u.astype(np.float64))
        new = Visited(
          jnp.asarray(some), jnp.full(len(some), v), jnp.asarray(slopes)
        )
        visits = visits._replace(
          patterns=coefficients.marked(visits, new, jnp.asarray(u)),
          slopes=coefficients.told(visits.slopes, new),
        )
    c = jax.jit(coefficients.coefficients)(visits, a, num_visits)
    np.testing.assert_allclose(c, expected, rtol=1e-5, atol=1e-6)
    self.assertEqual(visits.patterns.shape, (-(-num_visits // 8) * N, M))
