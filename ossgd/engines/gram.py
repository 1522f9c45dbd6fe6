"""The fast engine: SGD on pre-activations, with the Gram matrix for weights.

Every update of plain SGD lies in the span of the training inputs,

  w(t) = w(0) + C(t)^T X,                              C (N, m), C(0) = 0,

and a step adds the rows U_t of eq. (1) (`blocks`) to C at the batch's rows. So
the pre-activations H = X_all w^T of all examples, training and test, move by

  H(t+1) = H(t) + K_{all, batch} U_t,                  K = X_all X^T,

which costs 2 n B m FLOPs whatever d is, and leaves accuracy, loss and patterns
of every example at hand; evaluating from w would cost 2 n d m at each recorded
step. The distance follows from what a step has computed anyway:

  ||W(t+1) - W(0)||^2 = ||W(t) - W(0)||^2
    + sum_{s in batch} <u_s, 2 (h_s(t) - h_s(0)) + (K_{batch, batch} U_t)_s>.

H is rounded whenever it moves, as w is in the other engines, so a distance is
known to a few units of float32 at ||W(0)||: within 4 2^-23 ||W(0)|| over 3000
steps of any size, beside 1e-5 of itself. It is H that decides, not the sum:
where the distance is 1.5e-4 ||W(0)|| after 3000 steps, H(t) - H(0) is off by
1e-2. C begins at zero, and keeps its digits.

A chunk of steps first finds its U from the batches alone, then goes through
the units in tiles that stay in cache while H passes all its recorded steps.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from ossgd.engines import blocked, measuring, meshes, schedule, sgd, tiles
from ossgd.paper import network
from ossgd.paper.types import Params, Split, matmul


class Constants(NamedTuple):
  """What stays the same during a run; M is the width, padded to whole tiles."""

  a: jax.Array  # output weights: (k, M); zero in the padding, which is inert
  gram: jax.Array  # K^T = X X_all^T: (N, n)
  h: jax.Array  # pre-activations of the training examples at w(0): (N, M)
  pattern: jax.Array  # of the test examples at w(0): (n - N, M) bool
  norm: jax.Array  # ||w(0)||_F
  num_patterns: jax.Array  # (n - N) m, without the padding
  rows: jax.Array  # the batch of every step: (T, B) int32


class GramState(NamedTuple):
  """All that training carries from one chunk to the next."""

  h: jax.Array  # pre-activations, training examples first: (n, M)
  c: jax.Array  # coefficients of w - w(0) in the training inputs: (N, M)
  squared_distance: jax.Array  # ||w - w(0)||_F^2


def initial_state(
  key: jax.Array,
  params: Params,
  split: Split,
  *,
  num_steps: int,
  order: sgd.Order,
  batch_size: int,
  shards: int = 1,
) -> tuple[GramState, Constants]:
  """The state before the first step.

  Args:
    key: the seed's order key.
    params: w (m, d) and a (k, m).
    split: the data.
    num_steps: T.
    order: as in `sgd.Method`.
    batch_size: B.
    shards: parts that the units are split into, each of whole tiles.
  """
  width = params.w.shape[0]
  share = width // shards
  padding = shards * (-share % tiles.width(share))
  w, a = params
  if padding:
    w = jnp.pad(w, ((0, padding), (0, 0)))
    a = jnp.pad(a, ((0, 0), (0, padding)))
  x, num_train = split.train.x, split.train.x.shape[0]
  everything = jnp.concatenate([x, split.test.x])
  h = network.preactivations(w, everything)
  state = GramState(
    h,
    jnp.zeros((num_train, w.shape[0]), h.dtype),
    jnp.zeros((), h.dtype),
  )
  rows, _ = blocked.next_rows(
    key,
    jnp.arange(num_steps),
    jnp.arange(num_train, dtype=jnp.int32),
    order=order,
    batch_size=batch_size,
  )
  begin = Constants(
    a,
    matmul(x, everything.T),
    h[:num_train],
    h[num_train:] >= 0,
    jnp.linalg.norm(params.w),
    jnp.asarray(split.test.x.shape[0] * float(width), h.dtype),
    rows,
  )
  return state, begin


def layout(state: GramState) -> GramState:
  """Where a state's arrays lie on a mesh."""
  del state
  return GramState(meshes.COLUMNS, meshes.COLUMNS, meshes.WHOLE)


class Trained(NamedTuple):
  """What a chunk of steps did, before H knows of it."""

  gram: jax.Array  # K^T of the chunk's batches: (S B, n)
  updates: jax.Array  # U of its steps: (S B, M)
  squared_distances: jax.Array  # after each step: (S,)


def take_steps(
  state: GramState,
  begin: Constants,
  split: Split,
  steps: schedule.Steps,
  *,
  step_size: float,
) -> tuple[GramState, Trained]:
  """Takes a chunk of steps, looking at its own batches only.

  Args:
    state: after the chunk before.
    begin: where the run began.
    split: the data.
    steps: of the chunk; not mapped by `vmap`.
    step_size: eta.

  Returns:
    The state, H as it was, and what `move_all` needs to move H as well.
  """
  rows = begin.rows[steps.step]
  flat, shape = rows.reshape(-1), (*rows.shape, -1)
  gram = begin.gram[flat]
  among = gram[:, flat].reshape(*rows.shape, *rows.shape)
  u, h = blocked.updates(
    begin.a,
    state.h[flat].reshape(shape),
    among,
    split.train.y[rows],
    steps.active,
    step_size,
  )
  moved = blocked.squared_distances(u, h - begin.h[flat].reshape(shape), among)
  distances = state.squared_distance + jnp.cumsum(moved)
  u = u.reshape(flat.shape[0], -1)
  state = GramState(state.h, state.c.at[flat].add(u), distances[-1])
  return state, Trained(gram, u, distances)


def move_all(
  state: GramState,
  trained: Trained,
  begin: Constants,
  split: Split,
  recorded: jax.Array,
  *,
  num_train_eval: int | None,
  mesh: Mesh | None = None,
) -> tuple[GramState, measuring.Record]:
  """Moves H through a chunk, and measures at the end of each of its pieces.

  Args:
    state: of `take_steps`.
    trained: what it did.
    begin: where the run began.
    split: the data.
    recorded: of the chunk, (P,) bool; not mapped by `vmap`.
    num_train_eval: training loss and accuracy are over the first so many
      training examples; over all if None.
    mesh: over which the units are split, if any.

  Returns:
    The state after the chunk, and a Record of arrays (P,). What it says of
    a piece that is not recorded is not to be used.
  """
  pieces = recorded.shape[0]
  gram = trained.gram.reshape(pieces, -1, state.h.shape[0])
  h, logits, flips = tiles.pass_over(mesh)(
    state.h,
    begin.a,
    begin.pattern,
    jnp.swapaxes(gram, 1, 2),
    trained.updates.reshape(pieces, -1, state.h.shape[1]),
    recorded,
  )
  at_ends = trained.squared_distances.reshape(pieces, -1)[:, -1]
  record = measuring.measure_logits(logits, split, num_train_eval)._replace(
    pattern_difference=flips / begin.num_patterns,
    relative_distance=jnp.sqrt(jnp.maximum(at_ends, 0)) / begin.norm,
  )
  return state._replace(h=h), record


def weights(state_c: jax.Array, params: Params, split: Split) -> jax.Array:
  """w(t) = w(0) + C(t)^T X: C (N, M), params at w(0) -> (m, d)."""
  c = state_c[:, : params.w.shape[0]]
  return params.w + matmul(c.T, split.train.x)
