"""The tangent kernel of f in the hidden weights, and the loss's curvature.

With a pattern p, f is linear in w, so its tangent kernel is a masked matmul:

  Theta_{(s,i),(s',j)} = sum_r <df_i(x_s)/dw_r, df_j(x_s')/dw_r>
    = <x_s, x_s'> sum_r a_{i,r} a_{j,r} p_{s,r} p_{s',r}.

A kernel has shape (n k, n' k); row s k + i is output i of example s. The paper
does not name it: the pseudo-network g of Section 5.1, whose patterns are those
of w(0), is the one whose kernel never changes.
"""

import math

import chex
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float

from ossgd.paper import gradients, network
from ossgd.paper.types import Array, Params, matmul


def kernel(
  a: Float[Array, 'k m'],
  p: Bool[Array, 'n m'],
  x: Float[Array, 'n d'],
  other_p: Bool[Array, 'n2 m'],
  other_x: Float[Array, 'n2 d'],
) -> Float[jax.Array, 'n*k n2*k']:
  """<x_s, x_s'> sum_r a_{i,r} a_{j,r} p_{s,r} p_{s',r}, without a Jacobian.

  Args:
    p: pattern of x, (n, m) bool.
    x: inputs s, (n, d).
    other_p: pattern of other_x, (n', m) bool.
    other_x: inputs s', (n', d).

  Returns:
    (n k, n' k), about m times `limit_kernel` at the initialisation.
  """
  chex.assert_rank([a, p, x, other_p, other_x], 2)
  k, m = a.shape

  def active_weights(p):
    weights = jnp.where(p[:, None, :], a[None, :, :], jnp.zeros((), a.dtype))
    return weights.reshape(-1, m)

  inner = matmul(x, other_x.T)
  every_output = jnp.ones((k, k), inner.dtype)
  shared = matmul(active_weights(p), active_weights(other_p).T)
  return jnp.kron(inner, every_output) * shared


def limit_kernel(
  x: Float[Array, 'n d'], other_x: Float[Array, 'n2 d'], *, num_classes: int
) -> Float[jax.Array, 'n*{num_classes} n2*{num_classes}']:
  """Theta / m at w(0) for m -> infinity: 1[i = j] <x, x'> (pi - angle) / 2 pi.

  w_r is isotropic and a_{i,r} ~ N(0, 1), so E a_{i,r} a_{j,r} = 1[i = j], and
  (pi - angle) / 2 pi is the probability that a unit is active on both inputs
  (the derivative arc-cosine kernel of Cho & Saul, 2009).

  Args:
    x: inputs, (n, d), of any norm.
  """
  chex.assert_rank([x, other_x], 2)
  norms = jnp.linalg.norm(other_x, axis=1, keepdims=True)

  def angles(row):
    # Kahan's formula: the arc cosine would lose half the digits at 0 and pi,
    # and a division by the norms all of them at a zero vector.
    u, v = row[None, :] * norms, other_x * jnp.linalg.norm(row)
    sine = jnp.linalg.norm(u - v, axis=1)
    return 2 * jnp.arctan2(sine, jnp.linalg.norm(u + v, axis=1))

  both_active = (jnp.pi - jax.lax.map(angles, x)) / (2 * jnp.pi)
  inner = matmul(x, other_x.T)
  return jnp.kron(inner * both_active, jnp.eye(num_classes, dtype=inner.dtype))


def top_curvature(
  params: Params, x: Float[Array, 'n d'], *, tolerance: float = 1e-3
) -> float:
  """The largest eigenvalue of the Hessian in w of the mean loss.

  f is piecewise linear in w: away from kinks the Hessian is the Gauss-Newton
  matrix J^T H_o J / n with H_o = diag(o) - o o^T, whatever the labels. It is
  never formed, and no vector of m d numbers leaves the devices: with H_o = R
  R^T, R = diag(sqrt o) - o sqrt(o)^T, its eigenvalues that are not zero are
  those of R^T J J^T R / n, of which Lanczos multiplies vectors of n k numbers.
  Not for use under `jit`: the iteration is SciPy's.

  Args:
    tolerance: of the eigenvalue, relative.

  Returns:
    lambda_max; NaN if it is not finite.
  """
  import scipy.sparse.linalg  # half a second that --help need not wait

  h = network.preactivations(params.w, x)
  p = h >= 0
  o = jax.nn.softmax(network.gated_logits(params.a, h, p))

  def product(v):  # (n, k) -> (n, k)
    root_v = jnp.sqrt(o) * v
    slopes = root_v - o * jnp.sum(root_v, axis=1, keepdims=True)
    moved = gradients.pattern_gradient(params.a, p, x, slopes)
    f = network.pseudo_logits(Params(moved, params.a), p, x)
    return jnp.sqrt(o) * (f - jnp.sum(o * f, axis=1, keepdims=True))

  start = np.random.default_rng(0).standard_normal(o.shape)
  start = np.asarray(product(jnp.asarray(start, o.dtype)))
  scale = float(np.linalg.norm(start))
  if not 0 < scale < math.inf:  # ARPACK fails on a zero matrix and on NaN
    return 0.0 if scale == 0 else math.nan

  def scaled_product(v):
    v = jnp.asarray(v.reshape(o.shape), o.dtype)
    return np.ravel(product(v)) / scale

  hessian = scipy.sparse.linalg.LinearOperator(
    (o.size, o.size), scaled_product, dtype=o.dtype
  )
  (largest,) = scipy.sparse.linalg.eigsh(
    hessian,
    k=1,
    which='LA',
    v0=np.ravel(start) / scale,
    tol=tolerance,
    return_eigenvectors=False,
  )
  return scale * float(largest)


def stable_lr_times_width(x: Float[Array, 'n d']) -> Float[jax.Array, '']:
  """4 / lambda_max(Theta / (m n)): eta m that is stable at any logits.

  For a wide network near its initialisation: the Hessian of the loss is J^T
  H_o J / n, and the softmax's H_o has no eigenvalue above 1/2. Past it, descent
  may be stable still, if no example's logits are at that worst.
  """
  theta = limit_kernel(x, x, num_classes=1)
  return 4 * x.shape[0] / jnp.linalg.eigvalsh(theta)[-1]


def largest_stable_step(curvature: float) -> float:
  """2 / lambda_max: with a larger step size, descent on the loss diverges.

  At eta lambda_max > 2, full-batch descent on the quadratic around w grows
  along the top eigenvector. A minibatch's own loss can curve more.
  """
  return 2 / curvature if curvature else math.inf
