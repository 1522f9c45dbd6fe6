"""Several steps of plain SGD as one, exactly, with the weights left alone.

One step of Section 3's SGD with batch X_t (B, d) and pre-activations h_t is

  w(t+1) = w(t) + U_t^T X_t,
  U_t = -eta/B 1[h_t >= 0] * (residual_t a)          (B, m), eq. (1),

or with another activation's phi'(h_t) in place of the indicator. Output weights
that are trained are few enough to be carried from step to step as they are.

After t steps from weights w, w(t) = w + sum_{u<t} U_u^T X_u, and the next
batch's pre-activations follow without w(t):

  h_t = X_t w^T + sum_{u<t} (X_t X_u^T) U_u.

The first term, for all batches of a block at once, is one large matmul, or a
look-up where pre-activations are at hand; the second has the block's own small
Gram matrix; the weights change once, by U^T X, at the end.
"""

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, PartitionSpec
from jax.typing import ArrayLike

from ossgd.compact import tiled
from ossgd.compact.coefficients import Visits
from ossgd.engines import meshes, orders, sgd
from ossgd.paper import network
from ossgd.paper.choices import gated
from ossgd.paper.model import PAPER, Model
from ossgd.paper.types import Dataset, Params, matmul

_NUMBERS_AT_ONCE = 2**27


def size(batch_size: int, width: int, *, tiled: bool = False) -> int:
  """Steps in a block, S: at most 16, and a power of two.

  Longer blocks have larger matmuls and touch the weights less often, but the
  sum over earlier steps grows with their square: 256 examples are enough. A
  block's pre-activations stay below 512 MB, and in tiles, where little else of
  their size is held, below 1 GB.
  """
  at_once = _NUMBERS_AT_ONCE * (2 if tiled else 1)
  examples = min(256, at_once // width)
  return 1 << (min(16, max(1, examples // batch_size)).bit_length() - 1)


def next_rows(
  key: jax.Array,
  steps: jax.Array,
  permutation: jax.Array,
  *,
  order: orders.Order,
  batch_size: int,
) -> tuple[jax.Array, jax.Array]:
  """`orders.next_rows` of several steps: rows (S, B), and the permutation (n,).

  A step that occurs twice in a row gives the same rows twice.
  """

  def one(permutation, step):
    rows, permutation = orders.next_rows(
      key, step, permutation, order=order, batch_size=batch_size
    )
    return permutation, rows

  permutation, rows = jax.lax.scan(one, permutation, steps)
  return rows, permutation


def updates(
  a: jax.Array,
  h: jax.Array | Sequence[jax.Array],
  gram: jax.Array,
  y: jax.Array,
  active: jax.Array | np.ndarray,
  rate: ArrayLike,
  model: Model = PAPER,
  output_rates: jax.Array | None = None,
) -> tuple[jax.Array, jax.Array, jax.Array | None, jax.Array]:
  """U_t of every step of a block, by the recursion above.

  Args:
    a: output weights, (k, m).
    h: X_t w^T with the weights before the block, (S, B, m), or of each step.
    gram: X_t X_u^T, (S, B, S, B).
    y: labels, (S, B).
    active: False for a step that is not to be taken, (S,).
    rate: eta / B.
    model: activation and loss.
    output_rates: of every unit's output weights, (m,), if they move.

  Returns:
    U (S, B, m), zero where not active; h_t at each step's own weights, (S, B,
    m); a after each step, (S, k, m), if it moves; and -eta/B times the
    residuals of every step, (S, B, k), zero where not active.
  """
  num_steps, batch_size = y.shape
  taken: list[jax.Array] = []
  current: list[jax.Array] = []
  path: list[jax.Array] = []
  scaled: list[jax.Array] = []
  for t in range(num_steps):
    h_t = h[t]
    if t:
      earlier = jnp.concatenate(taken)
      h_t += matmul(gram[t, :, :t].reshape(batch_size, -1), earlier)
    slopes = model.residual(network.outputs(a, h_t, model), y[t])
    own = -slopes * rate
    backward = matmul(own, a)
    u_t = gated(backward, model.slope(h_t))
    taken.append(jnp.where(active[t], u_t, 0.0))
    current.append(h_t)
    scaled.append(jnp.where(active[t], own, 0.0))
    if output_rates is not None:
      rates = jnp.where(active[t], output_rates, 0.0)
      a -= matmul(slopes.T, model.phi(h_t)) * rates[None]
      path.append(a)
  moved = jnp.stack(path) if path else None
  return jnp.stack(taken), jnp.stack(current), moved, jnp.stack(scaled)


def visited(
  visits: Visits,
  *others: Any,
  tile: int,
  mesh: Mesh | None,
) -> tuple[jax.Array, jax.Array]:
  """`tiled.visited`, by every device for its own units.

  Args:
    visits: before the block.
    *others: as `tiled.visited` has them.
    tile: units at a time, which divides those of each device.
    mesh: over which the units are split, if any.
  """
  of_units = functools.partial(tiled.visited, tile=tile)
  if mesh is None:
    return of_units(visits, *others)

  def of_own_units(*arguments):
    patterns, moved = of_units(*arguments)
    return patterns, jax.lax.psum(moved, meshes.UNIT)

  columns, whole = meshes.COLUMNS, meshes.WHOLE
  updates = PartitionSpec(None, None, meshes.UNIT)
  return jax.shard_map(
    of_own_units,
    mesh=mesh,
    in_specs=(Visits(columns, whole), whole, updates, columns, whole, whole),
    out_specs=(columns, whole),
    check_vma=False,
  )(visits, *others)


def advance(
  key: jax.Array,
  state: sgd.WeightState,
  start_params: Params,
  data: Dataset,
  first: jax.Array,
  end: jax.Array,
  *,
  method: sgd.Method,
  rate: ArrayLike,
  output_rate: ArrayLike,
) -> sgd.WeightState:
  """`sgd.advance` for plain SGD on the true gradient, in blocks of steps.

  The arguments are those of `sgd.advance`, and rate, which is eta / B, with
  that of a, if it is trained; the numbers are its numbers to float32 rounding.
  """
  both = state.a is not None
  of_outputs = jnp.full(state.w.shape[0], output_rate) if both else None
  steps_at_once = size(method.batch_size, state.w.shape[0])

  def block(i, state):
    steps = first + i * steps_at_once + jnp.arange(steps_at_once)
    rows, permutation = next_rows(
      key,
      jnp.minimum(steps, end - 1),
      state.permutation,
      order=method.order,
      batch_size=method.batch_size,
    )
    x, y = data.x[rows.reshape(-1)], data.y[rows]
    h = network.preactivations(state.w, x).reshape(*rows.shape, -1)
    gram = matmul(x, x.T).reshape(*rows.shape, *rows.shape)
    _, a = sgd.trained(state, start_params)
    u, _, path, _ = updates(
      a, h, gram, y, steps < end, rate, method.model, of_outputs
    )
    w = state.w + matmul(u.reshape(x.shape[0], -1).T, x)
    moved = None if path is None else path[-1]
    return sgd.WeightState(w, state.optimizer, permutation, moved)

  num_blocks = -((first - end) // steps_at_once)
  return jax.lax.fori_loop(0, num_blocks, block, state)
