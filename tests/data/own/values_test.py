"""Arrays of other libraries: the numbers that NumPy would have, or refused."""

import collections
import types
from unittest import mock

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pandas as pd
import scipy.sparse
from absl.testing import parameterized

from ossgd.data.own import values
from ossgd.machine import memory

# Numbers that the smallest of the types can hold.
X = np.array([[0.5, 1, 2], [1.5, -1, 4], [0, 2, -2], [3, 1, 1]])


class Tensor:
  """PyTorch's, as far as it is asked; a real one is in `torch_test`."""


class InputsTest(parameterized.TestCase):
  @parameterized.parameters(
    np.float16, np.float32, np.float64, np.longdouble, '>f4', '<f8'
  )
  def test_floats_of_numpy(self, dtype):
    np.testing.assert_array_equal(values.inputs('x', X.astype(dtype)), X)

  @parameterized.parameters(
    *('bfloat16', 'float8_e4m3fn', 'float8_e5m2', 'float8_e4m3b11fnuz'),
    *('float16', 'float32'),
  )
  def test_floats_of_jax(self, name):
    """Those that NumPy has no type for, too."""
    for x in (
      jnp.asarray(X, name),
      X.astype(getattr(ml_dtypes, name, name)),
    ):
      found = values.inputs('x', x)
      self.assertEqual(found.dtype, np.float32)
      np.testing.assert_array_equal(found, X)

  @parameterized.parameters('int4', 'uint4', 'int8', 'uint8', 'bool')
  def test_integers_of_jax(self, name):
    x = np.abs(np.rint(X)) % 2
    found = values.inputs('x', jnp.asarray(x, name))
    np.testing.assert_array_equal(found, x)

  def test_nothing_is_shared_with_the_user(self):
    """What is changed later is no longer ours; JAX's arrays never change."""
    mine = X.astype(np.float32)
    found = values.inputs('x', mine)
    mine[:] = 0
    np.testing.assert_array_equal(found, X)
    held = jnp.asarray(X, jnp.float32)
    self.assertTrue(
      np.shares_memory(values.inputs('x', held), np.asarray(held))
    )

  def test_examples_are_flattened(self):
    images = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    found = values.inputs('x', images)
    np.testing.assert_array_equal(found, np.arange(24).reshape(2, 12))

  @parameterized.parameters(
    'coo_array', 'csr_array', 'csc_matrix', 'dok_array', 'lil_matrix'
  )
  def test_sparse(self, kind):
    """What scikit-learn's vectorizers return; the log says what became of it."""
    for dtype in (np.float64, np.int64, np.uint8, bool):
      x = (X > 0.7).astype(dtype) * np.asarray(3, dtype)
      with self.assertLogs(level='INFO') as logs:
        found = values.inputs('x', getattr(scipy.sparse, kind)(x))
      np.testing.assert_array_equal(found, x)
      self.assertEqual(found.dtype, np.float32)
      self.assertIn('x: sparse, made dense, (4, 3)', logs.output[0])

  def test_sparse_that_does_not_fit(self):
    """Its size, before anything is allocated; one byte more is enough."""
    wide = scipy.sparse.csr_array((10**9, 10**8))
    with self.assertRaisesRegex(
      ValueError, r'^x is sparse.* 1\.6e\+09 GB, but .* GB are free'
    ):
      values.inputs('x', wide)
    small = scipy.sparse.csr_array(X)
    needed = 4 * 4 * X.size
    with mock.patch.object(memory, 'free', return_value=needed):
      values.inputs('x', small)
    with (
      mock.patch.object(memory, 'free', return_value=needed - 1),
      self.assertRaisesRegex(ValueError, 'networks need it dense'),
    ):
      values.inputs('x', small)

  def test_frame(self):
    """Numbers and booleans of NumPy, of pandas and of Arrow."""
    frame = pd.DataFrame(
      {
        'a': [0.5, -1.5],
        'b': [True, False],
        'c': pd.array([True, False], dtype='boolean'),
        'd': pd.array([1, -2], dtype='Int64'),
        'e': pd.array([0.25, 2], dtype='Float64'),
        'f': pd.arrays.SparseArray([0.0, 3.0]),
        'g': np.array([7, 200], np.uint8),
      }
    )
    expected = [[0.5, 1, 1, 1, 0.25, 0, 7], [-1.5, 0, 0, -2, 2, 3, 200]]
    np.testing.assert_array_equal(values.inputs('x', frame), expected)
    twice = frame.set_axis(['a'] * 7, axis=1)  # names need not differ
    np.testing.assert_array_equal(values.inputs('x', twice), expected)
    for column in ('c', 'd', 'e'):
      frame.loc[1, column] = pd.NA
      found = values.inputs('x', frame[['a', column]])
      self.assertEqual(np.isnan(found).tolist(), [[False] * 2, [False, True]])

  @parameterized.named_parameters(
    ('text', pd.DataFrame({'a': [1], 'town': ['x']}), "'town' of type"),
    ('category', pd.DataFrame({'t': pd.Categorical(['x'])}), "'t' of type cat"),
    ('date', pd.DataFrame({'t': pd.to_datetime(['2020'])}), "'t' of type date"),
    ('objects', pd.DataFrame({'t': [1, None]}, dtype=object), "'t' of type obj"),
    ('ragged', [[1, 2], [3]], 'cannot be read as an array: setting an'),
    ('objects_of_numpy', X.astype(object), r'type object.*x.astype\(float\)'),
    ('texts', [['1', '2']], r'type <U1.*x.astype\(float\)'),
    ('fields', np.zeros(3, 'f4,f4'), 'structured_to_unstructured'),
    ('date_of_numpy', np.zeros((2, 2), 'M8[D]'), 'type datetime64'),
    ('series', pd.Series([1.0]), r'shape \(1,\).*Reshape'),
    ('keys', jax.random.split(jax.random.key(0), (2, 2)), 'cannot be read as'),
    ('a_thing', types.SimpleNamespace(shape=(2, 3)), 'has type object'),
  )
  def test_refused(self, given, message):
    with self.assertRaisesRegex(ValueError, f'^train x .*{message}'):
      values.inputs('train x', given)

  def test_masked(self):
    """As NaN is: a fill value is no measurement."""
    masked = np.ma.array(X, mask=X == 4)
    for given in (masked, list(masked), np.ma.array(X[0], mask=X[0] == 2)):
      with self.assertRaisesRegex(
        ValueError, r'^x has masked .* row [12] \(1 rows.*\.filled\(VALUE\)'
      ):
        values.plain('x', given)
    np.testing.assert_array_equal(values.inputs('x', np.ma.array(X)), X)
    for empty in (np.ma.zeros((0, 3)), np.ma.zeros(())):
      self.assertEqual(values.plain('x', empty).shape, empty.shape)

  def test_traced(self):
    """JAX says best what a traced array is."""
    with self.assertRaises(jax.errors.TracerArrayConversionError):
      jax.jit(lambda x: values.inputs('x', x))(X)

  def test_what_is_missing_in_a_list_is_not_text(self):
    """NumPy would make the text 'nan' of it."""
    found = values.plain('y', ['a', float('nan'), None, 3])
    self.assertEqual(collections.Counter(map(type, found.tolist()))[str], 1)
