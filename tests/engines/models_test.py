"""Every engine on other models, beside descent by jax.grad in float64."""

import functools
import logging
import pathlib
import tempfile

import jax
import jax.numpy as jnp
import numpy as np
import optax
from absl.testing import parameterized

import ossgd
from ossgd.data import mixtures
from ossgd.engines import sgd
from ossgd.engines.setup import Setup
from ossgd.paper import model as models
from ossgd.paper.types import Params
from ossgd.running import labels, sweeps, watching
from ossgd.storing import checkpoints
from tests import oracles
from tests.paper import model_test

# Two tiles of 521 units, which leave padding; blocks of four steps.
SIZES = dict(
  num_train=40,
  num_test=25,
  num_steps=7,
  batch_size=40,
  eval_every=3,
  eval_growth=0.0,
  order='full_batch',
)
SPEC = mixtures.gaussian(num_classes=2, num_components=2, dim=9)
_BEGUN = ('w0', 'a0', 'x', 'y', 'x_test', 'y_test')


def everything(params, begun, split):
  values = begun.w, begun.a, *split.train, *split.test
  begun = dict(zip(_BEGUN, values, strict=True))
  return begun | {'w': params.w, 'a': params.a}


def sweep(model, engine='plain', width=24, **settings):
  settings = SIZES | {'lr_times_width': 4.0, 'num_seeds': 1} | settings
  return sweeps.sweep(
    SPEC,
    widths=(width,),
    model=model,
    engine=engine,
    extra=everything,
    **settings,
  )


@functools.partial(jax.jit, static_argnums=(0, 1))
def descend(names, num_steps, params, step_sizes, x, y):
  """Weights after every step of full-batch descent, by jax.grad."""
  slope = jax.grad(functools.partial(model_test.objective, *names))

  def step(params, _):
    moved = [
      value - size * change
      for value, size, change in zip(
        params, step_sizes, slope(params, x, y), strict=True
      )
    ]
    return Params(*moved), Params(*moved)

  path = jax.lax.scan(step, params, None, length=num_steps)[1]
  return jax.tree.map(lambda v, p: jnp.concatenate([v[None], p]), params, path)


def expected(found, names, width, lr=4.0, output_lr=0.0):
  """What should be recorded, from what a run says that it began with."""
  with jax.enable_x64(True):
    w, a, x, y, x_test, y_test = (
      jnp.asarray(found[n].values, jnp.int64 if 'y' in n else jnp.float64)
      for n in _BEGUN
    )
    sizes = lr / width, output_lr / width
    path = descend(names, SIZES['num_steps'], Params(w, a), sizes, x, y)
    steps = [Params(path.w[t], path.a[t]) for t in found.step.values]
    of = functools.partial(model_test.objective, *names)
    phi = model_test.SMOOTH[names[0]]
    f = [phi(x_test @ p.w.T) @ p.a.T for p in steps]
    signs = 2 * np.eye(2)[np.asarray(y_test)] - 1
    ahead = [np.sum(signs * np.asarray(v), axis=1) for v in f]
    distances = [jnp.linalg.norm(p.w - w) / jnp.linalg.norm(w) for p in steps]
    flips = [((x_test @ p.w.T >= 0) != (x_test @ w.T >= 0)) for p in steps]
    return {
      'train_loss': np.array([of(p, x, y) for p in steps]),
      'test_loss': np.array([of(p, x_test, y_test) for p in steps]),
      'relative_distance': np.array(distances),
      # A tie, as that of f = 0, is an error.
      'test_accuracy': np.array([np.mean(v > 1e-9) for v in ahead]),
      'pattern_difference': np.array([jnp.mean(v) for v in flips]),
      'w': np.asarray(path.w[-1] - w),
      'a': np.asarray(path.a[-1]),
    }


