"""Tests of experiments.report and gathering: run folders to two pages."""

import base64
import collections
import contextlib
import html.parser
import io
import json
import os
import pathlib
import re
import tempfile
import urllib.parse
from typing import Any
from unittest import mock

import numpy as np
import PIL.Image
import scipy.stats
import xarray as xr
from absl.testing import parameterized
from matplotlib.figure import Figure

from experiments import report, synthetic
from experiments.common.publishing import run_folders
from ossgd.results import claims, statistics
from ossgd.storing import records

WIDTHS = np.array([250, 1000, 4000])
HOSTILE = '<img src=x onerror=alert(1)>"\'&`|](http:x)[*{{ 7 * 191 }}'
ABSL = ('flagfile', 'undefok')  # in every FlagValues
VERDICTS = ('holds', 'holds in all', 'fails', 'undecided', 'measured')


def make_results() -> xr.Dataset:
  """A sweep as a script leaves it, with verdicts of each kind."""
  luck = np.array([0.9, 1.0, 1.2])[:, None]
  m = (WIDTHS / 250)[:, None, None] ** (luck / 20 + 1)
  late = np.array([0.0, 0.5, 1.0])
  by_step = {
    'test_accuracy': 1 - (0.501 - 0.5 * late) * luck * m**-0.2,
    'pattern_difference': 0.09 * late * luck * m**-0.3,
    'relative_distance': 0.3 * late * luck * m**-0.5,
  }
  at_target = {
    'steps_to_accuracy': luck.T * [[15], [12], [10]] + [0, 1, 3],
    'distance_at_accuracy': luck.T * m[..., 0] ** -0.5 * 250**-0.5,
  }
  return xr.Dataset(
    {name: (('width', 'seed', 'step'), v) for name, v in by_step.items()}
    | {name: (('width', 'seed'), v) for name, v in at_target.items()},
    {'width': WIDTHS, 'seed': range(3), 'step': [0, 5, 10]},
    {
      'target': 0.98,
      'num_test': 1000,
      'command': 'python -m experiments.synthetic --widths=250,1000,4000',
      'seconds': 61.4,
    },
  )


def make_config() -> dict[str, Any]:
  settings = {
    name: list(value) if isinstance(value, tuple) else value
    for name, value in vars(synthetic.Config()).items()
  }
  return {
    'experiment': 'synthetic',
    'settings': settings,
    'environment': records.environment(),
  }


def write(folder: pathlib.Path, results=None, config=None) -> pathlib.Path:
  """A run folder by hand; its own report tells lies."""
  folder.mkdir(parents=True)
  if results is None:
    results = make_results()
  records.write_results(folder, results)
  records.write_figures(
    folder,
    {'figure1': Figure(figsize=(2, 1)), 'b': Figure(figsize=(8, 1))},
  )
  records.write_report(
    folder,
    config or make_config(),
    report='| verdict |\n| --- |\n| **holds** |\n' * 99,
    seconds={},
  )
  return folder


def expected_verdicts(results: xr.Dataset) -> list[str]:
  """Of intervals by quantiles, in place of ours."""
  found = []
  for claim in synthetic.EXPERIMENT.claims(results):
    evidence = claim.measure(results)
    if isinstance(evidence, statistics.Proportion):
      # All widths are far from the end: the worst of them will do.
      worst = np.asarray(evidence.fraction.min('width'))
      ends = [t_interval(worst), exact_interval(worst, evidence.trials)]
    else:
      cells = isinstance(evidence, statistics.Cells)
      ends = [t_interval(v) for v in (evidence if cells else [evidence])]
    low, high = min(low for low, _ in ends), max(high for _, high in ends)
    if claim.low < low and high < claim.high:
      found.append('holds')
    elif high < claim.low or claim.high < low:
      found.append('fails')
    else:
      found.append('undecided')
  return found


def t_interval(values) -> tuple[float, float]:
  values = np.asarray(values)
  half = scipy.stats.t.ppf(0.975, values.size - 1) * scipy.stats.sem(values)
  return values.mean() - half, values.mean() + half


def exact_interval(fractions, trials) -> tuple[float, float]:
  n = fractions.size * trials
  k = np.rint(fractions * trials).sum()
  beta = scipy.stats.beta
  return beta.ppf(0.025, k, n - k + 1), beta.ppf(0.975, k + 1, n - k)


