"""Tests of experiments.publish: summaries, pages, and that they agree."""

import hashlib
import json
import pathlib
import re
import tempfile

from absl.testing import parameterized

from experiments import publish, synthetic
from experiments.common.publishing import judged, pages, summaries
from ossgd.machine import sources
from ossgd.results import claims
from tests.experiments.run_folder import ended, make_config, make_results, write

ROOT = pathlib.Path(__file__).parents[2]
FIGURES = ROOT / 'experiments' / 'figures'
TEMPLATE = pathlib.Path(pages.__file__).parent / 'readme.md.jinja'


def run_folder(
  path: pathlib.Path, config=None, flags="'--out=/a b'"
) -> pathlib.Path:
  """A complete run folder of `synthetic`."""
  results = make_results().assign_attrs(
    num_test=2000,
    command=f'python -m experiments.synthetic {flags} --seed=1 --overwrite',
  )
  return write(path, results, config)


class CommittedTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    self.summaries = summaries.read_all(FIGURES)

  def test_pages_are_those_of_the_summaries(self):
    """Else: python -m experiments.publish --runs="""
    readme = (ROOT / 'README.md').read_text(encoding='utf-8')
    self.assertEqual(pages.readme(readme, self.summaries), readme)
    results = (ROOT / 'experiments' / 'RESULTS.md').read_text(encoding='utf-8')
    self.assertEqual(pages.results_page(self.summaries), results)

  def test_figures_are_those_of_the_runs(self):
    """Each is in a summary, by its digest, and none is missing."""
    known = {
      f'{name}/{file}': digest
      for name, summary in self.summaries.items()
      for file, digest in summary.figures.items()
    }
    found = {
      path.relative_to(FIGURES).as_posix(): hashlib.sha256(
        path.read_bytes()
      ).hexdigest()
      for path in FIGURES.rglob('*.png')
    }
    self.assertEqual(found, known)

  def test_every_summary_is_json_with_its_run(self):
    """By JSON's standard, and nothing of it is lost when it is read."""

    def refuse(constant: str):
      raise AssertionError(f'{constant} is no JSON')

    for name, summary in self.summaries.items():
      text = (FIGURES / f'{name}.json').read_text(encoding='utf-8')
      content = json.loads(text, parse_constant=refuse)
      self.assertIn(content['experiment'], name)
      self.assertNotEmpty(content['versions']['device'])
      self.assertGreater(content['settings'].get('num_seeds', 1), 0)
      self.assertEqual(summaries.encode(summary), text)

  def test_no_number_in_readme_is_typed(self):
    """What the template says of results has no digit but in expressions."""
    text = TEMPLATE.read_text()
    cells = re.findall(r'\{% call.*?%\}(.*?)\{% endcall %\}', text)
    self.assertGreater(len(cells), 15)
    for cell in cells:
      self.assertNotRegex(re.sub(r'\{\{.*?\}\}', '', cell), r'\d')
    without = pages.readme(f'{pages.BEGIN}{pages.END}', {})
    rows = re.findall(r'^\| `\w+` \| .*', without, re.M)
    results = [row.split('|')[4].strip() for row in rows]
    self.assertContainsSubset(set(results), {'not run yet', ''})
    self.assertEqual(without.count('not run yet'), len(cells) + 2)
    self.assertNotIn('±', without)


class SummaryTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    root = self.enter_context(tempfile.TemporaryDirectory())
    self.root = pathlib.Path(root)
    folder = run_folder(self.root / 'runs' / 'synthetic')
    self.summary = judged.read(folder).summary

  def test_look_ups(self):
    """Numbers of the tables as printed; what is not there is an error."""
    table = self.summary.blocks[0]
    at = table[0].index('pattern difference')
    ends = [float(row[at].split()[0]) for row in (table[1], table[-1])]
    self.assertEqual(self.summary.ends('pattern difference'), ends)
    self.assertIn('coupling', self.summary.found('tightens').claim.words)
    for look_up in (self.summary.ends, self.summary.found):
      with self.assertRaisesRegex(LookupError, 'synthetic has no'):
        look_up('nothing')
    claim = claims.Claim(
      '', '', 'norm of units', summaries.unmeasured, low=0.0, high=1.0
    )
    found = [claims.Finding(claim, mean=mean) for mean in (0.3, 0.7, 0.2)]
    self.assertEqual(
      self.summary._replace(findings=found).largest('of units'), 0.7
    )

  def test_seeds_without_a_number(self):
    """How many there are is no number of steps."""
    for cell in ('5 of 5 without', '12 ± 3 (3 of 5 without)'):
      table = [['m', 'steps'], ['8', '10 ± 1'], ['16', cell]]
      with self.assertRaisesRegex(LookupError, 'without'):
        self.summary._replace(blocks=[table]).ends('steps')

  def test_not_published(self):
    """Of another version, whose numbers may be other ones, or damaged."""
    config = make_config()
    config['environment'] |= {'jax': '0.4.1'}
    old = run_folder(self.root / 'old', config=config)
    cut = run_folder(self.root / 'cut')
    (cut / 'b.png').write_bytes(b'')
    for folder, reason in ((old, 'jax 0.4'), (cut, 'b.png is not a whole')):
      with self.assertRaisesRegex(ValueError, f'cannot be published: {reason}'):
        publish.publish(folder, self.root)


class PublishTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    self.root = pathlib.Path(self.enter_context(tempfile.TemporaryDirectory()))
    run_folder(self.root / 'runs' / 'synthetic')
    (self.root / 'runs' / 'partial').mkdir()
    self.readme = self.root / 'README.md'
    self.readme.write_text(f'above\n{pages.BEGIN}\nstale\n{pages.END}\nbelow\n')

  def publish(self, runs: str) -> tuple[int, str]:
    into, readme = f'--into={self.root / "figures"}', f'--readme={self.readme}'
    code, _, err = ended(publish.main, f'--runs={runs}', into, readme)
    return code, err

  def test_runs_to_pages(self):
    """Summary, figures and both pages; what is around the markers stays."""
    code, _ = self.publish(str(self.root / 'runs'))
    self.assertEqual(code, 0)
    figures = self.root / 'figures'
    self.assertTrue((figures / 'synthetic' / 'figure1.png').is_file())
    readme = self.readme.read_text()
    self.assertStartsWith(readme, f'above\n{pages.BEGIN}\n')
    self.assertEndsWith(readme, f'{pages.END}\nbelow\n')
    self.assertNotIn('stale', readme)
    summary = summaries.read_all(figures)['synthetic']
    # Where results went is nobody's business; what they are of is.
    self.assertEqual(
      summary.command, 'python -m experiments.synthetic --seed=1'
    )
    changed = summary.ends('pattern difference')[0]
    self.assertIn(f'{100 * changed:.3g} to', readme)
    page = (self.root / 'RESULTS.md').read_text()
    self.assertIn(claims.report(summary.findings), page)
    self.assertIn('figures/synthetic/figure1.png', page)
    self.assertIn('python -m experiments.readings --preset=mnist', page)

  @parameterized.parameters("--out '/a b'", '-out=/a', '-out /a', '--out=/a')
  def test_where_results_went(self, flags):
    """It is left out, however it was said; what is left can be run."""
    folder = run_folder(self.root / 'again', flags=flags)
    publish.publish(folder, self.root)
    summary = summaries.decode((self.root / 'again.json').read_text())
    self.assertEqual(
      summary.command, 'python -m experiments.synthetic --seed=1'
    )

  def test_figures_of_an_earlier_run_go(self):
    self.publish(str(self.root / 'runs'))
    stale = self.root / 'figures' / 'synthetic' / 'stale.png'
    stale.write_bytes(b'')
    self.publish(str(self.root / 'runs'))
    self.assertFalse(stale.exists())

  def test_pages_alone(self):
    """--runs= reads no run, and makes the pages again."""
    self.publish(str(self.root / 'runs'))
    before = self.readme.read_text()
    self.readme.write_text(before.replace('accuracy', 'typo'))
    code, _ = self.publish('')
    self.assertEqual(code, 0)
    self.assertEqual(self.readme.read_text(), before)

  def test_results_of_another_version(self):
    """Named, whatever of them breaks."""
    (self.root / 'runs' / 'synthetic' / 'config.json').write_text(
      '{"experiment": "synthetic"}'
    )
    code, err = self.publish(str(self.root / 'runs'))
    self.assertEqual(code, 2)
    self.assertRegex(err, r'\Aerror: .*runs/synthetic cannot be pub.*settings')

  def test_results_of_other_sources(self):
    """They are marked; of today's sources they are published."""
    today = sources.code(synthetic.run.__module__)
    for code, differs in ((today, False), ('0' * 32, True)):
      path = self.root / 'runs' / code
      run_folder(path, make_config() | {'code': code})
      found = judged.read(path).differences
      self.assertEqual('sources of the numbers' in found, differs)
    code, err = self.publish(str(self.root / 'runs'))
    self.assertEqual(code, 2)
    self.assertIn('cannot be published: sources of the numbers', err)

  def test_wrong(self):
    code, err = self.publish(str(self.root / 'figures'))
    self.assertEqual(code, 2)
    self.assertIn('holds no complete run folder; give --runs', err)
    self.readme.write_text('no markers')
    code, err = self.publish('')
    self.assertEqual(code, 2)
    self.assertIn('expected <!-- results -->', err)
    self.assertEqual(self.readme.read_text(), 'no markers')
