"""optax's optimizers in the plain engine: right, refused, seeded and judged."""

import functools
import pathlib
import tempfile
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import optax
from absl.testing import parameterized
from jax.sharding import PartitionSpec

from ossgd.engines import cost, kinds, meshes, optimizers, sgd
from ossgd.paper.model import Model
from ossgd.paper.types import Params
from ossgd.running import sweeps, watching
from ossgd.storing import checkpoints
from tests import optimizers as by_hand


def noisy(step_size):
  return optax.noisy_sgd(step_size, key=0)


def odd_state(step_size):
  """Its state's type is not what it was."""
  return optax.GradientTransformation(
    lambda params: jnp.zeros((), jnp.int32),
    lambda updates, state, params=None: (updates, state + 0.5),
  )


def swept(optimizer, **settings):
  x = jax.tree.map(np.asarray, by_hand.data())
  usual = dict(widths=(12,), num_seeds=2, num_steps=4, batch_size=8)
  return sweeps.sweep(x, optimizer=optimizer, **usual | settings)


class AsByHandTest(parameterized.TestCase):
  @parameterized.parameters(
    optax.adam,
    optax.lbfgs,
    by_hand.BOUNDED['polyak_sgd'],
    by_hand.BOUNDED['contrib.momo_adam'],
    optax.contrib.schedule_free_sgd,
    noisy,
    by_hand.sophia,
    by_hand.WRAPPED['contrib.sam(sgd)'],
    by_hand.on_plateau,
  )
  def test_f(self, optimizer):
    """The weights of a loop of optax and `jax.grad`, alone and side by side."""
    self.assertLess(max(by_hand.differences(optimizer)), 1e-5)

  @parameterized.product(of_g=(False, True))
  def test_batches(self, of_g):
    """The loss is that of the batch, of g where g is trained."""
    momo = by_hand.BOUNDED['contrib.momo']
    found = by_hand.differences(momo, 'epochs', of_g=of_g)
    self.assertLess(max(found), 1e-5)
    f, g = (
      by_hand.by_hand(momo, order='epochs', of_g=of_g) for of_g in (False, True)
    )
    self.assertGreater(np.linalg.norm(f - g), 1e-3)

  @parameterized.parameters(noisy, optax.polyak_sgd)
  def test_x64(self, optimizer):
    """In 64-bit mode the same, in float32."""
    with jax.enable_x64(True):
      setup = by_hand.setup(optimizer)
      setup.check()
      w = by_hand.trained(setup, 1)
    self.assertEqual(w.dtype, np.float32)
    expected = by_hand.trained(setup, 1)
    np.testing.assert_allclose(w, expected, atol=1e-6)


class LossTest(parameterized.TestCase):
  def test_only_for_those_that_ask(self):
    """Most optimizers take any argument: none is computed for them."""
    w = jnp.ones((3, 2))

    def asked(optimizer):
      return optimizers.asked_for(optimizer, w)

    for optimizer in (optax.sgd, optax.adamw, noisy):
      self.assertEqual(asked(optimizer(0.1)), ())
    everything = ('value', 'grad', 'value_fn')
    for optimizer in (optax.lbfgs, optax.contrib.momo, by_hand.on_plateau):
      self.assertEqual(asked(optimizer(0.1)), everything)

    def told(updates, state, params=None, *, value=None):
      return updates if value is None else updates * value, state

    maybe = optax.GradientTransformationExtraArgs(lambda w: (), told)
    self.assertEqual(asked(maybe), ('value',))

  def test_sgd_is_not_given_it(self):
    """The default takes no loss: its program has none."""
    text = []
    for loss in (None, lambda w: jnp.sum(jnp.exp(w))):
      update = functools.partial(optimizers.update, optax.sgd(0.1), loss=loss)
      state = optax.sgd(0.1).init(jnp.ones((3, 2)))
      arguments = jnp.ones((3, 2)), state, jnp.ones((3, 2))
      text.append(str(jax.make_jaxpr(update)(*arguments)))
    self.assertEqual(text[0], text[1])


class RefusedTest(parameterized.TestCase):
  @parameterized.parameters(
    (optax.contrib.sophia, 'optimizer sophia cannot be used: obj_fn must be'),
    (optax.sgd(0.1), 'object is not callable; expected a function of the step'),
    (lambda step_size: None, 'optimizer <lambda> cannot be used: .*NoneType'),
    (by_hand.WRAPPED['contrib.dpsgd'], r'dpsgd.* makes an update \(6,\)'),
    (odd_state, r'odd_state .* from int32\[\] to float32\[\]'),
    (optax.contrib.split_real_and_imaginary, 'split_real_and_imaginary'),
  )
  def test_before_the_training(self, optimizer, message):
    """By name, in one line, with what is expected."""
    with (
      mock.patch.object(kinds, 'make') as made,
      self.assertRaisesRegex(ValueError, message) as caught,
    ):
      swept(optimizer)
    made.assert_not_called()
    self.assertNotIn('\n', str(caught.exception))

  @parameterized.parameters(optax.lbfgs, optax.contrib.momo)
  def test_no_loss(self, optimizer):
    """The pseudo-gradient is that of no function; nor is an unknown one."""
    for gradient_fn in (
      sgd.pseudo_gradient,
      functools.partial(sgd.true_gradient),
    ):
      with self.assertRaisesRegex(ValueError, 'gradient_fn is the gradient of'):
        by_hand.setup(optimizer, gradient_fn=gradient_fn).check()
    by_hand.setup(optax.adam, gradient_fn=sgd.pseudo_gradient).check()


