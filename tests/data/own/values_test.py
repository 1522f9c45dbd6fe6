"""Arrays of other libraries: the numbers that NumPy would have, or refused."""

import collections
import importlib.util
import types
import unittest
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
  """PyTorch's interface, as far as it is used: no dependency of the tests."""

  layout = 'torch.strided'

  def __init__(self, x, wants_gradient=False):
    self._x = np.asarray(x)
    self._wants_gradient = wants_gradient

  @property
  def shape(self):
    return self._x.shape

  def detach(self):
    return Tensor(self._x)

  def element_size(self):
    return self._x.dtype.itemsize

  def is_floating_point(self):
    return jax.dtypes.issubdtype(self._x.dtype, np.floating)

  def float(self):
    return Tensor(self._x.astype(np.float32), self._wants_gradient)

  def numpy(self, *, force=False):
    if self._wants_gradient and not force:
      raise RuntimeError('it requires grad')
    if self._x.dtype.isbuiltin == 2:
      raise TypeError('Got unsupported ScalarType')
    return self._x

  def __array__(self, dtype=None, copy=None):
    return self.numpy()


class SparseTensor(Tensor):
  layout = 'torch.sparse_coo'

  def to_dense(self):
    return Tensor(self._x)

  def numpy(self, *, force=False):
    raise TypeError("can't convert Sparse layout tensor to numpy")


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
    """As vectorizers return them; the log says what became of them."""
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
    (
      'objects',
      pd.DataFrame({'t': [1, None]}, dtype=object),
      "'t' of type obj",
    ),
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

  @parameterized.parameters(
    *('bfloat16', 'float8_e5m2', 'float16', 'float32', 'float64')
  )
  def test_tensors(self, name):
    """Of any float type, and while gradients are asked of them."""
    tensor = Tensor(X.astype(getattr(ml_dtypes, name, name)), True)
    np.testing.assert_array_equal(values.inputs('x', tensor), X)

  def test_sparse_tensors(self):
    np.testing.assert_array_equal(values.inputs('x', SparseTensor(X)), X)
    with (
      mock.patch.object(memory, 'free', return_value=10),
      self.assertRaisesRegex(ValueError, 'x is sparse'),
    ):
      values.inputs('x', SparseTensor(X))

  @unittest.skipUnless(
    importlib.util.find_spec('torch'), 'PyTorch is no dependency of the tests'
  )
  def test_tensors_of_pytorch(self):
    """What stands in for them above is what they are."""
    import torch

    for dtype in (torch.bfloat16, torch.float8_e5m2, torch.half, torch.double):
      x = torch.tensor(X).to(dtype)
      np.testing.assert_array_equal(values.inputs('x', x), X)
    wants = torch.tensor(X, requires_grad=True)
    np.testing.assert_array_equal(values.inputs('x', wants), X)
    np.testing.assert_array_equal(values.inputs('x', wants.T), X.T)
    for sparse in (
      torch.tensor(X).to_sparse(),
      torch.tensor(X).to_sparse_csr(),
    ):
      np.testing.assert_array_equal(values.inputs('x', sparse), X)
    for given, message in (
      (torch.empty(4, 3, device='meta'), 'meta tensor'),
      ([*wants], 'requires grad'),
      (torch.tensor(X * 1j), 'type complex128'),
    ):
      with self.assertRaisesRegex(ValueError, f'^x .*{message}'):
        values.inputs('x', given)

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
