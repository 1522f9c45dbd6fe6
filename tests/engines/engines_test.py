"""The fast engines against the plain one and against NumPy, step by step."""

import functools
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import optax
from absl.testing import parameterized

from ossgd.data import arrays, mixtures
from ossgd.engines import blocked, gram, kinds, schedule, sgd, tiles
from ossgd.paper.types import Dataset, Params, Split
from ossgd.running import sweeps
from tests import oracles, rounding

SPEC = mixtures.gaussian(num_classes=3, num_components=2, dim=20)
STEP_SIZE = 0.1


def problem(n=24, m=37, d=9, k=3):
  """Params, a Split of two thirds, and the same in float64."""
  w, a, x, y = oracles.problem(0, k=k, m=m, d=d, n=n)
  y[:k] = np.arange(k)
  cut = 2 * n // 3
  split = Split(Dataset(x[:cut], y[:cut]), Dataset(x[cut:], y[cut:]))
  return jax.tree.map(jnp.asarray, (Params(w, a), split))


def descend(params, split, rows):
  """Float64 weights after every step of eq. (1), given each step's rows."""
  path = [np.asarray(params.w, np.float64)]
  for batch in rows:
    x, y = split.train.x[batch], split.train.y[batch]
    gradient = oracles.gradient(path[-1], params.a, x, y)
    path.append(path[-1] - STEP_SIZE * gradient)
  return np.stack(path)


@functools.cache
def sweep(engine, **settings):
  """Every step of a small sweep; a width of one tile and one of two."""
  return sweeps.sweep(
    SPEC,
    engine=engine,
    **dict(
      dict(
        widths=(48, 530),
        num_seeds=2,
        num_steps=23,
        batch_size=6,
        eval_growth=0,
        num_train=50,
        num_test=30,
      ),
      **settings,
    ),
  )


