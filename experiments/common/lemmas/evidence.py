"""Worst cases, said of every seed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ossgd.results.statistics import Every

if TYPE_CHECKING:
  import xarray as xr


def most(values: xr.DataArray, *dims: str) -> Every:
  """The largest over dims, said of every seed; none where one is missing."""
  return Every(values.max(dims, skipna=False))


def least(values: xr.DataArray, *dims: str) -> Every:
  """The smallest over dims, said of every seed; none where one is missing."""
  return Every(values.min(dims, skipna=False))
