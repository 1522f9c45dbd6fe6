import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import scipy.sparse
from absl.testing import parameterized

from ossgd.data import arrays
from ossgd.paper.types import Dataset, Split


def _good():
  """Six and four examples of shape (2, 3); the four lack class 1 of three."""
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

  def test_any_library(self):
    """Frames, sparse matrices and text are the arrays that they stand for."""
    good = _good()
    expected = arrays.to_split(**good)
    columns = [f'x{i}' for i in range(6)]
    names = np.array(['a', 'b', 'c'])
    other = dict(
      x_train=pd.DataFrame(good['x_train'].reshape(6, 6), columns=columns),
      y_train=pd.Series(names[good['y_train']]),
      x_test=scipy.sparse.csr_array(good['x_test'].reshape(4, 6)),
      y_test=names[good['y_test']].tolist(),
    )
    split = arrays.to_split(**other)
    np.testing.assert_allclose(split.train.x, expected.train.x, atol=1e-7)
    np.testing.assert_allclose(split.test.x, expected.test.x, atol=1e-7)
    np.testing.assert_array_equal(split.train.y, good['y_train'])
    np.testing.assert_array_equal(split.test.y, good['y_test'])
    x_test = pd.DataFrame(good['x_test'].reshape(4, 6), columns=columns[::-1])
    with self.assertRaisesRegex(ValueError, r'pass x_test\[x_train.columns\]'):
      arrays.to_split(**(other | {'x_test': x_test}))

  def test_what_is_ready_stays(self):
    """No copy of what JAX holds, on whichever device; scaled it is another."""
    good = _good()
    for name in ('x_train', 'x_test'):
      good[name] = jnp.asarray(good[name].reshape(-1, 6), jnp.float32)
    split = arrays.to_split(**good, normalize=False)
    self.assertIs(split.train.x, good['x_train'])
    self.assertIs(split.test.x, good['x_test'])
    self.assertIsNot(arrays.to_split(**good).train.x, good['x_train'])

  def test_bytes_of_images(self):
    """Unit norm does not ask for a division by 255; raw they stay."""
    x = np.random.default_rng(0).integers(1, 256, (6, 4, 4)).astype(np.uint8)
    good = _good() | {'x_train': x, 'x_test': x[:4]}
    share = good | {'x_train': x / 255, 'x_test': x[:4] / 255}
    for preprocess in ('unit_norm', 'centred_unit_norm'):
      one, other = (
        arrays.to_split(**g, preprocess=preprocess).train.x
        for g in (good, share)
      )
      np.testing.assert_allclose(one, other, atol=1e-6)
    raw = arrays.to_split(**good, normalize=False)
    np.testing.assert_array_equal(raw.train.x, x.reshape(6, 16))

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
    ('columns', 'y_test', np.zeros((4, 2), int), r'test y .*\(4, 2\)'),
    ('nan_label', 'y_test', np.array([0, 1, np.nan, 0]), 'test y has no label'),
    ('two_classes', 'y_train', np.arange(6) > 2, 'test y has label 2 at row 0'),
    ('negative', 'y_train', np.array([-1, 0, 1, -1, 0, 1]), 'is -1 where 0'),
    ('gap', 'y_train', np.array([0, 1, 3, 3, 1, 0]), 'is 3 where 2'),
    ('from_one', 'y_train', np.array([1, 2, 3, 1, 2, 3]), 'test y has label 0'),
    (
      'masked',
      'x_test',
      np.ma.masked_less(_with(-9, 5)[2:], -8),
      'test x .*3 ',
    ),
    ('one_class', 'y_train', np.zeros(6, int), 'one class only, 0'),
    ('unseen', 'y_test', np.array([0, 1, 3, 0]), r'label 3 at row 2.*0\.\.2'),
    ('unseen_below', 'y_test', np.array([0, -1, 2, 0]), 'label -1 at row 1'),
    ('huge_label', 'y_test', np.array([0, 1, 2**32, 0]), 'label 4294967296'),
  )
  def test_bad_data_is_named(self, field, value, message):
    """Every fault is said with the set, the row and what was expected."""
    with self.assertRaisesRegex(ValueError, message):
      arrays.to_split(**(_good() | {field: value}), normalize=False)

  @parameterized.parameters(
    ('unit_norm', np.arange(6.0)[:, None] % 3 * np.ones(6), 'x is', 2),
    ('centred_unit_norm', np.ones((6, 6)), 'x, centred_unit_norm, is', 6),
    ('standardised_unit_norm', np.full((6, 6), 0.1), 'x, standard.*, is', 6),
  )
  def test_zero_has_no_direction(self, preprocess, x, what, rows):
    """An example that is zero, or the mean that is taken away."""
    good = _good() | {'x_train': x}
    message = rf'train {what} zero in row 0 \({rows} rows'
    with self.assertRaisesRegex(ValueError, message):
      arrays.to_split(**good, preprocess=preprocess)
    split = arrays.to_split(**good, preprocess='raw')
    np.testing.assert_array_equal(split.train.x, x.astype(np.float32))

  @parameterized.parameters('standardised_unit_norm', 'centred_unit_norm')
  def test_what_is_taken_away_first(self, preprocess):
    """The training mean, in float64: one number, or one example's worth.

    The test set has no say. Division by the standard deviation is the oracle's
    alone.
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
  def test_difference_of_the_largest(self, preprocess):
    """x - c of two that float32 just holds is beyond it; its direction not."""
    x = np.full((6, 2), 3e38)
    x[::2] = -3e38, -2e38
    good = _good() | {'x_train': x, 'x_test': x[:4]}
    split = arrays.to_split(**good, preprocess=preprocess)
    norms = np.linalg.norm(np.asarray(split.train.x, np.float64), axis=1)
    np.testing.assert_allclose(norms, 1, rtol=1e-6)

  def test_two_ways_to_say_raw(self):
    """normalize=False is preprocess='raw', and no other."""
    good = _good()
    for normalize, preprocess in ((True, 'raw'), (False, 'raw'), (False, None)):
      split = arrays.to_split(
        **good, normalize=normalize, preprocess=preprocess
      )
      raw = good['x_train'].reshape(6, 6).astype(np.float32)
      np.testing.assert_array_equal(split.train.x, raw)
    for other in ('unit_norm', 'standardised_unit_norm', 'centred_unit_norm'):
      with self.assertRaisesRegex(ValueError, f"'raw', but it is '{other}'"):
        arrays.to_split(**good, normalize=False, preprocess=other)
    # Annotations are checked in tests only, and would say it first.
    unchecked = inspect.unwrap(arrays.to_split)
    with self.assertRaisesRegex(ValueError, "'whiten'; expected one of unit_n"):
      unchecked(**good, preprocess='whiten')


class ValidateTest(parameterized.TestCase):
  @parameterized.named_parameters(
    ('nan', 'train', lambda x, y: (x.at[2, 0].set(jnp.nan), y), 'row 2'),
    ('gap', 'train', lambda x, y: (x, 2 * y), 'is 2 where 1'),
    ('float', 'train', lambda x, y: (x, y / 1), 'expected integers'),
    ('rank', 'train', lambda x, y: (x[:, :, None], y), r'\(6, 6, 1\)'),
    ('length', 'train', lambda x, y: (x[:5], y), r'\(5,\)'),
    ('unknown', 'test', lambda x, y: (x, y + 1), 'label 3 at row 0'),
  )
  def test_bad_split(self, which, spoil, message):
    """A Split made by hand is held to the same as one made of arrays."""
    split = arrays.to_split(**_good())
    arrays.validate(split)
    spoilt = Dataset(*spoil(*getattr(split, which)))
    with self.assertRaisesRegex(ValueError, message):
      arrays.validate(split._replace(**{which: spoilt}))

  def test_known_number_of_classes(self):
    """A seed may have drawn none of a class, as mixtures may; none beyond."""
    split = arrays.to_split(**_good())
    lacks = split._replace(train=Dataset(split.train.x, split.train.y % 2))
    with self.assertRaisesRegex(ValueError, 'test y has label 2'):
      arrays.validate(lacks)
    arrays.validate(lacks, 3)
    arrays.validate(split, 4)
    with self.assertRaisesRegex(ValueError, r'train y has .* 2 at .* 0\.\.1'):
      arrays.validate(split, 2)

  def test_shapes_alone(self):
    """Of data that nobody could hold, and without any number."""

    def shapes(x, y, dtype=jnp.int32):
      one = Dataset(
        jax.ShapeDtypeStruct(x, jnp.bfloat16), jax.ShapeDtypeStruct(y, dtype)
      )
      return Split(one, one)

    n = 10**12
    arrays.check_shapes(shapes((n, 5), (n,)))
    for bad, message in (
      (shapes((n,), (n,)), 'train x has shape'),
      (shapes((n, 5), (n, 1)), 'train y has shape'),
      (shapes((n, 5), (n,), jnp.float32), 'train y has type float32'),
      (
        Split(shapes((n, 5), (n,)).train, shapes((n, 4), (n,)).test),
        '5 coordinates',
      ),
    ):
      with self.assertRaisesRegex(ValueError, message):
        arrays.check_shapes(bad)

  @parameterized.named_parameters(
    ('train', 5, 'train y has label 5 at row 1, expected the classes 0..4'),
    ('test', 7, 'test y has label 7 at row 0, expected the classes 0..6'),
    ('none', None, 'is 1 where 0'),
  )
  def test_more_classes_than_labels(self, fewer, message):
    """Where their number is known, labels may leave some out, not pass it."""
    good = _good() | {
      'y_train': np.array([1, 5, 1, 5, 1, 5]),
      'y_test': np.array([7, 0, 1, 0]),
    }
    split = arrays.to_split(**good, num_classes=8)
    self.assertEqual(split.num_classes, 8)
    np.testing.assert_array_equal(split.train.y, good['y_train'])
    with self.assertRaisesRegex(ValueError, message):
      arrays.to_split(**good, num_classes=fewer)

  def test_known_classes_keep_their_numbers(self):
    """Letters 1 to 3 of classes 0 to 36 are not taken for 0 to 2."""
    good = _good()
    good |= {'y_train': good['y_train'] + 1, 'y_test': good['y_test'] + 1}
    split = arrays.to_split(**good, num_classes=37)
    np.testing.assert_array_equal(split.train.y, good['y_train'])
    split = arrays.to_split(**good)
    np.testing.assert_array_equal(split.train.y, good['y_train'] - 1)
