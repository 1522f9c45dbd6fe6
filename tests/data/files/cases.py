"""A folder of files that a user might have, and what is read of it."""

from unittest import mock

import numpy as np
import pandas as pd

from ossgd.data import file_sets
from ossgd.data.files import opening
from tests import idx_files


class Case(idx_files.Case):
  def assert_read(self, place, expected=None, *, kind='', note=''):
    found = file_sets.read(self.folder / place, kind)
    self.assert_files(found.arrays, expected)
    self.assertRegex(found.note, rf'\A{note}\Z')

  def assert_refused(self, place, message, error=ValueError, *, kind=''):
    with self.assertRaisesRegex(error, message) as caught:
      file_sets.read(self.folder / place, kind)
    self.assertNotIn('\n', str(caught.exception))

  def content(self, name):
    return (self.folder / name).read_bytes()

  def write(self, name, content):
    path = self.folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)

  def limit(self, size):
    """As if so many bytes of memory were free."""
    free = mock.patch.object(opening.memory, 'free', return_value=size)
    self.enter_context(free)


class TableCase(Case):
  """Four numbers, of which two tell the classes; 30 and 20 rows."""

  def setUp(self):
    super().setUp()
    rng = np.random.default_rng(0)
    x = rng.integers(-9, 9, (50, 4)) / 4  # exact, however they are written
    x[:, 3] = 0
    self.x, self.y = (x[:30], x[30:]), (np.arange(30) % 3, np.arange(20) % 3)
    self.tables = [
      pd.DataFrame(x, columns=['a', 'b', 'c', 'd']).assign(label=y)
      for x, y in zip(self.x, self.y, strict=True)
    ]
    self.expected = (self.x[0], self.y[0], self.x[1], self.y[1])

  def save(self, names=('train.csv', 'test.csv'), **settings):
    settings = {'index': False} | settings
    for name, table in zip(names, self.tables, strict=True):
      table.to_csv(self.folder / name, **settings)
