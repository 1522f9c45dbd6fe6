"""Labels in every encoding: the same classes, or a line that says why not."""

import jax.numpy as jnp
import numpy as np
import pandas as pd
import scipy.sparse
from absl.testing import parameterized
from hypothesis import given, settings
from hypothesis import strategies as st

from ossgd.data.own import labels

NAMES = ('ant', 'bee', 'cow', 'dog', 'eel', 'fox')


def _one_hot(y, k):
  return (np.arange(k) == y[:, None]).astype(np.float32)


# y in 0..k-1 and k -> the same labels in another encoding.
ENCODINGS = {
  'string type': lambda y, k: np.array(
    [f'n{i}' for i in range(k)], np.dtypes.StringDType()
  )[y],
  'from 1': lambda y, k: y + 1,
  'uint8': lambda y, k: y.astype(np.uint8),
  'column': lambda y, k: y[:, None],
  'column from 1': lambda y, k: (y + 1)[:, None].astype(np.int32),
  'float': lambda y, k: y.astype(np.float64),
  'float from 1': lambda y, k: y + 1.0,
  'bfloat16': lambda y, k: jnp.asarray(y, jnp.bfloat16),
  'one-hot': _one_hot,
  'one-hot bool': lambda y, k: _one_hot(y, k) > 0,
  'one-hot sparse': lambda y, k: scipy.sparse.csr_array(_one_hot(y, k)),
  'one-hot objects': lambda y, k: _one_hot(y, k).astype(object),
  'dummies': lambda y, k: pd.get_dummies(
    pd.Categorical(np.array(NAMES)[y], categories=NAMES[:k])
  ),
  'text': lambda y, k: np.array(NAMES)[y],
  'text column': lambda y, k: np.array(NAMES)[y][:, None],
  'bytes': lambda y, k: np.array(NAMES, 'S')[y],
  'list': lambda y, k: [NAMES[i] for i in y],
  'objects': lambda y, k: np.array(NAMES, object)[y],
  'series': lambda y, k: pd.Series(np.array(NAMES)[y]),
  'frame': lambda y, k: pd.DataFrame({'label': np.array(NAMES)[y]}),
  'category': lambda y, k: pd.Series(
    pd.Categorical(np.array(NAMES)[y], categories=NAMES[::-1])
  ),
  'nullable': lambda y, k: pd.Series(pd.array(y, dtype='Int64')),
  'digits': lambda y, k: (y + 8).astype(str),  # '8', '9', '10', ...
  'text of floats': lambda y, k: [f'{i - 2:.1f}' for i in y],
  'masked': lambda y, k: np.ma.array(y),
}
OF_TWO = {
  'signs': lambda y, k: 2 * y - 1,
  'float signs': lambda y, k: 2.0 * y - 1,
  'bool': lambda y, k: y == 1,
  'nullable bool': lambda y, k: pd.Series(pd.array(y == 1, dtype='boolean')),
}


@st.composite
def _problems(draw):
  """k, training labels of all classes in any order, and test labels."""
  k = draw(st.integers(2, 6))
  more = draw(st.lists(st.integers(0, k - 1), max_size=6))
  train = draw(st.permutations([*range(k), *more]))
  test = draw(st.lists(st.integers(0, k - 1), min_size=1, max_size=6))
  return k, np.array(train), np.array(test)


