"""The report: all claims judged again, folders that are not fit listed."""

import contextlib
import io
import json
import re
import shutil
import tempfile
from pathlib import Path

from absl.testing import parameterized

from experiments import command, report, synthetic
from ossgd import claims, records

SETTINGS = dict(
  widths=(16, 32),
  num_seeds=3,
  num_steps=6,
  batch_size=4,
  dim=10,
  num_classes=3,
  num_train=40,
  num_test=30,
)


def setUpModule():
  """One real run, that every test copies."""
  global TEMPORARY
  TEMPORARY = Path(tempfile.mkdtemp())
  flags = [
    f'--{name}={",".join(map(str, v)) if isinstance(v, tuple) else v}'
    for name, v in SETTINGS.items()
  ]
  with (
    contextlib.suppress(SystemExit),
    contextlib.redirect_stdout(io.StringIO()),
  ):
    command.main(
      synthetic.EXPERIMENT, ['x', *flags, f'--out={TEMPORARY / "run"}']
    )


def tearDownModule():
  shutil.rmtree(TEMPORARY)


class ReportTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    self.folder = Path(self.enterContext(tempfile.TemporaryDirectory()))
    self.run_folder = self.folder / 'first <b>run'
    shutil.copytree(TEMPORARY / 'run', self.run_folder)

  def test_verdicts(self):
    """Each claim stands with the verdict that its results give, in order."""
    gathered = report.gather(self.folder)
    results, _ = records.read(self.run_folder)
    expected = [
      claims.judge(claim, results).verdict
      for claim in synthetic.EXPERIMENT.claims(results)
    ]
    self.assertGreater(len(set(expected)), 1)
    page = report.html_report(gathered)
    self.assertEqual(re.findall(r'<span class="(\w+)">', page), expected)
    text = report.markdown_report(gathered)
    self.assertEqual(re.findall(r'\*\*(\w+)\*\* *\|', text), expected)

  def test_page_stands_alone(self):
    """Figures are inside, nothing is fetched, nothing runs."""
    page = report.html_report(report.gather(self.folder))
    self.assertLen(re.findall('src="data:image/png;base64,', page), 3)
    self.assertNotRegex(page, r'(src|href)="(?!data:)')
    self.assertNotIn('<script', page)
    self.assertNotIn('@import', page)

  def test_text_of_folders_is_escaped(self):
    """Names and settings from disk cannot become markup."""
    config = json.loads((self.run_folder / 'config.json').read_text())
    config['settings']['dataset'] = '<script>alert(1)</script>'
    (self.run_folder / 'config.json').write_text(json.dumps(config))
    page = report.html_report(report.gather(self.folder))
    self.assertNotIn('<b>run', page)
    self.assertNotIn('<script>', page)
    self.assertIn('&lt;script&gt;', page)

  def test_command_and_time(self):
    """The command that repeats the run, and how long it took."""
    page = report.html_report(report.gather(self.folder))
    self.assertIn('python -m experiments.synthetic --widths=16,32', page)
    self.assertRegex(page, r'<dt>time</dt><dd><code>\d+ s')

  def test_other_versions_are_said(self):
    """A run of another JAX is shown, with the difference."""
    path = self.run_folder / 'config.json'
    config = json.loads(path.read_text())
    now = config['environment']['jax']
    self.assertEqual(report.read(self.run_folder).outdated, '')
    config['environment']['jax'] = '0.0.1'
    path.write_text(json.dumps(config))
    page = report.html_report(report.gather(self.folder))
    self.assertIn(f'jax 0.0.1, today {now}', page)

  @parameterized.parameters(
    ('config.json', None, 'cannot read'),
    ('results.nc', b'not HDF5', 'cannot read'),
    ('config.json', b'{"experiment": "os"}', 'unknown script'),
    ('config.json', b'{"experiment": ["synthetic"]}', 'unknown script'),
    ('config.json', b'{"experiment": "variance"}', 'of another version'),
  )
  def test_left_out_with_a_reason(self, name, content, reason):
    """A folder that is partial, damaged or foreign is listed, not dropped."""
    broken = self.folder / 'second'
    shutil.copytree(self.run_folder, broken)
    if content is None:
      (broken / name).unlink()
    else:
      (broken / name).write_bytes(content)
    gathered = report.gather(self.folder)
    self.assertLen(gathered.runs, 1)
    self.assertRegex(gathered.left_out['second'], reason)
    self.assertIn('second', report.markdown_report(gathered))
    self.assertIn('second', report.html_report(gathered))

  def test_script(self):
    """Both files are written where --out says; no runs is an error."""
    out = self.folder / 'out'
    with (
      contextlib.redirect_stdout(io.StringIO()) as shown,
      self.assertRaises(SystemExit) as end,
    ):
      report.main(['x', f'--runs={self.folder}', f'--out={out}'])
    self.assertIn(end.exception.code, (0, None))
    self.assertIn('1 runs', shown.getvalue())
    self.assertTrue((out / 'report.html').exists())
    self.assertTrue((out / 'report.md').exists())
    with (
      contextlib.redirect_stderr(io.StringIO()) as said,
      self.assertRaises(SystemExit) as end,
    ):
      report.main(['x', f'--runs={self.folder / "missing"}'])
    self.assertEqual(end.exception.code, 2)
    self.assertIn('is not a folder', said.getvalue())
