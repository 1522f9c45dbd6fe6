"""Quantities against a setting: panels of curves with error bars."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from ossgd.results import drawing

if TYPE_CHECKING:
  import xarray as xr
  from matplotlib.axes import Axes
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
  fig = drawing.new_figure(3.8 * len(panels), 3.6)
  axes = fig.subplots(1, len(panels), squeeze=False)[0]
  for ax, (quantity, curves) in zip(axes, panels.items(), strict=True):
    shades = drawing.shades(len(curves), 0.6)
    for i, (name, values) in enumerate(curves.items()):
      style = _STYLES[i % len(_STYLES)]
      values = drawing.finite(values.transpose(by, 'seed').sortby(by))
      draw(ax, values, fmt=style, color=shades[i], label=name)
      for point in values:
        if 0 < point.count() < point.size:
          note = f' {point.count():d} of {point.size} seeds'
          place = point[by].item(), point.mean().item()
          ax.annotate(note, place, size='small')
    ax.set(xlabel=label, ylabel=quantity, xscale=scale)
    if len(curves) > 1:
      ax.legend(frameon=False)
  return fig


def draw(ax: Axes, values: xr.DataArray, **style: Any) -> None:
  """Mean and standard deviation (ddof=1) over seeds, none of one seed.

  Args:
    ax: where.
    values: (setting, seed).
    **style: of `Axes.errorbar`.
  """
  (by,) = set(values.dims) - {'seed'}
  values = drawing.finite(values)
  mean, spread = values.mean('seed'), values.std('seed', ddof=1).fillna(0)
  ax.errorbar(values[by].values, mean.values, spread.values, capsize=3, **style)


def mark(ax: Axes, values: np.ndarray, **style: Any) -> None:
  """Ticks of the horizontal axis at these values and nowhere else."""
  ax.set_xticks(values, labels=values, **style)
  ax.xaxis.minorticks_off()
