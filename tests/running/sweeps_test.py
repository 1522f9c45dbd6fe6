"""Sweeps: labels, seeds against each other, bad settings."""

import functools
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import optax
from absl.testing import parameterized

from ossgd.data import mixtures
from ossgd.engines import measuring, sgd
from ossgd.machine import lanes
from ossgd.paper.model import Model
from ossgd.paper.types import Dataset, Split
from ossgd.running import sweeps
from tests import oracles

SPEC = mixtures.gaussian(num_classes=3, num_components=2, dim=12)
SMALL = dict(
  widths=(16,),
  num_seeds=2,
  num_steps=9,
  batch_size=5,
  eval_every=2,
  eval_growth=0.6,
  num_train=31,
  num_test=17,
  target=0.5,
)


def split(seed=0):
  _, _, x, y = oracles.problem(seed, k=3, m=1, d=6, n=40)
  y[:3] = 0, 1, 2
  train, test = Dataset(x[:25], y[:25]), Dataset(x[25:], y[25:])
  return jax.tree.map(jnp.asarray, Split(train, test))


def twice(key, split):
  del key
  train = jax.tree.map(lambda v: jnp.concatenate([v, v]), split.train)
  return split._replace(train=train)


def halved(key, split):
  del key
  test = jax.tree.map(lambda v: v[:8], split.test)
  return split._replace(test=test)


def mean_loss(logits, y):
  """Cross entropy in NumPy."""
  o = np.array([oracles.softmax(row) for row in logits])
  return -np.mean(np.log(o[np.arange(len(y)), y]))


@functools.cache
def sweep():
  """Two widths, three seeds: for what only looks at results."""
  return sweeps.sweep(SPEC, **(SMALL | dict(widths=(16, 24), num_seeds=3)))


