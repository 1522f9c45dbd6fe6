"""Tests of training: what scripts share, no network trained."""

import dataclasses
from unittest import mock

import numpy as np
import xarray as xr
from absl.testing import parameterized

import ossgd
from experiments import mnist, synthetic
from experiments.common import models, training
from ossgd.data import images, mixtures
from ossgd.results import claims, tables
from ossgd.running import sweeps


def other(field: dataclasses.Field):
  """A value that is not the default, of its type."""
  if field.metadata['choices']:
    return field.metadata['choices'][-1]
  if isinstance(field.default, tuple):
    return field.default[:1]
  if isinstance(field.default, bool):
    return not field.default
  if isinstance(field.default, str):
    return 'seed:1'
  return field.default + 3


def sweep_result(widths=(8,), num_seeds=2) -> xr.Dataset:
  """As much of a sweep's Dataset as `training.sweep` looks at."""
  spectrum = np.arange(9.0, 0, -1) * np.ones((len(widths), num_seeds, 9))
  return xr.Dataset(
    {'singular_values_update': (('width', 'seed', 'rank'), spectrum)},
    {'width': list(widths), 'rank': range(1, 10)},
  )


class SweepTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    self.sweep = self.enter_context(
      mock.patch.object(
        sweeps, 'sweep', side_effect=lambda *_, **k: sweep_result(k['widths'])
      )
    )
    self.load = self.enter_context(
      mock.patch.object(images, 'load', return_value='split')
    )
    # These data are no data, of which a stable step size could be told.
    self.enter_context(mock.patch.object(training, '_warn_if_unstable'))

  @parameterized.parameters(synthetic, mnist)
  def test_every_setting_arrives(self, module):
    """No option is parsed and then forgotten on the way to the sweep."""
    fields = dataclasses.fields(training.Config)
    settings = {field.name: other(field) for field in fields}
    progress = mock.Mock()
    module.run(module.Config(**settings), progress)
    passed = self.sweep.call_args.kwargs
    of_model = {field.name for field in dataclasses.fields(models.Config)}
    for name in settings.keys() - {'normalize', 'engine'} - of_model:
      self.assertEqual(passed[name], settings[name], name)
    self.assertIs(passed['progress'], progress)
    own = {n: settings[n] for n in of_model - {'output_lr_times_width'}}
    self.assertEqual(passed['model'], ossgd.Model(**own))
    self.assertEqual(passed['output_lr_times_width'], 3.0)
    module.run(module.Config())  # where 0 says what None says to the library
    self.assertIsNone(self.sweep.call_args.kwargs['seeds_at_once'])
    self.assertIsNone(self.sweep.call_args.kwargs['output_lr_times_width'])
    self.assertEqual(self.sweep.call_args.kwargs['model'], ossgd.Model())

  def test_mixture_arrives(self):
    """The mixture has the numbers of the flags, and k l patterns."""
    mixture = dict(
      num_classes=2,
      num_components=3,
      dim=7,
      center_scale=0.5,
      noise_scale=0.25,
      normalize=False,
    )
    sizes = dict(num_train=21, num_test=22)
    results = synthetic.run(synthetic.Config(**mixture, **sizes))
    (spec,), passed = self.sweep.call_args
    self.assertEqual(spec, mixtures.gaussian(**mixture))
    self.assertEqual({name: passed[name] for name in sizes}, sizes)
    self.load.assert_not_called()
    self.assertEqual(results.attrs['num_patterns'], 6)
    np.testing.assert_array_equal(results.cliff, np.full((5, 2), 4 / 3))

  @parameterized.parameters(synthetic, mnist)
  def test_other_data(self, module):
    """Data from files: the same flags, no number of patterns is known."""
    config = module.Config(dataset='npz:x', data_dir='there', normalize=False)
    results = module.run(config)
    self.load.assert_called_once_with(
      'npz:x', data_dir='there', normalize=False, preprocess=None
    )
    self.assertEqual(self.sweep.call_args.args, ('split',))
    self.assertNotIn('num_patterns', results.attrs)
    module.run(module.Config(dataset='npz:x', preprocess='raw'))
    self.load.assert_called_with(
      'npz:x', data_dir=None, normalize=True, preprocess='raw'
    )

  def test_faults_of_data_are_told_in_flags(self):
    """What the library calls arguments; a path stays what it is."""
    path = '/data_dir/normalize=False'
    for said, told in (
      (
        f"give preprocess='raw' for {path}.",
        f'give --preprocess=raw for {path}.',
      ),
      ('or set data_dir.', 'or set --data_dir.'),
      ("normalize=False means preprocess='raw'", '--nonormalize means --prep'),
    ):
      for kind in (ValueError, FileNotFoundError, ImportError):
        self.load.side_effect = kind(said)
        with self.assertRaisesRegex(ValueError, f'^--dataset=npz:x: {told}'):
          mnist.run(mnist.Config(dataset='npz:x'))

  def test_mixture_has_no_pixels(self):
    """--preprocess is refused where nothing would heed it."""
    with self.assertRaisesRegex(ValueError, '=raw is for data from files'):
      synthetic.run(synthetic.Config(preprocess='raw'))
    self.sweep.assert_not_called()

  def test_over(self):
    """One sweep a value, along a new dim; progress is of the whole."""
    config = training.MixtureConfig(widths=(8,), num_components=(2, 4))
    fractions = []
    results = training.over(
      config, 'num_components', lambda f, label: fractions.append((f, label))
    )
    specs = [call.args[0] for call in self.sweep.call_args_list]
    self.assertEqual([spec.num_components for spec in specs], [2, 4])
    self.assertEqual(
      dict(results.sizes), {'num_components': 2, 'seed': 2, 'rank': 9}
    )
    np.testing.assert_array_equal(results.num_components, [2, 4])
    self.assertEqual(results.attrs['width'], 8)
    for call in self.sweep.call_args_list:
      for fraction in (0.0, 1.0):
        call.kwargs['progress'](fraction, 'm=8')
    self.assertEqual([f for f, _ in fractions], [0.0, 0.5, 0.5, 1.0])
    self.assertEqual(fractions[-1][1], 'num_components=4 m=8')


