"""Tests of what recorders may return: found out, or refused in a line."""

import jax
import jax.numpy as jnp
import numpy as np
from absl.testing import parameterized

from ossgd.recording import shapes
from ossgd.recording.recorders import Recorder

SIZES = shapes.Sizes({'train': 5, 'test': 4}, num_classes=3, width=20, dim=6)


def refused(test, message, *recorders, sizes=(SIZES,)):
  """Refused with that message, which is one line and says what is expected."""
  with test.assertRaisesRegex(ValueError, message) as caught:
    shapes.check(recorders, *sizes)
  text = str(caught.exception)
  test.assertNotIn('\n', text)
  test.assertIn('expected', text)


class ShapeTest(parameterized.TestCase):
  @parameterized.parameters(
    (Recorder('x', lambda f, y: f), (4, 3), 'float32'),
    (Recorder('x', lambda f, y: y, examples='train'), (5,), 'int32'),
    (Recorder('x', lambda f, y: 1.0), (), 'float32'),
    (Recorder('x', of_units=lambda h, h0, a: h @ h0.T), (4, 4), 'float32'),
    (Recorder('x', of_units=lambda h, h0, a: a.sum(axis=1)), (3,), 'float32'),
    (Recorder('x', of_pattern=lambda p, p0: p & p0), (), 'float32'),
    (Recorder('x', of_weights=lambda w, w0: w - w0), (20, 6), 'float32'),
  )
  def test_found(self, recorder, shape, dtype):
    """Without computing anything."""
    found = shapes.shape(recorder, SIZES)
    self.assertEqual((found.shape, found.dtype), (shape, dtype))
    shapes.check((recorder,), SIZES)

  @parameterized.parameters(
    (lambda h, h0, a: h.sum(), False),
    (lambda h, h0, a: (h - h0).sum(), True),
    (lambda h, h0, a: jax.jit(lambda h: h.sum())(h0), True),
    (lambda h, h0, a: h.sum() / h0.shape[0], False),
  )
  def test_initial(self, function, needed):
    """What is not looked at need not be kept."""
    recorder = Recorder('x', of_units=function)
    self.assertEqual(shapes.needs_initial(recorder, SIZES), needed)


class RefusalTest(parameterized.TestCase):
  @parameterized.parameters(
    (lambda f, y: (f, y), 'returns tuple; expected one array'),
    (lambda f, y: {'f': f}, 'returns dict; expected one array'),
    (lambda f, y: None, 'returns NoneType'),
    (lambda f, y: 'f', 'raises TypeError'),
    (lambda f, y: f > 0, 'returns bool; expected float32 or integers'),
    (lambda f, y: f.astype(jnp.bfloat16), 'returns bfloat16'),
    (lambda f, y: f + 1j, 'returns complex64'),
    (lambda f: f, 'raises TypeError: .*expected a function of .*y .n,.'),
    (lambda f, y: f @ f, 'raises TypeError: .*got .3,. and .4,.'),
    (lambda f, y: np.asarray(f), 'raises TracerArrayConversionError'),
    (lambda f, y: float(f.sum()), 'raises ConcretizationTypeError'),
  )
  def test_of_logits(self, function, message):
    refused(self, f'recorder x: of_logits {message}', Recorder('x', function))

  @parameterized.parameters(
    (lambda h, h0, a: h, r'returns float32\[4,2\] of 2 units and .*\[4,3\] of'),
    (lambda h, h0, a: h.sum(axis=0), '.*expected one shape: add the units up'),
    (lambda h, h0, a: h.mean(), 'has another value of 7 units than the sum'),
    (lambda h, h0, a: h.min(axis=1), '.*than the sum .*least or largest'),
    # Almost always zero: a fraction of units that are never active.
    (lambda h, h0, a: (h < 0).all(axis=0).mean(), '.*than the sum'),
    (lambda h, h0, a: jnp.linalg.norm(a), '.*than the sum'),
  )
  def test_of_units(self, function, message):
    """Also where the shape is right, and only the blocks would decide."""
    refused(
      self, f'recorder x: of_units {message}', Recorder('x', of_units=function)
    )

  def test_of_pattern(self):
    for function in (lambda p, p0: p.mean(), lambda p, p0: p + 1):
      recorder = Recorder('x', of_pattern=function)
      refused(self, 'of_pattern returns .*expected bool of the', recorder)

  @parameterized.parameters(
    (Recorder('x'), 'recorder x has no function; expected one of of_logits'),
    (
      Recorder('x', lambda f, y: f, of_weights=lambda w, w0: w),
      'has of_logits and of_weights; expected one',
    ),
    (Recorder('two words', lambda f, y: f), "'two words': expected a name"),
    (Recorder('', lambda f, y: f), 'expected a name'),
    (Recorder('step', lambda f, y: f), 'the results have another step'),
    (Recorder('test_loss', lambda f, y: f), 'have another test_loss'),
    (Recorder('x', lambda f, y: f, examples='all'), "examples is 'all'"),
    (Recorder('x', lambda f, y: f, reduce='mean'), "reduce is 'mean'"),
    (Recorder('x', lambda f, y: f, mean=True), 'and is a mean'),
    (lambda f, y: f, 'recorders hold .*expected ossgd.Recorder'),
  )
  def test_fields(self, recorder, message):
    refused(self, message, recorder)

  def test_names(self):
    """Neither twice, nor one that another's axis has."""
    twice = Recorder('x', lambda f, y: f)
    refused(self, 'recorder x: the results have another x', twice, twice)
    axis = Recorder('x_1', lambda f, y: f.sum())
    refused(self, 'have another x_1', twice, axis)

  def test_not_a_tuple(self):
    for wrong in (Recorder('x', lambda f, y: f), None):
      with self.assertRaisesRegex(ValueError, 'expected a tuple of ossgd.Rec'):
        shapes.check(wrong, SIZES)

  def test_widths(self):
    """One variable has one shape."""
    wider = SIZES._replace(width=30)
    recorder = Recorder('x', of_weights=lambda w, w0: w[:, 0])
    shapes.check((recorder,), SIZES)
    refused(
      self, 'at width 20 and other shapes', recorder, sizes=[SIZES, wider]
    )
