"""Records to figures: Figures 1, 2 and 4 to 7 from a sweep's Dataset.

Every function returns a bare `matplotlib.figure.Figure`: pyplot is never
imported, so no global state changes and no window opens. Curves run from dark
to light in the order of their coordinate and cycle through line styles, which
keeps them apart for colour-blind readers and on a black and white printer.
"""

from __future__ import annotations

import math
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np

from ossgd.results import drawing

if TYPE_CHECKING:
  import xarray as xr
  from matplotlib.axes import Axes
  from matplotlib.figure import Figure

_DISTANCE = r'$\|w^{(t)} - w^{(0)}\|_F \, / \, \|w^{(0)}\|_F$'
_STEP_PANELS = {
  'test_accuracy': 'Test accuracy\n(fraction of examples)',
  'pattern_difference': (
    'Activation pattern difference\n(fraction of unit-example pairs)'
  ),
  'relative_distance': f'Relative distance (ratio)\n{_DISTANCE}',
}
_RANK_PANELS = {
  'singular_values_update': 'Singular values of the\n'
  'accumulated update $w^{(T)} - w^{(0)}$',
  'singular_values_weights': 'Singular values of the\nfinal weights $w^{(T)}$',
}
_CURVE_NAMES = {
  'width': 'hidden units $m$',
  'noise_scale': r'noise scale $\sigma$',
  'num_components': r'components per class $\ell$',
  'corruption': 'corrupted labels $p$',
}
_LINE_STYLES = ('-', '--', '-.', ':')
_LIGHTEST = 0.6  # past it viridis has less than 3:1 contrast with white
_LABEL_ROOM = 0.11  # of the axis: labels of nearer widths would touch


def training_figure(ds: xr.Dataset, by: str = 'width') -> Figure:
  """Training curves and final spectra, Figures 1, 2, 6 and 7.

  A line is the mean over seeds, a band one standard deviation (ddof=1) to
  each side; one seed has no band. Where a seed diverged its curve has a gap:
  the mean of the others would look better than the run was. Steps are on a
  logarithmic axis, linear only next to 0, since most happens in the first few
  tens. What lies below float32 rounding in a spectrum, eps times the panel's
  largest value, is drawn at that level, which a grey line then marks.

  Args:
    ds: `test_accuracy`, `pattern_difference` and `relative_distance`
      (`by`, seed, step), the second only where there are patterns;
      `singular_values_update` and
      `singular_values_weights` (`by`, seed, rank), NaN past the last.
    by: the dimension that tells the curves apart: 'width' in Figures 1 and 2,
      'noise_scale' in 6, 'num_components' in 7.

  Returns:
    A figure of five panels and one legend.

  Raises:
    ValueError: another variable is missing, or has other dimensions.
  """
  fig = drawing.new_figure(10, 6)
  *axes, legend_axes = fig.subplots(2, 3).flat
  for ax, (name, label) in zip(axes[:3], _STEP_PANELS.items(), strict=True):
    if name == 'pattern_difference' and name not in ds:
      ax.axis('off')
      ax.text(0.5, 0.5, 'no activation pattern', ha='center', va='center')
      continue
    values = _variable(ds, name, (by, 'seed', 'step'))
    _draw_curves(ax, values)
    steps = values['step'].values
    first = min(steps[steps > 0], default=1)
    knee = 10 ** np.floor(np.log10(first))  # so no tick but 0 is below it
    ax.set_xscale('symlog', linthresh=knee, linscale=0.5, subs=range(2, 10))
    ax.set_xlim(0, max(*steps, knee))
    ax.set_ylim(0, 1.03 if name == 'test_accuracy' else None)
    ax.set(xlabel='Step $t$ (SGD updates)', ylabel=label)
  for ax, (name, label) in zip(axes[3:], _RANK_PANELS.items(), strict=True):
    values = _variable(ds, name, (by, 'seed', 'rank'))
    # All values may be missing, if every run diverged, or zero.
    largest = np.max(values.values, where=values.values > 0, initial=0) or 1.0
    _draw_curves(ax, values, floor=float(np.finfo(np.float32).eps * largest))
    ax.set(xscale='log', xlabel='Rank of the singular value')
    ax.set(yscale='log', ylabel=label)
  seeds = ds.sizes['seed']
  note = f'mean ± one std of {seeds} seeds' if seeds > 1 else 'one seed'
  legend_axes.axis('off')
  legend_axes.legend(
    handles=axes[0].get_lines(),
    title=f'{_CURVE_NAMES.get(by, by.replace("_", " "))}\n({note})',
    alignment='left',
    frameon=False,
    handlelength=4,
    loc='center',
  )
  return drawing.explain_empty(fig, ds)


def steps_figure(ds: xr.Dataset) -> Figure:
  """Steps to the target test accuracy against width, Figure 4.

  Args:
    ds: `steps_to_accuracy` (width, seed), NaN where never reached; the
      coordinate step; the attribute `target`.

  Returns:
    A figure: mean and standard deviation (ddof=1) over the seeds that reached
    the target; above the axes, how many of how many did not.

  Raises:
    ValueError: the variable or the attribute is missing or malformed.
  """
  fig, ax = _draw_against_width(ds, 'steps_to_accuracy')
  ax.set_ylabel(f'Steps to {_percent(ds)} test accuracy (SGD updates)')
  reached = ds['steps_to_accuracy'].notnull().any()
  ax.set_ylim(0, None if reached else ds['step'].max().item())
  fig.legend(loc='outside upper center', reverse=True)
  return fig