class ReadTest(parameterized.TestCase):
  def read(self, train, test):
    return labels.read(
      train, test, len(train_rows(train)), len(train_rows(test))
    )

  @parameterized.parameters(*ENCODINGS, *OF_TWO)
  @settings(derandomize=True, deadline=None, max_examples=12, database=None)
  @given(_problems())
  def test_read_alike(self, name, problem):
    """Whatever they are called: the classes, in the order of their names."""
    k, y_train, y_test = problem
    if name in OF_TWO:
      k, y_train, y_test = 2, np.append(y_train % 2, [0, 1]), y_test % 2
    encode = (ENCODINGS | OF_TWO)[name]
    train, test = self.read(encode(y_train, k), encode(y_test, k))
    np.testing.assert_array_equal(train, y_train)
    np.testing.assert_array_equal(test, y_test)
    self.assertEqual((train.dtype, test.dtype), (np.int64, np.int64))

  @parameterized.parameters(
    ('from 1', 'labels read as classes 0..2: 1 as 0, 2 as 1, 3 as 2'),
    ('float', 'labels, float64, read as classes 0..2'),
    ('column', r'labels, int64 of shape \(5, 1\), read as classes 0..2'),
    ('one-hot', 'as one-hot rows of 3, float32 of shape .*, read as .* 0..2'),
    ('text', "labels, <U3, .* 0..2: 'ant' as 0, 'bee' as 1, 'cow' as 2"),
    ('digits', "'8' as 0, '9' as 1, '10' as 2"),
  )
  def test_said_in_one_line(self, name, line):
    y = np.array([2, 0, 1, 1, 0])
    with self.assertLogs(level='INFO') as logs:
      self.read(ENCODINGS[name](y, 3), ENCODINGS[name](y[:2], 3))
    self.assertLen(logs.records, 1)
    self.assertRegex(logs.records[0].getMessage(), f'{line}$')

  @parameterized.parameters(np.int64, np.uint8, np.int32)
  def test_nothing_is_said_of_what_is_as_expected(self, dtype):
    y = np.array([2, 0, 1], dtype)
    with self.assertNoLogs(level='INFO'):
      self.read(y, y)

  def test_the_test_set_may_be_one_class(self):
    """It has no say in what the classes are."""
    y = np.array([1, 2, 3])
    np.testing.assert_array_equal(self.read(y, y[2:])[1], [2])
    np.testing.assert_array_equal(self.read([-1, 1], [1, 1])[1], [1, 1])
    np.testing.assert_array_equal(self.read(['b', 'a'], ['b'])[1], [1])


def train_rows(y):
  return range(y.shape[0]) if hasattr(y, 'shape') else y


GOOD = np.array([0, 1, 2, 0])
HOT = np.eye(3)[GOOD]


