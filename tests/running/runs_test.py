"""One run of a sweep beside NumPy, and its evaluations."""

import functools
from unittest import mock

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
from absl.testing import parameterized

from ossgd.data import mixtures
from ossgd.engines import measuring, sgd
from ossgd.paper import network
from ossgd.paper.types import Dataset, Params
from ossgd.running import sweeps
from tests import oracles
from tests.running.sweeps_test import (
  SMALL,
  SPEC,
  split,
)


class RunTest(parameterized.TestCase):
  def test_record_against_numpy(self):
    """What a run reports of its weights is what NumPy says of them."""
    data = split()
    keys = measuring.seed_keys(jnp.asarray(0))
    params = measuring.draw_params(
      keys.init, width=30, dim=6, num_classes=3, scale=1.0
    )
    begin = measuring.reference(params, data)
    method = sgd.Method(optax.sgd(2.0), 5, 'epochs', sgd.true_gradient)
    state = sgd.initial_state(keys.order, begin.params.w, 25, method)
    with mock.patch.object(measuring, 'EVALUATED_AT_ONCE', 4 * 30):
      state = sgd.advance(
        keys.order, state, params, data.train, 0, 6, method=method
      )
      today = sgd.trained(state, params)
      record = measuring.measure(today, begin, data, num_train_eval=11)
    (w0, a), w = begin.params, state.w
    for name, x, y in (
      ('test', *data.test),
      ('train', data.train.x[:11], data.train.y[:11]),
    ):
      f = oracles.logits(*(np.asarray(v, np.float64) for v in (w, a, x)))
      loss = -np.mean(
        [
          np.log(oracles.softmax(row)[label])
          for row, label in zip(f, y, strict=True)
        ]
      )
      correct = np.sum(f.argmax(1) == y)
      np.testing.assert_allclose(record[f'{name}_loss'], loss, rtol=1e-5)
      self.assertEqual(record[f'{name}_accuracy'], correct)  # a count so far
    x = np.asarray(data.test.x)
    flips = np.mean((x @ w.T >= 0) != (x @ w0.T >= 0))
    self.assertGreater(flips, 0)
    np.testing.assert_allclose(record['pattern_difference'], flips, rtol=1e-6)
    np.testing.assert_allclose(
      record['relative_distance'],
      np.linalg.norm(w - w0) / np.linalg.norm(w0),
      rtol=1e-5,
    )
    last = measuring.finish(today, params, data, extra=None)
    for name, matrix in (('update', w - w0), ('weights', w)):
      value = last[f'singular_values_{name}']
      expected = np.linalg.svd(np.asarray(matrix, np.float64))[1]
      np.testing.assert_allclose(value, expected, atol=1e-5 * expected[0])

  @parameterized.parameters(
    ('plain', 1), ('plain', 2), ('blocked', 1), ('gram', 1), ('gram', 2)
  )
  def test_accuracies_are_counts(self, engine, seeds_at_once):
    """Exactly, so that all right is 1 and the target is met where it is."""
    sizes = {'train': 47, 'test': 41}
    ds = sweeps.sweep(
      mixtures.gaussian(num_classes=2, num_components=1, dim=20),
      **SMALL
      | {f'num_{name}': size for name, size in sizes.items()}
      | dict(num_steps=40, target=1.0, num_train_eval=None),
      engine=engine,
      seeds_at_once=seeds_at_once,
    )
    for name, size in sizes.items():
      values = ds[f'{name}_accuracy'].values
      np.testing.assert_array_equal(values, np.rint(values * size) / size)
      self.assertEqual(values.max(), 1, name)
      told = 'num_train_eval' if name == 'train' else 'num_test'
      self.assertEqual(ds.attrs[told], size)
    first = (ds.test_accuracy == 1).idxmax('step')
    np.testing.assert_array_equal(ds.steps_to_accuracy, first)

  def test_keys(self):
    """Of `jax.random.key`, to the last seed; no two streams are the same."""
    last = 2**31 - 1
    ds = sweeps.sweep(SPEC, **(SMALL | dict(num_seeds=1, seed=last)))
    self.assertEqual(ds.seed.values.tolist(), [last])
    bits = [
      jax.random.key_data(jnp.stack(measuring.seed_keys(jnp.asarray(seed))))
      for seed in (0, 1, last)
    ]
    self.assertLen(np.unique(np.concatenate(bits), axis=0), 3 * 4)
    expected = jax.random.split(jax.random.key(last), 4)
    np.testing.assert_array_equal(bits[-1], jax.random.key_data(expected))

  def test_widths_start_independently(self):
    """A wide network does not repeat the rows of a narrow one."""
    key = measuring.seed_keys(jnp.asarray(0)).init
    narrow, wide = (
      measuring.draw_params(key, width=m, dim=6, num_classes=3, scale=1.0).w
      for m in (16, 32)
    )
    correlation = np.corrcoef(narrow.ravel(), wide[:16].ravel())[0, 1]
    self.assertLess(abs(correlation), 4 / np.sqrt(narrow.size))


class EvaluateTest(parameterized.TestCase):
  def test_batches_do_not_matter(self):
    """Cut into uneven pieces, the same means."""
    w, a, x, y = oracles.problem(0, k=3, m=8, d=5, n=19)
    params = Params(jnp.asarray(w), jnp.asarray(a))
    p0 = network.pattern(-params.w, x)
    evaluate = functools.partial(measuring.evaluate, 'test', params)
    whole = evaluate(Dataset(x, y), p0)
    with mock.patch.object(measuring, 'EVALUATED_AT_ONCE', 4 * 8):
      pieces = evaluate(Dataset(x, y), p0)
    chex.assert_trees_all_close(pieces, whole, rtol=1e-6)
    self.assertEqual(whole['pattern_difference'], 1.0)
