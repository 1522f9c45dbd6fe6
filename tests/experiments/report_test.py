"""Tests of experiments.report and gathering: run folders to two pages."""

import hashlib
import json
import os
import pathlib
import re
import tempfile
import urllib.parse
from unittest import mock

import numpy as np
from absl.testing import parameterized
from PIL import Image

from experiments import report, synthetic
from experiments.common.publishing import run_folders
from ossgd.results import claims
from ossgd.storing import records
from tests.experiments.run_folder import (
  Page,
  ended,
  make_config,
  make_results,
  write,
)

PAGES = ('report.html', 'report.md')
LINK = r'^- \[.*\]\((\S+)\)$'  # to a figure, in report.md
HOSTILE = '<img src=x onerror=alert(1)>"\'&`|](http:x)[*{{ 7 * 191 }}'


class _Case(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    root = self.enter_context(tempfile.TemporaryDirectory())
    cache = {'XDG_CACHE_HOME': str(pathlib.Path(root, 'cache'))}
    self.enter_context(mock.patch.dict(os.environ, cache))
    self.runs = pathlib.Path(root, 'runs')
    self.folder = write(self.runs / 'first')

  def text(self, name: str) -> str:
    return report.page(name, run_folders.gather(self.runs), 'runs')

  def page(self) -> Page:
    return Page(self.text('report.html'))

  def markdown(self) -> str:
    return self.text('report.md')

  def texts(self) -> tuple[str, str]:
    return self.page().text, self.markdown()

  def change(self, **groups) -> None:
    """Replaces parts of config.json."""
    text = json.dumps(make_config() | groups)
    (self.folder / 'config.json').write_text(text)


class PagesTest(_Case):
  def test_verdicts(self):
    """Both pages tell what the results give, whatever is typed elsewhere."""
    other = make_results()
    other['relative_distance'] *= 0.1
    write(self.runs / 'second', other)
    first, second = (
      [claims.judge(c, ds) for c in synthetic.EXPERIMENT.claims(ds)]
      for ds in (make_results(), other)
    )
    pairs = [(a.verdict, b.verdict) for a, b in zip(first, second, strict=True)]
    self.assertEqual({a for a, b in pairs}, {'holds', 'fails', 'undecided'})
    self.assertEqual(
      [p for p in pairs if len(set(p)) > 1], [('fails', 'holds')]
    )

    expected = [finding.verdict for finding in (*first, *second)]
    parts = [p for p in self.markdown().split('\n\n') if p.startswith('| ')]
    overview, *tables = map(claims.table_cells, parts)
    for number, verdicts in enumerate(zip(*pairs, strict=True), start=1):
      name, *numbers = overview[number]
      self.assertEndsWith(name, f'](report.html#run-{number})')
      counted = [f'{verdicts.count(v)}' for v in overview[0][1:]]
      self.assertEqual(numbers, counted)
    at = tables[0][0].index('verdict')
    self.assertEqual(
      [row[at] for cells in tables for row in cells[1:]],
      [f'**{v}**' for v in expected],
    )
    counts = [f'{expected.count(v)} {v}' for v in claims.VERDICTS]
    self.assertIn(f'Claims: {", ".join(counts)}.', self.markdown())

    page = self.page()
    # By class, which colours them, and by word; first the counts of each.
    by_class = [c for c in page.classes if c in claims.VERDICTS]
    self.assertEqual(by_class, [*claims.VERDICTS, *expected])
    lines = page.text.splitlines()
    start = lines.index('p')  # the last of the header
    self.assertContainsSubset(counts, lines[:start])
    words = [line for line in lines[start + 1 :] if line in claims.VERDICTS]
    together = claims.family_wise([*first, *second])
    rows = zip(expected, together, strict=True)
    self.assertEqual(words, [word for row in rows for word in row])

  def test_page_fetches_nothing(self):
    """But the figures of its own run folders; nothing runs."""
    text = self.text('report.html')
    page = Page(text)
    for source in page.values('src'):
      self.assertRegex(source, r'\Aruns/first/\w+\.png\Z')
    for target in page.values('href'):
      self.assertRegex(target, r'\A(#[-\w]+|data:,)\Z')
    self.assertNoCommonElements(
      page.tags, {'script', 'iframe', 'object', 'embed', 'base', 'form'}
    )
    self.assertNotRegex(text, r'://|@import|url\(')
    self.assertFalse([n for n, _ in page.attributes if n.startswith('on')])
    ids = {f'#{name}' for name in page.values('id')}
    links = {link for link in page.values('href') if link.startswith('#')}
    self.assertNotEmpty(links)
    self.assertContainsSubset(links, ids)
    (policy,) = re.findall(r'content="(default-src[^"]*)"', text)
    self.assertStartsWith(policy, "default-src 'none';")
    self.assertIn('prefers-color-scheme: dark', text)
    self.assertIn('content="width=device-width', text)

  def test_figures(self):
    """Links to the files, fetched where they are looked at, in both pages."""
    page = self.page()
    files = [self.folder / 'b.png', self.folder / 'figure1.png']
    links = re.findall(LINK, self.markdown(), re.M)
    for found in (page.values('src'), links):
      self.assertEqual([self.runs.parent / link for link in found], files)
    self.assertEqual(page.values('loading'), ['lazy'] * 2)

  def test_size(self):
    """A folder more is a few kB more, however large its figures are."""
    before = [len(self.text(name).encode()) for name in PAGES]
    folder = write(self.runs / 'second')
    noise = np.random.default_rng(0).integers(0, 256, (600, 600, 3), np.uint8)
    Image.fromarray(noise).save(folder / 'b.png')
    self.assertGreater((folder / 'b.png').stat().st_size, 10**6)
    for name, size in zip(PAGES, before, strict=True):
      self.assertLess(len(self.text(name).encode()) - size, 14_000)

  def test_tables(self):
    """A script's table cell by cell, its other lines as they are.

    report.md says where they are.
    """
    table = claims.markdown_table(['a|b', 'c'], [['<1>', '2'], ['3', '4']])
    script = synthetic.EXPERIMENT._replace(
      table=lambda ds: f'{table}\nSome <words>.\nMore.\n\n{table}'
    )
    with mock.patch.object(synthetic, 'EXPERIMENT', script):
      page, text = self.page(), self.markdown()
    self.assertEqual(page.tags['table'], 1 + 2)
    cells = ['a|b', 'c', '<1>', '2', '3', '4']
    lines = [*cells, 'Some <words>.', 'More.', *cells]
    self.assertIn('\n'.join(lines), page.text)
    self.assertNotIn('Some', text)
    self.assertIn('[report.html](report.html)', text)

  def test_what_it_takes_to_repeat(self):
    """What the script is about, command, time; settings and versions."""
    title = "Figure 1, 4a and 5a: the paper's synthetic data, over widths"
    self.assertIn(f'## first: {title}', self.markdown())
    for text in self.texts():
      self.assertIn(title, text)
      self.assertIn('--widths=250,1000,4000', text)
      self.assertRegex(text, r'time:?\s+61 s\n')
    for name, value in (
      ('lr_times_width', '10.0'),
      ('widths', '[1000, 2000, 4000, 8000, 16000]'),
      ('order', '"epochs"'),
      ('jax', f'"{records.environment()["jax"]}"'),
    ):
      self.assertIn(f'\n{name}\n{value}\n', self.page().text)

  def test_hostile_text(self):
    """Text from disk is text in the page: no element more, no template."""
    before = self.page()
    config = make_config()
    settings = config['settings'] | {'dataset': HOSTILE}
    results = make_results().assign_attrs(command=f'{HOSTILE}\n# {HOSTILE}')
    records.write_results(self.folder, results)
    self.change(settings=settings)
    self.folder = self.folder.rename(self.runs / f'{HOSTILE}\n# {HOSTILE}')
    (self.folder / 'b.png').rename(self.folder / f'{HOSTILE}.png')

    page, text = self.page(), self.markdown()
    self.assertEqual(page.tags, before.tags)
    self.assertEqual(set(dict(page.attributes)), set(dict(before.attributes)))
    self.assertGreaterEqual(page.text.count(HOSTILE), 4)
    self.assertNotIn('1337', page.text + text)
    self.assertLen(re.findall('^#', text, re.M), 2)  # no heading more
    self.assertNotRegex(text, r'(?m)^(?!    ).*(?<!\\)<\w')  # but indented
    link = re.findall(LINK, text, re.M)[0]
    path = self.runs.parent / urllib.parse.unquote(link)
    self.assertTrue(path.is_file())


class PooledTest(_Case):
  """The seeds of a job array: one folder each, one judgement of all."""

  def setUp(self):
    super().setUp()
    self.whole = make_results().assign_coords(seed=[0, 1, 2])
    self.array = self.runs / 'array'

  def write(self, *seeds, where=None, **settings):
    results = self.whole.isel(seed=list(seeds))
    config = make_config()
    own = {'seed': seeds[0], 'num_seeds': len(seeds)} | settings
    config['settings'] |= own
    results.attrs['config'] = json.dumps(config)
    write((where or self.array) / str(seeds[0]), results, config)

  def test_verdicts(self):
    """Those of a run of all seeds, wherever the report looks."""
    for seed in range(3):
      self.write(seed)
    expected = [
      claims.judge(c, self.whole)
      for c in synthetic.EXPERIMENT.claims(self.whole)
    ]
    first, second = run_folders.gather(self.runs).runs
    self.assertEqual(first.folder, 'array/0 to array/2 (3 folders)')
    self.assertEqual(second.folder, 'first')
    (alone,) = run_folders.gather(self.array).runs
    for run in (first, alone):
      for found, one in zip(run.summary.findings, expected, strict=True):
        claim = found.claim._replace(measure=one.claim.measure)
        self.assertEqual(found._replace(claim=claim), one)
      self.assertEqual(run.summary.settings['num_seeds'], 3)
      self.assertAlmostEqual(
        sum(run.summary.seconds.values()), 3 * 61.4, places=3
      )
    names = [picture.name for picture in first.pictures]
    self.assertEqual(names, ['figure1', 'figure4_steps', 'figure5_distance'])
    for text in self.texts():
      self.assertIn('array/0: width 250 1000 4000, seed 0', text)
      self.assertIn('and 2 more of other seeds', text)

  def test_figures(self):
    """Drawn of all seeds, beside the report; those of earlier ones go."""
    out = self.runs.parent / 'out'
    foreign = write(self.runs.parent / 'other') / 'b.png'
    args = f'--runs={self.runs}', f'--out={out}'
    earlier: set[str] = set()
    for seeds in ((0, 1), (2,)):
      for seed in seeds:
        self.write(seed)
      self.assertEqual(ended(report.main, *args)[0], 0)
      foreign.replace(out / 'report_0123456789abcdef.png')
      foreign = out / 'report_0123456789abcdef.png'
      names = {path.name for path in out.glob('*.png')} - {foreign.name}
      self.assertLen(names, 3)
      self.assertNoCommonElements(names, earlier)
      for name in names:
        digest = hashlib.sha256((out / name).read_bytes()).hexdigest()
        self.assertEqual(name, f'report_{digest[:16]}.png')
      for page in PAGES:
        text = (out / page).read_text(encoding='utf-8')
        self.assertEqual(names, {*re.findall(r'report_\w+\.png', text)})
      earlier = names

  def test_not_pooled(self):
    """Other settings, and the same seed again: each is judged alone."""
    self.write(0)
    self.write(1, lr_times_width=5.0)
    self.write(0, 1, where=self.runs)
    names = [run.folder for run in run_folders.gather(self.runs).runs]
    self.assertEqual(names, ['0', 'array/0', 'array/1', 'first'])


class UnfitTest(_Case):
  def test_other_versions(self):
    """A run of another JAX is judged, and marked wherever it stands."""
    for text in self.texts():
      self.assertNotIn('made today', text)
    now = records.environment()
    older = {k: v for k, v in now.items() if k != 'numpy'} | {'jax': '0.0.1'}
    self.change(environment=older)
    self.assertEqual(self.page().text.count('made today'), 2)
    for text in self.texts():
      self.assertIn(f'jax 0.0.1, today {now["jax"]}', text)
      self.assertIn(f'numpy unknown, today {now["numpy"]}', text)
      self.assertNotIn('ossgd 0', text)
      self.assertIn('undecided', text)

  def test_other_settings(self):
    """A script's options say of which version it is, too."""
    settings = make_config()['settings'] | {'eval_first': 50}
    del settings['order']
    self.change(settings=settings)
    for text in self.texts():
      self.assertIn('setting eval_first, unknown today; no setting order', text)

  @parameterized.parameters(
    {'experiment': ['x'] * 10**6},
    {'environment': {'jax': 'x' * 10**6}},
    {'settings': make_config()['settings'] | {'x' * 10**6: 1}},
    {'settings': make_config()['settings'] | {'order': 'x' * 10**6}},
    {'settings': {f'x{i}': 0 for i in range(10**4)}},
  )
  def test_what_others_wrote_is_cut(self, **groups):
    """A config.json of a megabyte or more makes a page that can be read."""
    self.change(**groups)
    gathered = run_folders.gather(self.runs)
    told = [d for run in gathered.runs for d in run.differences]
    for text in (*gathered.left_out.values(), '; '.join(told)):
      self.assertLess(len(text), 3000)
    for text in self.texts():
      self.assertLess(len(text), 800_000)

  def test_nothing_recorded(self):
    """Older runs hold no command and no time."""
    results = make_results()
    del results.attrs['command'], results.attrs['seconds']
    records.write_results(self.folder, results)
    self.change()
    for text in self.texts():
      self.assertRegex(text, r'command:?\s+not recorded\n')
      self.assertRegex(text, r'time:?\s+not recorded\n')

  @parameterized.named_parameters(
    ('no_config', 'config.json', None, 'partial: there is no config.json'),
    ('no_results', 'results.nc', None, 'partial: there is no results.nc'),
    ('results', 'results.nc', b'not HDF5', 'cannot read .*results.nc'),
    ('config', 'config.json', b'{', 'cannot read .*: Expecting property name'),
    ('no_object', 'config.json', b'[1]', 'cannot read .* not a JSON object'),
    ('deep', 'config.json', b'[' * 100_000, 'cannot read .*: maximum rec'),
    ('empty', 'config.json', b'{}', 'unknown script, None'),
    ('os', 'config.json', b'{"experiment": "os"}', "unknown script, 'os'"),
    ('list', 'config.json', b'{"experiment": ["mnist"]}', 'unknown script'),
    ('no_png', 'b.png', b'<svg onload=alert(1)>', 'b.png is not a whole PNG'),
    ('cut_png', 'b.png', slice(None, -20), 'b.png is not a whole PNG'),
    (
      'settings',
      'config.json',
      b'{"experiment": "synthetic"}',
      "cannot be judged: KeyError: 'settings'",
    ),
    (
      'foreign',
      'config.json',
      b'{"experiment": "variance", "settings": {}, "environment": {}}',
      "cannot be judged: KeyError: 'width'",
    ),
  )
  def test_left_out(self, name, content, reason):
    """Partial, damaged or foreign: listed with the reason, never dropped."""
    broken = write(self.runs / 'second')
    if isinstance(content, slice):
      content = (broken / name).read_bytes()[content]
    (broken / name).unlink()
    if content is not None:
      (broken / name).write_bytes(content)
    gathered = run_folders.gather(self.runs)
    self.assertEqual([run.folder for run in gathered.runs], ['first'])
    self.assertRegex(gathered.left_out['second'], f'(?s){reason}')
    self.assertRegex(self.page().text, r'Left out\nsecond\n: \w')
    self.assertRegex(self.markdown(), r'## Left out\n\n- second: \w.*\n\Z')

  def test_nothing_fit(self):
    """A report of left-out folders only is a report."""
    (self.folder / 'config.json').unlink()
    self.assertIn('first\n: partial', self.page().text)
    counts = ', '.join(f'0 {verdict}' for verdict in claims.VERDICTS)
    self.assertIn(f'Claims: {counts}.', self.markdown())


class MainTest(_Case):
  def test_beside_the_runs(self):
    """Both files, nothing else; again, they are the same, and no run."""
    (self.runs / '.hidden').mkdir()
    texts = []
    for _ in range(2):
      code, out, err = ended(report.main, f'--runs={self.runs}')
      self.assertEqual((code, err), (0, ''))
      self.assertIn('runs: 1, folders left out: 0', out)
      self.assertIn(str(self.runs / 'report.html'), out)
      texts.append([(self.runs / name).read_bytes() for name in PAGES])
    self.assertEqual(*texts)
    self.assertEqual(
      {path.name for path in self.runs.iterdir()},
      {'first', '.hidden', 'report.html', 'report.md'},
    )

  def test_elsewhere(self):
    """Links to figures lead from the report's folder to the runs'."""
    out = self.runs.parent / 'some where' / 'else'
    code, _, _ = ended(report.main, f'--runs={self.runs}', f'--out={out}')
    self.assertEqual(code, 0)
    page, text = ((out / name).read_text(encoding='utf-8') for name in PAGES)
    links = re.findall(LINK, text, re.M)
    self.assertEqual(Page(page).values('src'), links)
    self.assertLen(links, 2)
    for link in links:
      self.assertFalse(link.startswith('/'))
      self.assertTrue((out / urllib.parse.unquote(link)).is_file(), link)

  @parameterized.parameters(
    (['--runs={}/missing'], 'missing is not a folder; .* --runs'),
    (['--runs={}/first'], 'first holds no run folders; .* --runs'),
    (['--runs={}/first/b.png'], 'is not a folder'),
    (['--runs={}', '--out={}/first/b.png'], 'b.png'),
    (['--runs={}', '--overwrite'], 'overwrite'),
    (['--runs={}', '--preset=paper'], 'preset'),
    (['{}'], 'is not a flag'),
  )
  def test_wrong(self, args, part):
    """One line, exit code 2, nothing written."""
    code, out, err = ended(
      report.main, *(arg.format(self.runs) for arg in args)
    )
    self.assertEqual((code, out), (2, ''))
    self.assertRegex(err, rf'\Aerror: [^\n]*{part}[^\n]*\n\Z')
    self.assertEmpty(list(self.runs.rglob('report.html')))

  def test_cannot_be_written(self):
    """Something else is there."""
    (self.runs / 'report.html').mkdir()
    code, _, err = ended(report.main, f'--runs={self.runs}')
    self.assertEqual(code, 2)
    self.assertRegex(err, r'\Aerror: [^\n]*report\.html[^\n]*\n\Z')
