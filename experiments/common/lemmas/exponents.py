"""Exponents of the steps to an error: what is fitted, and their tables."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ossgd.results import claims, statistics, tables

if TYPE_CHECKING:
  import xarray as xr

# What varies: its symbol, its exponent in the proof's T.
VARIED = {
  'width': ('m', 0),
  'dim': ('d', 0),
  'num_classes': ('k', 10),
  'num_components': ('l', 10),
  'separation': ('delta', -6),
  'epsilon': ('epsilon', -12),
}

Between = tuple['xr.DataArray', 'xr.DataArray']  # at least and at most


def between(results: xr.Dataset, name: str) -> Between:
  """What the steps were: (`name`, seed, epsilon)."""
  steps = results[f'steps_{name}']
  # Results of an earlier version have the recorded steps only.
  return results.get(f'least_{name}', steps), steps


def fitted(results: xr.Dataset, name: str) -> Between:
  """The steps that an exponent is fitted to: (`name`, seed)."""
  low, high = between(results, name)
  if name == 'epsilon':
    return low, high
  low, high = low.isel(epsilon=0), high.isel(epsilon=0)
  if name == 'width':  # the theorem has m >= M; pooled widths are sorted
    base = results.attrs.get('width', high.width.values[0])
    kept = high.width.values >= base
    return low.isel(width=kept), high.isel(width=kept)
  return low, high


def reached_by_all(results: xr.Dataset) -> Between:
  """The same at the widths where every seed reached the error."""
  low, high = (v.isel(epsilon=0) for v in between(results, 'width'))
  kept = high.notnull().all('seed').values
  return low.isel(width=kept), high.isel(width=kept)


def table(results: xr.Dataset) -> str:
  """Exponents beside the proof's, the width it asks for, and all steps."""
  fits = [(name, '', fitted(results, name)) for name in VARIED]
  every = reached_by_all(results)
  if every[1].width.size:
    fits.insert(1, ('width', ', all that reached it', every))
  rows = []
  for name, note, values in fits:
    symbol, exponent = VARIED[name]
    slopes = np.stack(statistics.cell_slopes(*values, name))
    known = slopes[:, np.isfinite(slopes).all(axis=0)]
    rest = f'{np.mean(known) - exponent:.2f}' if known.size else ''
    rows.append(
      (
        symbol + note,
        tables.slope_text(*values, dim=name),
        exponent,
        rest,
        exponent // 2,
        2 * exponent,
      )
    )
  error = f'{results.epsilon.values[0]:g}'
  header = (
    'varied',
    f'slope of log steps (to error {error}), 95 % interval, range',
    "proof's T",
    'slope - that',
    "proof's T at a given eta m",
    "proof's samples B T",
  )
  k, per_class, delta, epsilon = (
    results[name].values[0]
    for name in ('num_classes', 'num_components', 'separation', 'epsilon')
  )
  asked = np.log10([k * per_class, delta, epsilon]) @ [20, -12, -24]
  reached = every[1].width
  least = f'm = {reached.values.min()}' if reached.size else 'none'
  return f"""{claims.markdown_table(header, rows)}
Samples are {results.attrs['batch_size']} x steps: their slopes are the same.

The proof asks for m of order k^20 l^20 / (delta^12 epsilon^24), with hidden
constants of one 10^{asked:.1f} at the base point. The smallest width at which
every seed reached error {error}, of those tried from \
{results.width.values.min()} on: {least}.

{_steps_table(results)}"""


def _steps_table(results: xr.Dataset) -> str:
  """Mean ± std of the steps to every error, a row a setting."""
  rows = []
  for name, (symbol, _) in list(VARIED.items())[:-1]:
    steps = (
      results[f'steps_{name}'].sortby(name).transpose(name, 'epsilon', ...)
    )
    rows += [
      (symbol, f'{value:g}', *map(tables.mean_std, one))
      for value, one in zip(steps[name].values, steps.values, strict=True)
    ]
  errors = (f'steps to error {e:g}' for e in results.epsilon.values)
  return claims.markdown_table(('varied', 'value', *errors), rows)