def check(test, found, names, width, **step_sizes):
  """Of a run all that is recorded, and its last weights; both are returned."""
  found = found.isel(width=0, seed=0)
  values = expected(found, names, width, **step_sizes)
  moved = np.asarray(found.w.values, np.float64) - found.w0.values
  # w has float32's resolution, beside which an update may be small.
  rounding = 2e-7 * np.linalg.norm(found.w.values)
  gap = np.linalg.norm(moved - values['w'])
  test.assertLess(gap, 1e-4 * np.linalg.norm(values['w']) + rounding)
  test.assertLess(oracles.relative_error(found.a.values, values['a']), 1e-5)
  for name in ('train_loss', 'test_loss', 'test_accuracy'):
    # Where f is 0 but for rounding, rounding decides the accuracy.
    since = int(
      name == 'test_accuracy' and found.attrs['start'] == 'antisymmetric'
    )
    np.testing.assert_allclose(
      found[name][since:],
      values[name][since:],
      rtol=1e-4,
      atol=1e-6,
      err_msg=name,
    )
  np.testing.assert_allclose(
    found.relative_distance, values['relative_distance'], rtol=1e-3, atol=1e-6
  )
  return found, values


class EnginesTest(parameterized.TestCase):
  @parameterized.parameters(
    ('plain', 24, ('tanh', 'squared'), 'antisymmetric'),
    ('blocked', 13, ('gelu', 'logistic'), 'iid'),
    ('gram', 530, ('tanh', 'squared'), 'antisymmetric'),  # two tiles
    ('gram', 521, ('leaky_relu', 'hinge'), 'iid'),  # and padding
  )
  def test_against_autodiff(self, engine, width, names, start):
    """All that is recorded, w(T), and patterns where there are any."""
    model = ossgd.Model(*names, output_law='rademacher', start=start)
    found, values = check(self, sweep(model, engine, width), names, width)
    self.assertEqual('pattern_difference' in found, names[0] == 'leaky_relu')
    if names[0] == 'leaky_relu':
      np.testing.assert_allclose(
        found.pattern_difference, values['pattern_difference'], rtol=1e-5
      )
    if start == 'antisymmetric':
      np.testing.assert_allclose(found.test_loss[0], 0.5, rtol=1e-6)

  def test_functions_of_ones_own(self):
    """A pair of each is what its name is, with every engine's program."""
    phi = jnp.sin, jnp.cos
    loss = (
      lambda f, y: jnp.sum(f, axis=1) * y,
      lambda f, y: (0 * f + 1) * y[:, None],
    )
    model = ossgd.Model(phi, loss, jax.random.uniform)
    plain, fast = (
      sweep(model, engine, batch_size=20, order='epochs', num_steps=4)
      for engine in ('plain', 'blocked')
    )
    for name in ('train_loss', 'relative_distance', 'w'):
      np.testing.assert_allclose(fast[name], plain[name], rtol=1e-4)

  def test_linearised(self):
    """g of tanh is f linearised at w(0): quadratic loss, closed form."""
    model = ossgd.Model('tanh', 'squared')
    ds = sweep(model, gradient_fn=sgd.pseudo_network_gradient)
    self.assertEqual(ds.attrs['network'], 'g')
    one = ds.isel(width=0, seed=0)
    w0, a, x, y, w = (
      np.asarray(one[n].values, np.float64) for n in ('w0', 'a0', 'x', 'y', 'w')
    )
    slope = 1 / np.cosh(x @ w0.T) ** 2
    target, path = np.eye(2)[y.astype(int)], w0.copy()
    for _ in range(SIZES['num_steps']):
      g = (np.tanh(x @ w0.T) + slope * (x @ (path - w0).T)) @ a.T
      gradient = (slope * ((g - target) @ a)).T @ x / len(x)
      path = path - 4.0 / 24 * gradient
    self.assertLess(oracles.relative_error(w - w0, path - w0), 1e-4)


