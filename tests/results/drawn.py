"""Records to draw, and what of them can be seen in a figure."""

import itertools
from unittest import mock

import numpy as np
import xarray as xr
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.text import Text

STEP_NAMES = ('test_accuracy', 'pattern_difference', 'relative_distance')
RANK_NAMES = ('singular_values_update', 'singular_values_weights')
WIDTHS = (250, 500, 1000, 2000, 4000)


def make_records(by='width', values=WIDTHS, num_seeds=5, every=1) -> xr.Dataset:
  """Curves of the shapes that training has, in float64, from a fixed seed."""
  rng = np.random.default_rng(0)
  step, rank = np.arange(0, 401, every), np.arange(1, 301)
  index = np.arange(len(values))[:, None, None]
  noise = rng.uniform(0.8, 1.2, (len(values), num_seeds, 1))
  padding = np.where(rank <= 150 + 30 * index, 1, np.nan)  # min(m, d) varies
  update = np.where(rank <= 20, 1, 1e-2 * 0.98**rank) / (index + 1)
  over = {
    'step': {
      'test_accuracy': 1 - 0.9 * np.exp(-noise * step / 8),
      'pattern_difference': noise / (index + 4) * np.log1p(step) / 10,
      'relative_distance': noise / (index + 5) * np.log1p(step) / 10,
    },
    'rank': {
      'singular_values_update': noise * update * padding,
      'singular_values_weights': (noise + 3 / rank) * padding,
    },
  }
  ds = xr.Dataset(coords={by: list(values), 'step': step, 'rank': rank})
  for axis, variables in over.items():
    for name, variable in variables.items():
      ds[name] = ((by, 'seed', axis), variable)
  ds['steps_to_accuracy'] = ((by, 'seed'), 20 * noise[..., 0])
  ds['distance_at_accuracy'] = ((by, 'seed'), 0.02 * noise[..., 0])
  return ds.assign_attrs(target=0.98)


def panels(fig):
  return dict(zip(STEP_NAMES + RANK_NAMES, fig.axes, strict=False))


def curves(ax):
  """The labelled lines: matplotlib's own names begin with an underscore."""
  return [li for li in ax.lines if not str(li.get_label()).startswith('_')]


def band_edges(band, x):
  """Lower and upper edge at each x, from the polygon's corners."""
  (corners,) = (path.vertices for path in band.get_paths())
  at = [corners[corners[:, 0] == value, 1] for value in x]
  return [min(y) for y in at], [max(y) for y in at]


def error_bars(ax):
  """x, y and half the length of each error bar, NaN where there is none."""
  (container,) = ax.containers
  points, _, (bars,) = container
  corners = [path.vertices for path in bars.get_paths()]
  half = [np.ptp(c[:, 1]) / 2 if len(c) else np.nan for c in corners]
  return (*points.get_data(), np.array(half))


def luminance(color) -> float:
  """Relative luminance of sRGB, as WCAG 2 defines it."""
  rgb = np.array(to_rgb(color))
  linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
  return linear @ [0.2126, 0.7152, 0.0722]


def legend_texts(fig):
  (legend,) = fig.legends
  return [text.get_text() for text in legend.get_texts()]


def assert_legible(fig) -> None:
  """No text is cut or meets another; no legend of the figure covers axes."""
  canvas = FigureCanvasAgg(fig)
  draw = mock.patch.object(Text, 'draw', autospec=True, side_effect=Text.draw)
  with draw as drawn:
    canvas.draw()
  texts = [call.args[0] for call in drawn.call_args_list]
  texts = [t for t in texts if t.get_visible() and t.get_text().strip()]
  assert len(texts) > 4
  boxes = [(t.get_text(), t.get_window_extent()) for t in texts]
  width, height = canvas.get_width_height()
  for text, box in boxes:
    assert min(box.x0, box.y0) >= 0, text
    assert box.x1 <= width, text
    assert box.y1 <= height, text
  for (text, one), (other, two) in itertools.combinations(boxes, 2):
    assert not one.overlaps(two), (text, other)
  for legend, ax in itertools.product(fig.legends, fig.axes):
    assert not legend.get_window_extent().overlaps(ax.get_window_extent())
