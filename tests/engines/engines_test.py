"""Engines against NumPy, step by step; `agreement_test` asks at random."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
from absl.testing import parameterized

from ossgd.compact import tiled
from ossgd.data import arrays, mixtures
from ossgd.engines import blocked, interface, kinds, sgd, tiles
from ossgd.engines.setup import Setup
from ossgd.paper.model import PAPER, Model
from ossgd.paper.types import Dataset, Params, Split
from ossgd.recording.recorders import Recorder
from ossgd.running import datasets, sweeps
from tests import oracles, rounding

SPEC = mixtures.gaussian(num_classes=3, num_components=2, dim=20)
STEP_SIZE = 0.1
KEY = jax.random.key(3)
N, M, D, K = 24, 37, 9, 3
NUM_TRAIN = 16


def problem():
  """Params, and a Split of two thirds."""
  w, a, x, y = oracles.problem(0, k=K, m=M, d=D, n=N)
  y[:K] = np.arange(K)
  train = Dataset(x[:NUM_TRAIN], y[:NUM_TRAIN])
  split = Split(train, Dataset(x[NUM_TRAIN:], y[NUM_TRAIN:]))
  return jax.tree.map(jnp.asarray, (Params(w, a), split))


def descend(params, split, rows):
  """Float64 weights after every step of eq. (1), given each step's rows."""
  path = [np.asarray(params.w, np.float64)]
  for batch in rows:
    x, y = split.train.x[batch], split.train.y[batch]
    gradient = oracles.gradient(path[-1], params.a, x, y)
    path.append(path[-1] - STEP_SIZE * gradient)
  return np.stack(path)


def run(engine, *, step_size=STEP_SIZE, **settings):
  """Through all its stages: the rows of each step, records, w(T) - w(0).

  As w(T) - w(0) is small beside w(0), the engine is asked for it alone.
  """
  params, split = problem()
  setup = Setup(
    *(M, D, K, NUM_TRAIN, N - NUM_TRAIN),
    lr_times_width=step_size * M,
    engine=engine,
    **settings,
  )
  found = kinds.make(setup)
  stages = [jax.jit(stage) for stage in found.stages.values()]
  state, begin = found.start(KEY, params, split)
  records = []
  for chunk in found.chunks:
    passed = ()
    for stage, told in zip(stages, chunk.arguments, strict=True):
      state, passed = stage(state, begin, split, *passed, *told)
    records.append(
      {n: np.reshape(v, -1)[chunk.recorded] for n, v in passed[0].items()}
    )
  rows, _ = blocked.next_rows(
    KEY,
    jnp.arange(setup.num_steps),
    jnp.arange(NUM_TRAIN, dtype=jnp.int32),
    order=setup.order,
    batch_size=setup.batch_size,
  )
  moved = found.weights(found.kept(state), params, split).w - params.w
  if engine == 'gram':  # C and E begin at zero, and keep their digits
    c, e = (np.asarray(v, np.float64)[:, :M] for v in (state.c, state.e))
    moved = c.T @ split.train.x + (e.T if e.size else 0)
  together = {n: np.concatenate([r[n] for r in records]) for n in records[0]}
  return setup.record_steps, np.asarray(rows), together, moved


