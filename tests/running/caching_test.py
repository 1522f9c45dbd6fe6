"""Tests of what is compiled: once, ahead, and for what."""

import collections
import functools
import gc
import os
import weakref
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import optax
import xarray as xr
from absl.testing import parameterized

from ossgd.data import mixtures
from ossgd.engines import sgd
from ossgd.paper.model import Model
from ossgd.recording.recorders import Recorder
from ossgd.running import caching, sweeps

SETTINGS = dict(
  data=mixtures.gaussian(num_classes=3, num_components=1, dim=6),
  widths=(12,),
  num_seeds=2,
  num_steps=6,
  batch_size=4,
  num_train=14,
  num_test=8,
  eval_every=2,
)
NUMBERS = dict(
  lr_times_width=3.7, seed=5, num_seeds=3, init_scale=1.3, target=0.5
)
momentum = functools.partial(optax.sgd, momentum=0.9)
compiled: collections.Counter = collections.Counter()  # by function
factor = 1.0


def _hear(event: str, duration_secs: float, **details) -> None:
  del duration_secs
  if event == '/jax/core/compile/backend_compile_duration':
    compiled[details.get('fun_name', '')] += 1


jax.monitoring.register_event_duration_secs_listener(_hear)


def scaled_gradient(params, w0, x, y):
  return factor * sgd.true_gradient(params, w0, x, y)


def swept(**settings) -> tuple[xr.Dataset, int]:
  """A sweep, and how many programs were compiled for it."""
  compiled.clear()
  return sweeps.sweep(**SETTINGS | settings), compiled.total()


def anew(**settings) -> xr.Dataset:
  caching.forget()
  return swept(**settings)[0]


class JitTest(parameterized.TestCase):
  @parameterized.parameters(
    ('', False, 'cpu', {'xla_backend_optimization_level': 1}),
    ('', True, 'cpu', {'xla_backend_optimization_level': 0}),
    # Who says how much is heard, and other compilers are left alone.
    ('--xla_backend_optimization_level=3', False, 'cpu', None),
    ('', False, 'gpu', None),
  )
  def test_options(self, flags, little, backend, expected):
    name = 'jax_disable_most_optimizations'
    self.addCleanup(jax.config.update, name, jax.config.read(name))
    jax.config.update(name, little)
    with (
      mock.patch.dict(os.environ, XLA_FLAGS=flags),
      mock.patch.object(jax, 'default_backend', return_value=backend),
      mock.patch.object(jax, 'jit') as jit,
    ):
      caching.jit(abs, donate_argnums=0)
    options = {} if expected is None else {'compiler_options': expected}
    jit.assert_called_once_with(abs, donate_argnums=0, **options)

  def test_compiles(self):
    """With what JAX and XLA know by these names."""
    with mock.patch.object(jax.config, 'read', return_value=False):
      doubled = caching.jit(lambda x: 2 * x)
    self.assertEqual(doubled(np.float32(3)), 6)
    self.assertEqual(jax.eval_shape(doubled, np.float32(3)).dtype, np.float32)


class AgainTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    caching.forget()

  @parameterized.parameters(
    dict(engine='plain'),
    dict(engine='blocked'),
    dict(engine='gram'),
    dict(engine='plain', optimizer=momentum),
    dict(engine='blocked', seeds_at_once=3),
    dict(engine='gram', model=Model(layers='both'), output_lr_times_width=9.0),
    dict(engine='plain', gradient_fn=sgd.pseudo_gradient),
    dict(engine='plain', keep='weights'),
  )
  def test_numbers(self, **settings):
    """Another step size, scale, seed or target compiles nothing.

    And all numbers are those of programs that are made for these alone.
    """
    settings = dict(num_seeds=3) | settings
    _, first = swept(**settings)
    again, none = swept(**settings)
    others, none_either = swept(**settings | NUMBERS)
    self.assertGreater(first, 0)
    self.assertEqual((none, none_either), (0, 0))
    xr.testing.assert_identical(again, anew(**settings))
    xr.testing.assert_identical(others, anew(**settings | NUMBERS))

  @parameterized.parameters(
    dict(batch_size=5),
    dict(engine='blocked'),
    dict(model=Model(activation='gelu')),
    dict(optimizer=momentum),
    dict(gradient_fn=sgd.pseudo_gradient),
    dict(optimizer=lambda lr: optax.sgd(2 * lr)),
    dict(num_train_eval=7),
    dict(extra=lambda params, begun, split: {'own': params.w[0]}),
  )
  def test_what_is_not_a_number(self, **settings):
    """It compiles, and gives its own results."""
    settings = dict(engine='plain') | settings
    swept(engine='plain')
    found, number = swept(**settings)
    self.assertGreater(number, 0)
    xr.testing.assert_identical(found, anew(**settings))

  def test_step_size_of_other_optimizers(self):
    """It is not traced: they may branch on it."""

    def careful(step_size):
      return optax.adam(step_size) if step_size > 0.1 else optax.sgd(step_size)

    for lr in (0.6, 2.4):
      found, _ = swept(optimizer=careful, lr_times_width=lr)
      optimizer = optax.adam if lr > 1.2 else optax.sgd
      expected, _ = swept(
        optimizer=optimizer, lr_times_width=lr, engine='plain'
      )
      for name in found:
        np.testing.assert_array_equal(found[name], expected[name])

  def test_functions_of_ones_own(self):
    """Written again they are the same; with another global they are not."""
    global factor
    self.addCleanup(globals().__setitem__, 'factor', 1.0)

    def largest():
      return Recorder(
        'largest', of_units=lambda h, h0, a: jnp.max(h), reduce='max'
      )

    for value in (1.0, 0.5):
      factor = value
      settings = dict(gradient_fn=scaled_gradient, engine='plain')
      first, some = swept(**settings, recorders=(largest(),))
      again, none = swept(**settings, recorders=(largest(),))
      self.assertGreater(some, 1)
      self.assertLessEqual(none, 1)  # what checks a recorder
      xr.testing.assert_identical(first, again)
      plain = anew(engine='plain', lr_times_width=10 * value)
      np.testing.assert_array_equal(first.train_loss, plain.train_loss)

  def test_jax_forgets(self):
    first, _ = swept()
    jax.clear_caches()
    again, number = swept()
    self.assertGreater(number, 0)
    xr.testing.assert_identical(first, again)

  @parameterized.parameters('plain', 'blocked', 'gram')
  def test_ahead(self, engine):
    """What other threads compile is what is called: each program once."""
    num_steps, settings = 40, dict(eval_every=1, eval_growth=1.0)
    swept(engine=engine, num_steps=num_steps, **settings)
    once = {'jit(start)': 1, 'jit(finish)': 1}
    self.assertEqual(compiled & collections.Counter(once), once)
    self.assertEqual(compiled['jit(draw)'], 2)  # of data, and of w(0)
    self.assertLessEqual(compiled['jit(finish)'], 1)


class KeptTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    caching.forget()

  def test_no_data_are_kept(self):
    """A function's arrays go when it goes."""

    class Array(np.ndarray):
      """That can be referred to weakly."""

    def of(array):
      def extra(params, begun, split):
        del begun, split
        return {'own': params.w @ jnp.asarray(np.asarray(array))}

      return extra

    array = np.ones(6, np.float32).view(Array)
    gone = weakref.ref(array)
    swept(extra=of(array))
    del array
    gc.collect()
    self.assertIsNone(gone())

  def test_bounded(self):
    """The oldest of many is made again."""
    caching.forget()
    for number in range(100):
      caching.remembered(abs, number)
    kept = caching._kept.cache_info()
    self.assertEqual((kept.misses, kept.currsize), (100, 32))
    caching.remembered(abs, 99)
    self.assertEqual(caching._kept.cache_info().hits, 1)
    caching.remembered(abs, 0)
    self.assertEqual(caching._kept.cache_info().misses, 101)

  def test_another_generator(self):
    """Which keys are of is no part of JAX's own key for compiled programs."""
    settings = dict(engine='plain')
    before, _ = swept(**settings)
    with jax.default_prng_impl('rbg'):
      found, number = swept(**settings)
      self.assertGreater(number, 0)
      self.assertGreater(abs(found.test_loss - before.test_loss).max(), 1e-3)
      xr.testing.assert_identical(found, anew(**settings))

  def test_numbers_of_other_types(self):
    """1, 1.0 and True are not the same setting."""
    found = [caching.remembered(repr, value) for value in (1, 1.0, True)]
    self.assertEqual(found, ['1', '1.0', 'True'])