class BothLayersTest(parameterized.TestCase):
  names = ('softplus', 'cross_entropy')
  model = ossgd.Model(*names, output_law='rademacher', layers='both')

  @parameterized.parameters(
    ('plain', 24, None), ('blocked', 24, 12.0), ('gram', 521, 12.0)
  )
  def test_against_autodiff(self, engine, width, output_lr):
    """Each layer by its own step size; a(T) is what `extra` is given."""
    ds = sweep(self.model, engine, width, output_lr_times_width=output_lr)
    check(self, ds, self.names, width, output_lr=output_lr or 4.0)
    self.assertEqual(ds.attrs['output_lr_times_width'], output_lr or 4.0)
    self.assertEqual(ds.attrs['layers'], 'both')

  def test_any_optimizer(self):
    """Each layer has a state of the optimizer's own."""
    ds = sweep(self.model, optimizer=optax.adam, lr_times_width=0.3)
    one = ds.isel(width=0, seed=0)
    for name in ('w', 'a'):  # Adam's first step has the step size's length
      moved = np.abs(one[name].values - one[f'{name}0'].values)
      self.assertBetween(moved.max(), 0.3 / 24, 7.5 * 0.3 / 24)

  def test_stopped_and_taken_up(self):
    """The state on disk has a(t): bit for bit what was never stopped."""
    settings = dict(eval_every=1, num_steps=2)
    whole = sweep(self.model, **settings)
    folder = pathlib.Path(self.enter_context(tempfile.TemporaryDirectory()))
    stops = 0
    while True:
      store = checkpoints.Store(folder, every=60.0)

      def stop(fraction, label, store=store):
        store.stopping = 'SIGINT'

      watch = watching.Watch(stop, store)
      try:
        again = sweep(self.model, progress=watch, **settings)
        break
      except watching.Stopped:
        stops += 1
        self.assertLess(stops, 9)
    self.assertGreater(stops, 0)
    for name in whole:
      np.testing.assert_array_equal(again[name], whole[name])

  @parameterized.parameters(
    (dict(engine='gram', optimizer=optax.adam), 'engine gram is for optax.sg'),
    (dict(gradient_fn=sgd.pseudo_gradient), 'layers both is for the true'),
    (dict(output_lr_times_width=-1.0), 'output_lr_times_width is -1.0; exp'),
  )
  def test_refused(self, settings, message):
    with self.assertRaisesRegex(ValueError, message):
      sweep(self.model, **settings)


class SetupTest(parameterized.TestCase):
  def test_a_step_size_without_its_layer(self):
    with self.assertRaisesRegex(ValueError, 'expected layers both'):
      sweep(ossgd.Model(), output_lr_times_width=1.0)

  @parameterized.parameters(
    (ossgd.Model(), 0),
    (ossgd.Model('tanh'), 0),
    (ossgd.Model('softplus', start='antisymmetric'), 0),
    (ossgd.Model('softplus'), r'outputs are about 4\d.* \(relu: 0.7'),
    (ossgd.Model('quadratic'), 'slopes are about 0.03.* eta m = 10 moves'),
  )
  def test_remarks(self, model, message):
    """With the number, for the width; none on what is as the paper's."""
    found = models.remarks(model, width=4000, scale=1.0, lr_times_width=10.0)
    if not message:
      self.assertEmpty(found)
      return
    self.assertLen(found, 1)
    self.assertRegex(found[0], message)

  def test_said_before_training(self):
    """Also of a call from Python: in the log."""
    with (
      self.assertLogs('ossgd', logging.WARNING) as log,
      self.assertRaisesRegex(ValueError, 'target'),
    ):
      sweep(ossgd.Model('softplus'), width=200, target=2.0)
    self.assertIn('outputs are about', log.output[0])

  def test_attributes(self):
    """What was trained can be read from the results."""
    told = labels.settings(Setup(24, 9, 2, 40, 25), SPEC)
    self.assertEqual(told['activation'], 'relu')
    self.assertEqual(told['loss'], 'cross_entropy')
    self.assertNotIn('output_lr_times_width', told)
    self.assertNotIn('model', told)