class RecursionTest(parameterized.TestCase):
  def test_updates_against_descent(self):
    """U of a block of steps is what descent did, whichever steps are active."""
    params, split = problem()
    rows = np.array([[0, 3, 5], [3, 7, 9], [5, 0, 1], [2, 3, 4]])
    active = np.array([True, True, False, True])
    x = split.train.x[rows]
    u, h, *_ = blocked.updates(
      params.a,
      jnp.einsum('sbd,md->sbm', x, params.w),
      jnp.einsum('sbd,tcd->sbtc', x, x),
      split.train.y[rows],
      active,
      STEP_SIZE / 3,
    )
    path = descend(params, split, rows[active])
    moved = np.einsum('sbm,sbd->smd', np.asarray(u, np.float64), x)
    np.testing.assert_array_equal(moved[2], 0)
    self.assertLess(
      oracles.relative_error(moved[active], np.diff(path, axis=0)), 1e-5
    )
    for t, before in zip(np.flatnonzero(active), path[:-1], strict=True):
      expected = np.asarray(x[t], np.float64) @ before.T
      self.assertLess(oracles.relative_error(h[t], expected), 1e-5)

  @parameterized.parameters(1, 3)
  def test_updates_in_tiles(self, tile):
    """U as above, and the residuals it is made of."""
    params, split = problem()
    width = params.w.shape[0] // tile * tile
    params = Params(params.w[:width], params.a[:, :width])
    rows = np.array([[0, 3, 5], [3, 7, 9], [5, 0, 1], [2, 3, 4]])
    active = np.array([True, True, False, True])
    x = split.train.x[rows]
    u, slopes = tiled.updates(
      params.a,
      split.train.x @ params.w.T,
      rows,
      jnp.einsum('sbd,tcd->sbtc', x, x),
      split.train.y[rows],
      active,
      STEP_SIZE / 3,
      PAPER,
      tile=tile,
    )
    path = descend(params, split, rows[active])
    moved = np.einsum('sbm,sbd->smd', np.asarray(u, np.float64), x)
    np.testing.assert_array_equal(moved[2], 0)
    np.testing.assert_array_equal(slopes[2], 0)
    self.assertLess(
      oracles.relative_error(moved[active], np.diff(path, axis=0)), 1e-5
    )
    backward = np.asarray(slopes, np.float64) @ np.asarray(params.a)
    np.testing.assert_allclose(u, np.where(u != 0, backward, 0), rtol=1e-5)

  @parameterized.parameters('plain', 'blocked', 'gram')
  def test_against_descent(self, engine):
    """Across epochs and chunks, one of which is no multiple of a block."""
    params, split = problem()
    steps, rows, records, moved = run(
      engine, num_steps=21, batch_size=5, eval_every=19, eval_growth=0
    )
    path = descend(params, split, rows)
    self.assertLess(oracles.relative_error(moved, path[-1] - path[0]), 1e-5)
    expected = np.linalg.norm(path - path[0], axis=(1, 2))
    expected /= np.linalg.norm(path[0])
    np.testing.assert_allclose(
      records['relative_distance'], expected[steps], rtol=1e-4
    )
    x = np.asarray(split.test.x, np.float64)
    h = np.einsum('nd,tmd->tnm', x, path)
    expected = np.mean((h >= 0) != (h[0] >= 0), axis=(1, 2))
    self.assertGreater(expected[-1], 0)
    np.testing.assert_allclose(
      records['pattern_difference'], expected[steps], rtol=1e-5
    )

  @parameterized.parameters(2.5e-7, 3e-6, 3e-5, 3e-3)
  def test_gram_over_many_small_steps(self, step_size):
    """To a few units of float32 at w(0), however small the steps."""
    steps, rows, records, moved = run(
      'gram',
      step_size=step_size,
      num_steps=3000,
      batch_size=8,
      eval_every=100,
      eval_growth=0,
    )
    params, split = problem()
    x = np.concatenate([split.train.x, split.test.x])
    w, a, x = (np.asarray(v, np.float64) for v in (*params, x))
    y = np.concatenate([split.train.y, split.test.y])
    expected = rounding.expected(
      rounding.Problem(w, a, x, y, rows, NUM_TRAIN, NUM_TRAIN, step_size), steps
    ).values
    np.testing.assert_allclose(
      records['relative_distance'],
      expected['relative_distance'],
      rtol=1e-5,
      atol=4 * 2.0**-23,
    )
    self.assertLess(oracles.relative_error(moved, expected['w'] - w), 1e-5)

  @parameterized.parameters(
    dict(),
    dict(model=Model(layers='both')),
    dict(seeds_at_once=2),
    dict(dim=9),
    dict(dim=200),
    dict(dim=200, seeds_at_once=2),
  )
  def test_gram_where_training_never_rests(self, dim=6, **settings):
    """Distance and loss are those of its own weights; two units fit nothing.

    All inputs lie in six dimensions of so many. Where there are fewer than
    examples, C is folded every four epochs, else every sixteen.
    """
    cut, n, k = 60, 70, 4
    num_steps, rtol = (3000, 1e-5) if dim < cut else (6000, 4e-5)
    rng = np.random.default_rng(0)
    x = rng.normal(size=(n, 6)) @ np.linalg.qr(rng.normal(size=(dim, 6)))[0].T
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    x, y = x.astype(np.float32), np.arange(n) % k
    found = sweeps.sweep(
      Split(Dataset(x[:cut], y[:cut]), Dataset(x[cut:], y[cut:])),
      engine='gram',
      widths=(2,),
      num_seeds=2,
      batch_size=8,
      lr_times_width=8.0,
      num_steps=num_steps,
      eval_every=1000,
      extra=lambda end, begun, _: {'w': end.w, 'a': end.a, 'w0': begun.w},
      **settings,
    ).isel(width=0, step=-1)
    for seed in found.seed:
      one = {name: v.values for name, v in found.sel(seed=seed).items()}
      w, w0, a = (
        np.asarray(one[name], np.float64) for name in ('w', 'w0', 'a')
      )
      away = np.linalg.norm(w - w0) / np.linalg.norm(w0)
      np.testing.assert_allclose(one['relative_distance'], away, rtol=rtol)
      f = a @ np.maximum(w @ x[:cut].T, 0)
      loss = np.logaddexp.reduce(f) - f[y[:cut], np.arange(cut)]
      np.testing.assert_allclose(one['train_loss'], loss.mean(), rtol=1e-6)
      self.assertGreater(one['train_loss'], 0.5)

  @parameterized.parameters(9, 30)
  def test_a_fold_moves_no_dead_unit(self, dim):
    """Inputs in a cone leave units dead: these are at w(0) to the bit."""
    x = np.abs(np.random.default_rng(1).normal(size=(22, dim))) + 2
    x = (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)
    y = np.arange(22) % 3
    moved = [
      Recorder(
        f'moved_{examples}',
        of_units=lambda h, h0, a: jnp.any(h != h0, axis=0).sum(),
        examples=examples,
      )
      for examples in ('train', 'test')
    ]
    found = sweeps.sweep(
      Split(Dataset(x[:17], y[:17]), Dataset(x[17:], y[17:])),
      engine='gram',
      widths=(521,),
      num_seeds=1,
      num_steps=60,
      order='full_batch',
      lr_times_width=0.5,
      eval_every=20,
      recorders=tuple(moved),
      extra=lambda end, begun, _: {'moved': (end.w != begun.w).any(1).sum()},
    ).isel(width=0, seed=0)
    for name in ('moved_train', 'moved_test'):
      np.testing.assert_array_equal(found[name][1:], found.moved)


