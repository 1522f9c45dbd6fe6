"""Case (S) along one setting at a time: what varies, and what A.3 expects."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from ..options import option
from . import large_gradients

if TYPE_CHECKING:
  import xarray as xr

# The setting of a Config that each list replaces, and its letter.
VARIED = {
  'separation': ('separations', 'delta'),
  'num_classes': ('classes', 'k'),
  'num_components': ('components', 'l'),
  'width': ('growing_widths', 'm'),
}
# How Lemma A.3's delta / (k l) depends on each.
EXPONENTS = {'separation': 1, 'num_classes': -1, 'num_components': -1}


@dataclasses.dataclass(frozen=True)
class Config(large_gradients.Config):
  """And the settings that case (S) is varied along, one at a time."""

  separations: tuple[float, ...] = option((0.1, 0.2, 0.4, 0.8, 1.2), 'delta.')
  classes: tuple[int, ...] = option((2, 5, 10, 20), 'k.')
  components: tuple[int, ...] = option((1, 2, 4, 8), 'l.')
  growing_widths: tuple[int, ...] = option(
    (500, 1000, 2000, 4000, 8000, 16000), 'm.'
  )


def settings(config: Config) -> list[tuple[str, Any, Config]]:
  """What varies, its value there, and a Config with that value and one m."""
  return [
    (
      name,
      value,
      dataclasses.replace(
        config, **({'widths': (value,)} if name == 'width' else {name: value})
      ),
    )
    for name, (option_name, _) in VARIED.items()
    for value in getattr(config, option_name)
  ]


def share(results: xr.Dataset, name: str) -> Any:
  """delta / (k l) along a setting, or at the base point."""
  base = results.attrs['separation'] / results.attrs['num_points']
  if name == 'separation':
    return results.separation / results.attrs['num_points']
  if name in ('num_classes', 'num_components'):
    return base * results.attrs[name] / results[name]
  return base


def least_relative(results: xr.Dataset, kind: str) -> xr.DataArray:
  """Least fraction above v delta / (k l), over delta / (k l): (seed,)."""
  import xarray as xr

  least = [
    (results[f'fraction_by_{name}'] / share(results, name))
    .sel(kind=kind)
    .isel(constant=0)
    .min(name)
    for name in VARIED
  ]
  return xr.concat(least, 'setting').min('setting', skipna=False)


def along(
  results: xr.Dataset, name: str, kind: str = 'worst possible'
) -> xr.DataArray:
  """Fractions along a setting, at the largest threshold."""
  return results[f'fraction_by_{name}'].sel(kind=kind).isel(constant=-1)
