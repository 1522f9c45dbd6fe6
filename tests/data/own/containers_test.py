"""What four arrays come in, and what is said where they are not in there."""

import numpy as np
import pandas as pd
from absl.testing import parameterized
from sklearn import model_selection, utils

from ossgd.data import mixtures
from ossgd.data.own import containers
from ossgd.paper.types import Dataset

X, Y = np.arange(12.0).reshape(6, 2), np.arange(6) % 2
FOUR = (X, Y, X[:4], Y[:4])


class FourTest(parameterized.TestCase):
  @parameterized.named_parameters(
    ('itself', FOUR),
    ('list', list(FOUR)),
    ('keras', (FOUR[:2], FOUR[2:])),
    ('lists', [list(FOUR[:2]), list(FOUR[2:])]),
    ('datasets', (Dataset(*FOUR[:2]), Dataset(*FOUR[2:]))),
    (
      'bunches',
      tuple(
        utils.Bunch(data=x, target=y, DESCR='of two')
        for x, y in (FOUR[:2], FOUR[2:])
      ),
    ),
    ('both', (FOUR[:2], utils.Bunch(data=FOUR[2], target=FOUR[3]))),
  )
  def test_found(self, data):
    """The very objects, in the one order."""
    found = containers.four(data)
    self.assertLen(found, 4)
    for one, other in zip(found, FOUR, strict=True):
      self.assertIs(one, other)

  @parameterized.named_parameters(
    ('bunch', utils.Bunch(data=X, target=Y), r'a Bunch; .*\(data.data, data.t'),
    ('one_set', (X, Y), r'one set, \(x, y\); .*train_test_split\(x, y\)'),
    ('lists', (X.tolist(), Y.tolist()), r'train_test_split\(x, y\)'),
    ('frames', (pd.DataFrame(X), pd.DataFrame(X)), 'two tables.*train.drop'),
    ('array', X, 'a ndarray; expected a mixture spec'),
    ('frame', pd.DataFrame(X), 'a DataFrame; expected a mixture spec'),
    ('mapping', {'x': X}, 'a dict; expected'),
    ('name', 'mnist', r"the text 'mnist'.*images.load\(NAME\)"),
    ('three', (FOUR[:2],) * 3, r'3 parts \(tuple, tuple, tuple\); expected'),
    ('objects', (mixtures, mixtures), r'2 parts \(module, module\); expected'),
    ('none', (), 'has 0 parts'),
  )
  def test_refused(self, data, message):
    """With the line that makes of it what is wanted."""
    with self.assertRaisesRegex(ValueError, f'^data .*{message}'):
      containers.four(data)

  def test_the_line_for_one_set_mends_it(self):
    """Where its names stand for what they say."""
    data = utils.Bunch(data=X, target=Y)
    with self.assertRaises(ValueError) as caught:
      containers.four(data)
    line = str(caught.exception).partition('too: ')[2]
    split, then, assigned = line.partition(', then ')
    self.assertTrue(then)
    names = {'data': data, 'sklearn': __import__('sklearn')}
    names['sklearn'].model_selection = model_selection
    exec(split, names)
    exec(assigned, names)
    four = containers.four(names['data'])
    containers.check_order(*four)
    for x, y in (four[:2], four[2:]):
      np.testing.assert_array_equal(x[:, 0] / 2 % 2, y)


class OrderTest(parameterized.TestCase):
  def test_as_it_should_be(self):
    """Frames beside arrays, and rows that never had another index."""
    frame = pd.DataFrame(X, columns=['a', 'b'])
    rows = frame.sample(frac=1, random_state=0)
    labels = pd.Series(Y)
    for four in (
      FOUR,
      (frame, labels, frame[:4], labels[:4]),
      (frame, Y, X[:4], Y[:4]),
      (rows, labels.loc[rows.index], frame, labels),
      (rows, labels.loc[rows.index].to_numpy(), frame, labels),
      (rows.iloc[:3], labels.iloc[3:], frame, labels),  # no index of both
    ):
      containers.check_order(*four)

  @parameterized.named_parameters(
    ('columns', lambda x: x[['b', 'a']], r'another order; pass x_test\[x_tr'),
    ('names', lambda x: x.rename(columns={'a': 'c'}), r"\['a'\] and with \['c"),
    ('fewer', lambda x: x[['a']], r"other columns .*, without \['b'\]; both"),
    ('more', lambda x: x.assign(c=1), r"other columns .*, with \['c'\]; both"),
    ('twice', lambda x: x[['a', 'b', 'b']], 'other columns than train x, 3;'),
    ('none', lambda x: pd.DataFrame(x.to_numpy()), r"without \['a', 'b'\]"),
  )
  def test_columns(self, change, message):
    """Of inputs and of one-hot labels alike."""
    frame = pd.DataFrame(X, columns=['a', 'b'])
    with self.assertRaisesRegex(ValueError, f'^test x .*{message}'):
      containers.check_order(frame, Y, change(frame), Y)
    with self.assertRaisesRegex(ValueError, '^test y has .* columns'):
      containers.check_order(X, frame, X, change(frame))

  @parameterized.parameters('train', 'test')
  def test_rows(self, which):
    """Labels of the same rows in another order belong to other examples."""
    frame, labels = pd.DataFrame(X), pd.Series(Y)
    four = dict(x_train=frame, y_train=labels, x_test=frame, y_test=labels)
    four[f'y_{which}'] = labels[::-1]
    with self.assertRaisesRegex(ValueError, f'^{which} y .*loc'):
      containers.check_order(**four)

  def test_order_of_train_test_split(self):
    """Inputs first, then labels: no other four arrays look like that."""
    four = model_selection.train_test_split(X, Y, random_state=0)
    with self.assertRaisesRegex(ValueError, r'pass \(x_train, y_train, x_te'):
      containers.check_order(*four)