class SeededTest(parameterized.TestCase):
  def noise(self, optimizer, at_once, **settings):
    """What is added to a step on zero gradients: (seed, m, d)."""
    setup = by_hand.setup(
      optimizer,
      gradient_fn=lambda params, *_: 0 * params.w,
      order='full_batch',
      **settings,
    )
    w0 = by_hand.begun()[0].w[:, : setup.width]
    return np.asarray(by_hand.trained(setup, at_once) - w0)

  @parameterized.parameters(1, 2)
  def test_seeds_differ(self, at_once):
    """As independent draws do; the optimizer's own key matters too."""
    noise = self.noise(noisy, at_once).reshape(2, -1)
    self.assertLess(abs(np.corrcoef(noise)[0, 1]), 4 / noise.shape[1] ** 0.5)
    other = self.noise(lambda s: optax.noisy_sgd(s, key=1), at_once)
    both = np.corrcoef(noise[0], other[0].ravel())[0, 1]
    self.assertLess(abs(both), 4 / noise.shape[1] ** 0.5)

  def test_alone_as_side_by_side(self):
    np.testing.assert_allclose(
      self.noise(noisy, 1), self.noise(noisy, 2), rtol=1e-6
    )

  def test_widths_differ(self):
    """A narrow network's noise is no part of a wide one's."""
    wide = self.noise(noisy, 2)
    narrow = self.noise(noisy, 2, width=12, lr_times_width=1.2)
    both = np.corrcoef(wide[:, :12].ravel(), narrow.ravel())[0, 1]
    self.assertLess(abs(both), 4 / narrow.size**0.5)

  def test_keys_of_either_type(self):
    """In the new type anywhere; in the old one by the field's name."""
    key = jax.random.key(3)
    state = {
      'rng_key': jax.random.PRNGKey(0),
      'inner': (jax.random.key(0), jax.random.key(0)),
      'count': jnp.zeros(2, jnp.uint32),
      'python': 7,
    }
    first = optimizers.seeded(state, key, 24)
    np.testing.assert_array_equal(first['count'], state['count'])
    self.assertEqual(first['python'], 7)
    data = first['rng_key']
    for inner in first['inner']:  # equal at first, and to each other
      self.assertFalse(np.array_equal(jax.random.key_data(inner), data))
    self.assertNotEqual(*map(str, map(jax.random.key_data, first['inner'])))
    for other in (
      optimizers.seeded(state, jax.random.key(4), 24),
      optimizers.seeded(state, key, 25),
      state,
    ):
      self.assertFalse(np.array_equal(other['rng_key'], data))

  def test_stopped_and_gone_on(self):
    """Random keys are saved with the rest, and give the same numbers."""
    settings = dict(eval_growth=0.0, seeds_at_once=2)
    whole = swept(noisy, **settings)
    with tempfile.TemporaryDirectory() as folder:
      for until in (0.3, 2.0):
        store = checkpoints.Store(pathlib.Path(folder), 0)

        def tell(fraction, label, store=store, until=until):
          if fraction > until:
            store.stopping = 'SIGTERM'

        watch = watching.Watch(tell, store)
        try:
          again = swept(noisy, progress=watch, **settings)
          self.assertGreater(until, 1)  # the first one is stopped
        except watching.Stopped:
          self.assertLess(until, 1)
    for name in ('train_loss', 'relative_distance'):
      np.testing.assert_allclose(again[name], whole[name], rtol=1e-6)