class Page(html.parser.HTMLParser):
  """Elements, attributes and text, as a browser would see them."""

  def __init__(self, text: str):
    super().__init__()
    self.tags: collections.Counter[str] = collections.Counter()
    self.attributes: list[tuple[str, str | None]] = []
    self.classes: list[str] = []
    self.text = ''  # a line an element
    self.feed(text)
    self.close()

  def handle_starttag(self, tag, attrs):
    self.tags[tag] += 1
    self.attributes += attrs
    self.classes += [dict(attrs).get('class') or '']

  def handle_data(self, data):
    if self.cdata_elem is None and data.strip():  # no style sheet
      self.text += f'{data.strip()}\n'

  def values(self, name: str) -> list[str | None]:
    return [value for key, value in self.attributes if key == name]


class _Case(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    root = self.enter_context(tempfile.TemporaryDirectory())
    self.runs = pathlib.Path(root, 'runs')
    self.folder = write(self.runs / 'first')

  def page(self) -> Page:
    return Page(report.html_report(run_folders.gather(self.runs)))

  def markdown(self) -> str:
    return report.markdown_report(run_folders.gather(self.runs), 'runs')

  def change(self, **groups) -> None:
    """Replaces parts of config.json."""
    text = json.dumps(make_config() | groups)
    (self.folder / 'config.json').write_text(text)


class PagesTest(_Case):
  def test_verdicts(self):
    """Both pages tell what the results give, whatever is typed elsewhere."""
    expected = expected_verdicts(make_results())
    self.assertEqual(
      set(expected), {'holds', 'fails', 'undecided'}, 'the data must tell'
    )
    cells = claims.table_cells(self.markdown().split('\n\n')[3])
    at = cells[0].index('verdict')
    self.assertEqual(
      [row[at] for row in cells[1:]], [f'**{v}**' for v in expected]
    )
    counts = [f'{expected.count(v)} {v}' for v in VERDICTS]
    self.assertIn(f'Claims: {", ".join(counts)}.', self.markdown())

    page = self.page()
    # By class, which colours them, and by word; first the counts of each.
    by_class = [c for c in page.classes if c in VERDICTS]
    self.assertEqual(by_class, [*VERDICTS, *expected])
    lines = page.text.splitlines()
    start = lines.index('p')  # the last of the header
    words = [line for line in lines[start + 1 :] if line in VERDICTS]
    together = claims.family_wise(
      run_folders.gather(self.runs).runs[0].findings
    )
    pairs = zip(expected, together, strict=True)
    self.assertEqual(words, [word for pair in pairs for word in pair])
    self.assertContainsSubset(counts, lines[:start])

  def test_verdicts_follow_the_results(self):
    """Other results in the same folder, other verdicts."""
    results = make_results()
    results['relative_distance'] *= 0.1
    write(self.runs / 'second', results)
    first, second = run_folders.gather(self.runs).runs
    changed = [
      (a.verdict, b.verdict)
      for a, b in zip(first.findings, second.findings, strict=True)
      if a.verdict != b.verdict
    ]
    self.assertEqual(changed, [('fails', 'holds')])

  def test_page_stands_alone(self):
    """Nothing is fetched, nothing runs, all figures are inside."""
    text = report.html_report(run_folders.gather(self.runs))
    page = Page(text)
    for source in page.values('src'):
      self.assertStartsWith(source, 'data:image/png;base64,')
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
    """The files' own bytes in one page, links to them in the other."""
    sources = self.page().values('src')
    files = [self.folder / 'b.png', self.folder / 'figure1.png']
    self.assertEqual(
      [base64.b64decode(source.partition(',')[2]) for source in sources],
      [path.read_bytes() for path in files],
    )
    links = re.findall(r'^!\[\w+\]\((.*)\)$', self.markdown(), re.M)
    self.assertEqual([self.runs.parent / link for link in links], files)

  def test_tables(self):
    """A script's table cell by cell, its other lines as they are."""
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
    self.assertIn(f'\n\n{table}\nSome <words>.\nMore.\n\n{table}', text)

  def test_what_it_takes_to_repeat(self):
    """Command, time, settings and versions."""
    for text in (self.page().text, self.markdown()):
      self.assertIn('--widths=250,1000,4000', text)
      self.assertRegex(text, r'time:?\s+61 s\n')
      for name, value in (
        ('lr_times_width', '10.0'),
        ('widths', '[1000, 2000, 4000, 8000, 16000]'),
        ('order', '"epochs"'),
        ('jax', f'"{records.environment()["jax"]}"'),
      ):
        self.assertRegex(text, rf'\b{name}[=\n]*{re.escape(value)}')

  def test_title(self):
    """The folder, and what the script is about."""
    title = "Figure 1, 4a and 5a: the paper's synthetic data, over widths"
    self.assertIn(title, self.page().text)
    self.assertIn(f'## first: {title}', self.markdown())

  def test_hostile_text(self):
    """Text from disk is text in the page: no element more, no template."""
    before = self.page()
    config = make_config()
    settings = config['settings'] | {'dataset': HOSTILE}
    environment = config['environment'] | {'python': HOSTILE}
    results = make_results().assign_attrs(command=f'{HOSTILE}\n# {HOSTILE}')
    records.write_results(self.folder, results)
    self.change(settings=settings, environment=environment)
    self.folder = self.folder.rename(self.runs / f'{HOSTILE}\n# {HOSTILE}')
    (self.folder / 'b.png').rename(self.folder / f'{HOSTILE}.png')

    page = self.page()
    self.assertEqual(page.tags, before.tags)
    self.assertEqual(
      {name for name, _ in page.attributes},
      {name for name, _ in before.attributes},
    )
    self.assertGreaterEqual(page.text.count(HOSTILE), 5)
    self.assertNotIn('1337', page.text)

    text = self.markdown()
    self.assertNotIn('1337', text)
    for line in text.splitlines():
      if not line.startswith('    '):  # indented lines show as they are
        self.assertNotRegex(line, r'(?<!\\)<\w')
        self.assertNotRegex(line, r'(?<!\\)\]\(http')
    self.assertLen(re.findall('^#', text, re.M), 2)  # no heading more
    link = re.findall(r'^!\[.*\]\((\S+)\)$', text, re.M)[0]
    path = self.runs.parent / urllib.parse.unquote(link)
    self.assertTrue(path.is_file())

  def test_name_that_is_no_text(self):
    """A file system allows bytes that UTF-8 does not."""
    name = os.fsdecode(b'caf\xe9')
    try:
      self.folder.rename(self.runs / name)
    except OSError:
      self.skipTest('this file system does not')
    code, _, err = run_report(f'--runs={self.runs}')
    self.assertEqual((code, err), (0, ''))
    for page in ('report.html', 'report.md'):
      path = self.runs / page
      self.assertIn(r'caf\udce9', path.read_text(encoding='utf-8'))


class UnfitTest(_Case):
  @parameterized.named_parameters(
    ('text', b'<svg onload=alert(1)>'),
    ('empty', b''),
    ('gif', 'GIF'),
    ('cut', slice(None, -20)),
    ('head', slice(None, 40)),
  )
  def test_not_a_figure(self, content):
    """What only has the name of a PNG is named, not embedded."""
    path = self.folder / 'b.png'
    if isinstance(content, str):
      PIL.Image.new('1', (3, 2)).save(path, content)
    else:
      if isinstance(content, slice):
        content = path.read_bytes()[content]
      path.write_bytes(content)
    (run,) = run_folders.gather(self.runs).runs
    self.assertEqual([picture.name for picture in run.pictures], ['figure1'])
    self.assertEqual(run.refused, ['b.png'])
    for text in (self.page().text, self.markdown()):
      self.assertIn('not a whole PNG of a sane size: b.png', text)

  def test_insane_size(self):
    """Neither in bytes nor in pixels."""
    size = (self.folder / 'b.png').stat().st_size
    with mock.patch.object(run_folders, '_LARGEST_BYTES', size - 1):
      (run,) = run_folders.gather(self.runs).runs
    self.assertIn('b.png', run.refused)
    PIL.Image.new('1', (3, 10_001)).save(self.folder / 'b.png')
    os.mkfifo(self.folder / 'pipe.png')  # reading it would never end
    (self.folder / 'folder.png').mkdir()
    (run,) = run_folders.gather(self.runs).runs
    self.assertEqual(run.refused, ['b.png', 'folder.png', 'pipe.png'])

  def test_other_versions(self):
    """A run of another JAX is judged, and marked wherever it stands."""
    self.assertNotIn('made today', self.page().text)
    self.assertNotIn('made today', self.markdown())
    now = records.environment()
    older = {k: v for k, v in now.items() if k != 'numpy'} | {'jax': '0.0.1'}
    self.change(environment=older)
    page = self.page()
    self.assertEqual(page.text.count('made today'), 2)
    for text in (page.text, self.markdown()):
      self.assertIn(f'jax 0.0.1, today {now["jax"]}', text)
      self.assertIn(f'numpy unknown, today {now["numpy"]}', text)
      self.assertNotIn('ossgd 0', text)
    self.assertLen(
      [c for c in page.classes if c in VERDICTS],
      len(VERDICTS) + len(expected_verdicts(make_results())),
    )

  def test_other_settings(self):
    """A script's options say of which version it is, too."""
    settings = make_config()['settings'] | {'eval_first': 50}
    del settings['order']
    self.change(settings=settings)
    for text in (self.page().text, self.markdown()):
      self.assertIn('setting eval_first, unknown today; no setting order', text)

  def test_nothing_recorded(self):
    """Older runs hold no command and no time."""
    results = make_results()
    del results.attrs['command'], results.attrs['seconds']
    records.write_results(self.folder, results)
    self.change()
    for text in (self.page().text, self.markdown()):
      self.assertRegex(text, r'command:?\s+not recorded\n')
      self.assertRegex(text, r'time:?\s+not recorded\n')

  @parameterized.named_parameters(
    ('no_config', 'config.json', None, 'partial: there is no config.json'),
    ('no_results', 'results.nc', None, 'partial: there is no results.nc'),
    ('results', 'results.nc', b'not HDF5', 'unreadable: '),
    ('config', 'config.json', b'{', 'unreadable: Expecting property name'),
    ('no_object', 'config.json', b'[1]', 'unreadable: .* not a JSON object'),
    ('deep', 'config.json', b'[' * 100_000, 'unreadable: maximum recursion'),
    ('empty', 'config.json', b'{}', 'unknown script, None'),
    ('os', 'config.json', b'{"experiment": "os"}', "unknown script, 'os'"),
    ('dots', 'config.json', b'{"experiment": "..os"}', 'unknown script'),
    ('list', 'config.json', b'{"experiment": ["mnist"]}', 'unknown script'),
    ('self', 'config.json', b'{"experiment": "report"}', 'unknown script'),
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
      'cannot be judged: .*noise_scale',
    ),
  )
  def test_left_out(self, name, content, reason):
    """Partial, damaged or foreign: listed with the reason, never dropped."""
    broken = write(self.runs / 'second')
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
    counts = ', '.join(f'0 {verdict}' for verdict in VERDICTS)
    self.assertIn(f'Claims: {counts}.', self.markdown())


