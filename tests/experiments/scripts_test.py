"""Every script that has no file of its own, smallest form, its claim's way."""

import contextlib
import tempfile

import numpy as np
import xarray as xr
from absl.testing import parameterized

from experiments import (
  components,
  compression,
  init_scale,
  mnist,
  random_labels,
  synthetic,
  variance,
)
from ossgd.results import claims

SMALL = dict(
  num_seeds=2, dim=60, num_classes=4, num_train=120, num_test=100, batch_size=8
)


@contextlib.contextmanager
def own_data(offset=0):
  """A value of --dataset: three classes in a npz file."""
  rng = np.random.default_rng(0)
  y = np.arange(80) % 3
  x = offset + rng.normal(size=(80, 5)) + 3 * np.eye(5)[y]
  with tempfile.NamedTemporaryFile(suffix='.npz') as file:
    np.savez(file, x_train=x[:60], y_train=y[:60], x_test=x[60:], y_test=y[60:])
    file.flush()
    yield f'npz:{file.name}'


def shown(experiment, results):
  """Table and figures, as the script makes them."""
  figures = experiment.figures(results)
  for figure in figures.values():
    figure.draw_without_rendering()
  return experiment.table(results), figures


def finish(experiment, results):
  """Table and findings, as the script makes them; figures can be drawn."""
  shown(experiment, results)
  return experiment.judged(results)


def verdicts(experiment, results) -> dict[str, str]:
  """By the words of the claims, as if the paper had the test's set-up."""
  return {
    claim.words: claims.judge(claim._replace(setup={}), results).verdict
    for claim in experiment.claims(results)
  }


class ScriptsTest(parameterized.TestCase):
  def test_ceiling(self):
    """All right at every sigma: nothing is known of how accuracy depends."""
    accuracy = xr.DataArray(
      np.ones((2, 5, 2)),
      {'noise_scale': [1.0, 7.0], 'seed': range(5), 'step': [0, 400]},
    )
    claim = variance.EXPERIMENT.claims(xr.Dataset())[0]
    ds = xr.Dataset({'test_accuracy': accuracy})
    finding = claims.judge(claim, ds)
    self.assertEqual(finding.claim.words, 'the test accuracy falls with sigma')
    self.assertEqual(finding.verdict, 'undecided')
    self.assertEqual(finding.reason, 'no spread: all values are 0')

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
    for finding in found:  # smaller than in the paper, so not judged
      self.assertEqual(finding.verdict, 'measured')
      self.assertIn('dim 60, paper 1000', finding.reason)
      self.assertNotIn('noise_scale', finding.reason)
    self.assertLess(found[0].mean, -0.1)  # accuracy falls
    self.assertGreater(found[1].mean, 0.1)  # learning takes longer

  def test_components_on_a_coarse_grid(self):
    """Without step 20 the record nearest to it is spoken of."""
    for steps, early in (([0, 50, 100], 50), ([0, 15, 28, 100], 15)):
      found = components.EXPERIMENT.claims(xr.Dataset(coords={'step': steps}))
      told = {c.words.rpartition('(')[2] for c in found if '(' in c.words}
      self.assertEqual(told, {f'{early})', '100)'})

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

  @parameterized.parameters(variance, components, init_scale, random_labels)
  def test_one_width_only(self, script):
    """Scripts that vary something else say so when given two widths."""
    with self.assertRaisesRegex(ValueError, 'expected one width'):
      script.run(script.Config(widths=(8, 16)))

  def test_own_data(self):
    """--dataset takes a user's npz file in the sweep scripts."""
    with own_data() as name:
      common = dict(dataset=name, widths=(32,), num_seeds=1, num_steps=30)
      for script in (synthetic, compression, init_scale, mnist):
        extra = dict(batch_size=8, lr_times_width=10.0)
        if script is init_scale:
          extra['init_scale'] = (1.0,)
        results = script.run(script.Config(**common, **extra))
        self.assertGreater(results.test_accuracy.isel(step=-1).min(), 0.6)
        _, found = finish(script.EXPERIMENT, results)
        # What the paper says of its data is measured on others, not judged.
        self.assertEqual({f.verdict for f in found}, {'measured'})
        for finding in found:
          self.assertIn(f'dataset {name}, paper ', finding.reason)
        if script is compression:  # three classes, whatever the flag says
          (chance,) = (f for f in found if 'chance' in f.claim.words)
          self.assertAlmostEqual(chance.claim.high, 2 / 3)
          self.assertEqual(results.attrs['num_patterns'], 3 * 2)
          self.assertEqual(chance.trials, 20)
