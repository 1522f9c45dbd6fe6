"""w(0) and w(T) a few rows at a time: what is asked of them, never whole."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from ossgd.compact import coefficients, normals
from ossgd.compact.coefficients import Visits
from ossgd.paper import metrics, network
from ossgd.paper.model import Model
from ossgd.paper.types import Params, matmul

# (first, number) -> so many rows of w from the first one on: (number, d)
Rows = Callable[[jax.Array | int, int], jax.Array]
_ROWS_AT_ONCE = 4096


def can_draw_rows(key: jax.Array, width: int, dim: int, model: Model) -> bool:
  """Whether `drawn` has the rows of `network.init_params`."""
  return model.start == 'iid' and normals.can_draw_rows(key, (width, dim))


def part(
  v: jax.Array, first: jax.Array | int, number: int, axis: int = 0
) -> jax.Array:
  """So many rows, or columns, from the first one on."""
  if isinstance(first, int):  # on a mesh a dynamic slice would gather them
    return jax.lax.slice_in_dim(v, first, first + number, axis=axis)
  return jax.lax.dynamic_slice_in_dim(v, first, number, axis)


def drawn(key: jax.Array, *, dim: int, std: ArrayLike) -> Rows:
  """Rows of w(0), those of `network.init_params` of independent units.

  Args:
    key: its key.
    dim: d.
    std: of their entries.
  """
  key_w, _ = jax.random.split(key)

  def rows(first, number):
    return normals.rows(key_w, first, number, dim) * std

  return rows


def moved(
  rows: Rows,
  a: jax.Array,
  c: jax.Array | Visits,
  folded: tuple[jax.Array, jax.Array | None],
  x: jax.Array,
  num_visits: int,
) -> Rows:
  """Rows of w(0) + C^T X + (Q E)^T.

  Args:
    rows: of w(0).
    a: its output weights, (k, m).
    c: (N, M), or what it is made of.
    folded: E (r, M), of no rows where it is zero, and Q (d, r) or None for I.
    x: training inputs, (N, d).
    num_visits: at least those of each example.
  """
  e, q = folded

  def of_units(first, number):
    def columns(v):
      return part(v, first, number, axis=1)

    if isinstance(c, Visits):
      own = c._replace(patterns=columns(c.patterns))
      of_inputs = coefficients.coefficients(own, columns(a), num_visits)
    else:
      of_inputs = columns(c)
    w = rows(first, number) + matmul(of_inputs.T, x)
    if not e.shape[0]:
      return w
    own = columns(e).T
    return w + (own if q is None else matmul(own, q.T))

  return of_units


def preactivations(
  rows: Rows, x: jax.Array, width: int, padding: int
) -> tuple[jax.Array, jax.Array]:
  """Pre-activations, (n, m + padding), and ||w||_F, in little more memory.

  Args:
    rows: of w.
    x: inputs, (n, d).
    width: m.
    padding: units that there are not, with zeros.
  """
  at_once = min(width, _ROWS_AT_ONCE)

  def block(i, carry):
    h, squares = carry
    first = jnp.minimum(i * at_once, width - at_once)
    w = rows(first, at_once)
    own = network.preactivations(w, x)
    is_new = first + jnp.arange(at_once) >= i * at_once
    some = jnp.sum(jnp.where(is_new, jnp.sum(w * w, axis=1), 0.0))
    h = jax.lax.dynamic_update_slice_in_dim(h, own, first, 1)
    return h, squares.at[i].set(some)

  number = -(-width // at_once)
  nothing = jnp.zeros((x.shape[0], width + padding), x.dtype)
  squares = jnp.zeros(number, x.dtype)
  h, squares = jax.lax.fori_loop(0, number, block, (nothing, squares))
  return h, jnp.sqrt(jnp.sum(squares))


def spectra(rows: Rows, begun: Params) -> dict[str, jax.Array]:
  """Singular values of w(T) - w(0) and of w(T), (min(m, d),) each.

  Args:
    rows: of w(T).
    begun: the parameters at initialisation.
  """

  def both(first, number):
    w = rows(first, number)
    w0 = part(begun.w, first, number)
    return w - w0, w

  height, dim = begun.w.shape
  if height < dim:
    found = both(0, height)
  else:
    found = metrics.triangles(both, height, dim)
  update, weights = map(metrics.spectrum, found)
  return {'singular_values_update': update, 'singular_values_weights': weights}
