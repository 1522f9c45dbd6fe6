"""Tests of experiments.processes: f and g from one start on equal batches."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import xarray as xr
from absl.testing import parameterized

from experiments import processes
from ossgd.engines import sgd
from tests import oracles
from tests.experiments import scripts_test, section7_test

TINY = processes.Config(
  widths=(128, 16),  # the order given must not matter
  num_seeds=3,
  seed=2,
  num_steps=30,
  batch_size=8,
  dim=25,
  num_train=100,
  num_test=70,
)
GAPS = ('output_gap', 'largest_output_gap', 'weight_gap')


def verdicts(results) -> dict[str, str]:
  return scripts_test.verdicts(processes.EXPERIMENT, results)


def constructed(exponent: float) -> xr.Dataset:
  """Gaps c m^exponent, a c for each seed; all else as claimed."""
  width = np.array([100, 400, 1600])
  shape = (3, 4, 2)
  scale = np.array([1, 1.1, 0.9, 1.05])[:, None] * np.ones(2)
  luck = 1 + 0.01 * np.cos(np.arange(12.0)).reshape(3, 4, 1)
  gap = luck * scale * width[:, None, None] ** exponent
  names = ('pattern_difference', 'loss_f', 'loss_g')
  variables = dict.fromkeys((*GAPS, *names), gap)
  variables |= dict.fromkeys(('accuracy_f', 'accuracy_g'), np.ones(shape))
  variables['gap_to_size'] = np.full(shape, 1e-7)
  dims = ('width', 'seed', 'step')
  return xr.Dataset(
    {name: (dims, values) for name, values in variables.items()},
    {'width': width, 'seed': range(4), 'step': [0, 9]},
    {'num_test': 1000},
  )


class ProcessesTest(section7_test.ScriptCase):
  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    cls.run_once(processes, TINY)

  def test_f_is_the_run_of_the_sweeps(self):
    """Seed s at width m: the same data, start and batches as everywhere."""
    sweep = section7_test.swept(TINY, self.results.step)
    for ours, theirs in (
      ('loss_f', 'test_loss'),
      ('accuracy_f', 'test_accuracy'),
      ('pattern_difference', 'pattern_difference'),
    ):
      np.testing.assert_allclose(
        self.results[ours], sweep[theirs], rtol=1e-4, err_msg=ours
      )

  def test_gaps_against_loops(self):
    """The last step's numbers, from both weights by float64 NumPy."""
    width, seed = 16, 3
    keys, split, start = section7_test.drawn(TINY, seed, width)
    trained = [
      sgd.train(
        jax.random.clone(keys.order),
        start,
        split.train,
        record_steps=jnp.array([TINY.num_steps]),
        method=sgd.Method(optax.sgd(10 / width), 8, 'epochs', gradient_fn),
        observe=lambda params: (),
      )[0].w
      for gradient_fn in (sgd.true_gradient, sgd.pseudo_network_gradient)
    ]
    w0, w_f, w_g, a, x = (
      np.asarray(v, np.float64)
      for v in (start.w, *trained, start.a, split.test.x)
    )
    f0, f = oracles.logits(w0, a, x), oracles.logits(w_f, a, x)
    g = ((x @ w0.T >= 0) * (x @ w_g.T)) @ a.T
    o = np.stack([oracles.softmax(row) for row in g])
    y = np.asarray(split.test.y)
    expected = {
      'output_gap': abs(f - g).mean() / abs(f - f0).mean(),
      'largest_output_gap': abs(f - g).max() / abs(f - f0).max(),
      'weight_gap': np.linalg.norm(w_f - w_g) / np.linalg.norm(w_f - w0),
      'gap_to_size': abs(f - g).max() / abs(f).max(),
      'accuracy_g': np.mean(g.argmax(1) == y),
      'loss_g': -np.mean(np.log(o[np.arange(70), y])),
    }
    found = self.results.sel(width=width, seed=seed).isel(step=-1)
    for name, value in expected.items():
      np.testing.assert_allclose(found[name], value, rtol=1e-4, err_msg=name)
    self.assertGreater(found.output_gap, 0.05)

  def test_early_steps(self):
    """One function at step 0, one gradient: the weights part at step 2."""
    np.testing.assert_array_equal(self.results.step[:4], [0, 1, 2, 3])
    first = self.results.isel(step=0)
    np.testing.assert_array_less(first.gap_to_size, 1e-6)
    np.testing.assert_array_equal(first.loss_f, first.loss_g)
    np.testing.assert_array_equal(first.pattern_difference, 0)
    self.assertTrue(np.isnan(first.output_gap).all())
    np.testing.assert_array_less(self.results.weight_gap.isel(step=1), 1e-5)
    self.assertGreater(self.results.weight_gap.isel(step=2).min(), 1e-3)
    self.assertGreater(self.results.output_gap.isel(step=1).min(), 1e-3)

  def test_closer_with_width(self):
    """Of every seed, each gap; and that of the weights widens with steps."""
    for name in GAPS:
      last = self.results[name].isel(step=-1)
      self.assertTrue((last.sel(width=128) < last.sel(width=16)).all(), name)
    gap = self.results.weight_gap
    self.assertTrue((gap.isel(step=2) < gap.isel(step=-1)).all())

  def test_shown(self):
    """A row a width, a slope a gap with its range; steps run to the last."""
    table, _ = scripts_test.finish(processes.EXPERIMENT, self.results)
    for width in TINY.widths:
      self.assertRegex(table, rf'\n\| {width} +\|')
    self.assertEqual(table.count('for width 16 to 128'), 4)
    for claim in processes.EXPERIMENT.claims(self.results)[1:5]:
      self.assertIn('step 30, m from 16 to 128', claim.quantity)
    figures = processes.EXPERIMENT.figures(self.results)
    lines = figures['processes_width'].axes[0].lines
    np.testing.assert_array_equal(lines[0].get_xdata(), [16, 128])

  @parameterized.parameters(
    (-0.5, 'holds', 'holds'),
    (-1.0, 'holds', 'fails'),
    (0.1, 'fails', 'fails'),
  )
  def test_claims_of_the_rate(self, exponent, closes, rate):
    """Slopes are judged for what they are."""
    found = list(verdicts(constructed(exponent)).values())
    self.assertEqual(
      found, ['holds in all', closes, closes, rate, rate, 'holds', 'holds']
    )

  def test_claims_of_one_process(self):
    """f and g are not taken for each other; one width decides no slope."""
    ds = constructed(-0.5)
    results = ds.assign(accuracy_g=0.9 * ds.accuracy_g, gap_to_size=ds.loss_f)
    found = verdicts(results)
    self.assertEqual(found['f learns'], 'holds')
    self.assertEqual(found['and so does g'], 'fails')
    self.assertEqual(
      found['f and g are one function at the initialisation'], 'fails'
    )
    one = list(verdicts(ds.isel(width=[0])).values())
    self.assertEqual(one[1:5], ['undecided'] * 4)
