"""What the figures draw, not that they are drawn."""

import itertools

import numpy as np
from absl.testing import parameterized
from matplotlib.colors import to_rgb

from ossgd.results import plots
from tests.results.drawn import (
  RANK_NAMES,
  STEP_NAMES,
  WIDTHS,
  assert_legible,
  band_edges,
  curves,
  error_bars,
  legend_texts,
  luminance,
  make_records,
  panels,
)

FIGURES = {
  'steps_to_accuracy': plots.steps_figure,
  'distance_at_accuracy': plots.distance_figure,
}
LINEAR = tuple(range(1000, 9000, 1000))
EPS = 2.0**-23  # float32


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

  def test_without_patterns(self):
    """A panel that says so, and no curve that is made up."""
    ds = make_records(num_seeds=2).drop_vars('pattern_difference')
    fig = plots.training_figure(ds)
    lines = [len(ax.get_lines()) for ax in fig.axes]
    self.assertEqual(lines[1], 0)
    self.assertGreater(lines[0], 0)
    said = [text.get_text() for text in fig.axes[1].texts]
    self.assertEqual(said, ['no activation pattern'])

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

  @parameterized.parameters(
    ('test_accuracy', 'Test accuracy\n(fraction'),
    ('pattern_difference', 'Activation pattern difference\n(fraction'),
    ('relative_distance', 'Relative distance (ratio)\n'),
    ('singular_values_update', 'accumulated update $w^{(T)} - w^{(0)}$'),
    ('singular_values_weights', 'final weights $w^{(T)}$'),
  )
  def test_axes_say_what_they_hold(self, name, words):
    """Quantity and unit on every axis; spectra log-log, the rest from 0."""
    ax = panels(plots.training_figure(make_records()))[name]
    self.assertIn(words, ax.get_ylabel())
    scales = ax.get_xscale(), ax.get_yscale()
    if name in STEP_NAMES:
      self.assertEqual(ax.get_xlabel(), 'Step $t$ (SGD updates)')
      self.assertEqual(scales, ('symlog', 'linear'))
      self.assertEqual((*ax.get_xlim(), ax.get_ylim()[0]), (0, 400, 0))
      self.assertEqual(ax.xaxis.get_transform().linthresh, 1)
    else:
      self.assertEqual(ax.get_xlabel(), 'Rank of the singular value')
      self.assertEqual(scales, ('log', 'log'))

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


class WidthFigureTest(parameterized.TestCase):
  @parameterized.parameters(*FIGURES)
  def test_seeds_that_reached_and_others(self, name):
    """Mean and std (ddof=1) without the NaN; one seed alone has no bar.

    A width with misses has their count above it; the others have none.
    """
    ds = make_records()
    full = FIGURES[name](ds)
    self.assertEmpty(full.axes[0].texts)
    self.assertNotIn('seeds that did not', legend_texts(full))

    ds[name][0, :2] = ds[name][2, 1:] = ds[name][3] = np.nan
    shuffled = ds.isel(width=[3, 0, 4, 2, 1]).transpose('seed', ...)
    fig = FIGURES[name](shuffled)
    x, y, half = error_bars(fig.axes[0])
    np.testing.assert_array_equal(x, WIDTHS)
    reached = [row[~np.isnan(row)] for row in ds[name].values]
    self.assertEqual([len(row) for row in reached], [3, 5, 1, 0, 5])
    mean = [sum(row) / len(row) if len(row) else np.nan for row in reached]
    std = [np.std(r, ddof=1) if len(r) > 1 else np.nan for r in reached]
    np.testing.assert_allclose(y, mean)
    np.testing.assert_allclose(half, std)

    notes = {t.get_position()[0]: t.get_text() for t in fig.axes[0].texts}
    self.assertEqual(notes, {250: '2/5', 1000: '4/5', 2000: '5/5'})
    (crosses,) = (li for li in fig.axes[0].lines if li.get_marker() == 'x')
    np.testing.assert_array_equal(crosses.get_xdata(), list(notes))
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
