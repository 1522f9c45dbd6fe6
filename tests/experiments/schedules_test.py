"""Every script's own schedule, small: the fast engines beside the plain one."""

import dataclasses
import importlib
import pathlib
import pkgutil
import tempfile

import numpy as np
from absl.testing import parameterized

import experiments

SCHEDULE = ('num_steps', 'batch_size', 'eval_every', 'eval_growth', 'order')
# Not part of a schedule. Small steps: rounding grows with what they amplify.
SMALL = dict(
  widths=(16,),
  num_seeds=1,
  dim=10,
  num_classes=3,
  num_test=20,
  lr_times_width=0.05,
)


def schedules():
  """(name, script, preset): its schedules, of all that choose an engine."""
  for module in pkgutil.iter_modules(experiments.__path__):
    source = pathlib.Path(experiments.__path__[0], f'{module.name}.py')
    if not source.is_file() or 'EXPERIMENT' not in source.read_text():
      continue
    script = importlib.import_module(f'experiments.{module.name}')
    if hasattr(script, 'EXPERIMENT') and hasattr(script.Config, 'engine'):
      different = {}
      for preset in ('', *script.PRESETS):
        config = script.Config(**script.PRESETS.get(preset, {}))
        schedule = tuple(getattr(config, name) for name in SCHEDULE)
        different.setdefault(schedule, preset)
      for preset in different.values():
        yield f'_{module.name}_{preset}', module.name, preset


def small(script, preset, dataset):
  """A config with its own T, B, gaps and order, and little else."""
  config = script.Config(**script.PRESETS.get(preset, {}))
  fields = {f.name: getattr(config, f.name) for f in dataclasses.fields(config)}
  changed = {name: SMALL[name] for name in SMALL if name in fields}
  if 'num_train' in fields:
    enough = config.num_steps * config.batch_size
    one_pass = config.order == 'one_pass'
    changed['num_train'] = enough if one_pass else max(60, config.batch_size)
  if fields.get('dataset', 'synthetic') != 'synthetic':
    changed['dataset'] = dataset
  for name, value in fields.items():
    if isinstance(value, tuple) and name not in changed:
      changed[name] = value[:1]  # each of several has the schedule
  return dataclasses.replace(config, **changed)


class SchedulesTest(parameterized.TestCase):
  @parameterized.named_parameters(*schedules())
  def test_engines(self, name, preset):
    """Records at every recorded step, with either engine that auto may take."""
    script = importlib.import_module(f'experiments.{name}')
    folder = self.enter_context(tempfile.TemporaryDirectory())
    rng = np.random.default_rng(0)
    y = np.arange(100) % 3
    x = rng.normal(size=(100, 10)) + 2 * np.eye(10)[y]
    path = pathlib.Path(folder, 'small.npz')
    np.savez(path, x_train=x[:80], y_train=y[:80], x_test=x[80:], y_test=y[80:])
    config = small(script, preset, f'npz:{path}')
    plain = script.run(dataclasses.replace(config, engine='plain'))
    self.assertTrue(np.isfinite(plain.train_loss).all())
    for engine in ('gram', 'blocked'):
      fast = script.run(dataclasses.replace(config, engine=engine))
      self.assertEqual(fast.sizes, plain.sizes)
      for quantity in ('train_loss', 'test_loss', 'relative_distance'):
        np.testing.assert_allclose(
          fast[quantity], plain[quantity], rtol=1e-3, atol=1e-6
        )

  def test_scripts_are_found(self):
    """Of those that sweep, the two of Section 7 at least."""
    names = {name for _, name, _ in schedules()}
    self.assertLessEqual({'synthetic', 'mnist', 'random_labels'}, names)
