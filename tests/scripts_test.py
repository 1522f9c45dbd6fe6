"""Every script that has no file of its own, smallest form, its claim's way."""

import tempfile

import jax
import numpy as np
from absl.testing import parameterized

from experiments import (
  components,
  compression,
  init_scale,
  mnist,
  random_labels,
  readings,
  synthetic,
  variance,
)
from ossgd import claims, mixtures, network
from ossgd.base import Params

SMALL = dict(
  num_seeds=2, dim=60, num_classes=4, num_train=120, num_test=100, batch_size=8
)


def finish(experiment, results):
  """Table, figures and verdicts, as the script makes them."""
  table = experiment.table(results)
  figures = experiment.figures(results)
  found = [claims.judge(c, results) for c in experiment.claims(results)]
  for figure in figures.values():
    figure.draw_without_rendering()
  return table, found


class ScriptsTest(parameterized.TestCase):
  def test_variance(self):
    """D.2: a larger sigma is less accurate and takes longer."""
    config = variance.Config(
      **SMALL, widths=(64,), num_steps=40, noise_scale=(1.0, 12.0)
    )
    results = variance.run(config)
    accuracy = results.test_accuracy.isel(step=-1).mean('seed')
    low, high = (accuracy.sel(noise_scale=s) for s in config.noise_scale)
    self.assertGreater(low, high + 0.1)
    table, found = finish(variance.EXPERIMENT, results)
    self.assertIn('12.0', table)
    self.assertLess(found[0].mean, -0.1)  # accuracy falls
    self.assertGreater(found[1].mean, 0.1)  # learning takes longer

  def test_components(self):
    """D.3: more components are harder, with the spectrum's cliff at k l."""
    config = components.Config(
      **SMALL, widths=(64,), num_steps=40, num_components=(1, 8)
    )
    results = components.run(config)
    _, found = finish(components.EXPERIMENT, results)
    self.assertGreater(found[1].mean, 0.05)
    values = results.singular_values_update.sel(num_components=8)
    cliff = values.sel(rank=32) / values.sel(rank=33)
    np.testing.assert_allclose(
      results.cliff.sel(num_components=8), cliff, rtol=1e-6
    )

  def test_init_scale(self):
    """Section 6: a small scale loses the coupling, a large one is slow."""
    config = init_scale.Config(
      **SMALL, widths=(128,), num_steps=40, init_scale=(0.03, 1.0, 30.0)
    )
    results = init_scale.run(config)
    _, found = finish(init_scale.EXPERIMENT, results)
    final = results.isel(step=-1).mean('seed')
    difference = final.pattern_difference.values
    self.assertTrue((np.diff(difference) < 0).all(), difference)
    distance = final.relative_distance.values
    self.assertTrue((np.diff(distance) < 0).all(), distance)
    self.assertEqual(found[4].verdict, 'holds')

  def test_compression(self):
    """The rank-q accuracies are those of the weights cut by NumPy's SVD."""
    split = mixtures.sample(
      jax.random.key(0), mixtures.gaussian(num_classes=3, dim=20), num_test=90
    )
    initial = network.init_params(
      jax.random.key(1), width=30, dim=20, num_classes=3
    )
    noise = jax.random.normal(jax.random.key(2), (30, 20)) / 8
    w = initial.w + noise
    parts = compression.take_apart(
      Params(w, initial.a), initial, split, ranks=(0, 3, 20)
    )
    u, s, v = np.linalg.svd(np.asarray(noise, np.float64))
    x, y = map(np.asarray, split.test)
    for value, q in zip(parts['cut_accuracy'], (0, 3, 20), strict=True):
      cut = initial.w + (u[:, :q] * s[:q]) @ v[:q]
      f = np.maximum(x @ cut.T, 0) @ np.asarray(initial.a).T
      self.assertAlmostEqual(value, np.mean(f.argmax(1) == y), delta=0.012)
    p = x @ np.asarray(w).T >= 0
    for name, part in (('initial', initial.w), ('update', noise)):
      terms = (x @ np.asarray(part).T * p)[:, None, :] * np.asarray(initial.a)
      f = terms.sum(-1)
      self.assertAlmostEqual(
        parts[f'{name}_part_accuracy'], np.mean(f.argmax(1) == y), delta=0.012
      )
      addition = np.mean(np.abs(f) / np.abs(terms).sum(-1))
      np.testing.assert_allclose(parts[f'{name}_addition'], addition, rtol=1e-4)

  def test_compression_script(self):
    """A rank of k l loses nothing, a rank of one almost everything."""
    config = compression.Config(
      **SMALL, widths=(96,), num_steps=60, ranks=(0, 1, 8, 30)
    )
    results = compression.run(config)
    table, found = finish(compression.EXPERIMENT, results)
    self.assertIn('accuracy, m = 96', table)
    full = results.test_accuracy.isel(step=-1).mean()
    cut = results.cut_accuracy.mean(['width', 'seed'])
    self.assertGreater(full, 0.95)
    self.assertGreater(cut.sel(cut=8), full - 0.02)
    self.assertLess(cut.sel(cut=1), full - 0.2)
    self.assertGreater(found[-1].mean, 1)

  def test_readings(self):
    """Each reading differs from ours in what it is named for."""
    config = readings.Config(**SMALL, widths=(64,), num_steps=30)
    results = readings.run(config)
    table, found = finish(readings.EXPERIMENT, results)
    self.assertLen(found, 20)
    self.assertIn('Nearest to the constant 0.667', table)
    loss = results.train_loss.isel(step=-1)
    ours = loss.sel(reading='paper')
    for reading in readings.READINGS[1:]:
      self.assertTrue((loss.sel(reading=reading) != ours).all(), reading)
    # A larger start makes the same path relatively shorter.
    distance = results.relative_distance.isel(step=-1).mean('seed')
    self.assertTrue(
      (distance.sel(reading='variance') < distance.sel(reading='paper')).all()
    )

  @parameterized.parameters(
    variance.run, components.run, init_scale.run, random_labels.run
  )
  def test_one_width_only(self, run):
    """Scripts that vary something else say so when given two widths."""
    config = {
      variance.run: variance,
      components.run: components,
      init_scale.run: init_scale,
      random_labels.run: random_labels,
    }[run].Config(widths=(8, 16))
    with self.assertRaisesRegex(ValueError, 'expected one width'):
      run(config)

  def test_own_data(self):
    """--dataset takes a user's npz file in the sweep scripts."""
    rng = np.random.default_rng(0)
    y = np.arange(80) % 3
    x = rng.normal(size=(80, 5)) + 3 * np.eye(5)[y]
    with tempfile.NamedTemporaryFile(suffix='.npz') as file:
      np.savez(
        file, x_train=x[:60], y_train=y[:60], x_test=x[60:], y_test=y[60:]
      )
      file.flush()
      name = f'npz:{file.name}'
      common = dict(dataset=name, widths=(32,), num_seeds=1, num_steps=30)
      for script in (synthetic, compression, init_scale, mnist):
        extra = dict(batch_size=8, lr_times_width=10.0)
        if script is init_scale:
          extra['init_scale'] = (1.0,)
        results = script.run(script.Config(**common, **extra))
        self.assertGreater(results.test_accuracy.isel(step=-1).min(), 0.6)
        finish(script.EXPERIMENT, results)
