"""The cost model: what it counts, what it chooses, what it refuses."""

import dataclasses
import functools
import itertools
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import optax
from absl.testing import parameterized

from ossgd.data import mixtures
from ossgd.engines import blocked, cost, measuring, sgd
from ossgd.engines.setup import Setup
from ossgd.machine import memory
from ossgd.paper.types import Dataset, Params, Split
from ossgd.recording.recorders import Recorder
from ossgd.running import caching, sweeps

PAPER = Setup(
  width=4000,
  dim=1000,
  num_classes=10,
  num_train=1000,
  num_test=1000,
  eval_growth=0.0,  # every step
)
MNIST = dataclasses.replace(
  PAPER,
  dim=784,
  num_train=60000,
  num_test=10000,
  num_train_eval=5000,
  batch_size=64,
)
ALL = ('gram', 'blocked', 'plain')
GB = 10**9
RECORDERS = (
  Recorder('moved', of_units=lambda h, h0, a: jnp.sum((h - h0) ** 2, axis=1)),
  Recorder(
    'closed',
    of_units=lambda h, h0, a: jnp.sum((h < 0) & (h0 >= 0), axis=1),
    examples='train',
  ),
)


class WorkTest(parameterized.TestCase):
  @parameterized.parameters('plain', 'blocked')
  def test_flops_of_training(self, engine):
    """XLA counts the same FLOPs in a compiled interval without a loop."""
    m, d, k, n, batch = 512, 300, 4, 64, 16
    setup = Setup(m, d, k, n, 1, batch_size=batch, num_train_eval=1)
    steps = blocked.size(batch, m) if engine == 'blocked' else 1
    method = sgd.Method(optax.sgd(0.1), batch, 'one_pass', sgd.true_gradient)
    advance = sgd.advance
    if engine == 'blocked':
      advance = functools.partial(blocked.advance, rate=0.1, output_rate=0.1)
    params = Params(jnp.ones((m, d)), jnp.ones((k, m)))
    data = Dataset(jnp.ones((n, d)), jnp.zeros(n, jnp.int32))
    state = sgd.initial_state(jax.random.key(0), params.w, n, method)
    compiled = (
      jax.jit(
        lambda key: advance(key, state, params, data, 0, steps, method=method)
      )
      .lower(jax.random.key(0))
      .compile()
    )
    counted = compiled.cost_analysis()['flops']
    at_start = dataclasses.replace(setup, num_steps=0)
    interval = dataclasses.replace(setup, num_steps=steps, eval_every=steps)
    record = cost.work(engine, at_start).flops
    expected = cost.work(engine, interval).flops - 2 * record
    np.testing.assert_allclose(counted, expected, rtol=0.15)

  def test_paper_and_mnist(self):
    """Few examples: the Gram matrix. Many: blocks. Tiny runs: compile less."""
    self.assertEqual(cost.choose(PAPER, 20 * GB), 'gram')
    some = dataclasses.replace(MNIST, num_steps=20000, eval_every=20000)
    self.assertEqual(cost.choose(some, 20 * GB), 'blocked')
    tiny = dataclasses.replace(
      PAPER, width=50, dim=20, num_train=30, num_test=30
    )
    self.assertEqual(cost.choose(tiny, 20 * GB), 'plain')
    full = dataclasses.replace(
      PAPER, order='full_batch', num_test=9000, eval_every=400
    )
    self.assertNotEqual(cost.choose(full, 20 * GB), 'gram')


