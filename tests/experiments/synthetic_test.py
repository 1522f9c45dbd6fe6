"""Tests of synthetic and mnist as a person runs them, small."""

import json
from unittest import mock

import numpy as np
from absl.testing import parameterized

from experiments import mnist, synthetic
from experiments.common import training
from ossgd.engines import sgd
from ossgd.results import claims, paper_claims, tables
from ossgd.running import watching
from ossgd.storing import records
from tests.experiments import command_test

TINY = (
  *('--widths=32,64', '--num_seeds=2', '--num_steps=6', '--batch_size=16'),
  *('--dim=20', '--num_train=64', '--num_test=32', '--num_classes=3'),
  '--eval_every=4',
)


class SyntheticTest(command_test.Case):
  def test_from_flags_to_folder_and_again(self):
    """The files, their content, what is printed; then none of it anew."""
    fractions = []

    def run(config, progress):
      def spy(fraction, label):
        fractions.append(fraction)
        progress(fraction, label)

      return synthetic.run(config, spy)

    script = synthetic.EXPERIMENT._replace(run=run)
    code, printed, _ = self.call(script, *TINY)
    self.assertEqual(code, 0)
    self.assertEqual(fractions, sorted(fractions))
    self.assertEqual(fractions[0], 0.0)
    self.assertAlmostEqual(fractions[-1], 1.0)
    files = self.files()
    pngs = ('figure1.png', 'figure4_steps.png', 'figure5_distance.png')
    self.assertEqual(
      set(files), {'results.nc', 'config.json', 'report.md', *pngs}
    )
    for name in pngs:
      self.assertStartsWith(files[name], b'\x89PNG')
    results, config = records.read(self.out)
    self.check_config(config, files, results)
    self.assertEqual(results.attrs['num_patterns'], 3 * 2)
    self.assertEqual(
      dict(results.sizes), {'width': 2, 'seed': 2, 'step': 3, 'rank': 20}
    )
    np.testing.assert_array_equal(results.step, [0, 4, 6])
    np.testing.assert_array_equal(results.pattern_difference[..., 0], 0)
    self.check_report(files['report.md'].decode(), printed, results)

    # How seeds are grouped is no part of what the results are.
    never = script._replace(run=command_test.NEVER)
    code, again, _ = self.call(never, *TINY, '--seeds_at_once=2')
    self.assertEqual((code, again), (0, printed))
    self.assertEqual(self.files(), files)
    err = self.refused(never, *TINY, '--seed=1')
    self.assertIn('settings.seed: 0 there, 1 here', err)

  def check_config(self, config, files, results):
    self.assertEqual(config['experiment'], 'synthetic')
    self.assertEqual(config['settings']['widths'], [32, 64])
    self.assertEqual(config['settings']['center_scale'], 5.0)
    self.assertEqual(config['environment'], records.environment())
    self.assertEqual(set(config.pop('files')), set(files) - {'config.json'})
    seconds = config.pop('seconds')
    self.assertContainsSubset(
      {'compile', 'start', 'train', 'measure', 'spectrum', 'plot', 'other'},
      seconds,
    )
    self.assertGreaterEqual(min(seconds.values()), 0)
    self.assertGreater(sum(seconds.values()), results.attrs['seconds'])
    self.assertEqual(json.loads(results.attrs['config']), config)

  def check_report(self, report, printed, results):
    table = tables.sweep_table(results)
    self.assertStartsWith(report, '# synthetic\n')
    findings = [
      claims.judge(claim, results)
      for claim in paper_claims.training_claims(
        'Figure 1', num_patterns=6, constant=2 / 3
      )
    ]
    for text in (table, claims.report(findings)):
      self.assertIn(f'\n{text}', report)
    for text in (table, claims.summary(findings), str(self.out)):
      self.assertIn(text, printed)

  @parameterized.parameters(
    ('--widths=0', 'width is 0'),
    ('--widths=', 'widths are ()'),
    ('--widths=8,8', 'all different'),
    ('--batch_size=65', 'batch_size is 65; expected 1 to 64'),
    ('--batch_size=0', 'batch_size is 0'),
    ('--target=2', 'target is 2.0'),
    ('--target=nan', 'target is nan'),
    ('--num_steps=0', 'num_steps is 0'),
    ('--num_seeds=0', 'num_seeds is 0'),
    ('--eval_every=0', 'eval_every is 0'),
    ('--seeds_at_once=-1', 'seeds_at_once is -1'),
    ('--lr_times_width=nan', 'lr_times_width is nan'),
    ('--init_scale=0', 'init_scale is 0'),
    ('--order=one_pass', 'has 4 steps, but num_steps is 6'),
    ('--num_train=0', 'is 0; expected'),
    ('--num_test=0', 'num_test'),
    ('--num_classes=1', 'num_classes'),
    ('--dim=0', 'dim'),
    ('--noise_scale=-1', 'noise_scale'),
    ('--out=/proc/nowhere', '/proc/nowhere'),
  )
  def test_bad_setting(self, arg, part):
    """One line and exit code 2, before training; old results are left alone."""
    self.call(command_test.TOY)
    with mock.patch.object(sgd, 'advance', side_effect=AssertionError) as train:
      err = self.refused(synthetic.EXPERIMENT, *TINY, '--overwrite', arg)
    self.assertIn(part, err)
    train.assert_not_called()


