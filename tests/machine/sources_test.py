"""Tests of sources: an edit of what makes numbers is another digest."""

import functools
import pathlib
import shutil
import tempfile
import zipfile

from absl.testing import parameterized

from ossgd.machine import sources
from tests import forked

ROOT = pathlib.Path(__file__).parents[2]

# Of our own modules, and whether sweeps are then the same work.
OUR_EDITS = (
  ('engines/gram', 'begin.norm', 'begin.norm * 2', False),
  ('engines/gram', 'What a chunk of steps did', 'What steps did', True),
  ('engines/measuring', '  # Of the examples', '  # Of all', True),
  ('engines/interface', 'while 2 * found', 'while 3 * found', False),
  ('paper/types', 'jnp.matmul(a, b', 'jnp.matmul(b, a', False),
  ('running/blocks', 'break  # not', 'continue  # not', False),
  ('running/caching', 'else 1}', 'else 2}', False),
  ('results/plots', 'import', '\nimport', True),
  ('results/plots', 'def training_figure', 'def figure', True),
  ('results/statistics', '0.95', '0.9', True),
  ('storing/records', 'def ', 'def x', True),
  ('engines/cost', '_KEPT = 1.1', '_KEPT = 1.2', True),
)


def edited(folder: pathlib.Path, module: str, old: str, new: str) -> None:
  """A copy of our sources, one of them with an edit."""
  shutil.copytree(ROOT / 'ossgd', folder / 'ossgd')
  path = folder / 'ossgd' / f'{module}.py'
  text = path.read_text()
  assert old in text, (module, old)
  path.write_text(text.replace(old, new))


def digests(module: str, *folders: pathlib.Path) -> list[str]:
  """Of a module, as processes find it that import from a folder each."""
  script = f'from ossgd.machine import sources; print(sources.code("{module}"))'
  said = forked.printed([(folder, script) for folder in folders], ['jax'])
  return [digest.strip() for digest in said]


@functools.cache
def of_our_edits() -> list[str]:
  """Digests of what sweeps import, after each edit."""
  with tempfile.TemporaryDirectory() as root:
    folders = []
    for number, (*edit, _) in enumerate(OUR_EDITS):
      folders.append(pathlib.Path(root, str(number)))
      edited(folders[-1], *edit)
    return digests('ossgd.running.sweeps', *folders)


class CodeTest(parameterized.TestCase):
  def test_modules_that_make_no_number_exist(self):
    """A list of names that are gone would say nothing."""
    for name in sources.NO_NUMBERS:
      path = ROOT / name.replace('.', '/')
      self.assertTrue(path.is_dir() or path.with_suffix('.py').is_file(), name)
    for name in ('engines.gram', 'engines.measuring', 'engines.setup'):
      self.assertNotIn(f'ossgd.{name}', sources.NO_NUMBERS)

  @parameterized.parameters(*range(len(OUR_EDITS)))
  def test_an_edit_of_ours(self, number):
    """Of what sweeps import, code counts; what only draws does not."""
    *_, same = OUR_EDITS[number]
    ours = sources.code('ossgd.running.sweeps')
    self.assertEqual(of_our_edits()[number] == ours, same)

  def test_reading_runs_nothing(self):
    """Of modules that are imported when something is called, if at all."""
    root = pathlib.Path(self.enter_context(tempfile.TemporaryDirectory()))
    files = {
      'users.py': 'def draw():\n  from tools.late import once\n  once()\n',
      'tools/__init__.py': 'print("tools ran")\n',
      'tools/late.py': 'print("late ran")\ndef once():\n  pass\n',
    }
    (root / 'tools').mkdir()
    for name, text in files.items():
      (root / name).write_text(text)
    before, again = digests('users', root, root)
    self.assertEqual(before, again)
    self.assertLen(before, 32)  # and nothing else was printed
    (root / 'tools' / 'late.py').write_text('def once():\n  return 1\n')
    self.assertNotEqual(digests('users', root), [before])

  def test_where_packages_are(self):
    """Below a package and without one; elsewhere, where a package says so."""
    root = pathlib.Path(self.enter_context(tempfile.TemporaryDirectory()))
    says = '__path__.append(__path__[0] + "/../elsewhere")\n'
    files = {
      'users.py': 'def draw():\n  from tools.free.mod import f\n  f()\n',
      'others.py': 'def draw():\n  from moved.mod import f\n  f()\n',
      'tools/__init__.py': '',
      'tools/free/mod.py': 'def f():\n  return 1\n',
      'moved/__init__.py': says,
      'elsewhere/mod.py': 'def f():\n  return 1\n',
    }
    for name, text in files.items():
      (root / name).parent.mkdir(parents=True, exist_ok=True)
      (root / name).write_text(text)
    for module, edited in (
      ('users', 'tools/free/mod.py'),
      ('others', 'elsewhere/mod.py'),
    ):
      (before,) = digests(module, root)
      (root / edited).write_text('def f():\n  return 2\n')
      self.assertNotEqual(digests(module, root), [before], module)

  def test_archives(self):
    """What lies in one is read as it is in a folder."""
    root = pathlib.Path(self.enter_context(tempfile.TemporaryDirectory()))
    found = []
    for text in ('ONE = 1\n', 'ONE = 2\n'):
      with zipfile.ZipFile(root / 'tools.zip', 'w') as archive:
        archive.writestr('tools/__init__.py', '')
        archive.writestr('tools/mod.py', text)
      script = (
        'import sys; sys.path.insert(0, "tools.zip")\n'
        'from ossgd.machine import sources; print(sources.code("tools.mod"))'
      )
      found += forked.printed([(root, script)], ['jax'], path=str(ROOT))
    self.assertNotEqual(*found)

  def test_an_installation_is_as_a_checkout(self):
    """There the scripts are below `ossgd`; what they store is the same."""
    root = pathlib.Path(self.enter_context(tempfile.TemporaryDirectory()))
    folders = root / 'same', root / 'other'
    for folder in folders:
      shutil.copytree(ROOT / 'ossgd', folder / 'ossgd')
      shutil.copytree(ROOT / 'experiments', folder / 'ossgd' / 'experiments')
    path = root / 'other' / 'ossgd' / 'experiments' / 'common' / 'training.py'
    path.write_text(path.read_text().replace('1.0', '1.5'))
    same, other = digests('ossgd.experiments.variance', *folders)
    self.assertEqual(same, sources.code('experiments.variance'))
    self.assertNotEqual(other, sources.code('experiments.variance'))
