"""Training and test sets in what people have them in: tuples, pairs, Bunches.

No library is imported for its containers: they are known by what they hold.
"""

from collections.abc import Mapping
from typing import Any

_EXPECTED = (
  'expected a mixture spec, a Split, a function key -> Split, '
  '(x_train, y_train, x_test, y_test) or ((x_train, y_train), (x_test, y_test))'
)
_DIVIDED = (
  'x_train, x_test, y_train, y_test = '
  'sklearn.model_selection.train_test_split({0}), then '
  'data=(x_train, y_train, x_test, y_test)'
)


def four(data: Any) -> tuple[Any, Any, Any, Any]:
  """x_train, y_train, x_test and y_test, not looked at, of what holds them.

  Args:
    data: the four themselves, in this order; or two sets, the training set
      first, each (x, y) as Keras has it or with `data` and `target` as
      scikit-learn has it (a Bunch).

  Raises:
    ValueError: they are not in there, or it is one set only; it says how to
      make two of it.
  """
  if isinstance(data, str):
    raise ValueError(
      f'data is the text {data!r:.50}; {_EXPECTED}. For a known set pass '
      'ossgd.images.load(NAME)'
    )
  if _is_bunch(data):
    raise ValueError(
      f'data is one set, a {type(data).__name__}; a test set is needed too: '
      + _DIVIDED.format('data.data, data.target')
    )
  if not isinstance(data, list | tuple):
    raise ValueError(f'data is a {type(data).__name__}; {_EXPECTED}')
  if len(data) == 4:
    return tuple(data)
  sets = [pair for part in data if (pair := _pair(part)) is not None]
  if len(data) == len(sets) == 2:
    return (*sets[0], *sets[1])
  if len(data) == 2 and all(map(_is_table, data)):
    raise ValueError(
      'data are two tables, and which column is the label is not said; pass '
      "((train.drop(columns='label'), train['label']), "
      "(test.drop(columns='label'), test['label']))"
    )
  if len(data) == 2 and (
    hasattr(data[0], 'shape') or isinstance(data[0], list)
  ):
    raise ValueError(
      'data is one set, (x, y); a test set is needed too: '
      + _DIVIDED.format('x, y')
    )
  parts = ', '.join(type(part).__name__ for part in data[:5])
  raise ValueError(f'data has {len(data)} parts ({parts}); {_EXPECTED}')


def check_order(x_train: Any, y_train: Any, x_test: Any, y_test: Any) -> None:
  """That four arrays are what they are taken for, as far as frames can tell.

  Raises:
    ValueError: they come in the order of scikit-learn's `train_test_split`;
      columns of the test inputs are not the training inputs', in their order;
      or rows of inputs and labels have the same index in another order.
  """
  shapes = [getattr(v, 'shape', ()) for v in (x_train, y_train, x_test, y_test)]
  first, second, third, fourth = map(tuple, shapes)
  if (
    len(second) > 1
    and second[1:] == first[1:]
    and (third, fourth) == (first[:1], second[:1])
  ):
    raise ValueError(
      'train y has the shape of test inputs, and test x of train labels: the '
      'order of train_test_split; pass (x_train, y_train, x_test, y_test)'
    )
  _check_columns('x', _titles(x_train), _titles(x_test))
  _check_columns('y', _titles(y_train), _titles(y_test))
  for name, x, y in (('train', x_train, y_train), ('test', x_test, y_test)):
    rows = [v.index for v in (x, y) if hasattr(v, 'iloc')]
    if len(rows) < 2 or rows[0].equals(rows[1]) or len(x) != len(y):
      continue
    if set(rows[0]) == set(rows[1]):
      raise ValueError(
        f'{name} y has the index of {name} x in another order; pass '
        'y.loc[x.index], or y.to_numpy() if they go together as they stand'
      )


def _check_columns(
  name: str, train: list[Any] | None, test: list[Any] | None
) -> None:
  if train is None or test is None or train == test:
    return
  if len(train) == len(test) and set(train) == set(test):
    raise ValueError(
      f'test {name} has the columns of train {name} in another order; pass '
      f'{name}_test[{name}_train.columns]'
    )
  missing = [title for title in train if title not in test]
  more = [title for title in test if title not in train]
  told = [f'without {missing!s:.100}'] * bool(missing)
  told += [f'with {more!s:.100}'] * bool(more)
  raise ValueError(
    f'test {name} has other columns than train {name}, '
    f'{" and ".join(told) or len(test)}; both need the same in the same order'
  )


def _titles(x: Any) -> list[Any] | None:
  """Of the columns of a frame of any library."""
  # Of the type: a column may have any name, and is an attribute as well.
  for name in ('column_names', 'columns'):
    if hasattr(type(x), name):
      return list(getattr(x, name))
  return None


def _pair(part: Any) -> tuple[Any, Any] | None:
  """(x, y) of one set."""
  if _is_bunch(part):
    return part['data'], part['target']
  if isinstance(part, list | tuple) and len(part) == 2:
    return part[0], part[1]
  return None


def _is_bunch(part: Any) -> bool:
  return isinstance(part, Mapping) and {'data', 'target'} <= part.keys()


def _is_table(part: Any) -> bool:
  return _titles(part) is not None