class DataTest(command_test.Case):
  """`experiments.mnist` on a user's file, which then becomes another."""

  def setUp(self):
    super().setUp()
    self.file = self.out.parent / 'mine.npz'
    self.flags = (
      *(f'--dataset=npz:{self.file}', '--widths=8', '--num_seeds=2'),
      *('--num_steps=4', '--batch_size=4', '--checkpoint_every=0'),
    )
    self.replace(0)

  def replace(self, seed, *, dim=5, num_classes=2):
    rng = np.random.default_rng(seed)
    x, y = rng.normal(size=(24, dim)), np.arange(24) % num_classes
    np.savez(self.file, x_train=x, y_train=y, x_test=x[:8], y_test=y[:8])

  def test_replaced_after(self):
    """Finished results of the old file are not shown as the new one's."""
    self.assertEqual(self.call(mnist.EXPERIMENT, *self.flags)[0], 0)
    self.assertLen(json.loads(self.files()['config.json'])['data'], 1)
    self.assertEqual(self.call(mnist.EXPERIMENT, *self.flags)[0], 0)
    for dim, num_classes in ((5, 2), (7, 3)):
      self.replace(1, dim=dim, num_classes=num_classes)
      err = self.refused(mnist.EXPERIMENT, *self.flags)
      self.assertRegex(err, r'holds other results \(data differs\); ')

  @parameterized.parameters(False, True)
  def test_replaced_between_two_seeds(self, killed):
    """There is never one results.nc of both."""

    def run(config, watch):
      def tell(fraction, label):
        watch.tell(fraction, label)
        if 'seed=1' in label:
          raise KeyboardInterrupt

      return mnist.run(config, watching.Watch(tell, watch.store))

    def late(config):
      found = training.data(config)
      self.replace(1)
      return found

    script = mnist.EXPERIMENT
    if killed:
      with self.assertRaises(KeyboardInterrupt):
        self.call(script._replace(run=run), *self.flags)
      self.replace(1)
      code, _, err = self.call(script, *self.flags)
      self.assertIn('holds other results (data differs)', err)
    else:
      code, _, err = self.call(script._replace(data=late), *self.flags)
      self.assertIn('the data were replaced while this ran', err)
    self.assertEqual(code, 2)
    self.assertFalse((self.out / 'results.nc').exists())
    self.replace(0)
    self.assertEqual(self.call(script, *self.flags)[0], 0)