class StableTest(parameterized.TestCase):
  def test_told_and_compiled_once(self):
    """A step size far too large is told of; the next sweep traces nothing."""
    spec = mixtures.gaussian(num_classes=3, num_components=1, dim=17)
    with mock.patch.object(mixtures, 'sample', wraps=mixtures.sample) as sample:
      with self.assertLogs(level='WARNING') as logs:
        training._warn_if_unstable(spec, 1e4, 0)
      with self.assertNoLogs(level='WARNING'):
        training._warn_if_unstable(spec, 1.0, 1)
    self.assertIn('eta m = 10000 is past ', logs.output[0])
    sample.assert_called_once()


class TableTest(parameterized.TestCase):
  @parameterized.parameters(
    ([1, 2, 6], '3 ± 2.6'),
    ([1, np.nan, 3], '2 ± 1.4 (1 of 3 without)'),
    ([np.nan, 5.25, np.inf], '5.25 (2 of 3 without)'),
    ([np.nan, np.nan], '2 of 2 without'),
    ([7], '7'),
  )
  def test_mean_std(self, values, text):
    """The seeds that have a value are counted; so are those without."""
    array = xr.DataArray(np.array(values, np.float32), dims='seed')
    self.assertEqual(tables.mean_std(array), text)

  @parameterized.parameters('width', 'noise_scale')
  def test_rows(self, by):
    """A row a run: the last step's values, and those at the target."""

    def both(*rows):
      return (by, 'seed', 'step'), [[row] * 2 for row in rows]

    results = xr.Dataset(
      {
        'test_accuracy': both([0, 0.5], [0, 0.75]),
        'pattern_difference': both([9, 0.01], [9, 0.02]),
        'relative_distance': both([9, 0.03], [9, 0.04]),
        'steps_to_accuracy': ((by, 'seed'), [[5, 5], [6, np.nan]]),
        'distance_at_accuracy': ((by, 'seed'), [[0.5, 0.5], [0.1, 0.1]]),
      },
      {by: [4, 100]},
      {'target': 0.95, 'width': 16},
    )
    plain = tables.sweep_table(results, by, 'symbol')
    self.assertNotIn('singular', plain)
    results['cliff'] = (by, 'seed'), [[np.nan] * 2, [3, 3]]
    first, second = {'width': (1, 1), 'noise_scale': (2, 0.4)}[by]
    self.assertEqual(
      [
        ', '.join(row)
        for row in claims.table_cells(tables.sweep_table(results, by, 'symbol'))
      ],
      [
        'symbol, test accuracy, pattern difference, relative distance, '
        'steps to 95 %, sqrt(m) x distance at 95 %, '
        'singular value k l over the next',
        f'4, 0.5 ± 0, 0.01 ± 0, 0.03 ± 0, 5 ± 0, {first} ± 0, 2 of 2 without',
        '100, 0.75 ± 0, 0.02 ± 0, 0.04 ± 0, 6 (1 of 2 without), '
        f'{second} ± 0, 3 ± 0',
      ],
    )


class MeasureTest(parameterized.TestCase):
  def test_early_error(self):
    """The integral over steps, however they are spaced, up to step 50."""
    step = np.array([0, 1, 2, 10, 30, 50, 400])
    accuracy = np.stack([step / 50, np.full(7, 0.75)])
    results = xr.Dataset(
      {'test_accuracy': (('seed', 'step'), accuracy)}, {'step': step}
    )
    np.testing.assert_allclose(training.early_error(results), [0.5, 0.25])
    short = results.isel(step=slice(0, 4))
    np.testing.assert_allclose(training.early_error(short), [0.9, 0.25])
    coarse = results.sel(step=[0, 50, 400]).assign_coords(step=[0, 100, 800])
    np.testing.assert_allclose(training.early_error(coarse), [0.75, 0.25])

  def test_at_first(self):
    """The first of several; NaN where there is none, and for a NaN."""
    accuracy = [[0.5, 0.9, 0.8, 0.9], [0.9, 0, 0, 0], [0, np.nan, 0.5, 0]]
    step, distance = [0, 1, 5, 9], np.arange(12.0).reshape(3, 4)
    results = xr.Dataset(
      {
        'accuracy': (('seed', 'step'), accuracy),
        'distance': (('seed', 'step'), distance),
      },
      {'step': step},
    )
    good = results.accuracy >= 0.9
    for values, expected in (
      (results.step, [1, 0, np.nan]),
      (results.distance, [1, 4, np.nan]),
    ):
      found = training.at_first(good, values)
      np.testing.assert_array_equal(found, expected)
      self.assertNotIn('step', found.coords)
