"""Tests of experiments.precision, and of the flag that trades precision."""

import pathlib
import tempfile
from unittest import mock

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import xarray as xr
from absl.testing import parameterized

from experiments import precision
from experiments.common import command
from experiments.common.lemmas import precisions
from experiments.common.speed import growth
from ossgd.paper import gradients, types
from ossgd.paper.types import Params
from ossgd.storing import records
from tests import oracles
from tests.experiments import scripts_test, section7_test
from tests.experiments.command_test import TOY, ended

TINY = precision.Config(  # the order of widths must not matter
  **section7_test.SMALL, widths=(256, 64), num_steps=20, num_test=100
)


def tensorfloat32(values) -> np.ndarray:
  """The last 13 bits away, to nearest, ties to even: on the integers."""
  bits = np.asarray(values, np.float32).view(np.uint32)
  odd = (bits >> 13) & 1
  return ((bits + 0xFFF + odd) & ~np.uint32(0x1FFF)).view(np.float32)


def bfloat16(values) -> np.ndarray:
  return np.asarray(values).astype(ml_dtypes.bfloat16).astype(np.float32)


ROUND = {
  'float32': lambda values: np.asarray(values, np.float32),
  'tensorfloat32': tensorfloat32,
  'bfloat16': bfloat16,
}


def multiply(a, b, name: str) -> np.ndarray:
  """Rounded operands, summed in float64."""
  a, b = (ROUND[name](v).astype(np.float64) for v in (a, b))
  return a @ b


def values() -> np.ndarray:
  """Of all sizes and signs, with ties at the 8th and at the 11th bit."""
  rng = np.random.default_rng(0)
  some = rng.normal(size=2000) * 10.0 ** rng.integers(-30, 30, 2000)
  steps = np.arange(-40, 40)
  ties = [1 + (steps + 0.5) / 2**b for b in (7, 10)]
  return np.concatenate([some, *ties, [0.0, -0.0]]).astype(np.float32)


class RoundingTest(parameterized.TestCase):
  @parameterized.parameters(*ROUND)
  def test_operands(self, name):
    """Each operand of a product with 1 comes back rounded, bit for bit."""
    bits = precisions.STORED_BITS[name]
    v = values()
    rounded = jax.jit(precisions.rounded_matmul, static_argnums=2)
    one = jnp.ones((1, 1))
    expected = ROUND[name](v)
    for found in (rounded(v[:, None], one, bits), rounded(one, v[None], bits)):
      np.testing.assert_array_equal(np.ravel(found), expected)
    self.assertEqual((expected == v).all(), name == 'float32')

  @parameterized.parameters(*ROUND)
  def test_forward_and_gradient(self, name):
    """Every matmul has rounded operands; all else is float32."""
    bits = precisions.STORED_BITS[name]
    w, a, x, y = oracles.problem(0, k=3, m=40, d=50, n=16)
    params = Params(jnp.asarray(w), jnp.asarray(a))
    h = multiply(x, w.T, name).astype(np.float32)
    f = multiply(np.maximum(h, 0), a.T, name).astype(np.float32)
    slopes = np.array([oracles.softmax(row) for row in f])
    slopes[np.arange(len(y)), y] -= 1
    backward = np.where(h >= 0, multiply(slopes / len(y), a, name), 0)
    expected = multiply(backward.T, x, name)

    p, found = precisions.forward(params, jnp.asarray(x), bits)
    np.testing.assert_array_equal(p, h >= 0)
    self.assertLess(oracles.relative_error(found, f), 3e-5)
    found = precisions.rounded_gradient(
      params, params.w, jnp.asarray(x), jnp.asarray(y), bits=bits
    )
    self.assertLess(oracles.relative_error(found, expected), 3e-5)
    exact = gradients.gradient(params, jnp.asarray(x), jnp.asarray(y))
    error = oracles.relative_error(found, exact)
    low, high = {
      'float32': (-1, 1e-6),
      'tensorfloat32': (1e-4, 1e-2),
      'bfloat16': (1e-3, 0.2),  # a pattern may flip
    }[name]
    self.assertBetween(error, low, high)


