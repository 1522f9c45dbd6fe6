"""Recorders of one's own: all engines measure them, results have them."""

import functools
import tempfile

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from absl.testing import parameterized

import ossgd
from ossgd.data import mixtures
from ossgd.paper.types import matmul

M, N, NUM_TEST, NUM_EVALUATED, T = 521, 30, 16, 20, 6
LR_TIMES_WIDTH = 8.0
# The margin distribution, and how many units no example switches on.
MARGIN = ossgd.Recorder(
  'margin', of_units=lambda h, h0, a: jnp.abs(h).min(axis=1), reduce='min'
)
DEAD = ossgd.Recorder(
  'dead',
  of_units=lambda h, h0, a: jnp.sum((h < 0).all(axis=0), dtype=jnp.int32),
  examples='train',
)
OWN = (
  MARGIN,
  DEAD,
  ossgd.Recorder('largest', of_units=lambda h, h0, a: h.max(), reduce='max'),
  # f once more, from its units.
  ossgd.Recorder(
    'outputs', of_units=lambda h, h0, a: matmul(jnp.maximum(h, 0), a.T)
  ),
  ossgd.Recorder('moved', of_units=lambda h, h0, a: jnp.sum((h - h0) ** 2)),
  ossgd.Recorder(
    'moved_train',
    of_units=lambda h, h0, a: jnp.sum((h - h0) ** 2, axis=1),
    examples='train',
  ),
  ossgd.Recorder('f', lambda f, y: f),
  ossgd.Recorder('unsure', lambda f, y: jax.nn.softmax(f).max(axis=1).min()),
  ossgd.Recorder(
    'first',
    lambda f, y: jnp.sum(f.argmax(axis=1) == 0, dtype=jnp.int32),
    examples='train',
    mean=True,
  ),
  ossgd.Recorder('active', of_pattern=lambda p, p0: p),
  ossgd.Recorder('closed', of_pattern=lambda p, p0: p0 & ~p, examples='train'),
)
# What Lemma A.1 bounds.
FURTHEST = ossgd.Recorder(
  'furthest',
  of_weights=lambda w, w0: jnp.max(jnp.linalg.norm(w - w0, axis=1)),
)


def begun_from(params, begun, split):
  del params
  return {
    'w0': begun.w,
    'a': begun.a,
    'x': split.train.x,
    'y': split.train.y,
    'x_test': split.test.x,
  }


@functools.cache
def sweep(*recorders, engine) -> xr.Dataset:
  """Two seeds side by side, at a width that no tile divides."""
  return ossgd.sweep(
    mixtures.gaussian(num_classes=3, num_components=2, dim=8),
    widths=(M,),
    num_seeds=2,
    seeds_at_once=2,
    num_steps=T,
    order='full_batch',
    lr_times_width=LR_TIMES_WIDTH,
    num_train=N,
    num_test=NUM_TEST,
    num_train_eval=NUM_EVALUATED,
    engine=engine,
    extra=begun_from,
    recorders=recorders,
  )


def trained(run: xr.Dataset) -> list[np.ndarray]:
  """w(0), ..., w(T) by eq. (1) in float64, one example and unit at a time."""
  w, a, x, y = (np.asarray(run[n].values) for n in ('w0', 'a', 'x', 'y'))
  w, a, x = (np.asarray(v, np.float64) for v in (w, a, x))
  found = [w]
  for _ in range(T):
    w = found[-1].copy()
    for s in range(N):
      h = found[-1] @ x[s]
      f = a @ np.where(h >= 0, h, 0)
      o = np.exp(f - f.max()) / np.exp(f - f.max()).sum()
      o[y[s]] -= 1
      for r in np.flatnonzero(h >= 0):
        w[r] -= LR_TIMES_WIDTH / M / N * (o @ a[:, r]) * x[s]
    found.append(w)
  return found


