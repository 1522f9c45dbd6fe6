"""Figures that need no screen, and panels that say so when there is nothing."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
  import xarray as xr
  from matplotlib.axes import Axes
  from matplotlib.figure import Figure

_BACKEND = 'MPLBACKEND'
REFERENCE = 'reference'  # the gid of curves that are not measured


def new_figure(width: float, height: float) -> Figure:
  """An empty figure of so many inches, drawn by Agg.

  MPLBACKEND, of a notebook that started this process perhaps, has no say.
  """
  _import_matplotlib()
  from matplotlib.backends.backend_agg import FigureCanvasAgg
  from matplotlib.figure import Figure

  figure = Figure(figsize=(width, height), layout='constrained')
  FigureCanvasAgg(figure)
  return figure


def _import_matplotlib() -> None:
  """Whatever MPLBACKEND is; it counts for pyplot, if it is installed here."""
  if 'matplotlib' in sys.modules:
    return
  backend = os.environ.pop(_BACKEND, '')
  try:
    import matplotlib
  finally:
    os.environ |= {_BACKEND: backend} if backend else {}
  with contextlib.suppress(ValueError):
    if backend:
      matplotlib.rcParams['backend'] = backend


def shades(number: int, lightest: float) -> np.ndarray:
  """So many colours from dark to light, (number, 4)."""
  import matplotlib

  return matplotlib.colormaps['viridis'](np.linspace(0, lightest, number))


def finite(values: xr.DataArray) -> xr.DataArray:
  """In float64, where means of float32 fit, and NaN for what is infinite."""
  return values.where(np.isfinite(values)).astype(np.float64)


def explain_empty(figure: Figure, results: xr.Dataset) -> Figure:
  """Panels with nothing that can be drawn say why; call it last.

  A curve whose gid is REFERENCE is one to compare with, no measurement.

  Args:
    figure: whose curves and scales are as they will be.
    results: what it shows; where all runs have a `diverged_at`, it is given.

  Returns:
    The same figure.
  """
  seen = {ax: set(_seen(ax)) for ax in figure.axes if ax.axison}
  for ax, gids in seen.items():
    if gids <= {REFERENCE}:
      logarithmic = 'log' in (ax.get_xscale(), ax.get_yscale())
      ax.annotate(
        'too few finite values' + ' above 0' * logarithmic + _reason(results),
        (0.5, 0.5),
        ha='center',
        va='center',
        size='small',
        xycoords='axes fraction',
      )
  blank = {ax for ax, gids in seen.items() if not gids}
  for ax in blank:
    # A logarithmic axis has no ticks without a number above 0.
    if blank.issuperset(ax.get_shared_x_axes().get_siblings(ax)):
      ax.set(xscale='linear', xlim=(0, 1), xticks=[])
    if blank.issuperset(ax.get_shared_y_axes().get_siblings(ax)):
      ax.set(yscale='linear', ylim=(0, 1), yticks=[])
  return figure


def _seen(ax: Axes) -> Iterator[str | None]:
  """The gid of every curve and cloud of which something can be seen."""
  from matplotlib.collections import PathCollection

  curves = [
    (line.get_gid(), line.get_xydata(), line.get_marker() in ('', 'None', None))
    for line in ax.lines
    if line.get_transform() == ax.transData
  ]
  clouds = [
    (cloud.get_gid(), cloud.get_offsets(), False)
    for cloud in ax.collections
    if isinstance(cloud, PathCollection)
  ]
  least = [
    0 if scale == 'log' else -np.inf
    for scale in (ax.get_xscale(), ax.get_yscale())
  ]
  for gid, points, connected in (*curves, *clouds):
    points = np.ma.filled(np.ma.asarray(points, float), np.nan)
    there = (np.isfinite(points) & (points > least)).all(axis=1)
    # One point alone has no line to be seen by.
    if np.any(there[:-1] & there[1:] if connected else there):
      yield gid


def _reason(results: xr.Dataset) -> str:
  """When the runs diverged, if all of them did."""
  if 'diverged_at' not in results or results.diverged_at.isnull().any():
    return ''
  first, last = results.diverged_at.min(), results.diverged_at.max()
  to = f' to {last:.0f}' if last > first else ''
  return f':\nevery run diverged at step {first:.0f}{to}'