class PrecisionTest(section7_test.ScriptCase):
  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    cls.run_once(precision, TINY)

  def test_float32_is_the_run_of_the_sweeps(self):
    """Data, w(0), order and step size of the seed, at every measured step."""
    swept = section7_test.swept(TINY, self.results.step)
    for evaluation in ('exact', 'rounded'):
      ours = self.results.sel(precision='float32', evaluation=evaluation)
      ours = ours.sel(width=swept.width).transpose('width', 'seed', 'step')
      for name in ('train_loss', 'relative_distance'):
        np.testing.assert_allclose(ours[name], swept[name], rtol=1e-5)
      for name in ('test_accuracy', 'pattern_difference'):
        np.testing.assert_allclose(ours[name], swept[name], atol=2e-4)
    flips = self.results.rounding_flips.sel(precision='float32')
    np.testing.assert_array_equal(flips, 0)

  @parameterized.parameters('tensorfloat32', 'bfloat16')
  def test_at_the_start(self, name):
    """The seed's w(0), measured again by NumPy with rounding of its own."""
    _, split, (w, a) = section7_test.drawn(TINY, seed=3, width=256)
    x, y = map(np.asarray, split.test)
    h = multiply(x, w.T, name)
    here = self.results.sel(precision=name, width=256, seed=3).isel(step=0)
    flips = np.mean((h >= 0) != (multiply(x, w.T, 'float32') >= 0))
    self.assertGreater(flips, 0)
    self.assertAlmostEqual(here.rounding_flips.item(), flips, delta=1e-4)
    f = multiply(np.maximum(h, 0).astype(np.float32), a.T, name)
    accuracy = np.mean(f.argmax(axis=1) == y)
    found = here.test_accuracy.sel(evaluation='rounded').item()
    self.assertAlmostEqual(found, accuracy, places=6)
    np.testing.assert_array_equal(here.pattern_difference, 0)

  def test_precisions_differ_a_little(self):
    """Each trains by itself, beside float32, and rounding is seen."""
    last = self.results.isel(step=-1)
    self.assertEqual(list(last.precision), list(precisions.STORED_BITS))
    distance = last.relative_distance
    ratio = distance / distance.sel(precision='float32') - 1
    lower = ratio.sel(precision=['tensorfloat32', 'bfloat16'])
    self.assertTrue((lower != 0).all())
    self.assertLess(abs(lower).max(), 0.01)
    flips = self.results.rounding_flips.mean(['width', 'seed', 'step'])
    by_eight = flips.sel(precision='bfloat16', drop=True) / flips.sel(
      precision='tensorfloat32', drop=True
    )
    self.assertBetween(by_eight.item(), 4, 16)  # three bits more
    for name in ('train_loss', 'pattern_difference'):
      both = last[name].sel(precision='bfloat16')
      exact, rounded = both.transpose('evaluation', ...).values
      self.assertTrue((exact != rounded).any(), name)
      np.testing.assert_allclose(rounded, exact, rtol=0.05)

  def test_shown(self):
    """A row a precision and width, all claims decided, figures drawn."""
    table, found = scripts_test.finish(precision.EXPERIMENT, self.results)
    for name in precisions.STORED_BITS:
      for m in TINY.widths:
        self.assertRegex(table, rf'\n\| {name} +\| {m} +\|')
    self.assertLen(found, 12)
    for finding in found:
      self.assertTrue(np.isfinite(finding.mean), finding.claim.words)

  @parameterized.parameters(
    ('learns as float32 does', 'test_accuracy'),
    ('ends as far from w(0)', 'relative_distance'),
    ('ends with the pattern difference', 'pattern_difference'),
    ('never inflates', 'pattern_difference'),
    ('flips fewer', 'rounding_flips'),
  )
  def test_claims_fail(self, words, name):
    """Of the precision that is off by a fifth, and not of the other."""
    ours = self.results[name]
    off = xr.where(ours.precision == 'bfloat16', 0.8, 1.0)
    luck = 1e-5 * (1 + np.arange(ours.sizes['seed']))  # equal seeds say nothing
    luck = xr.DataArray(luck, dims='seed')
    off = xr.where(ours.precision == 'float32', off, off - luck)
    wrong = off * ours.sel(precision='float32')
    if name == 'rounding_flips':  # float32 has none
      wrong = 0 * ours + 1 - off
    found = scripts_test.verdicts(
      precision.EXPERIMENT, self.results.assign({name: wrong})
    )
    verdicts = {
      claim.split()[0]: verdict
      for claim, verdict in found.items()
      if words in claim
    }
    holds = 'holds in all' if words == 'never inflates' else 'holds'
    self.assertEqual(verdicts, {'tensorfloat32': holds, 'bfloat16': 'fails'})


class FlagTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    root = pathlib.Path(self.enter_context(tempfile.TemporaryDirectory()))
    self.out = root / 'out'
    self.seen = []
    self.before = jax.config.jax_default_matmul_precision

  def tearDown(self):
    """What runs after a script, even one that failed, has its own precision."""
    super().tearDown()
    self.assertEqual(jax.config.jax_default_matmul_precision, self.before)

  def run_toy(self, *args, error=None):
    """A script that looks at the matmuls it would compile."""

    def run(config, progress):
      square = jax.ShapeDtypeStruct((2, 2), jnp.float32)
      text = jax.jit(types.matmul).lower(square, square).as_text()
      self.seen.append((jax.config.jax_default_matmul_precision, text))
      if error is not None:
        progress(0.0, '')
        raise error
      return TOY.run(config, progress)

    script = TOY._replace(run=run)
    return ended(command.main, script, ['toy', f'--out={self.out}', *args])

  @parameterized.parameters((), 'highest', 'high', 'default')
  def test_reaches_matmuls(self, *asked):
    """And config.json."""
    flags = [f'--matmul_precision={level}' for level in asked]
    code, _, _ = self.run_toy(*flags)
    self.assertEqual(code, 0)
    level = asked[0] if asked else 'highest'
    ((configured, text),) = self.seen
    self.assertEqual(configured, level)
    compiled = level.upper()
    self.assertIn(f'precision = [{compiled}, {compiled}]', text)
    config = records.read_config(self.out)
    self.assertEqual(config['environment']['matmul_precision'], level)

  def test_in_turn(self):
    """One process, one folder: each run has its own, whatever was before."""
    with jax.default_matmul_precision('bfloat16'):
      self.run_toy('--matmul_precision=default')
      code, _, err = self.run_toy()
      self.assertEqual(code, 2)
      self.assertIn('matmul_precision: "default" there, "highest" here', err)
      self.run_toy('--overwrite')
      self.assertEqual([name for name, _ in self.seen], ['default', 'highest'])
      self.assertEqual(jax.config.jax_default_matmul_precision, 'bfloat16')

  def test_restored_after_an_error(self):
    with self.assertRaisesRegex(ValueError, 'deep inside'):
      self.run_toy('--matmul_precision=high', error=ValueError('deep inside'))

  def test_growth_in_a_process(self):
    """The benchmark's other processes have the precision of the first."""
    with (
      jax.default_matmul_precision('high'),
      mock.patch.object(growth.multiprocessing, 'get_context') as context,
    ):
      growth.measure({'width': 8}, 4)
    pool = context.return_value.Pool.return_value.__enter__.return_value
    self.assertEqual(pool.apply.call_args.args[1], ({'width': 8}, 4, 'high'))

  def test_other_values(self):
    """One line with the choices."""
    code, out, err = self.run_toy('--matmul_precision=half')
    self.assertEqual((code, out, self.seen), (2, '', []))
    self.assertIn('<highest|high|default>', err)
