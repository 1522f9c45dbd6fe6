import jax.numpy as jnp
import numpy as np
from absl.testing import parameterized

from ossgd.data import arrays
from ossgd.paper.types import Dataset, Split


def _good():
  """Six and four examples of shape (2, 3), three classes."""
  rng = np.random.default_rng(0)
  return dict(
    x_train=rng.normal(size=(6, 2, 3)),
    y_train=np.array([0, 1, 2, 2, 1, 0]),
    x_test=rng.normal(size=(4, 2, 3)),
    y_test=np.array([2, 0, 0, 2]),
  )


def _with(value, row):
  """x_train with a value put into one row."""
  x = _good()['x_train']
  x[row, 1] = value
  return x


class ToSplitTest(parameterized.TestCase):
  def test_unit_norm_is_each_examples_own(self):
    """x / ||x||_2 row by row, equal to float64: no other row has a say."""
    good = _good()
    split = arrays.to_split(**good)
    for x, got in (
      (good['x_train'], split.train.x),
      (good['x_test'], split.test.x),
    ):
      flat = x.reshape(len(x), 6)
      expected = [row / np.sqrt((row**2).sum()) for row in flat]
      np.testing.assert_allclose(got, expected, rtol=3e-7, atol=1e-8)
      self.assertEqual(got.dtype, np.float32)
    np.testing.assert_array_equal(split.train.y, good['y_train'])
    np.testing.assert_array_equal(split.test.y, good['y_test'])
    self.assertEqual(split.train.y.dtype, np.int32)

  @parameterized.parameters(1e-40, 1e-30, 1e30)
  def test_any_magnitude_has_its_direction(self, magnitude):
    """A norm whose square is beyond float32 must not turn rows into 0 or NaN.

    1e-40 has few bits left in float32, so its direction is coarse.
    """
    good = _good()
    x = np.sign(good['x_train']) * magnitude
    split = arrays.to_split(**(good | {'x_train': x}))
    expected = np.sign(x).reshape(6, 6) / np.sqrt(6)
    np.testing.assert_allclose(split.train.x, expected, rtol=1e-6)

  @parameterized.parameters(np.uint8, np.int64, np.float16, np.float64, bool)
  def test_without_norm_values_stay(self, dtype):
    """normalize=False changes the type and the shape, never a value."""
    good = _good()
    x = (np.arange(36).reshape(6, 6) % 7).astype(dtype)
    good |= {'x_train': x, 'x_test': x[:4]}
    split = arrays.to_split(**good, normalize=False)
    np.testing.assert_array_equal(split.train.x, x.astype(np.float32))
    self.assertEqual(split.train.x.dtype, np.float32)

  def test_jax_arrays_and_lists_are_arrays(self):
    """What a user holds need not be NumPy's."""
    good = _good()
    expected = arrays.to_split(**good)
    for convert in (jnp.asarray, lambda a: a.tolist()):
      split = arrays.to_split(*(convert(a) for a in good.values()))
      np.testing.assert_allclose(split.train.x, expected.train.x, rtol=1e-6)
      np.testing.assert_array_equal(split.test.y, expected.test.y)

  @parameterized.named_parameters(
    ('nan', 'x_train', _with(np.nan, 3), 'train x .*row 3 '),
    ('inf', 'x_test', _with(-np.inf, 5)[2:], 'test x .*row 3 '),
    ('beyond_float32', 'x_train', _with(1e39, 2), 'float32, first in row 2 '),
    ('text', 'x_train', np.full((6, 6), 'a'), 'train x has type'),
    ('complex', 'x_test', np.ones((4, 6), complex), 'test x has type complex'),
    ('flat', 'x_train', np.ones(6), r'shape \(6,\)'),
    ('empty', 'x_train', np.ones((0, 6)), r'shape \(0, 6\)'),
    ('no_coordinate', 'x_train', np.ones((6, 0)), r'shape \(6, 0\)'),
    ('dims', 'x_test', np.ones((4, 5)), '6 coordinates, test x has 5'),
    ('lengths', 'y_train', np.array([0, 1]), r'train y .*\(2,\).*\(6,\)'),
    ('column', 'y_test', np.zeros((4, 1), int), r'test y .*\(4, 1\)'),
    ('float_labels', 'y_train', np.arange(6.0) % 3, 'y.astype'),
    ('nan_label', 'y_test', np.array([0, 1, np.nan, 0]), 'test y has type'),
    ('bool_labels', 'y_train', np.arange(6) > 2, 'type bool'),
    ('negative', 'y_train', np.array([-1, 0, 1, -1, 0, 1]), 'is -1 where 0'),
    ('gap', 'y_train', np.array([0, 1, 3, 3, 1, 0]), 'is 3 where 2'),
    ('from_one', 'y_train', np.array([1, 2, 3, 1, 2, 3]), 'is 1 where 0'),
    ('one_class', 'y_train', np.zeros(6, int), 'one class only, 0'),
    ('unseen', 'y_test', np.array([0, 1, 3, 0]), r'label 3 at row 2.*0\.\.2'),
    ('unseen_below', 'y_test', np.array([0, -1, 2, 0]), 'label -1 at row 1'),
    ('huge_label', 'y_test', np.array([0, 1, 2**32, 0]), 'label 4294967296'),
  )
  def test_bad_data_is_named(self, field, value, message):
    """Every fault is said with the set, the row and what was expected."""
    with self.assertRaisesRegex(ValueError, message):
      arrays.to_split(**(_good() | {field: value}), normalize=False)

  def test_zero_has_no_direction(self):
    """A zero row is an error under unit norm only, with its index."""
    x = _good()['x_train']
    x[[1, 4]] = 0
    good = _good() | {'x_train': x}
    with self.assertRaisesRegex(ValueError, r'zero in row 1 \(2 rows'):
      arrays.to_split(**good)
    split = arrays.to_split(**good, normalize=False)
    np.testing.assert_array_equal(split.train.x[1], np.zeros(6))

  @parameterized.parameters('standardised_unit_norm', 'centred_unit_norm')
  def test_what_is_taken_away_first(self, preprocess):
    """The training mean, in float64: one number, or one example's worth.

    Division by the standard deviation is the oracle's alone.
    """
    good = _good()
    x = {name: good[name].reshape(-1, 6) + 0.5 for name in good if 'x' in name}
    split = arrays.to_split(**(good | x), preprocess=preprocess)
    center, scale = x['x_train'].mean(0), 1.0
    if preprocess == 'standardised_unit_norm':
      center, scale = x['x_train'].mean(), x['x_train'].std()
    for raw, got in zip(x.values(), (split.train.x, split.test.x), strict=True):
      expected = (raw - center) / scale
      expected /= np.linalg.norm(expected, axis=1, keepdims=True)
      np.testing.assert_allclose(got, expected, atol=3e-7)
      self.assertEqual(got.dtype, np.float32)

  @parameterized.parameters('standardised_unit_norm', 'centred_unit_norm')
  def test_test_set_has_no_say(self, preprocess):
    """The training set is the same beside any test set."""
    good = _good()
    split = arrays.to_split(**good, preprocess=preprocess)
    good['x_test'] = 100 + good['x_test']
    other = arrays.to_split(**good, preprocess=preprocess)
    np.testing.assert_array_equal(other.train.x, split.train.x)

  @parameterized.parameters('standardised_unit_norm', 'centred_unit_norm')
  def test_difference_of_the_largest(self, preprocess):
    """x - c of two that float32 just holds is beyond it; its direction not."""
    x = np.full((6, 2), 3e38)
    x[::2] = -3e38, -2e38
    good = _good() | {'x_train': x, 'x_test': x[:4]}
    split = arrays.to_split(**good, preprocess=preprocess)
    norms = np.linalg.norm(np.asarray(split.train.x, np.float64), axis=1)
    np.testing.assert_allclose(norms, 1, rtol=1e-6)

  @parameterized.named_parameters(
    ('centred', 'centred_unit_norm', np.ones((6, 6))),
    ('standardised', 'standardised_unit_norm', np.full((6, 6), 0.1)),
  )
  def test_zero_after_the_mean_is_gone(self, preprocess, x):
    """An example that is the mean is refused like one that is zero."""
    good = _good() | {'x_train': x}
    message = rf'train x, {preprocess}, is zero in row 0 \(6 rows'
    with self.assertRaisesRegex(ValueError, message):
      arrays.to_split(**good, preprocess=preprocess)

  def test_two_ways_to_say_raw(self):
    """normalize=False is preprocess='raw', and no other."""
    good = _good()
    raw = arrays.to_split(**good, normalize=False)
    for normalize in (True, False):
      same = arrays.to_split(**good, normalize=normalize, preprocess='raw')
      np.testing.assert_array_equal(same.train.x, raw.train.x)
    unit = arrays.to_split(**good, preprocess='unit_norm')
    np.testing.assert_array_equal(unit.train.x, arrays.to_split(**good).train.x)
    for other in ('unit_norm', 'standardised_unit_norm', 'centred_unit_norm'):
      with self.assertRaisesRegex(ValueError, f"'raw', but it is '{other}'"):
        arrays.to_split(**good, normalize=False, preprocess=other)
    with self.assertRaisesRegex(ValueError, "'whiten'; expected one of unit_n"):
      arrays.to_split(**good, preprocess='whiten')

  def test_classes_may_be_absent_from_the_test_set(self):
    """y_test of `_good` lacks class 1: nothing forbids that."""
    self.assertNotIn(1, _good()['y_test'])
    arrays.to_split(**_good())


class ValidateTest(parameterized.TestCase):
  def test_good_split_passes(self):
    arrays.validate(arrays.to_split(**_good()))

  @parameterized.named_parameters(
    ('nan', lambda d: d._replace(x=d.x.at[2, 0].set(jnp.nan)), 'row 2'),
    ('gap', lambda d: d._replace(y=2 * d.y), 'is 2 where 1'),
    ('float', lambda d: d._replace(y=d.y / 1), 'expected integers'),
    ('rank', lambda d: d._replace(x=d.x[:, :, None]), r'\(6, 6, 1\)'),
    ('length', lambda d: d._replace(x=d.x[:5]), r'\(5,\)'),
  )
  def test_bad_split_does_not(self, spoil, message):
    """A Split made by hand is held to the same as one made of arrays."""
    split = arrays.to_split(**_good())
    with self.assertRaisesRegex(ValueError, message):
      arrays.validate(split._replace(train=spoil(split.train)))

  def test_test_set_is_looked_at_too(self):
    split = arrays.to_split(**_good())
    other = Dataset(split.test.x, split.test.y + 1)
    with self.assertRaisesRegex(ValueError, 'label 3 at row 0'):
      arrays.validate(Split(split.train, other))