class MemoryTest(parameterized.TestCase):
  def test_falls_back_to_what_fits(self):
    """Blocks, where the Gram matrix would be faster and has no room."""
    wide = dataclasses.replace(MNIST, width=200)
    self.assertEqual(cost.choose(wide, 100 * GB), 'gram')
    needed = cost.memory('gram', wide) + cost.RUNTIME
    self.assertNotEqual(cost.choose(wide, needed - 1), 'gram')

  def test_refusal_gives_bytes_and_remedy(self):
    setup = dataclasses.replace(PAPER, width=10**8)
    with self.assertRaisesRegex(
      ValueError, r'width 100000000 needs about .* GB .* 24 GB .*seeds_at_once'
    ):
      cost.choose(setup, 24 * GB, seeds_at_once=2)

  def test_sweep_refuses_before_it_starts(self):
    progress = mock.Mock()
    spec = mixtures.gaussian(num_classes=2, dim=20)
    with (
      mock.patch.object(memory, 'of_device', return_value=cost.RUNTIME + 10**7),
      self.assertRaisesRegex(ValueError, 'width 5000 needs about'),
    ):
      sweeps.sweep(spec, widths=(10, 5000), num_steps=3, progress=progress)
    progress.assert_not_called()

  def test_evaluation_in_batches(self):
    """Whole ones and the rest, of both data sets, are there at one time."""
    m, d, k, n = 2048, 8, 10, 200

    def floats(*shape):
      return jax.ShapeDtypeStruct(shape, jnp.float32)

    data = Dataset(floats(n, d), jax.ShapeDtypeStruct((n,), jnp.int32))
    params = Params(floats(m, d), floats(k, m))
    patterns = {'test': jax.ShapeDtypeStruct((n, m), bool)}
    begun = measuring.Reference(params, patterns)
    measure = functools.partial(measuring.measure, num_train_eval=n)
    setup = Setup(m, d, k, n, n)
    with mock.patch.object(measuring, 'EVALUATED_AT_ONCE', 110 * m):
      lowered = jax.jit(measure).lower(params, begun, Split(data, data))
      estimate = cost.memory('plain', setup)
    stats = lowered.compile().memory_analysis()
    held = stats.argument_size_in_bytes + stats.temp_size_in_bytes
    self.assertBetween(held, 0.5 * estimate, estimate)

  def test_recorders(self):
    """What they look at of w(0) is kept, and counted; and nothing else."""
    last = Recorder('last', of_units=lambda h, h0, a: jnp.sum(h, axis=1))
    moved = Recorder('moved', of_units=lambda h, h0, a: jnp.sum(h - h0))
    of_train = dataclasses.replace(moved, examples='train')
    closed = Recorder('closed', of_pattern=lambda p, p0: p0 & ~p)
    of_train_too = dataclasses.replace(closed, examples='train')

    def needed(*recorders):
      setup = dataclasses.replace(PAPER, recorders=recorders)
      return cost.memory('gram', setup) / 1.1

    number = PAPER.num_test * PAPER.width
    for recorder, added in (
      (last, 0),
      (moved, 4 * number),
      (of_train, 0),
      (closed, 0),
      (of_train_too, number / 8),  # a bit each
    ):
      self.assertAlmostEqual(
        needed(recorder) - needed(), added, delta=0.05 * number
      )
    one, per_example = (
      cost.results(dataclasses.replace(PAPER, recorders=recorders))
      for recorders in ((), (last,))
    )
    records = len(PAPER.record_steps)
    self.assertEqual(per_example - one, 3 * 8 * PAPER.num_test * records)

  @parameterized.parameters(
    *itertools.product(ALL, ('epochs', 'full_batch')),
    ('plain', 'epochs', dict(recorders=RECORDERS)),
    ('gram', 'epochs', dict(recorders=RECORDERS)),
    # C is folded, in the coordinates of the inputs or in their span's.
    ('gram', 'epochs', dict(num_steps=1300, batch_size=1)),
    ('gram', 'epochs', dict(num_steps=700, batch_size=1, num_train=40)),
  )
  def test_estimate_covers_what_xla_allocates(self, engine, order, others=()):
    """Arguments, results and temporaries of the largest program."""
    settings = dict(num_train=300, num_test=200, num_steps=20, order=order)
    settings |= others
    setup = dataclasses.replace(PAPER, width=2048, dim=64, **settings)
    if 'num_steps' in others:
      self.assertTrue(setup.folds)
    seen = []
    real = caching.Program.__call__

    def spy(program, *args):
      stats = program.lower(*args).compile().memory_analysis()
      seen.append(
        stats.argument_size_in_bytes
        + stats.output_size_in_bytes
        - stats.alias_size_in_bytes
        + stats.temp_size_in_bytes
      )
      return real(program, *args)

    spec = mixtures.gaussian(num_classes=10, dim=64)
    with mock.patch.object(caching.Program, '__call__', spy):
      sweeps.sweep(
        spec,
        widths=(2048,),
        num_seeds=1,
        eval_every=4,
        engine=engine,
        **settings,
      )
    estimate = cost.memory(engine, setup)
    self.assertNotEmpty(seen)
    self.assertLessEqual(max(seen), estimate)
    self.assertGreater(max(seen), 0.3 * estimate)
