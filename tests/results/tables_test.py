"""Tests of tables: a row is of one place, in whatever order columns are."""

import numpy as np
import xarray as xr
from absl.testing import parameterized

from ossgd.results import claims, tables


class MeansTableTest(parameterized.TestCase):
  def test_columns_of_another_order(self):
    """Labels tell the rows apart, not places."""
    values = np.array([[1.0, 1.0], [2.0, 2.0], [3.0, 3.0]])
    first = xr.DataArray(values, {'width': [10, 20, 30]}, ('width', 'seed'))
    columns = {
      'same': first,
      'back': first.isel(width=[2, 1, 0]),
      'turned': first.T,
      'more': xr.concat([first, first.assign_coords(width=[1, 2, 3])], 'width'),
    }
    header, *rows = claims.table_cells(tables.means_table(columns, width='m'))
    self.assertEqual(header, ['m', *columns])
    for width, row in zip('123', rows, strict=True):
      self.assertEqual(row, [f'{width}0', *[f'{width} ± 0'] * 4])
