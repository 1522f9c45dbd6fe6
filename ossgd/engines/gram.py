"""The fast engine: SGD on pre-activations, with the Gram matrix for weights.

Every update of plain SGD lies in the span of the training inputs,

  w(t) = w(0) + C(t)^T X,                              C (N, m), C(0) = 0,

and a step adds the rows U_t of eq. (1) (`blocked`) to C at the batch's rows. So
the pre-activations H = X_all w^T of all examples, training and test, move by

  H(t+1) = H(t) + K_{all, batch} U_t,                  K = X_all X^T,

which costs 2 n B m FLOPs whatever d is, and leaves accuracy, loss and patterns
of every example at hand; evaluating from w would cost 2 n d m at each recorded
step. The distance follows from what a step has computed anyway:

  ||W(t+1) - W(0)||^2 = ||W(t) - W(0)||^2
    + sum_{s in batch} <u_s, 2 (h_s(t) - h_s(0)) + (K_{batch, batch} U_t)_s>.

H is rounded whenever it moves, as w is in the other engines. Where training
never rests C grows with t in directions that X^T C cancels, and K, which is
rounded once, would put H off by t and the distance by t^2. So C is folded now
and then into what it stands for, and H and the distance are found anew. With
orthonormal columns Q that span the training inputs, (d, r), or I where d <= N,

  E += Q^T X^T C,   C = 0,   H = H(0) + X_all Q E,   ||W(t) - W(0)|| = ||E||,

for 2 (N + n) r m FLOPs (`Setup.steps_to_fold`). A shorter run has no E.

Wide networks keep C as the patterns it is made of (`compact.coefficients`) and
step tile by tile (`compact.tiled`). h_s(t) - h_s(0) is K_{s, train} C(t) there,
for 2 N B m FLOPs a step and what it takes to find C again.

A chunk of steps first finds its U from the batches alone, then goes through
the units in tiles that stay in cache while H passes all its recorded steps.
"""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from ossgd.compact import coefficients, tiled, weights
from ossgd.compact.coefficients import Visited, Visits
from ossgd.engines import blocked, interface, meshes, tiles
from ossgd.engines.interface import Chunk, Numbers, Stage
from ossgd.engines.setup import Setup
from ossgd.paper import metrics, network
from ossgd.paper.types import Params, matmul
from ossgd.recording.recorders import DISTANCE, Examples


class Constants(NamedTuple):
  """What stays the same during a run; M is the width, padded to whole tiles."""

  a: jax.Array  # output weights: (k, M); zero in the padding, which is inert
  gram: jax.Array  # K^T = X X_all^T: (N, n)
  # Pre-activations at w(0), of the training examples first: (N, M); of all,
  # (n, M), where C is folded or a recorder looks at those; or None.
  h: jax.Array | None
  patterns: dict[Examples, jax.Array]  # at w(0), as bits: (ceil(. / 8), M)
  norm: jax.Array  # ||w(0)||_F
  # n m of the patterns of each data set, without the padding.
  num_patterns: dict[Examples, jax.Array]
  rows: jax.Array  # the batch of every step: (T, B) int32


class GramState(NamedTuple):
  """All that training carries from one chunk to the next."""

  h: jax.Array  # pre-activations, training examples first: (n, M)
  # Coefficients of w - w(0) in the training inputs, (N, M), or what they are
  # made of.
  c: jax.Array | Visits
  e: jax.Array  # E, (r, M); of no rows where C is not folded into it
  q: jax.Array | None  # Q, (d, r), of no columns there; None where it is I
  squared_distance: jax.Array  # ||w - w(0)||_F^2
  a: jax.Array | None = None  # output weights, where they are trained: (k, M)


class Trained(NamedTuple):
  """What a chunk of steps did, before H knows of it."""

  gram: jax.Array  # K^T of the chunk's batches: (S B, n)
  updates: jax.Array  # U of its steps: (S B, M)
  squared_distances: jax.Array  # after each step: (S,)
  a: jax.Array | None  # after each step, where it is trained: (S, k, M)


def steps_at_once(setup: Setup) -> int:
  """In a chunk."""
  sizes = setup.examples_per_step, setup.width
  return blocked.size(*sizes, tiled=setup.by_visits)


