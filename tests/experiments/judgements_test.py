"""Tests of judgements that are kept: the same report, and never another's."""

import hashlib
import json
import os
import pathlib
import random
import tempfile
from unittest import mock

from absl.testing import parameterized

import ossgd
from experiments import report
from experiments.common.publishing import judgements, run_folders
from ossgd.storing import records
from tests import mutations
from tests.experiments.run_folder import make_config, make_results, write

PAGES = ('report.html', 'report.md')


class KeptTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    self.root = pathlib.Path(self.enter_context(tempfile.TemporaryDirectory()))
    cache = {'XDG_CACHE_HOME': str(self.root / 'cache')}
    self.enter_context(mock.patch.dict(os.environ, cache))
    self.runs = self.root / 'runs'
    self.folder = write(self.runs / 'first')

  def write_array(self):
    """Two folders of a seed each, judged as one."""
    whole = make_results()
    for seed in whole.seed.values[:2].tolist():
      config = make_config()
      config['settings'] |= {'seed': seed, 'num_seeds': 1}
      results = whole.sel(seed=[seed]).assign_attrs(config=json.dumps(config))
      write(self.runs / 'array' / str(seed), results, config)

  def texts(self) -> list[str]:
    gathered = run_folders.gather(self.runs)
    return [report.page(name, gathered, 'runs') for name in PAGES]

  def count(self) -> tuple[list[str], int]:
    """The pages, and how many results were read for them."""
    with mock.patch.object(records, 'read', wraps=records.read) as read:
      return self.texts(), read.call_count

  def place(self) -> pathlib.Path:
    (found,) = self.root.glob('cache/ossgd/judgements/*.json')
    return found

  def other_results(self):
    """Of which one claim less fails."""
    results = make_results()
    results['relative_distance'] *= 0.1
    return results

  def test_same_report(self):
    """To the byte, and nothing is read or drawn a second time."""
    self.write_array()
    (self.runs / 'partial').mkdir()
    first, reads = self.count()
    self.assertEqual(reads, 3)
    pictures = run_folders.gather(self.runs).runs[0].pictures
    with mock.patch.object(run_folders, '_drawn') as drawn:
      self.assertEqual(self.count(), (first, 0))
      self.assertEqual(run_folders.gather(self.runs).runs[0].pictures, pictures)
    drawn.assert_not_called()
    self.place().unlink()
    self.assertEqual(self.count(), (first, 3))

  def test_other_results(self):
    """With a digest of their own they are judged; without, they are damaged."""
    before, _ = self.count()
    path = self.folder / 'results.nc'
    other = write(self.root / 'other', self.other_results())
    path.write_bytes((other / 'results.nc').read_bytes())
    (text, _), reads = self.count()
    self.assertEqual(reads, 1)
    self.assertIn('it is not the one that config.json was written', text)

    config = json.loads((self.folder / 'config.json').read_text())
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    config['files']['results.nc'] = digest
    (self.folder / 'config.json').write_text(json.dumps(config))
    after, reads = self.count()
    self.assertEqual(reads, 1)
    fails = [text.count('<span class="fails">') for text, _ in (before, after)]
    self.assertEqual(fails[1], fails[0] - 1)
    self.assertEqual(self.count(), (after, 0))

  def test_other_settings(self):
    """config.json is a part of what was judged."""
    self.count()
    config = json.loads((self.folder / 'config.json').read_text())
    config['environment']['jax'] = '0.0.1'
    (self.folder / 'config.json').write_text(json.dumps(config))
    (text, _), reads = self.count()
    self.assertEqual(reads, 1)
    self.assertIn('jax 0.0.1, today', text)

  def test_without_a_digest(self):
    """Results of an earlier version may be any: judged every time."""
    config = json.loads((self.folder / 'config.json').read_text())
    del config['files']
    (self.folder / 'config.json').write_text(json.dumps(config))
    self.assertEqual([self.count()[1] for _ in range(2)], [1, 1])

  def test_other_sources(self):
    """A line in any file, a file more, another version: judged again."""
    sources = self.root / 'sources'
    (sources / 'results').mkdir(parents=True)
    (sources / '__init__.py').write_text('')

    def judged_again() -> int:
      judgements.judging.cache_clear()
      return self.count()[1]

    self.addCleanup(judgements.judging.cache_clear)
    with mock.patch.object(ossgd, '__file__', str(sources / '__init__.py')):
      self.assertEqual([judged_again(), judged_again()], [1, 0])
      claims = sources / 'results' / 'claims.py'
      for text in ('ALPHA = 0.05', 'ALPHA = 0.01'):
        claims.write_text(text)
        self.assertEqual([judged_again(), judged_again()], [1, 0])
      now = records.environment() | {'jax': '9'}
      with mock.patch.object(records, 'environment', return_value=now):
        self.assertEqual([judged_again(), judged_again()], [1, 0])

  def test_damaged(self):
    """Whatever became of the file, the report is what it was."""
    first, _ = self.count()
    honest = self.place().read_bytes()
    judged = json.loads(honest.partition(b'\n')[2])
    for one in judged.values():
      one['summary']['findings'][0]['verdict'] = 'holds'
    forged = honest.partition(b'\n')[0] + b'\n' + json.dumps(judged).encode()
    others = [mutations.damaged(random.Random(i), honest) for i in range(20)]
    for content in (b'', b'\n', b'\xff\n{}', forged, honest[:-1], *others):
      self.place().write_bytes(content)
      reads = int(content != honest)
      self.assertEqual(self.count(), (first, reads), content[:99])
      self.assertEqual(self.place().read_bytes(), honest)

  def test_no_place(self):
    """A file where the cache should be, or no home: judged every time."""
    first, _ = self.count()
    (self.root / 'file').write_text('')
    for name in (str(self.root / 'file'), 'relative'):
      where = {'XDG_CACHE_HOME': name, 'HOME': 'relative'}
      with mock.patch.dict(os.environ, where):
        self.assertEqual([self.count() for _ in range(2)], [(first, 1)] * 2)

  def test_only_what_is_there(self):
    """What the next report cannot ask for is forgotten."""
    self.write_array()
    self.texts()
    size = len(self.place().read_bytes())
    for path in self.folder.iterdir():
      path.unlink()
    self.folder.rmdir()
    self.texts()
    self.assertLess(len(self.place().read_bytes()), size)