class JudgedTest(parameterized.TestCase):
  def test_schedule_free(self):
    """Measured at x, all along and at the end; nothing has moved at first."""
    optimizer = optax.contrib.schedule_free_sgd
    ds = swept(
      optimizer,
      seeds_at_once=2,
      lr_times_width=20.0,
      extra=lambda params, begun, split: {'w': params.w, 'w0': begun.w},
    )
    self.assertEqual(float(ds.relative_distance.isel(step=0).max()), 0)
    self.assertEqual(float(ds.pattern_difference.isel(step=0).max()), 0)
    for seed in (0, 1):
      one = ds.isel(width=0, seed=seed)
      x, _ = by_hand.data().test
      w, w0 = one.w.values, one.w0.values
      changed = np.mean((x @ w.T >= 0) != (x @ w0.T >= 0))
      self.assertAlmostEqual(float(one.pattern_difference[-1]), changed)
      far = np.linalg.norm(w - w0) / np.linalg.norm(w0)
      self.assertAlmostEqual(float(one.relative_distance[-1]), far, places=6)
      s = np.linalg.svd(w - w0, compute_uv=False)
      np.testing.assert_allclose(one.singular_values_update, s, rtol=1e-4)

  def test_as_optax_says(self):
    """Its own formula, wherever in a state it is."""
    rng = np.random.default_rng(0)
    w, z = (jnp.asarray(rng.normal(size=(4, 3)), jnp.float32) for _ in 'wz')
    one = optax.contrib.schedule_free_sgd(0.1, b1=0.7).init(z)
    expected = optax.contrib.schedule_free_eval_params(one, w)
    for state in (one, ((), {'inner': one})):
      found = optimizers.judged(optimizers.averages(state), w)
      np.testing.assert_allclose(found, expected, 1e-5)
    self.assertEmpty(optimizers.averages(optax.adam(0.1).init(w)))
    self.assertIs(optimizers.judged((), w), w)


class BothLayersTest(parameterized.TestCase):
  def setup_of(self, optimizer):
    return by_hand.setup(
      optimizer, model=Model(layers='both'), order='full_batch'
    )

  def test_loss(self):
    """Of both layers where both are trained: the step is Polyak's, by hand."""
    setup = self.setup_of(by_hand.BOUNDED['polyak_sgd'])
    setup.check()
    engine = kinds.make(setup)
    split = jax.tree.map(jnp.asarray, by_hand.data())
    params, key = by_hand.of_seed(0)
    params = jax.tree.map(jnp.asarray, params)

    def loss(params):
      f = jax.nn.relu(split.train.x @ params.w.T) @ params.a.T
      log_o = jax.nn.log_softmax(f)
      return -jnp.mean(
        jnp.take_along_axis(log_o, split.train.y[:, None], axis=1)
      )

    value, slope = jax.value_and_grad(loss)(params)
    order = jax.random.wrap_key_data(jnp.asarray(key))
    state, begin = engine.start(order, params, split)
    state, _ = engine.stages['train'](state, begin, split, 0, 1)
    found = engine.weights(engine.kept(state), params, split)
    # Each layer is an optimizer of its own.
    for w, w0, g in zip(found, params, slope, strict=True):
      step = jnp.minimum(value / jnp.sum(g**2), 100 * setup.step_size)
      np.testing.assert_allclose(w, w0 - step * g, rtol=1e-4, atol=1e-6)

  def test_line_search_refused(self):
    """Along one layer the loss of both is no function that optax can call."""
    with self.assertRaisesRegex(ValueError, 'optimizer lbfgs cannot be used'):
      self.setup_of(optax.lbfgs).check()

  def test_judged(self):
    """Each layer at its own average."""
    one = optax.contrib.schedule_free_sgd(0.1)
    both = optax.multi_transform({'w': one, 'a': one}, Params('w', 'a'))
    z = Params(jnp.ones((4, 3)), jnp.ones((2, 4)))
    y = jax.tree.map(lambda v: 3 * v, z)
    found = optimizers.judged(optimizers.averages(both.init(z)), y)
    for x, expected in zip(found, y, strict=True):
      np.testing.assert_allclose(x, expected + (1 / 0.9 - 1) * 2, rtol=1e-5)


class SizeTest(parameterized.TestCase):
  def test_memory(self):
    """What an optimizer keeps of each weight is counted, on each device."""
    size = by_hand.WIDTH * 6
    for shards in ((1, 1), (1, 2)):
      needed = [
        cost.memory('plain', by_hand.setup(optimizer), 1, shards)
        for optimizer in (optax.sgd, optax.adam)
      ]
      self.assertAlmostEqual(
        needed[1] - needed[0], 1.1 * 4 * 2 * size / shards[1], delta=6
      )

  def test_layout(self):
    """What L-BFGS remembers lies where the weights do."""
    engine = kinds.make(by_hand.setup(optax.lbfgs))
    state = jax.eval_shape(
      lambda key, w: sgd.initial_state(key, w, 32, engine.method),
      *jax.eval_shape(lambda: (jax.random.key(0), jnp.ones((24, 6)))),
    )
    seeds = jax.tree.map(
      lambda v: jax.ShapeDtypeStruct((3, *v.shape), v.dtype), state
    )
    for states in (state, seeds):
      layout = engine.layout(states)
      self.assertEqual(layout.w, meshes.ROWS)
      shapes = [v.shape for v in jax.tree.leaves(state)]
      of = dict(zip(shapes, jax.tree.leaves(layout), strict=True))
      expected = PartitionSpec(None, meshes.UNIT)
      self.assertEqual(of[10, 24, 6], expected)
      self.assertEqual(of[()], meshes.WHOLE)
