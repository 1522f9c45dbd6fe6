"""The cost model: what it counts, what it chooses, what it refuses."""

import functools
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import optax
from absl.testing import parameterized

from ossgd import blocks, cost, mixtures, runs, sgd, sweeps
from ossgd.base import Dataset, Params, Split

PAPER = cost.Shape(
  width=4000,
  dim=1000,
  num_classes=10,
  num_train=1000,
  num_test=1000,
  num_train_eval=1000,
  batch_size=16,
  seeds_at_once=1,
)
MNIST = PAPER._replace(
  dim=784, num_train=60000, num_test=10000, num_train_eval=5000, batch_size=64
)
ALL = ('gram', 'blocked', 'plain')
EVERY_STEP = np.arange(401)
GB = 10**9


class WorkTest(parameterized.TestCase):
  @parameterized.parameters('plain', 'blocked')
  def test_flops_of_training(self, engine):
    """XLA counts the same FLOPs in a compiled interval without a loop."""
    m, d, k, n, batch = 512, 300, 4, 64, 16
    shape = cost.Shape(m, d, k, n, 1, 1, batch, 1)
    steps = blocks.size(batch, m) if engine == 'blocked' else 1
    method = sgd.Method(optax.sgd(0.1), batch, 'one_pass', sgd.true_gradient)
    advance = sgd.advance
    if engine == 'blocked':
      advance = functools.partial(blocks.advance, step_size=0.1)
    params = Params(jnp.ones((m, d)), jnp.ones((k, m)))
    data = Dataset(jnp.ones((n, d)), jnp.zeros(n, jnp.int32))
    state = sgd.start(params.w, n, method)
    compiled = (
      jax.jit(
        lambda key: advance(key, state, params, data, 0, steps, method=method)
      )
      .lower(jax.random.key(0))
      .compile()
    )
    counted = compiled.cost_analysis()['flops']
    record = cost.work(engine, shape, np.array([0])).flops
    expected = cost.work(engine, shape, np.array([0, steps])).flops - 2 * record
    np.testing.assert_allclose(counted, expected, rtol=0.15)

  def test_paper_and_mnist(self):
    """Few examples: the Gram matrix. Many: blocks. Tiny runs: compile less."""
    every, some = EVERY_STEP, np.array([0, 20000])
    self.assertEqual(cost.choose(ALL, PAPER, every, 20 * GB), 'gram')
    self.assertEqual(cost.choose(ALL, MNIST, some, 20 * GB), 'blocked')
    tiny = PAPER._replace(width=50, dim=20, num_train=30, num_test=30)
    self.assertEqual(cost.choose(ALL, tiny, every, 20 * GB), 'plain')
    full = PAPER._replace(batch_size=1000, num_test=9000)
    self.assertNotEqual(
      cost.choose(ALL, full, np.array([0, 400]), 20 * GB), 'gram'
    )


class MemoryTest(parameterized.TestCase):
  def test_falls_back_to_what_fits(self):
    needed = {e: cost.memory(e, MNIST, 400) for e in ALL}
    self.assertEqual(
      cost.choose(('gram', 'plain'), MNIST, EVERY_STEP, needed['gram'] - 1),
      'plain',
    )

  def test_refusal_gives_bytes_and_remedy(self):
    shape = PAPER._replace(width=10**8, seeds_at_once=2)
    with self.assertRaisesRegex(
      ValueError, r'width 100000000 needs about .* GB .* 24 GB .*seeds_at_once'
    ):
      cost.choose(ALL, shape, EVERY_STEP, 24 * GB)

  def test_sweep_refuses_before_it_starts(self):
    progress = mock.Mock()
    spec = mixtures.gaussian(num_classes=2, dim=20)
    with (
      mock.patch.object(cost, 'available', return_value=cost.RUNTIME + 10**7),
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
    start = runs.Start(params, jax.ShapeDtypeStruct((n, m), bool))
    measure = functools.partial(runs.measure, num_train_eval=n)
    shape = cost.Shape(m, d, k, n, n, n, 16, 1)
    with mock.patch.object(runs, 'EVALUATED_AT_ONCE', 110 * m):
      lowered = jax.jit(measure).lower(params.w, start, Split(data, data))
      estimate = cost.memory('plain', shape, 20)
    stats = lowered.compile().memory_analysis()
    held = stats.argument_size_in_bytes + stats.temp_size_in_bytes
    self.assertBetween(held, 0.5 * estimate, estimate)

  @parameterized.product(engine=ALL, order=('epochs', 'full_batch'))
  def test_estimate_covers_what_xla_allocates(self, engine, order):
    """Arguments, results and temporaries of the largest program."""
    shape = PAPER._replace(width=2048, dim=64, num_train=300, num_test=200)
    seen = []
    real = jax.jit

    def spy(f, **settings):
      compiled = real(f, **settings)

      def call(*args):
        stats = compiled.lower(*args).compile().memory_analysis()
        seen.append(
          stats.argument_size_in_bytes
          + stats.output_size_in_bytes
          - stats.alias_size_in_bytes
          + stats.temp_size_in_bytes
        )
        return compiled(*args)

      return call

    spec = mixtures.gaussian(num_classes=10, dim=64)
    with mock.patch.object(jax, 'jit', spy):
      sweeps.sweep(
        spec,
        widths=(2048,),
        num_seeds=1,
        num_steps=20,
        num_train=300,
        num_test=200,
        eval_every=4,
        engine=engine,
        order=order,
      )
    if order == 'full_batch':
      shape = shape._replace(batch_size=300)
    estimate = cost.memory(engine, shape._replace(num_train_eval=300), 20)
    self.assertNotEmpty(seen)
    self.assertLessEqual(max(seen), estimate)
    self.assertGreater(max(seen), 0.3 * estimate)