def run_report(*args: str) -> tuple[int, str, str]:
  """Exit code, stdout and stderr."""
  out, err = io.StringIO(), io.StringIO()
  with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
    try:
      report.main(['report', *args])
    except SystemExit as end:
      return end.code or 0, out.getvalue(), err.getvalue()
  raise AssertionError('main did not end the script')


class MainTest(_Case):
  def test_beside_the_runs(self):
    """Both files, nothing else; again, they are replaced, and no run."""
    (self.runs / '.hidden').mkdir()
    for _ in range(2):
      code, out, err = run_report(f'--runs={self.runs}')
      self.assertEqual((code, err), (0, ''))
      self.assertIn('runs: 1, folders left out: 0', out)
      self.assertIn(str(self.runs / 'report.html'), out)
    self.assertEqual(
      {path.name for path in self.runs.iterdir()},
      {'first', '.hidden', 'report.html', 'report.md'},
    )

  def test_elsewhere(self):
    """Links to figures lead from the report's folder to the runs'."""
    out = self.runs.parent / 'some where' / 'else'
    code, _, _ = run_report(f'--runs={self.runs}', f'--out={out}')
    self.assertEqual(code, 0)
    text = (out / 'report.md').read_text(encoding='utf-8')
    for link in re.findall(r'^!\[\w+\]\((.*)\)$', text, re.M):
      self.assertFalse(link.startswith('/'))
      self.assertTrue((out / urllib.parse.unquote(link)).is_file(), link)
    self.assertTrue((out / 'report.html').is_file())

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
    code, out, err = run_report(*(arg.format(self.runs) for arg in args))
    self.assertEqual((code, out), (2, ''))
    self.assertRegex(err, rf'\Aerror: [^\n]*{part}[^\n]*\n\Z')
    self.assertEmpty(list(self.runs.rglob('report.html')))

  def test_help(self):
    """Its own options and no others."""
    code, out, _ = run_report('--help')
    self.assertEqual(code, 0)
    self.assertStartsWith(out, report.__doc__)
    flags = re.findall(r'^  (?:-h,)?--(?:\[no\])?(\w+)', out, re.M)
    self.assertEqual(set(flags), {'help', 'out', 'runs', *ABSL})