@dataclasses.dataclass(frozen=True)
class OnGram:
  """Pre-activations of all examples are the state; an `interface.Engine`."""

  setup: Setup
  mesh: Mesh | None
  numbers: Numbers  # of the setup; they may be traced

  @property
  def chunks(self) -> Sequence[Chunk]:
    """Several recorded steps each."""
    planned, every = [], self.setup.steps_to_fold
    begin = end = 0
    most = steps_at_once(self.setup)
    for chunk in interface.plan(self.setup.record_steps, most):
      due = np.bool_(end // every > begin // every)  # it comes after a fold
      (slots,), of_pieces = chunk.arguments
      planned.append(chunk._replace(arguments=((slots, due), of_pieces)))
      begin, end = end, chunk.end
    return planned

  @property
  def stages(self) -> Mapping[str, Stage]:
    """Updates from the batches alone, then all pre-activations."""
    return {'train': self.take_steps, 'measure': self.move_all}

  def start(self, key, params, split):
    """State: `GramState`. Begin: `Constants`."""
    rows = functools.partial(weights.part, params.w)
    return self.start_from_rows(key, rows, params.a, split)

  def start_from_rows(self, key, rows_of_w, a, split):
    """The same from w(0) a few rows at a time: `weights.Rows`."""
    setup = self.setup
    width, shards = a.shape[1], meshes.shards(self.mesh)[1]
    share = width // shards
    padding = shards * (-share % tiles.width(share))  # whole tiles everywhere
    a = jnp.pad(a, ((0, 0), (0, padding)))
    x, num_train = split.train.x, split.train.x.shape[0]
    everything = jnp.concatenate([x, split.test.x])
    if setup.by_visits and self.mesh is None:
      h, norm = weights.preactivations(rows_of_w, everything, width, padding)
    else:
      w = rows_of_w(0, width)
      h = network.preactivations(jnp.pad(w, ((0, padding), (0, 0))), everything)
      norm = jnp.linalg.norm(w)
    state = GramState(
      h,
      coefficients.nothing(setup.num_visits, num_train, *a.shape)
      if setup.by_visits
      else jnp.zeros((num_train, h.shape[1]), h.dtype),
      jnp.zeros((setup.rank * setup.folds, h.shape[1]), h.dtype),
      self._span(x),
      jnp.zeros((), h.dtype),
      a if setup.model.layers == 'both' else None,
    )
    rows, _ = blocked.next_rows(
      key,
      jnp.arange(setup.num_steps),
      jnp.arange(num_train, dtype=jnp.int32),
      order=setup.order,
      batch_size=setup.examples_per_step,
    )
    h0 = h if setup.folds or 'test' in setup.initial_of else h[:num_train]
    begin = Constants(
      a,
      matmul(x, everything.T),
      h0 if setup.initial_of or not setup.by_visits else None,
      {
        e: jnp.packbits(h[setup.rows(e)] >= 0, axis=0)
        for e in setup.patterns_of
      },
      norm,
      {
        e: jnp.asarray(len(h[setup.rows(e)]) * float(width), h.dtype)
        for e in setup.patterns_of
      },
      rows,
    )
    return state, begin

  def _span(self, x):
    """Q of the training inputs."""
    if self.setup.num_inputs <= self.setup.num_train:
      return None
    return jnp.linalg.qr(x.T)[0] if self.setup.folds else x[:0].T

  def _fold(self, state, begin, split):
    """C into E, with H and the distance from there."""
    x = jnp.concatenate([split.train.x, split.test.x])
    x = x if state.q is None else matmul(x, state.q)
    e = state.e + matmul(x[: self.setup.num_train].T, state.c)
    h, nothing = begin.h + matmul(x, e), jnp.zeros_like(state.c)
    return state._replace(h=h, c=nothing, e=e, squared_distance=jnp.sum(e * e))

  def take_steps(self, state, begin, split, steps, due):
    """Takes a chunk of steps, looking at its own batches only.

    The state has H as it was: `move_all` moves it by the `Trained` passed on.
    C is folded before if that is due.
    """
    if self.setup.folds:  # in place, as a loop; `cond` would copy H
      state = jax.lax.fori_loop(
        *(0, jnp.int32(due)), lambda _, s: self._fold(s, begin, split), state
      )
    rows = begin.rows[steps.step]
    flat = rows.reshape(-1)
    gram = begin.gram[flat]
    among = gram[:, flat].reshape(*rows.shape, *rows.shape)
    setup, by_visits = self.setup, isinstance(state.c, Visits)
    tile = tiles.width(state.h.shape[1] // meshes.shards(self.mesh)[1])
    told = among, split.train.y[rows], steps.active, self.numbers.rate
    a = None  # where it is not trained
    if by_visits and self.mesh is None:
      several = tiles.several(state.h.shape[1])
      u, slopes = tiled.updates(
        begin.a, state.h, rows, *told, setup.model, tile=several
      )
    else:
      of_outputs = None
      if state.a is not None:  # the padding stays as it is
        is_unit = jnp.arange(state.a.shape[1]) < setup.width
        of_outputs = jnp.where(is_unit, self.numbers.output_rate, 0.0)
      u, h, a, slopes = blocked.updates(
        begin.a if state.a is None else state.a,
        [state.h[some] for some in rows],
        *told,
        setup.model,
        of_outputs,
      )
    if by_visits:
      visit = steps.step // setup.steps_per_epoch
      visits = jnp.repeat(visit, rows.shape[1])
      new = Visited(flat, visits, slopes.reshape(flat.shape[0], -1))
      to_train = gram[:, : setup.num_train]
      patterns, moved = blocked.visited(
        state.c, new, u, begin.a, to_train, among, tile=tile, mesh=self.mesh
      )
      c = Visits(patterns, coefficients.told(state.c.slopes, new))
    else:
      h0 = begin.h[flat].reshape(u.shape)
      moved = metrics.squared_distances(u, h - h0, among)
      c = state.c.at[flat].add(u.reshape(flat.size, -1))
    distances = state.squared_distance + jnp.cumsum(moved)
    last = distances[-1], None if a is None else a[-1]
    state = state._replace(c=c, squared_distance=last[0], a=last[1])
    return state, (Trained(gram, u.reshape(flat.size, -1), distances, a),)

  def move_all(self, state, begin, split, trained, recorded):
    """Moves H through a chunk, and measures at the end of each of its pieces.

    The Record has arrays (P, ...), one value a piece. What it says of a piece
    that is not `recorded`, (P,) bool, is not to be used.
    """
    setup, pieces = self.setup, recorded.shape[0]
    gram = trained.gram.reshape(pieces, -1, state.h.shape[0])
    initial = tiles.Initial(
      begin.patterns, begin.h if setup.initial_of else None
    )
    a = begin.a
    if trained.a is not None:  # at the end of each piece
      a = trained.a.reshape(pieces, -1, *a.shape)[:, -1]
    h, sums = tiles.pass_over(setup, self.mesh)(
      state.h,
      a,
      initial,
      jnp.swapaxes(gram, 1, 2),
      trained.updates.reshape(pieces, -1, state.h.shape[1]),
      recorded,
    )

    padding = state.h.shape[1] - setup.width
    record = tiles.record(setup, sums, split, begin.num_patterns, padding)
    at_ends = trained.squared_distances.reshape(pieces, -1)[:, -1]
    distance = jnp.sqrt(jnp.maximum(at_ends, 0)) / begin.norm
    return state._replace(h=h), (record | {DISTANCE: distance},)

  def kept(self, state):
    """C, E and Q, and a where it is trained."""
    return state.c, (state.e, state.q), state.a

  def weights(self, kept, params, split):
    """w(t) = w(0) + (Q E(t))^T + C(t)^T X."""
    w = self.rows(kept, params, split)(0, params.w.shape[0])
    a = kept[2]
    return Params(w, params.a if a is None else a[:, : w.shape[0]])

  def rows(self, kept, params, split):
    """The same of some units at a time."""
    c, folded, _ = kept
    begun = functools.partial(weights.part, params.w)
    visits = self.setup.num_visits
    return weights.moved(begun, params.a, c, folded, split.train.x, visits)

  def layout(self, state):
    """H, C, E and a are split by units."""
    columns = meshes.COLUMNS
    of_outputs = None if state.a is None else columns
    c = Visits(columns, meshes.WHOLE) if self.setup.by_visits else columns
    q = None if state.q is None else meshes.WHOLE
    return GramState(columns, c, columns, q, meshes.WHOLE, of_outputs)
