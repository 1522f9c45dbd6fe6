"""Ranges of claims and worst cases, as the scripts' claims name them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ossgd.results.claims import INF
from ossgd.results.statistics import Every

if TYPE_CHECKING:
  import xarray as xr


def below(high: float) -> tuple[float, float]:
  """The range of a claim that has no lower end."""
  return -INF, high


def above(low: float) -> tuple[float, float]:
  """The range of a claim that has no upper end."""
  return low, INF


def most(values: xr.DataArray, *dims: str) -> Every:
  """The largest over dims, said of every seed; none where one is missing."""
  return Every(values.max(dims, skipna=False))


def least(values: xr.DataArray, *dims: str) -> Every:
  """The smallest over dims, said of every seed; none where one is missing."""
  return Every(values.min(dims, skipna=False))
