"""Tables of what scripts measure: means over seeds, slopes over widths."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from ossgd.results import claims, statistics

if TYPE_CHECKING:
  import xarray as xr


def with_accuracies(results: xr.Dataset, num_examples: int) -> xr.Dataset:
  """Numbers of correct answers as accuracies: `correct` in a name says so."""
  found = [name for name in results if 'correct' in str(name)]
  return results.drop_vars(found).assign(
    {
      str(name).replace('correct', 'accuracy'): results[name] / num_examples
      for name in found
    }
  )


def sweep_table(
  results: xr.Dataset, by: str = 'width', symbol: str = 'm'
) -> str:
  """Mean ± std over seeds of what Section 7 and D.1 report, a row a run.

  Args:
    results: of a sweep.
    by: the dim that tells runs apart.
    symbol: its name in the table.
  """
  last = results.isel(step=-1)
  width = results.width if by == 'width' else results.attrs['width']
  percent = f'{100 * results.target:g} %'
  columns: dict[str, xr.DataArray | None] = {
    'test accuracy': last.test_accuracy,
    'pattern difference': last.get('pattern_difference'),
    'relative distance': last.relative_distance,
    f'steps to {percent}': results.steps_to_accuracy,
    f'sqrt(m) x distance at {percent}': (
      results.distance_at_accuracy * np.sqrt(width)
    ),
  }
  if 'cliff' in results:
    columns['singular value k l over the next'] = results.cliff
  # Results of an earlier version lack it.
  if 'diverged_at' in results and results.diverged_at.notnull().any():
    columns['diverged at step'] = results.diverged_at
  return means_table(known(columns), **{by: symbol})


def known(
  columns: Mapping[str, xr.DataArray | None],
) -> dict[str, xr.DataArray]:
  """The columns that these results have."""
  return {name: v for name, v in columns.items() if v is not None}


def means_table(columns: Mapping[str, xr.DataArray], **symbols: str) -> str:
  """Mean ± std over seeds of every quantity.

  Args:
    columns: quantities by their names in the header, each (*symbols, seed).
    **symbols: the dims that tell the rows apart: their names in the header.
  """
  first = next(iter(columns.values()))
  coords = {dim: first[dim].values for dim in symbols}
  # In the rows' order, and then by place: a label costs a millisecond.
  arrays = [
    (v if _is_at(v, coords) else v.sel(coords))
    .variable.transpose(*symbols, ...)
    .values
    for v in columns.values()
  ]
  rows = [
    (*values, *(mean_std(array[place]) for array in arrays))
    for place, values in zip(
      np.ndindex(*map(len, coords.values())),
      itertools.product(*coords.values()),
      strict=True,
    )
  ]
  return claims.markdown_table((*symbols.values(), *columns), rows)


def _is_at(values: xr.DataArray, coords: Mapping[str, np.ndarray]) -> bool:
  """Whether these are its coordinates, in this order."""
  return all(
    np.array_equal(values.get_index(dim), at) for dim, at in coords.items()
  )


def mean_std(values: xr.DataArray | np.ndarray) -> str:
  """`mean ± std` over the seeds that have a value, and how many do not."""
  values = np.asarray(values)
  known = values[np.isfinite(values)].astype(np.float64)
  missing = values.size - known.size
  note = f' ({missing} of {values.size} without)' if missing else ''
  if not known.size:
    return note.strip(' ()')
  spread = f' ± {np.std(known, ddof=1):.2g}' if known.size > 1 else ''
  return f'{np.mean(known):.4g}{spread}{note}'


def slopes_table(
  header: Sequence[str], quantities: Mapping[str, xr.DataArray]
) -> str:
  """The slope of every log quantity in log m, a row each: (width, seed)."""
  rows = [(name, slope_text(v, dim='width')) for name, v in quantities.items()]
  return claims.markdown_table(header, rows)


def slope_text(
  values: xr.DataArray, high: xr.DataArray | None = None, *, dim: str
) -> str:
  """The slope of log values in log `dim`, its 95 % interval and its range.

  Args:
    values: (dim, seed).
    high: if given, what is known is that a value is between these two.
    dim: the coordinate.
  """
  cells = statistics.cell_slopes(values, values if high is None else high, dim)
  slopes = np.stack(cells)
  known = slopes[:, np.isfinite(slopes).all(axis=0)]
  lower, upper = (statistics.mean_interval(side) for side in known)
  mean = f'{np.mean(known):.3f} ' if known.size else ''
  between = f'({lower[0]:.3f} to {upper[1]:.3f}) '
  if np.isnan([*lower, *upper]).any():
    between = ''
  ends = f'{values[dim].values.min():g} to {values[dim].values.max():g}'
  missing = slopes.shape[1] - known.shape[1]
  note = f' ({missing} of {slopes.shape[1]} without)' if missing else ''
  return f'{mean}{between}for {dim} {ends}{note}'


def blocks(text: str) -> list[str | list[list[str]]]:
  """A script's paragraphs as they are, and its tables as cells."""
  return [
    claims.table_cells(block) if block.startswith('|') else block
    for block in text.strip().split('\n\n')
  ]
