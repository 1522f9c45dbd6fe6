"""Another model from the command line to what is shown of it."""

import dataclasses
import pathlib
import tempfile

from absl.testing import parameterized

from experiments import compression, random_labels, synthetic
from experiments.common import command, models, options, scripts
from ossgd.paper import model
from ossgd.results import claims
from ossgd.storing import records
from tests.experiments import run_folder, scripts_test

SMALL = scripts_test.SMALL | dict(
  num_seeds=1, dim=20, num_train=40, num_test=30, batch_size=20, num_steps=4
)


class ModelsTest(parameterized.TestCase):
  def test_from_flags_to_a_folder(self):
    """Flags arrive, nothing is made up of patterns, no claim is judged."""
    folder = pathlib.Path(self.enter_context(tempfile.TemporaryDirectory()))
    flags = [f'--{n}={v}' for n, v in SMALL.items()]
    flags += ['--widths=24', '--activation=tanh', '--loss=squared']
    flags += ['--output_law=rademacher', '--start=antisymmetric']
    flags += ['--layers=both', '--output_lr_times_width=7', f'--out={folder}']
    code, _, said = run_folder.ended(synthetic.main, *flags)
    self.assertEqual(code, 0, said)
    results, config = records.read_measured(folder)
    names = dict(
      activation='tanh',
      loss='squared',
      output_law='rademacher',
      start='antisymmetric',
      layers='both',
      output_lr_times_width=7.0,
    )
    for name, value in names.items():
      self.assertEqual(results.attrs[name], value)
      self.assertEqual(config['settings'][name], value)
    self.assertNotIn('pattern_difference', results)
    self.assertNotIn('pattern difference', synthetic.EXPERIMENT.table(results))
    found = [
      claims.judge(claim, results)
      for claim in synthetic.EXPERIMENT.claims(results)
    ]
    self.assertEqual({finding.verdict for finding in found}, {'measured'})
    reasons = [finding.reason for finding in found]
    self.assertEqual(
      reasons.count('these results have no pattern_difference'), 2
    )
    self.assertIn('activation tanh, paper relu', reasons[0])
    self.assertIn('no pattern_difference', (folder / 'report.md').read_text())

  def test_without_patterns(self):
    """Tables, figures and findings of what there is."""
    config = random_labels.Config(
      **SMALL, widths=(24,), activation='erf', corruption=(0.0,)
    )
    results = random_labels.run(config)
    table, found = scripts_test.finish(random_labels.EXPERIMENT, results)
    self.assertNotIn('pattern', table)
    self.assertNotEmpty(found)

  def test_the_papers_model_leaves_config_as_it_was(self):
    """Folders of before are still what is asked for."""
    self.assertEqual(
      scripts.LATER,
      {f.name: f.default for f in dataclasses.fields(models.Config)},
    )
    self.assertEqual(
      {n: scripts.LATER[n] for n in model.PAPER.names()}, model.PAPER.names()
    )
    for flags, left in (([], set()), (['--loss=hinge'], {'loss'})):
      argv = ['synthetic', *flags]
      call = options.parse('synthetic', synthetic.Config, {}, argv)
      config = command._config(synthetic.EXPERIMENT, call)
      self.assertEqual(config['settings'].keys() & scripts.LATER.keys(), left)

  @parameterized.parameters(
    ('synthetic', '--activation=swish', 'relu|leaky_relu'),
    ('synthetic', '--loss=logistic', 'there are 10 classes; expected 2'),
    ('synthetic', '--output_lr_times_width=1', 'expected layers both'),
    ('compression', '--activation=tanh', 'expected relu, which is what'),
  )
  def test_refused(self, name, flag, message):
    """In a line, before the compute."""
    script = {'synthetic': synthetic, 'compression': compression}[name]
    out = self.enter_context(tempfile.TemporaryDirectory())
    code, _, said = run_folder.ended(script.main, flag, f'--out={out}/x')
    self.assertEqual(code, 2)
    self.assertIn(message, said)
