"""What the figures draw, not that they are drawn."""

import itertools
import subprocess
import sys
from unittest import mock

import numpy as np
import xarray as xr
from absl.testing import parameterized
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.text import Text

from ossgd.results import plots

STEP_NAMES = ('test_accuracy', 'pattern_difference', 'relative_distance')
RANK_NAMES = ('singular_values_update', 'singular_values_weights')
FIGURES = {
  'steps_to_accuracy': plots.steps_figure,
  'distance_at_accuracy': plots.distance_figure,
}
WIDTHS = (250, 500, 1000, 2000, 4000)
LINEAR = tuple(range(1000, 9000, 1000))
EPS = 2.0**-23  # float32


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


class TrainingFigureTest(parameterized.TestCase):
  @parameterized.parameters(2, 5)
  def test_lines_and_bands_are_mean_and_std(self, num_seeds):
    """NumPy's mean and mean -+ std (ddof=1) of each curve, in every panel.

    Records in another order and with dims transposed draw the same.
    """
    ds = make_records(num_seeds=num_seeds)
    shuffled = ds.isel(width=[3, 0, 4, 2, 1]).transpose('rank', 'step', ...)
    for name, ax in panels(plots.training_figure(shuffled)).items():
      x = ds[ds[name].dims[-1]].values
      for line, band, values in zip(
        curves(ax), ax.collections, ds[name].values, strict=True
      ):
        mean = values.sum(axis=0) / num_seeds
        std = np.sqrt(((values - mean) ** 2).sum(axis=0) / (num_seeds - 1))
        np.testing.assert_array_equal(line.get_xdata(), x)
        np.testing.assert_allclose(line.get_ydata(), mean, rtol=1e-12)
        known = ~np.isnan(mean)
        low, high = band_edges(band, x[known])
        np.testing.assert_allclose(low, (mean - std)[known], rtol=1e-9)
        np.testing.assert_allclose(high, (mean + std)[known], rtol=1e-9)

  def test_one_seed_has_no_band(self):
    """One seed has no spread to show, and the legend does not claim one."""
    ds = make_records(num_seeds=1)
    fig = plots.training_figure(ds)
    for name, ax in panels(fig).items():
      self.assertEmpty(ax.collections)
      self.assertEmpty(ax.texts)
      drawn = [line.get_ydata() for line in curves(ax)]
      np.testing.assert_array_equal(drawn, ds[name].values[:, 0])
    title = fig.axes[-1].get_legend().get_title().get_text()
    self.assertIn('one seed', title)
    self.assertNotIn('std', title)

  def test_axes_say_what_they_hold(self):
    """Quantity and unit on every axis; spectra log-log, the rest from 0."""
    words = (
      'Test accuracy\n(fraction',
      'Activation pattern difference\n(fraction',
      'Relative distance (ratio)\n',
      'accumulated update $w^{(T)} - w^{(0)}$',
      'final weights $w^{(T)}$',
    )
    axes = panels(plots.training_figure(make_records()))
    for (name, ax), word in zip(axes.items(), words, strict=True):
      self.assertIn(word, ax.get_ylabel())
      if name in STEP_NAMES:
        self.assertEqual(ax.get_xlabel(), 'Step $t$ (SGD updates)')
        self.assertEqual(
          (ax.get_xscale(), ax.get_yscale()), ('symlog', 'linear')
        )
        self.assertEqual((*ax.get_xlim(), ax.get_ylim()[0]), (0, 400, 0))
        self.assertEqual(ax.xaxis.get_transform().linthresh, 1)
      else:
        self.assertEqual(ax.get_xlabel(), 'Rank of the singular value')
        self.assertEqual((ax.get_xscale(), ax.get_yscale()), ('log', 'log'))

  @parameterized.parameters(
    ('width', (1000, 4000), '$m$', ['1000', '4000']),
    ('noise_scale', (0.5, 1.0, 10.0), r'$\sigma$', ['0.5', '1', '10']),
    ('num_components', (1, 7), r'$\ell$', ['1', '7']),
    ('init_scale', (1.0, 2.5), 'init scale', ['1', '2.5']),
  )
  def test_one_legend_names_the_curves(self, by, values, symbol, labels):
    """The only legend pairs each value with its curves' colour and style."""
    fig = plots.training_figure(make_records(by, values), by)
    self.assertEmpty(fig.legends)
    (legend,) = (ax.get_legend() for ax in fig.axes if ax.get_legend())
    self.assertIn(symbol, legend.get_title().get_text())
    self.assertIn('mean ± one std of 5 seeds', legend.get_title().get_text())
    self.assertEqual([t.get_text() for t in legend.get_texts()], labels)
    for ax in panels(fig).values():
      for key, line in zip(legend.get_lines(), curves(ax), strict=True):
        self.assertEqual(to_rgb(key.get_color()), to_rgb(line.get_color()))
        self.assertEqual(key.get_linestyle(), line.get_linestyle())

  @parameterized.parameters(*range(1, 9))
  def test_palette_reads_in_grey(self, n):
    """Luminance rises by curve up to 3:1 with white; neighbours' styles differ.

    Steps of 5 in CIE L* at least: about 1 is the smallest the eye can tell.
    """
    fig = plots.training_figure(make_records(values=LINEAR[:n], num_seeds=1))
    lines = curves(fig.axes[0])
    grey = np.array([luminance(line.get_color()) for line in lines])
    self.assertLen(grey, n)
    self.assertTrue(np.all(np.diff(116 * np.cbrt(grey)) > 5), grey)
    self.assertGreaterEqual(1.05 / (grey[-1] + 0.05), 3.0)
    for one, two in itertools.pairwise(lines):
      self.assertNotEqual(one.get_linestyle(), two.get_linestyle())

  @parameterized.parameters((0, 1.0), (40, 3.0))
  def test_zeros_are_clipped_in_sight(self, first, largest):
    """Log axes cannot hold 0: drawn at eps times the largest, and marked.

    A spectrum of zeros alone (no step taken) counts 1 as its largest.
    """
    ds = make_records()
    ds['singular_values_update'] *= 3.0 / ds['singular_values_update'].max()
    ds['singular_values_update'][..., first:] = 0.0
    fig = plots.training_figure(ds)
    axes = panels(fig)
    clipped, kept = (axes[name] for name in RANK_NAMES)
    for line in curves(clipped):
      drawn = line.get_ydata()
      np.testing.assert_allclose(drawn[first:], EPS * largest, rtol=1e-6)
      self.assertTrue(np.all(drawn[:first] > EPS * largest))
    (level,) = (li for li in clipped.lines if li not in curves(clipped))
    np.testing.assert_allclose(level.get_ydata(), EPS * largest, rtol=1e-6)
    (note,) = clipped.texts
    self.assertIn('clipped', note.get_text())
    assert_legible(fig)
    self.assertGreater(note.get_window_extent().y0, clipped.bbox.y0)
    self.assertEmpty(kept.texts)
    self.assertLen(kept.lines, len(WIDTHS))

  @parameterized.parameters(np.nan, np.inf)
  def test_diverged_seed_leaves_a_gap(self, value):
    """The mean of the seeds that survived would flatter the run."""
    ds = make_records()
    ds['relative_distance'][1, 2, 50:] = value
    ax = panels(plots.training_figure(ds))['relative_distance']
    for i, line in enumerate(curves(ax)):
      gap = (ds['step'].values >= 50) & (i == 1)
      np.testing.assert_array_equal(np.isnan(line.get_ydata()), gap)

  @parameterized.parameters(
    ('width', (1000,), 1, 1, False),
    ('width', LINEAR, 5, 1, True),
    ('noise_scale', (1.0, 2.0, 4.0, 8.0), 5, 10, False),
    ('num_components', tuple(range(1, 8)), 2, 90, True),
  )
  def test_legible(self, by, values, num_seeds, every, clipped):
    """One curve or eight, every step or every 90th, clipped or not."""
    ds = make_records(by, values, num_seeds, every)
    if clipped:
      ds['singular_values_update'][..., 30:] = 0.0
    assert_legible(plots.training_figure(ds, by))

  def test_bad_records_are_named(self):
    """The message says which variable, what it has and what was expected."""
    ds = make_records()
    with self.assertRaisesRegex(ValueError, "no variable 'test_accuracy'"):
      plots.training_figure(ds.drop_vars('test_accuracy'))
    with self.assertRaisesRegex(ValueError, "expected .'noise_scale', 'seed'"):
      plots.training_figure(ds, by='noise_scale')
    with self.assertRaisesRegex(ValueError, "test_accuracy has dims .*'other'"):
      plots.training_figure(ds.expand_dims(other=2))

  def test_pyplot_stays_out(self):
    """pyplot holds global state and may open windows: it is never imported."""
    code = (
      'import sys, ossgd.results.plots; '
      'sys.exit("matplotlib.pyplot" in sys.modules)'
    )
    subprocess.run([sys.executable, '-c', code], check=True)