def distance_figure(ds: xr.Dataset, reference: float = 2 / 3) -> Figure:
  """Relative distance when the target is reached against width, Figure 5.

  Args:
    ds: `distance_at_accuracy` (width, seed), NaN where never reached; the
      attribute `target`.
    reference: c of the red line c / sqrt(m). The paper has 2/3 on the
      synthetic data, 8 on MNIST.

  Returns:
    A log-log figure: mean and standard deviation (ddof=1) over the seeds that
    reached the target; above the axes, how many of how many did not.

  Raises:
    ValueError: the variable or the attribute is missing or malformed, or
      reference is not a positive number.
  """
  if not 0 < reference < np.inf:
    raise ValueError(
      f'reference is {reference}, but a line c / sqrt(m) on logarithmic axes'
      ' needs a positive c: 2/3 for synthetic data, 8 for MNIST.'
    )
  fig, ax = _draw_against_width(ds, 'distance_at_accuracy')
  c = Fraction(reference).limit_denominator(9)
  formula = rf'{reference:g}/\sqrt{{m}}'
  if c.denominator > 1 and math.isclose(c, reference):
    formula = rf'{c.numerator}/({c.denominator}\sqrt{{m}})'
  m = np.sort(ds['width'].values)
  ax.plot(m, reference / np.sqrt(m), 'r.-', label=f'${formula}$')
  ax.set_yscale('log')
  ax.set_ylabel(
    f'Relative distance at {_percent(ds)} test accuracy\n(ratio {_DISTANCE})'
  )
  fig.legend(loc='outside upper center', reverse=True)
  return fig


def _variable(ds: xr.Dataset, name: str, dims: tuple[str, ...]) -> xr.DataArray:
  """ds[name] with its dims in this order, the first one ascending."""
  if name not in ds:
    raise ValueError(
      f'the dataset has no variable {name!r}, only {sorted(map(str, ds))};'
      ' pass what sweeps.sweep returned.'
    )
  if set(ds[name].dims) != set(dims):
    raise ValueError(
      f'{name} has dims {ds[name].dims}, expected {dims}: give the dimension'
      ' that tells the curves apart, take one entry of any other with ds.sel.'
    )
  return ds[name].transpose(*dims).sortby(dims[0])


def _percent(ds: xr.Dataset) -> str:
  """The target accuracy as a label has it: 0.98 -> '98%'."""
  if 'target' not in ds.attrs:
    raise ValueError(
      "the dataset has no attribute 'target', the test accuracy it counts the"
      " steps to; set it: ds.attrs['target'] = 0.98, say."
    )
  return f'{100 * float(ds.attrs["target"]):g}%'


def _draw_curves(
  ax: Axes, values: xr.DataArray, floor: float = -np.inf
) -> None:
  """Draws the mean and the band of each curve of (curve, seed, x) values."""
  by, _, axis = values.dims
  x, banded = values[axis].values, values.sizes['seed'] > 1
  curves = drawing.finite(values).values
  mean = curves.mean(axis=1)
  std = curves.std(axis=1, ddof=1) if banded else np.zeros_like(mean)
  low, high = mean - std, mean + std
  for i, color in enumerate(drawing.shades(len(values), _LIGHTEST)):
    value = values[by][i].item()
    ax.plot(
      x,
      mean[i].clip(floor),
      color=color,
      linestyle=_LINE_STYLES[i % len(_LINE_STYLES)],
      label=f'{value:g}' if isinstance(value, float) else str(value),
    )
    if banded:
      edges = low[i].clip(floor), high[i].clip(floor)
      ax.fill_between(x, *edges, color=color, alpha=0.2, linewidth=0)
  if (low < floor).any():
    ax.axhline(floor, color='0.4', linewidth=0.8)
    ax.margins(y=0.1)
    note, level = 'clipped: float32 rounding', ax.get_yaxis_transform()
    ax.text(0.02, floor, note, transform=level, va='top', size='small')


def _draw_against_width(ds: xr.Dataset, name: str) -> tuple[Figure, Axes]:
  """Error bars over the seeds that reached the target, a count of the rest."""
  values = _variable(ds, name, ('width', 'seed'))
  m = values['width'].values
  fig = drawing.new_figure(5.5, 4.6)
  ax = fig.subplots()
  ax.errorbar(
    m,
    values.mean('seed').values,
    values.std('seed', ddof=1).values,
    fmt='o',
    color='black',
    capsize=3,
    label=f'seeds that reached {_percent(ds)}: mean ± one std',
  )
  missed = values.isnull().sum('seed').values
  above = ax.get_xaxis_transform()
  for width, count in zip(m, missed, strict=True):
    if count:
      note = f'{count}/{values.sizes["seed"]}'
      ax.text(width, 1.07, note, transform=above, ha='center', size='small')
  if missed.any():
    crosses = m[missed > 0], np.full((missed > 0).sum(), 1.04)
    ax.plot(
      *crosses, 'kx', transform=above, clip_on=False, label='seeds that did not'
    )
  ax.set(xscale='log', xlabel='Hidden units $m$')
  places = np.log(m / m[0])
  labels, last = [], -np.inf
  for width, place in zip(m, places, strict=True):
    fits = place - last >= _LABEL_ROOM * places[-1]
    labels.append(str(width) if fits else '')
    last = place if fits else last
  ax.set_xticks(m, labels=labels)
  ax.minorticks_off()
  return fig, ax