class RecorderTest(parameterized.TestCase):
  @parameterized.parameters('plain', 'blocked', 'gram')
  def test_every_step(self, engine):
    """All of them, beside a loop of float64; all else is as without them."""
    ds = sweep(*OWN, engine=engine)
    self.assertEqual(ds.engine, [engine])
    run = ds.isel(width=0, seed=1)
    a, x, x_test = (
      np.asarray(run[name], np.float64) for name in ('a', 'x', 'x_test')
    )
    x = x[:NUM_EVALUATED]
    weights = trained(run)
    then, then_test = x @ weights[0].T, x_test @ weights[0].T
    for t, w in enumerate(weights):
      h, h_test = x @ w.T, x_test @ w.T
      f, f_train = (np.maximum(v, 0) @ a.T for v in (h_test, h))
      expected = {
        'margin': [np.min(np.abs(row)) for row in h_test],
        'dead': sum(all(unit < 0) for unit in h.T),
        'largest': h_test.max(),
        'outputs': f,
        'moved': np.sum((h_test - then_test) ** 2),
        'moved_train': np.sum((h - then) ** 2, axis=1),
        'f': f,
        'unsure': np.min(np.exp(f).max(axis=1) / np.exp(f).sum(axis=1)),
        'first': np.mean(f_train.argmax(axis=1) == 0),
        'active': np.mean(h_test >= 0),
        'closed': np.mean((then >= 0) & (h < 0)),
      }
      for name, values in expected.items():
        np.testing.assert_allclose(
          run[name].isel(step=t), values, rtol=2e-4, atol=2e-6, err_msg=name
        )
    self.assertGreater(run.dead.max(), 0)
    self.assertGreater(run.closed.max(), 0)
    self.assertEqual(ds.margin.dims, ('width', 'seed', 'step', 'margin_0'))
    self.assertEqual(ds.f.dims[3:], ('f_0', 'f_1'))
    without = sweep(engine=engine)
    for name in without:
      np.testing.assert_allclose(ds[name], without[name], rtol=1e-6)

  def test_kept(self):
    """A folder has them as they were measured."""
    ds = sweep(*OWN, engine='gram')
    folder = self.enter_context(tempfile.TemporaryDirectory()) + '/kept'
    ossgd.save(ds, folder)
    xr.testing.assert_identical(ossgd.load(folder), ds)

  def test_diverged(self):
    """Arrays of a step are NaN from where the run is not finite on."""
    ds = ossgd.sweep(
      mixtures.gaussian(num_classes=3, dim=8),
      widths=(20,),
      num_seeds=1,
      num_steps=3,
      num_train=16,
      num_test=5,
      lr_times_width=1e30,
      engine='gram',
      recorders=(MARGIN, DEAD),
    ).isel(width=0, seed=0)
    gone = ds.step.values >= ds.diverged_at.item()
    self.assertTrue(gone.any())
    np.testing.assert_array_equal(np.isnan(ds.dead), gone)
    np.testing.assert_array_equal(np.isnan(ds.margin).any('margin_0'), gone)
    np.testing.assert_array_equal(np.isnan(ds.margin).all('margin_0'), gone)

  def test_of_weights(self):
    """The definition alone has them at every recorded step."""
    ds = sweep(FURTHEST, engine='auto')
    self.assertEqual(ds.engine, ['plain'])
    run = ds.isel(width=0, seed=1)
    first, *_, last = trained(run)
    furthest = np.linalg.norm(last - first, axis=1).max()
    np.testing.assert_allclose(run.furthest[-1], furthest, rtol=1e-4)
    with self.assertRaisesRegex(ValueError, 'without recorders of weights'):
      sweep(FURTHEST, engine='gram')

  def test_refused_before_any_work(self):
    """What none can measure is not found out by the first measurement."""
    mean = ossgd.Recorder('mean', of_units=lambda h, h0, a: jnp.mean(h))
    with self.assertRaisesRegex(ValueError, 'recorder mean: of_units has'):
      sweep(mean, engine='gram')
    with self.assertRaisesRegex(ValueError, 'at width 5 and other shapes'):
      ossgd.sweep(
        mixtures.gaussian(num_classes=3, dim=8),
        widths=(5, 6),
        recorders=(ossgd.Recorder('w', of_weights=lambda w, w0: w),),
      )
    for settings, message in (
      (dict(recorders=MARGIN), 'expected a tuple of ossgd.Recorder'),
      (
        dict(recorders=(OWN[-1],), model=ossgd.Model('tanh')),
        'is of activation patterns',
      ),
    ):
      with self.assertRaisesRegex(ValueError, message):
        ossgd.sweep(
          mixtures.gaussian(num_classes=3, dim=8), widths=(5,), **settings
        )