class RefusedTest(parameterized.TestCase):
  @parameterized.named_parameters(
    ('gap', GOOD * 2, 'is 2 where 1 .*without gaps.* pass y.astype'),
    ('from_two', GOOD + 2, 'is 2 where 0 is expected'),
    ('three_signs', GOOD - 1, 'is -1 where 0'),
    ('far_apart', GOOD % 2 * 7 - 3, 'is -3 where 0'),
    ('one_class', GOOD * 0, 'one class only, 0;'),
    ('one_class_of_ones', GOOD * 0 + 1, 'one class only, 1;'),
    ('one_text', ['a'] * 4, "one class only, 'a';"),
    ('half', GOOD + 0.5, r'has 0\.5 in row 0, .*y > numpy.median\(y_train\)'),
    ('huge', GOOD * 1e300, r'has 1e\+300 in row 1, which is no class'),
    ('nan', [0, 1, np.nan, np.nan], r'no label in row 2, but nan \(2 rows'),
    ('infinite', [0, 1, np.inf, 0], 'no label in row 2, but inf'),
    ('none', [0, 1, None, 1], 'no label in row 2, but None'),
    ('nan_in_text', ['a', np.nan, 'b', 'a'], 'no label in row 1, but nan'),
    ('text_of_nan', np.array(['a', 'b', np.nan, 'a']), 'text nan in row 2'),
    ('na', pd.Series(['a', None, 'b', 'a']), 'no label in row 1, but'),
    (
      'na_of_strings',
      pd.Series(['a', None, 'b', 'a'], dtype='string'),
      'no label in row 1, but <NA>',
    ),
    (
      'na_of_integers',
      pd.Series(pd.array([0, None, 1, 1], dtype='Int64')),
      'no label in row 1, but nan',
    ),
    (
      'na_of_booleans',
      pd.Series(pd.array([True, False, None, True], dtype='boolean')),
      'no label in row 2, but <NA>',
    ),
    ('masked', np.ma.array(GOOD, mask=GOOD == 2), 'masked values.*row 2'),
    ('mixed', np.array(['a', 1, 'b', 'a'], object), 'mixes numbers and text;'),
    ('mixed_list', ['a', 1, 'b', 'a'], r'mixes numbers and text; .*astype\(s'),
    ('objects', np.array([object()] * 4), 'has a object in row 0'),
    ('complex', GOOD * 1j, 'type complex128, expected integers'),
    ('dates', GOOD.astype('M8[D]'), r'type datetime64\[D\], expected integers'),
    ('short', GOOD[:3], r'shape \(3,\).* the 4 rows of x: \(4,\)\.$'),
    ('row', GOOD[None], r'shape \(1, 4\).*Pass y.reshape\(-1\)'),
    ('no_column', np.zeros((4, 0)), r'shape \(4, 0\), expected one label'),
    ('cube', np.zeros((4, 1, 1), int), r'shape \(4, 1, 1\).*reshape'),
    ('scalar', np.zeros((), int), r'shape \(\), expected one label'),
    ('soft', 0.8 * HOT + 0.1, r'row 0 is \[0.9 .*argmax'),
    ('two_ones', HOT + np.eye(3)[1], r'row 0 is \[1. 1. 0.\].*argmax'),
    ('signs_of_all', 2 * HOT - 1, r'row 0 is \[ 1. -1. -1.\]'),
    ('two_columns', np.stack([GOOD, GOOD], axis=1), r'row 0 is \[0 0\]'),
    ('text_columns', np.array([['a', 'b']] * 4), r"row 0 is \['a' 'b'\]"),
    ('nan_in_one_hot', np.where(HOT == 1, HOT, np.nan), r'row 0 is \[ ?1. nan'),
    ('lost_column', np.eye(4)[GOOD], r'4 columns.* 3\. .*y_train.any\(axis=0'),
  )
  def test_training_labels(self, y, message):
    """Each with what is wrong with it, and what to pass."""
    with self.assertRaisesRegex(ValueError, f'^train y .*{message}'):
      labels.read(y, y, 4, 4)

  def test_quantity(self):
    """Many numbers with gaps may be no names at all."""
    y = np.random.default_rng(0).integers(10**6, size=50) * 1.0
    with self.assertRaisesRegex(ValueError, 'where 0 .* numpy.median'):
      labels.read(y, y, 50, 50)
    with self.assertRaisesRegex(ValueError, r'names[^C]*alike\.$'):
      labels.read(y[:4], y[:4], 4, 4)

  @parameterized.named_parameters(
    ('unknown', GOOD, [0, 3], r'label 3 at row 1, .* classes 0\.\.2'),
    ('from_zero', GOOD + 1, [1, 0], 'label 0 at row 1, .* classes 1, 2, 3'),
    ('from_one', GOOD, [1, 3], 'label 3 at row 1'),
    ('sign', GOOD % 2, [1, -1], r'label -1 at row 1, .* classes 0\.\.1'),
    ('text', list('abca'), ['a', 'd'], "label 'd' at row 1.*'a', 'b', 'c'"),
    ('bytes', list('abca'), np.array(['a', 'b'], 'S'), "label b'a' at row 0"),
    ('beyond', GOOD, np.array([0, 2**64 - 1], np.uint64), 'label 18446744073'),
    ('near', GOOD, [0, 1.5], r'^test y has 1\.5 in row 1'),
  )
  def test_test_labels(self, y_train, y_test, message):
    """What training has not seen cannot be right."""
    with self.assertRaisesRegex(ValueError, f'^test y .*{message}|{message}'):
      labels.read(y_train, y_test, 4, 2)

  @parameterized.named_parameters(
    ('text', ['0', '1'], 'holds numbers, but test y text'),
    ('one_hot', HOT[:2], 'holds numbers, but test y one-hot rows of 3'),
  )
  def test_both_sets_alike(self, y_test, message):
    with self.assertRaisesRegex(ValueError, f'train y {message}; pass both'):
      labels.read(GOOD, y_test, 4, 2)
    with self.assertRaisesRegex(ValueError, 'rows of 3, but .* rows of 4'):
      labels.read(HOT, np.eye(4)[:2], 4, 2)

  def test_the_lines_mend(self):
    """What messages say to pass is read."""
    for gap, expected in ((GOOD * 2 - 1, GOOD), (np.eye(4)[GOOD], GOOD)):
      mended = gap.astype(str) if gap.ndim == 1 else gap[:, gap.any(axis=0)]
      found, _ = labels.read(mended, mended, 4, 4)
      np.testing.assert_array_equal(found, expected)
    found, _ = labels.read(0.8 * HOT.argmax(axis=1) > 0.5, [0, 1], 4, 2)
    np.testing.assert_array_equal(found, GOOD > 0)

  def test_long_text_is_no_burden(self):
    """Documents taken for labels: neither copied as wide as the longest."""
    long = 'x' * 10**7
    y = [long, *(f'{i}' for i in range(2000))]
    with self.assertRaises(ValueError) as caught:
      labels.read(y, [long, 'unknown'], len(y), 2)
    self.assertLess(len(str(caught.exception)), 400)