class ChunksTest(parameterized.TestCase):
  @parameterized.product(
    record_steps=(
      [0, 1, 2, 3, 4, 5],
      [0, 1, 2, 4, 8, 16, 17],
      [0, 3, 50, 53],
      [0, 1000],
      [0, 1],
    ),
    most=(1, 4, 16),
  )
  def test_every_step_once_and_recorded_in_time(self, record_steps, most):
    """Active slots are all steps in order; a recorded one ends its piece."""
    taken, recorded = [], []
    for chunk in interface.plan(np.array(record_steps), most):
      ((slots,), _), ends, last = chunk[:3]
      self.assertLen(slots.step, most)
      pieces = zip(
        slots.step.reshape(len(ends), -1),
        slots.active.reshape(len(ends), -1),
        ends,
        strict=True,
      )
      for step, active, end in pieces:
        taken.extend(step[active])
        if end:
          recorded.append(len(taken))
      self.assertLen(taken, last)
    self.assertEqual(taken, list(range(record_steps[-1])))
    self.assertEqual(recorded, record_steps)

  @parameterized.parameters(1, 7, 500, 512, 513, 4096, 1021, 1000, 16000)
  def test_tiles(self, width):
    """At most 512 units, and less than a tile of padding, divided the same."""
    tile = tiles.width(width)
    self.assertBetween(tile, 1, 512)
    padded = width + -width % tile
    self.assertLess(padded - width, tile)
    self.assertEqual(tiles.width(padded), tile)


class SweepTest(parameterized.TestCase):
  def test_a_long_run(self):
    """Gaps longer than a chunk, where nothing is recorded; known numbers."""
    settings = dict(widths=(64,), num_seeds=1, num_train=100, num_test=100)
    plain, fast = (
      sweeps.sweep(
        SPEC, engine=engine, num_steps=1000, lr_times_width=5.0, **settings
      )
      for engine in ('plain', 'gram')
    )
    self.assertGreater(np.diff(plain.step).max(), blocked.size(16, 64))
    self.assertTrue(np.isnan(fast.diverged_at).all())
    for name in ('train_loss', 'test_loss', 'relative_distance'):
      np.testing.assert_allclose(fast[name], plain[name], rtol=1e-4)
    last = fast.isel(width=0, seed=0, step=-1)
    self.assertEqual(last.train_accuracy, 1)
    self.assertAlmostEqual(float(last.relative_distance), 0.64687, places=4)

  def test_zero_columns(self):
    """Coordinates without a number are left out, but for standardised ones.

    Pixels that are never lit train weights once the mean is gone.
    """
    _, split = problem()
    dark = [
      jnp.insert(jnp.abs(v.x), jnp.array([0, 4, 4]), 0.0, 1)
      for v in (split.train, split.test)
    ]
    used = [
      datasets.source(
        arrays.to_split(dark[0], split.train.y, dark[1], split.test.y, **kind),
        *(0, 0, None),
      ).sizes['used_columns']
      for kind in ({}, {'preprocess': 'standardised_unit_norm'})
    ]
    self.assertEqual(used, [(1, 2, 3, 4, 7, 8, 9, 10, 11), None])

  @parameterized.parameters(
    dict(optimizer=functools.partial(optax.sgd, momentum=0.9)),
    dict(gradient_fn=sgd.pseudo_gradient),
  )
  def test_only_where_exact(self, **settings):
    """Auto falls back to the definition; fast is refused."""
    setup = Setup(M, D, K, NUM_TRAIN, N, **settings)
    self.assertEqual(setup.engines, ('plain',))
    with self.assertRaisesRegex(ValueError, 'engine fast is for optax.sgd'):
      sweeps.sweep(SPEC, widths=(8,), engine='fast', **settings)

  def test_unknown(self):
    with self.assertRaisesRegex(ValueError, "engine is 'quick'; expected"):
      sweeps.sweep(SPEC, widths=(8,), engine='quick')
