"""A metric is one entry of a table: all engines measure it, results have it."""

from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
from absl.testing import parameterized

from ossgd.data import mixtures
from ossgd.engines import measuring
from ossgd.engines.measuring import Metric
from ossgd.running import sweeps

NUM_EVALUATED = 20  # of the training examples
SURE = Metric(
  'sure', 'logits', lambda f, y: jnp.mean(jax.nn.softmax(f).max(axis=1))
)
FIRST = Metric(
  'first',
  'logits',
  lambda f, y: jnp.sum(f.argmax(axis=1) == 0, dtype=jnp.int32),
  'train',
  counted=True,
)
ACTIVE = Metric('active', 'pattern', lambda p, p0: p)
CLOSED = Metric('closed', 'pattern', lambda p, p0: p0 & ~p)
# What Lemma A.1 bounds.
FURTHEST = Metric(
  'furthest',
  'weights',
  lambda w, w0: jnp.max(jnp.linalg.norm(w - w0, axis=1)),
)


def sweep(*more, engine):
  """One run, measured more closely; a width that no tile divides."""

  def extra(params, begun, split):
    names = 'w', 'a', 'w0', 'x', 'x_test'
    values = *params, begun.w, split.train.x, split.test.x
    return dict(zip(names, values, strict=True))

  with mock.patch.object(measuring, 'METRICS', measuring.METRICS + more):
    ds = sweeps.sweep(
      mixtures.gaussian(num_classes=3, num_components=2, dim=8),
      widths=(521,),
      num_seeds=1,
      num_steps=6,
      batch_size=5,
      num_train=30,
      num_test=16,
      num_train_eval=NUM_EVALUATED,
      engine=engine,
      extra=extra,
    )
  return ds.isel(width=0, seed=0, step=-1)


class MetricTest(parameterized.TestCase):
  @parameterized.parameters('plain', 'blocked', 'gram')
  def test_an_entry_is_a_variable(self, engine):
    """NumPy finds the same in the final weights; all others are as before."""
    last = sweep(SURE, FIRST, ACTIVE, CLOSED, engine=engine)
    self.assertEqual(last.engine, engine)
    w, a, w0, x, x_test = (
      np.asarray(last[name], np.float64)
      for name in ('w', 'a', 'w0', 'x', 'x_test')
    )
    f, f_train = (np.maximum(v @ w.T, 0) @ a.T for v in (x_test, x))
    o = np.exp(f) / np.exp(f).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(last.sure, o.max(1).mean(), rtol=1e-5)
    first = np.mean(f_train[:NUM_EVALUATED].argmax(1) == 0)
    self.assertEqual(last['first'], first)
    p, p0 = x_test @ w.T >= 0, x_test @ w0.T >= 0
    closed = np.mean(p0 & ~p)
    self.assertGreater(closed, 0)
    np.testing.assert_allclose(last.active, p.mean(), rtol=1e-6)
    np.testing.assert_allclose(last.closed, closed, rtol=1e-6)
    before = sweep(engine=engine)
    for name in before:
      np.testing.assert_allclose(last[name], before[name], rtol=1e-6)

  def test_of_weights(self):
    """The definition alone has them at every recorded step."""
    last = sweep(FURTHEST, engine='auto')
    self.assertEqual(last.engine, 'plain')
    moved = np.asarray(last.w - last.w0.values, np.float64)
    furthest = np.linalg.norm(moved, axis=1).max()
    np.testing.assert_allclose(last.furthest, furthest, rtol=1e-5)
    with self.assertRaisesRegex(ValueError, 'without metrics of weights'):
      sweep(FURTHEST, engine='gram')