class WidthFigureTest(parameterized.TestCase):
  @parameterized.parameters(*FIGURES)
  def test_error_bars_are_of_the_seeds_that_reached(self, name):
    """Mean and std (ddof=1) without the NaN; one seed alone has no bar."""
    ds = make_records()
    ds[name][0, :2] = ds[name][2, 1:] = ds[name][3] = np.nan
    shuffled = ds.isel(width=[3, 0, 4, 2, 1]).transpose('seed', ...)
    x, y, half = error_bars(FIGURES[name](shuffled).axes[0])
    np.testing.assert_array_equal(x, WIDTHS)
    reached = [row[~np.isnan(row)] for row in ds[name].values]
    self.assertEqual([len(row) for row in reached], [3, 5, 1, 0, 5])
    mean = [sum(row) / len(row) if len(row) else np.nan for row in reached]
    std = [np.std(r, ddof=1) if len(r) > 1 else np.nan for r in reached]
    np.testing.assert_allclose(y, mean)
    np.testing.assert_allclose(half, std)

  @parameterized.parameters(*FIGURES)
  def test_missed_seeds_are_counted(self, name):
    """A width with misses has their count above it; the others have none."""
    ds = make_records()
    full = FIGURES[name](ds)
    self.assertEmpty(full.axes[0].texts)
    self.assertNotIn('seeds that did not', legend_texts(full))

    ds[name][1, :2] = ds[name][4] = np.nan
    fig = FIGURES[name](ds)
    notes = {t.get_position()[0]: t.get_text() for t in fig.axes[0].texts}
    self.assertEqual(notes, {500: '2/5', 4000: '5/5'})
    (crosses,) = (li for li in fig.axes[0].lines if li.get_marker() == 'x')
    np.testing.assert_array_equal(crosses.get_xdata(), [500, 4000])
    self.assertFalse(crosses.get_clip_on())
    self.assertIn('seeds that did not', legend_texts(fig))

  def test_steps_axes(self):
    """Steps from 0 up, so that flat looks flat; all NaN shows all T steps."""
    ds = make_records()
    (ax,) = plots.steps_figure(ds).axes
    self.assertEqual(
      ax.get_ylabel(), 'Steps to 98% test accuracy (SGD updates)'
    )
    self.assertEqual(ax.get_xlabel(), 'Hidden units $m$')
    self.assertEqual((ax.get_xscale(), ax.get_yscale()), ('log', 'linear'))
    self.assertEqual(ax.get_ylim()[0], 0)
    self.assertBetween(ax.get_ylim()[1], 20, 30)
    labels = [t.get_text() for t in ax.get_xticklabels()]
    self.assertEqual(labels, [str(m) for m in WIDTHS])

    ds['steps_to_accuracy'][:] = np.nan
    (ax,) = plots.steps_figure(ds.assign_attrs(target=0.955)).axes
    self.assertIn('95.5%', ax.get_ylabel())
    self.assertEqual(ax.get_ylim(), (0, 400))

  @parameterized.parameters(
    ((), 2 / 3, r'$2/(3\sqrt{m})$'),
    ((8,), 8, r'$8/\sqrt{m}$'),
    ((0.52,), 0.52, r'$0.52/\sqrt{m}$'),
  )
  def test_red_line_is_the_reference(self, args, c, formula):
    """c / sqrt(m) at the widths, in red, its formula in the legend."""
    fig = plots.distance_figure(make_records(), *args)
    (ax,) = fig.axes
    self.assertEqual((ax.get_xscale(), ax.get_yscale()), ('log', 'log'))
    self.assertIn('Relative distance at 98% test accuracy', ax.get_ylabel())
    (red,) = (li for li in ax.lines if to_rgb(li.get_color()) == (1, 0, 0))
    self.assertEqual(red.get_label(), formula)
    self.assertIn(formula, legend_texts(fig))
    expected = [[m, c * m**-0.5] for m in WIDTHS]
    np.testing.assert_allclose(red.get_xydata(), expected)

  @parameterized.product(
    name=list(FIGURES), widths=((1000,), WIDTHS, LINEAR), missed=(0, 1, 5)
  )
  def test_legible(self, name, widths, missed):
    """Counts, ticks, labels and legend keep clear of one another."""
    ds = make_records(values=widths)
    ds[name][:, :missed] = np.nan
    assert_legible(FIGURES[name](ds))

  def test_bad_input_is_named(self):
    """The message says what is missing or what was expected."""
    ds = make_records()
    with self.assertRaisesRegex(ValueError, "no attribute 'target'"):
      plots.steps_figure(ds.drop_attrs())
    for name, figure in FIGURES.items():
      with self.assertRaisesRegex(ValueError, f"no variable '{name}'"):
        figure(ds.drop_vars(name))
      with self.assertRaisesRegex(ValueError, "expected .'width', 'seed'"):
        figure(make_records('noise_scale'))
    for reference in (0.0, -1.0, np.nan, np.inf):
      with self.assertRaisesRegex(ValueError, 'needs a positive c'):
        plots.distance_figure(ds, reference)