class RecursionTest(parameterized.TestCase):
  def test_updates_against_descent(self):
    """U of a block of steps is what descent did, whichever steps are active."""
    params, split = problem()
    rows = np.array([[0, 3, 5], [3, 7, 9], [5, 0, 1], [2, 3, 4]])
    active = np.array([True, True, False, True])
    x = split.train.x[rows]
    u, h = blocked.updates(
      params.a,
      jnp.einsum('sbd,md->sbm', x, params.w),
      jnp.einsum('sbd,tcd->sbtc', x, x),
      split.train.y[rows],
      active,
      STEP_SIZE,
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

  def test_blocked_against_descent(self):
    """An interval that is no multiple of a block, across epochs."""
    params, split = problem()
    method = sgd.Method(optax.sgd(STEP_SIZE), 5, 'epochs', sgd.true_gradient)
    key = jax.random.key(3)
    num_train = len(split.train.y)
    permutation = jnp.arange(num_train, dtype=jnp.int32)
    rows, _ = blocked.next_rows(
      key, jnp.arange(21), permutation, order='epochs', batch_size=5
    )
    state = sgd.initial_state(params.w, num_train, method)
    advance = jax.jit(
      functools.partial(blocked.advance, method=method, step_size=STEP_SIZE)
    )
    for first, end in ((0, 0), (0, 1), (1, 21)):
      state = advance(key, state, params, split.train, first, end)
    expected = descend(params, split, rows)[-1]
    self.assertLess(
      oracles.relative_error(state.w - params.w, expected - params.w), 1e-5
    )

  def test_gram_against_descent(self):
    """Weights, distance and patterns of the Gram engine, in two chunks."""
    params, split = problem()
    state, begin = gram.initial_state(
      jax.random.key(3),
      params,
      split,
      num_steps=7,
      order='epochs',
      batch_size=5,
    )
    path = descend(params, split, np.asarray(begin.rows))
    record_steps = np.array([0, 2, 3, 7])
    train = jax.jit(functools.partial(gram.take_steps, step_size=STEP_SIZE))
    measure = jax.jit(functools.partial(gram.move_all, num_train_eval=None))
    distances, differences = [], []
    for steps, recorded, _ in schedule.plan(record_steps, 4):
      state, trained = train(state, begin, split, steps)
      state, record = measure(state, trained, begin, split, recorded)
      distances.extend(record.relative_distance[recorded])
      differences.extend(record.pattern_difference[recorded])
    w = gram.weights(state.c, params, split)
    moved = path - path[0]
    self.assertLess(oracles.relative_error(w - params.w, moved[-1]), 1e-4)
    expected = np.linalg.norm(moved, axis=(1, 2)) / np.linalg.norm(path[0])
    np.testing.assert_allclose(distances, expected[record_steps], rtol=1e-4)
    x = np.asarray(split.test.x, np.float64)
    h = np.einsum('nd,tmd->tnm', x, path)
    expected = np.mean((h >= 0) != (h[0] >= 0), axis=(1, 2))
    np.testing.assert_allclose(differences, expected[record_steps], rtol=1e-5)
    self.assertGreater(expected[-1], 0)


class DistanceTest(parameterized.TestCase):
  @parameterized.parameters(2.5e-7, 3e-6, 3e-5, 3e-3)
  def test_gram_over_many_small_steps(self, step_size):
    """To a few units of float32 at w(0), however small the steps."""
    params, split = problem()
    state, begin = gram.initial_state(
      jax.random.key(3),
      params,
      split,
      num_steps=3000,
      order='epochs',
      batch_size=8,
    )
    record_steps = np.arange(0, 3001, 100)
    train = jax.jit(functools.partial(gram.take_steps, step_size=step_size))
    measure = jax.jit(functools.partial(gram.move_all, num_train_eval=None))
    found = []
    for steps, recorded, _ in schedule.plan(record_steps, 16):
      state, trained = train(state, begin, split, steps)
      state, record = measure(state, trained, begin, split, recorded)
      found.extend(np.asarray(record.relative_distance)[recorded])
    w, a, x_train, x_test = (
      np.asarray(v, np.float64) for v in (*params, split.train.x, split.test.x)
    )
    run = rounding.Problem(
      w,
      a,
      np.concatenate([x_train, x_test]),
      np.concatenate([split.train.y, split.test.y]),
      np.asarray(begin.rows),
      len(x_train),
      len(x_train),
      step_size,
    )
    expected = rounding.expected(run, record_steps).values
    np.testing.assert_allclose(
      found, expected['relative_distance'], rtol=1e-5, atol=4 * 2.0**-23
    )
    # The update keeps its digits: C begins at zero.
    c = np.asarray(state.c, np.float64)
    moved = expected['w'] - w
    self.assertLess(oracles.relative_error(c.T @ x_train, moved), 1e-5)


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
    for steps, ends, last in schedule.plan(np.array(record_steps), most):
      self.assertLen(steps.step, most)
      pieces = zip(
        steps.step.reshape(len(ends), -1),
        steps.active.reshape(len(ends), -1),
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


class SameNumbersTest(parameterized.TestCase):
  @parameterized.product(
    engine=('blocked', 'gram'), order=('epochs', 'one_pass', 'full_batch')
  )
  def test_step_by_step(self, engine, order):
    """Every measurement of every step, to float32 rounding."""
    steps = 8 if order == 'one_pass' else 23
    plain = sweep('plain', order=order, num_steps=steps)
    fast = sweep(engine, order=order, num_steps=steps)
    self.assertEqual(set(fast.engine.values), {engine})
    for name in ('train_loss', 'test_loss', 'relative_distance'):
      np.testing.assert_allclose(fast[name], plain[name], rtol=2e-5)
    # A pre-activation next to zero may round to the other side.
    np.testing.assert_allclose(
      fast.pattern_difference, plain.pattern_difference, atol=2e-4
    )
    for name in ('train_accuracy', 'test_accuracy'):
      np.testing.assert_allclose(fast[name], plain[name], atol=1e-6)
    largest = float(plain.singular_values_weights.max())
    for name in ('singular_values_update', 'singular_values_weights'):
      np.testing.assert_allclose(fast[name], plain[name], atol=1e-5 * largest)

  @parameterized.parameters('blocked', 'gram')
  def test_sparse_records_and_seeds_side_by_side(self, engine):
    """Other cuts of the same run, and vmap over seeds, change nothing."""
    every = sweep('plain')
    fast = sweep(engine, eval_every=5, seeds_at_once=2, num_train_eval=20)
    same = every.sel(step=fast.step)
    for name in ('test_loss', 'relative_distance'):
      np.testing.assert_allclose(fast[name], same[name], rtol=2e-5)
    some = sweep('plain', eval_every=5, num_train_eval=20)
    np.testing.assert_allclose(fast.train_loss, some.train_loss, rtol=2e-5)

  @parameterized.parameters('blocked', 'gram')
  def test_full_batches_are_blocks_of_their_own_size(self, engine):
    """Of N examples, whatever the flag says: their Gram matrix is (N, N)."""
    with mock.patch.object(blocked, 'updates', wraps=blocked.updates) as used:
      sweep(engine, order='full_batch', num_train=300, num_steps=5)
    self.assertTrue(used.called)
    for call in used.call_args_list:
      self.assertEqual(call.args[2].shape, (1, 300, 1, 300))

  @parameterized.parameters(
    dict(num_steps=1000, eval_growth=0.05),
    dict(num_steps=60, eval_every=20),
    dict(num_steps=300, batch_size=64, eval_growth=0.05),
    dict(num_steps=600, eval_every=600),
  )
  def test_gaps_longer_than_a_chunk(self, **schedule):
    """A chunk where nothing is recorded is no end of the run."""
    settings = dict(
      widths=(64,),
      num_seeds=1,
      num_train=100,
      num_test=100,
      batch_size=16,
      lr_times_width=5.0,
    )
    settings |= schedule
    plain, fast = (sweep(engine, **settings) for engine in ('plain', 'gram'))
    size = blocked.size(settings['batch_size'], 64)
    self.assertGreater(np.diff(plain.step).max(), size)
    self.assertTrue(np.isnan(fast.diverged_at).all())
    for name in ('train_loss', 'test_loss', 'relative_distance'):
      np.testing.assert_allclose(fast[name], plain[name], rtol=1e-4)
    for name in ('train_accuracy', 'test_accuracy'):
      np.testing.assert_allclose(fast[name], plain[name], atol=1e-6)
    if settings['num_steps'] == 1000:  # known numbers
      last = fast.isel(width=0, seed=0, step=-1)
      self.assertEqual(last.train_accuracy, 1)
      self.assertAlmostEqual(float(last.relative_distance), 0.64687, places=4)

  @parameterized.parameters('blocked', 'gram')
  def test_zero_columns(self, engine):
    """Coordinates without a number change nothing, and are not computed."""
    _, split = problem(n=60)
    wide = jax.tree.map(
      lambda v: (
        jnp.insert(v, jnp.array([0, 4, 4]), 0.0, 1) if v.ndim > 1 else v
      ),
      split,
    )
    settings = dict(widths=(30,), num_seeds=2, num_steps=9, batch_size=5)
    plain = sweeps.sweep(wide, engine='plain', **settings)
    with mock.patch.object(
      kinds, 'SkippingZeros', wraps=kinds.SkippingZeros
    ) as used:
      fast = sweeps.sweep(wide, engine=engine, **settings)
    np.testing.assert_array_equal(
      used.call_args.args[1], [1, 2, 3, 4, 7, 8, 9, 10, 11]
    )
    for name in ('test_loss', 'train_loss', 'relative_distance'):
      np.testing.assert_allclose(fast[name], plain[name], rtol=2e-5)
    for name in ('singular_values_update', 'singular_values_weights'):
      np.testing.assert_allclose(fast[name], plain[name], atol=1e-6)

  @parameterized.parameters('blocked', 'gram')
  def test_standardised_zeros_are_numbers(self, engine):
    """Pixels that are never lit train weights once the mean is gone."""
    _, split = problem(n=60)
    train, test = split.train, split.test
    dark = [
      jnp.insert(jnp.abs(v.x), jnp.array([0, 4]), 0.0, 1) for v in (train, test)
    ]
    standardised = arrays.to_split(
      dark[0], train.y, dark[1], test.y, preprocess='standardised_unit_norm'
    )
    settings = dict(widths=(30,), num_seeds=1, num_steps=9, batch_size=5)
    plain = sweeps.sweep(standardised, engine='plain', **settings)
    with mock.patch.object(kinds, 'SkippingZeros') as used:
      fast = sweeps.sweep(standardised, engine=engine, **settings)
    used.assert_not_called()
    for name in ('test_loss', 'train_loss', 'relative_distance'):
      np.testing.assert_allclose(fast[name], plain[name], rtol=2e-5)


class ChoiceTest(parameterized.TestCase):
  @parameterized.parameters(
    dict(optimizer=functools.partial(optax.sgd, momentum=0.9)),
    dict(gradient_fn=sgd.pseudo_gradient),
  )
  def test_only_where_exact(self, **settings):
    """Auto falls back to the definition; fast is refused."""
    self.assertEqual(set(sweep('auto', **settings).engine.values), {'plain'})
    with self.assertRaisesRegex(ValueError, 'engine fast is for optax.sgd'):
      sweep('fast', **settings)

  def test_unknown(self):
    with self.assertRaisesRegex(ValueError, "engine is 'quick'; expected"):
      sweep('quick')
