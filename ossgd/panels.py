"""Quantities against a setting: panels of curves with error bars."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
  import xarray as xr
  from matplotlib.figure import Figure

_STYLES = ('o-', 's--', '^:')


def panels_figure(
  panels: Mapping[str, Mapping[str, xr.DataArray]],
  by: str,
  label: str,
  scale: str = 'linear',
) -> Figure:
  """Mean and standard deviation (ddof=1) over seeds against a setting.

  Seeds without a value are left out of the mean; where there are any, the
  point says how many.

  Args:
    panels: by the label of the vertical axis, curves by their name ('' if
      there is one), each (`by`, seed).
    by: the dim along the horizontal axis.
    label: of the horizontal axis.
    scale: of the horizontal axis, 'linear', 'log' or 'symlog'.

  Returns:
    A figure of one row.
  """
  import matplotlib
  from matplotlib.figure import Figure

  fig = Figure(figsize=(3.8 * len(panels), 3.6), layout='constrained')
  axes = fig.subplots(1, len(panels), squeeze=False)[0]
  for ax, (quantity, curves) in zip(axes, panels.items(), strict=True):
    shades = matplotlib.colormaps['viridis'](np.linspace(0, 0.6, len(curves)))
    for i, (name, values) in enumerate(curves.items()):
      values = values.transpose(by, 'seed').sortby(by)
      x, known = values[by].values, values.notnull().sum('seed').values
      mean = values.mean('seed').values
      spread = values.std('seed', ddof=1).fillna(0).values
      style = _STYLES[i % len(_STYLES)]
      ax.errorbar(
        x, mean, spread, fmt=style, color=shades[i], capsize=3, label=name
      )
      for place, height, count in zip(x, mean, known, strict=True):
        if 0 < count < values.sizes['seed']:
          note = f' {count} of {values.sizes["seed"]} seeds'
          ax.annotate(note, (place, height), size='small')
    ax.set(xlabel=label, ylabel=quantity, xscale=scale)
    if len(curves) > 1:
      ax.legend(frameon=False)
  return fig
