"""Tests of experiments.kernel: what is trained, measured, claimed and drawn."""

import dataclasses
from unittest import mock

import numpy as np

from experiments import kernel
from ossgd.paper import kernels, metrics, network
from tests.experiments import scripts_test, section7_test

TINY = kernel.Config(  # the order of widths must not matter
  **section7_test.SMALL, widths=(512, 64), num_steps=32, num_test=12
)


def verdicts(results) -> list[str]:
  return list(scripts_test.verdicts(kernel.EXPERIMENT, results).values())


class KernelTest(section7_test.ScriptCase):
  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    cls.run_once(kernel, TINY)

  def test_same_run_as_in_the_sweeps(self):
    """Data, w(0), order and step size of the seed, at every measured step."""
    np.testing.assert_array_equal(self.results.step, [0, 2, 8, 32])
    expected = section7_test.swept(TINY, self.results.step).train_loss
    loss = self.results.train_loss.transpose(*expected.dims)
    np.testing.assert_allclose(loss, expected, rtol=1e-5)
    self.assertLess(loss[..., -1].max(), 0.5 * loss[..., 0].min())

  def test_measurements_at_the_start(self):
    """Those of the seed's w(0), computed again by hand."""
    _, split, params = section7_test.drawn(TINY, seed=3, width=512)
    x = split.test.x
    p = network.pattern(params.w, x)
    theta = kernels.kernel(params.a, p, x, p, x) / 512
    limit = kernels.limit_kernel(x, x, num_classes=4)
    curvature = kernels.top_curvature(params, split.train.x)
    here = self.results.sel(width=512, seed=3)
    for name, value in (
      ('limit_distance', metrics.relative_distance(theta, limit)),
      ('eigenvalues_initial', np.linalg.eigvalsh(theta)[::-1]),
      ('eigenvalues_limit', np.linalg.eigvalsh(limit)[::-1]),
    ):
      np.testing.assert_allclose(here[name], value, rtol=1e-4, err_msg=name)
    first = here.isel(step=0)
    np.testing.assert_allclose(first.curvature, curvature, rtol=1e-5)
    curvature = float(first.curvature)  # 64-bit mode rounds the other one apart
    np.testing.assert_allclose(first.step_ratio, 10 / 512 * curvature / 2)
    np.testing.assert_allclose(first.stable_lr_times_width, 1024 / curvature)

  def test_training_moves_the_kernel(self):
    """From zero on; a wide network's less, and towards no other limit."""
    drift = self.results.drift.mean('seed')
    np.testing.assert_array_equal(drift.isel(step=0), 0)
    self.assertTrue((drift.diff('step') > 0).all())
    last = drift.isel(step=-1)
    self.assertLess(last.sel(width=512), 0.7 * last.sel(width=64))
    change = self.results.eigenvalues_trained - self.results.eigenvalues_initial
    size = np.sqrt((self.results.eigenvalues_initial**2).sum('rank'))
    # Weyl, Hoffman & Wielandt: eigenvalues move no further than the matrix.
    moved = np.sqrt((change**2).sum('rank')) / size
    self.assertTrue((moved > 0).all())
    self.assertTrue((moved <= self.results.drift.isel(step=-1) + 1e-6).all())

  def test_step_size(self):
    """Far above the bound the claim fails, and only by the step size."""
    self.assertEqual(verdicts(self.results)[2], 'holds in all')
    self.assertLess(self.results.step_ratio.max(), 1)
    large = dataclasses.replace(TINY, widths=(64,), lr_times_width=1e4)
    results = kernel.run(large)
    self.assertEqual(verdicts(results)[2], 'fails')
    start = results.isel(step=0, width=0)
    ours = self.results.sel(width=64).isel(step=0)
    np.testing.assert_allclose(start.curvature, ours.curvature, rtol=1e-5)
    np.testing.assert_allclose(
      start.step_ratio, 1e3 * ours.step_ratio, rtol=1e-5
    )
    # One width, and a softmax that is sure.
    scripts_test.finish(kernel.EXPERIMENT, results)

  def test_claims(self):
    """Decided by slopes: lawful data hold, other powers of m fail."""
    luck = 1 + 0.001 * (self.results.seed - 3)
    m, step = self.results.width, self.results.step
    unlawful = m + 0.0 * step  # where no claim should look
    lawful = self.results.assign(
      limit_distance=m ** (-0.5 * luck),
      drift=unlawful.where(step < 32, m ** (-0.3 * luck)),
      stable_lr_times_width=unlawful.where(step > 0, m ** (0.01 * luck)),
    )
    expected = ['holds', 'holds', 'holds in all', 'holds']
    self.assertEqual(verdicts(lawful), expected)
    for i, name, power in (
      (0, 'limit_distance', 0.2),
      (0, 'limit_distance', -0.2),
      (1, 'drift', 0.5),
      (3, 'stable_lr_times_width', 0.2),
      (3, 'stable_lr_times_width', -0.2),
    ):
      wrong = lawful.assign({name: lawful[name] * m**power})
      one = [*expected[:i], 'fails', *expected[i + 1 :]]
      self.assertEqual(verdicts(wrong), one, (name, power))
    self.assertEqual(verdicts(lawful.isel(width=[0]))[:2], ['undecided'] * 2)

  def test_shown(self):
    """Rows and slopes with their range; a curve a width; both ends."""
    table, found = scripts_test.finish(kernel.EXPERIMENT, self.results)
    self.assertRegex(table, r'\n\| 512 +\|')
    self.assertEqual(table.count('for width 64 to 512'), 3)
    for finding in found:
      self.assertEqual(finding.claim.where, 'beyond the paper')
      if 'slope' in finding.claim.quantity:
        self.assertIn('m = 64 to 512', finding.claim.quantity)
    figures = kernel.EXPERIMENT.figures(self.results)
    (distance,) = figures['kernel_limit'].axes
    measured, line = distance.lines[0], distance.lines[-1]
    for curve in (measured, line):
      np.testing.assert_array_equal(curve.get_xdata(), [64, 512])
    np.testing.assert_allclose(
      np.divide(*line.get_ydata()), np.sqrt(512 / 64), rtol=1e-6
    )
    titles = [ax.get_title() for ax in figures['kernel_eigenvalues'].axes]
    self.assertEqual(titles, ['$m$ = 64', '$m$ = 512'])

  def test_no_data_to_test_on(self):
    """Said before any training."""
    with (
      mock.patch.object(kernel, '_train', side_effect=AssertionError),
      self.assertRaisesRegex(ValueError, 'num_test must be'),
    ):
      kernel.run(dataclasses.replace(TINY, num_test=0))