class SweepTest(parameterized.TestCase):
  def test_labels(self):
    """Every axis carries its real values; step 0 is the initialisation."""
    ds = sweep()
    self.assertEqual(ds.sizes, dict(width=2, seed=3, step=6, rank=12))
    np.testing.assert_array_equal(ds.step, [0, 2, 4, 6, 8, 9])
    np.testing.assert_array_equal(ds.width, [16, 24])
    np.testing.assert_array_equal(ds.seed, [0, 1, 2])
    first, last = ds.isel(step=0), ds.isel(step=-1)
    np.testing.assert_array_equal(first.pattern_difference, 0)
    np.testing.assert_array_equal(first.relative_distance, 0)
    self.assertGreater(last.pattern_difference.min(), 0)
    self.assertGreater(last.relative_distance.min(), 0)
    self.assertTrue((last.train_loss < first.train_loss).all())
    self.assertEqual(ds.target, 0.5)

  def test_derived(self):
    """Steps to the target, and the distance there, belong together."""
    ds = sweep()
    for values in ds.stack(run=('width', 'seed')).transpose('run', ...).run:
      run = ds.sel(width=values.width, seed=values.seed)
      reached = np.flatnonzero(run.test_accuracy >= 0.5)
      self.assertNotEmpty(reached)
      self.assertEqual(run.steps_to_accuracy, run.step[reached[0]])
      self.assertEqual(
        run.distance_at_accuracy, run.relative_distance[reached[0]]
      )

  def test_same_seed_same_numbers(self):
    """A second sweep repeats the first, from any seed on; seeds differ."""
    ds = sweep()
    again = sweeps.sweep(SPEC, **(SMALL | dict(seed=1)))
    self.assertTrue(ds.sel(width=[16], seed=[1, 2]).identical(again))
    losses = ds.train_loss.isel(step=0).values
    self.assertLen(np.unique(losses), losses.size)

  @parameterized.parameters((2, 'spec'), (3, 'spec'), (2, 'split'))
  def test_vmapped_seeds(self, seeds_at_once, data):
    """Side by side or one by one, to float32 rounding; 3 = 2 + 1 too."""
    data = SPEC if data == 'spec' else split()
    settings = SMALL | dict(num_seeds=3)
    one_by_one = sweeps.sweep(data, **settings)
    together = sweeps.sweep(data, **settings, seeds_at_once=seeds_at_once)
    for name in ('train_loss', 'test_loss', 'relative_distance'):
      np.testing.assert_allclose(together[name], one_by_one[name], rtol=1e-4)
    for name in ('singular_values_update', 'singular_values_weights'):
      np.testing.assert_allclose(together[name], one_by_one[name], atol=1e-4)

  def test_data_kinds(self):
    """A Split is used as it is, arrays after scaling to unit norm."""
    data = split()
    settings = SMALL | dict(num_seeds=1)
    ds = sweeps.sweep(data, **settings)
    arrays = (3 * data.train.x, data.train.y, 3 * data.test.x, data.test.y)
    same = sweeps.sweep(tuple(map(np.asarray, arrays)), **settings)
    np.testing.assert_allclose(same.test_loss, ds.test_loss, rtol=1e-5)
    larger = data._replace(train=Dataset(3 * data.train.x, data.train.y))
    other = sweeps.sweep(larger, **settings)
    self.assertGreater(abs(other.train_loss - ds.train_loss).max(), 1e-2)

  @parameterized.product(data=('spec', 'split'), seeds_at_once=(1, 2))
  def test_transform_and_extra(self, data, seeds_at_once):
    """Each seed's data are changed under a key of its own; extra sees them."""

    def scramble(key, split):
      y = jax.random.randint(key, split.train.y.shape, 0, 3, jnp.int32)
      return split._replace(train=Dataset(split.train.x, y))

    def extra(params, initial, split):
      return {'labels': split.train.y, 'moved': jnp.sum(params.w - initial.w)}

    ds = sweeps.sweep(
      SPEC if data == 'spec' else split(),
      **SMALL,
      seeds_at_once=seeds_at_once,
      transform=scramble,
      extra=extra,
    )
    self.assertEqual(ds.labels.dims, ('width', 'seed', 'labels_0'))
    for seed in (0, 1):
      key = measuring.seed_keys(jnp.asarray(seed)).transform
      n = ds.sizes['labels_0']
      expected = jax.random.randint(key, (n,), 0, 3, jnp.int32)
      np.testing.assert_array_equal(
        ds.labels.sel(width=16, seed=seed), expected
      )
    self.assertTrue((ds.moved != 0).all())

  def test_short_spectra_end_in_nan(self):
    """min(m, d) values each, NaN beyond."""
    ds = sweeps.sweep(SPEC, **(SMALL | dict(widths=(5, 16), num_seeds=1)))
    known = np.isfinite(ds.singular_values_update.values).sum(-1)
    np.testing.assert_array_equal(known, [[5], [12]])

  def test_settings_reach_the_run(self):
    """Step size, initial scale, optimizer, order and gradient all matter."""
    settings = SMALL | dict(num_seeds=1)
    ds = sweeps.sweep(SPEC, **settings)
    momentum = functools.partial(optax.sgd, momentum=0.9)
    told = set()
    for change in (
      dict(lr_times_width=5.0),
      dict(init_scale=2.0),
      dict(optimizer=momentum),
      dict(order='full_batch'),
      dict(gradient_fn=sgd.pseudo_gradient),
    ):
      other = sweeps.sweep(SPEC, **settings, **change)
      self.assertGreater(
        abs(other.train_loss - ds.train_loss).max(), 1e-6, change
      )
      told.add(other.attrs['optimizer'])
    self.assertEqual(told, {'sgd', 'sgd(momentum=0.9)'})

  @parameterized.parameters(1, 2)
  def test_what_is_trained_is_measured(self, seeds_at_once):
    """g, a linear model: float64 descent on the features of w(0), by hand.

    Its softmax is not f's, whose loss is another one after some steps.
    """
    data, width, step_size = split(), 40, 20.0 / 40
    settings = dict(
      widths=(width,), num_seeds=2, num_steps=6, order='full_batch'
    )
    settings |= dict(lr_times_width=20.0, num_train_eval=11, eval_growth=0)
    ds = sweeps.sweep(
      data,
      **settings,
      gradient_fn=sgd.pseudo_network_gradient,
      seeds_at_once=seeds_at_once,
    ).sel(width=width, seed=1)
    self.assertEqual(ds.attrs['network'], 'g')
    w0, a = measuring.draw_params(
      measuring.seed_keys(jnp.asarray(1)).init,
      width=width,
      dim=6,
      num_classes=3,
      scale=1.0,
    )
    w0, a = np.asarray(w0, np.float64), np.asarray(a, np.float64)

    def features(x):  # (n, k, m d), with logits = features @ w
      active = (x @ w0.T >= 0)[:, None, :, None]
      every = active * a[None, :, :, None] * x[:, None, None, :]
      return every.reshape(*every.shape[:2], -1)

    (x, y), (test_x, test_y) = jax.tree.map(np.asarray, data[:2])
    phi, test_phi, w = features(x), features(test_x), w0.ravel()
    for step in range(7):
      for name, some, labels in (
        ('train', phi[:11], y[:11]),
        ('test', test_phi, test_y),
      ):
        g, here = some @ w, ds.sel(step=step)
        loss = mean_loss(g, labels)
        np.testing.assert_allclose(here[f'{name}_loss'], loss, rtol=1e-4)
        accuracy = np.mean(g.argmax(axis=1) == labels)
        self.assertEqual(here[f'{name}_accuracy'], accuracy)
      slopes = np.array([oracles.softmax(row) for row in phi @ w])
      slopes[np.arange(len(y)), y] -= 1
      last = w
      w = w - step_size * np.einsum('nk,nkp->p', slopes, phi) / len(y)
    f = np.maximum(test_x @ last.reshape(w0.shape).T, 0) @ a.T
    self.assertGreater(np.abs(f - test_phi @ last).max(), 0.1)
    other = sweeps.sweep(data, **settings, gradient_fn=sgd.pseudo_gradient)
    self.assertEqual(other.attrs['network'], 'f')

  def test_step_size_falls_with_width(self):
    """eta = lr_times_width / m is what the optimizer is given."""
    given = []

    def optimizer(step_size):
      given.append(step_size)
      return optax.sgd(step_size)

    settings = SMALL | dict(widths=(16, 24), num_seeds=1, num_steps=1)
    sweeps.sweep(SPEC, **settings, lr_times_width=6.0, optimizer=optimizer)
    self.assertEqual(list(dict.fromkeys(given)), [6 / 16, 6 / 24])

  def test_one_compilation_per_width(self):
    """Neither seeds nor recorded steps trace the gradient again."""

    def traces(**settings):
      gradient_fn = mock.Mock(wraps=sgd.true_gradient)
      sweeps.sweep(SPEC, **(SMALL | settings), gradient_fn=gradient_fn)
      return gradient_fn.call_count

    one = traces(num_seeds=1, num_steps=1)
    self.assertGreater(one, 0)
    self.assertEqual(traces(num_seeds=4, num_steps=9), one)
    self.assertEqual(traces(widths=(16, 24)), 2 * one)

  def test_progress(self):
    """Fractions rise to one, in the share of the work of each width."""
    told = []
    # Of two threads one may be at the next width already.
    with mock.patch.object(lanes, 'number', return_value=1):
      sweeps.sweep(
        SPEC,
        **(SMALL | dict(widths=(16, 24))),
        progress=lambda *call: told.append(call),
      )
    fractions = [fraction for fraction, _ in told]
    self.assertEqual(fractions, sorted(fractions))
    self.assertAlmostEqual(fractions[-1], 1.0)
    narrow = max(f for f, label in told if label.startswith('m=16 '))
    self.assertAlmostEqual(narrow, 16 / 40)

  @parameterized.parameters(
    (dict(widths=()), 'widths'),
    (dict(widths=64), 'widths is 64; expected several whole numbers'),
    (dict(widths=np.ones((2, 2), int)), 'expected several whole numbers'),
    (dict(num_seeds=[0, 1]), r'num_seeds is \[0, 1\]; expected a whole number'),
    (dict(lr_times_width='0.1'), "lr_times_width is '0.1'; expected"),
    (dict(num_steps=None), 'num_steps is None; expected a positive number'),
    (dict(extra=lambda *_: {'test_loss': 1}), 'extra returned test_loss, but'),
    (
      dict(extra=lambda p, *_: {'last': p.w[:, 0]}, widths=(8, 16)),
      r'extra returned last \[8\] at width 8, but not at every other',
    ),
    (dict(model='tanh'), "model is 'tanh'; expected an ossgd.Model"),
    (dict(model=Model), 'expected an ossgd.Model, such as'),
    (dict(gradient_fn='pseudo'), "gradient_fn is 'pseudo'; expected a fun"),
    (dict(widths=(8, 8)), 'all different'),
    (dict(widths=(8, 0)), 'width is 0'),
    (dict(num_seeds=0), 'num_seeds is 0'),
    (dict(num_steps=0), 'num_steps is 0'),
    (dict(eval_every=-1), 'eval_every is -1'),
    (dict(eval_every=0.5), 'eval_every is 0.5; expected a whole number'),
    (dict(num_steps=1e4), 'num_steps is 10000.0; expected a whole number'),
    (dict(batch_size=4.0), 'batch_size is 4.0; expected a whole number'),
    (dict(num_train_eval=5.0), 'num_train_eval is 5.0; expected a whole'),
    (dict(widths=(8.5,)), r'widths are \(8.5,\); expected whole numbers'),
    (dict(num_seeds=2.0), 'num_seeds is 2.0; expected a whole number'),
    (dict(transform=twice), r'transform makes training inputs \(62, 12\)'),
    (dict(transform=halved), r'transform makes test inputs .*labels'),
    (dict(eval_growth=-0.1), 'eval_growth is -0.1'),
    (dict(lr_times_width=float('nan')), 'lr_times_width is nan'),
    (dict(lr_times_width=float('inf')), 'lr_times_width is inf'),
    (dict(init_scale=0.0), 'init_scale is 0.0'),
    (dict(num_train=0), 'num_train is 0'),
    (dict(target=1.5), 'target is 1.5'),
    (dict(batch_size=32), 'batch_size is 32'),
    (dict(order='one_pass', num_steps=7), 'at most 6'),
    (dict(num_train_eval=0), 'num_train_eval is 0'),
    (dict(seeds_at_once=-1), 'seeds_at_once is -1'),
    (dict(seed=-1), 'seed is -1 .*; expected seeds from 0 to 2147483647'),
    (dict(seed=2**31 - 1, num_seeds=2), 'seed is 2147483647 and num_seeds 2'),
    (dict(seed=2**32), 'seed is 4294967296'),
    (dict(seed=0.5), 'seed is 0.5; expected an integer'),
    (dict(num_seeds=10**9), 'results of 1000000000 seeds .* GB are free'),
  )
  def test_refused(self, change, message):
    """A wrong setting is named before anything is trained."""
    progress = mock.Mock()
    with self.assertRaisesRegex(ValueError, message):
      sweeps.sweep(SPEC, **(SMALL | change), progress=progress)
    progress.assert_not_called()

  @parameterized.parameters(np.array, jnp.array, list)
  def test_widths_of_any_kind(self, kind):
    found = sweeps.sweep(SPEC, **SMALL | dict(widths=kind([16])))
    np.testing.assert_array_equal(found.width, [16])

  def test_counts_of_what_diverged(self):
    """A number of units says nothing where there are no weights."""
    settings = SMALL | dict(lr_times_width=1e30, num_seeds=1)
    count = dict(extra=lambda end, *_: {'count': (end.w > 0).sum()})
    found = sweeps.sweep(SPEC, **settings, **count)
    self.assertTrue(np.isfinite(found.diverged_at).all())
    self.assertTrue(np.isnan(found['count']).all())

  def test_pattern_is_exactly_zero_at_the_start(self):
    """Two programs compute it: a difference in rounding would show."""
    spec = mixtures.gaussian(num_classes=3, dim=70)
    ds = sweeps.sweep(
      spec,
      **(SMALL | dict(widths=(1, 33, 513), num_steps=1, num_test=301)),
    )
    np.testing.assert_array_equal(ds.pattern_difference.isel(step=0), 0)
