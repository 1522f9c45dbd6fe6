"""Tests of what imports what: the layers of the design, and start-up cost."""

import ast
import importlib.metadata
import itertools
import pathlib
import re
import subprocess
import sys
import tomllib

from absl.testing import absltest, parameterized
from packaging import requirements

ROOT = pathlib.Path(__file__).parents[1]

# A module may import those above it and none below. A new one gets a place
# here, as high as it can stand.
LIBRARY = (
  # The words, the network of Section 3 and what is measured of it.
  'base',
  'network',
  'gradients',
  'metrics',
  'parts',
  # The theory: lemmas' quantities, the convex functions of A.4 and B.4.
  'theory',
  'descent',
  'adversary',
  'convexity',
  'tangent',
  # Data: mixtures whose components are known, and files.
  'separation',
  'components',
  'mixtures',
  'arrays',
  'files',
  'idx',
  'tfds_store',
  'sources',
  'images',
  # Training: a step, a run, a block of seeds, a sweep.
  'meshes',
  'sgd',
  'blocks',
  'chunks',
  'runs',
  'tiles',
  'gram',
  'engines',
  'cgroups',
  'cost',
  'timing',
  'divergence',
  'identities',
  'jobs',
  'checkpoints',
  'hosts',
  'units',
  'flight',
  'execution',
  'supply',
  'sweeps',
  # What is left on disk, and what it says of the paper.
  'netcdf',
  'records',
  'folders',
  'drawing',
  'plots',
  'panels',
  'statistics',
  'judging',
  'claims',
  'paper_claims',
)
# The same for experiments; every other file there is a script.
SHARED_BY_SCRIPTS = (
  'printing',
  'options',
  'tables',
  'training',
  'stopping',
  'telling',
  'meeting',
  'company',
  'command',
  'fits',
  'gathering',
  'summaries',
  'pages',
  'rivals',
  'limits',
  'growth',
  'machines',
  'virtual',
  'seeds',
  'cases',
  'coupled_units',
  'falling_loss',
  'section7',
  'large_gradients',
  'gradient_lines',
)
SCRIPTS = tuple(
  f'experiments.{path.stem}'
  for path in sorted((ROOT / 'experiments').glob('*.py'))
  if path.stem not in ('__init__', *SHARED_BY_SCRIPTS)
)
DRAWING = ('records', 'drawing', 'plots', 'panels')

SOURCES = {
  f'{path.parent.name}.{path.stem}': path.read_text()
  for package in ('ossgd', 'experiments')
  for path in sorted((ROOT / package).glob('*.py'))
}
PRIVATE = re.compile(
  r'jax\.(_src|core|interpreters|lib|extend)\b|jax\._|jaxlib\b'
)


def imported(source: str) -> set[str]:
  """Full names of what a file imports, wherever in it."""
  names = set()
  for node in ast.walk(ast.parse(source)):
    if isinstance(node, ast.Import):
      names |= {alias.name for alias in node.names}
    elif isinstance(node, ast.ImportFrom):
      origin = '.' * node.level + (node.module or '')
      names |= {f'{origin}.{alias.name}' for alias in node.names}
  return names


def modules(source: str, package: str) -> set[str]:
  """The modules of a package that a file imports."""
  found = (re.match(rf'{package}\.(\w+)', name) for name in imported(source))
  return {match[1] for match in found if match}


def top_level(source: str) -> str:
  """A file without the bodies of its functions: what importing it runs."""
  tree = ast.parse(source)
  for node in ast.walk(tree):
    if isinstance(node, ast.FunctionDef):
      node.body = [ast.Pass()]
  return ast.unparse(tree)


def used(source: str) -> set[str]:
  """Full names of what a file imports or takes from an object by a dot."""
  nodes = ast.walk(ast.parse(source))
  dotted = {ast.unparse(n) for n in nodes if isinstance(n, ast.Attribute)}
  return dotted | imported(source)


def canonical(name: str) -> str:
  """A distribution's name as the package index compares it."""
  return re.sub('[-_.]+', '-', name).lower()


class CheckerTest(parameterized.TestCase):
  def test_every_kind_of_import_is_seen(self):
    """Else the other tests could not fail."""
    source = """
import ossgd.one as short, numpy
from ossgd import two, three
from ossgd.four import name
from . import five
class Class:
  def method(self):
    import ossgd.six
    return numpy.seven, jax._src.core.eight()
"""
    above = {'one', 'two', 'three', 'four'}
    self.assertEqual(modules(source, 'ossgd'), above | {'six'})
    self.assertEqual(modules(top_level(source), 'ossgd'), above)
    self.assertContainsSubset({'numpy', '..five'}, imported(source))
    self.assertContainsSubset({'numpy.seven', 'jax._src.core'}, used(source))

  @parameterized.parameters(
    ('jax._src.core', True),
    ('jax.core.Jaxpr', True),
    ('jax.interpreters', True),
    ('jaxlib.xla_client', True),
    ('jax.numpy', False),
    ('jax.lax.map', False),
    ('jax.library', False),
  )
  def test_private(self, name, private):
    """What JAX may move without notice is told from what it may not."""
    self.assertEqual(bool(PRIVATE.match(name)), private)


class LayersTest(parameterized.TestCase):
  def test_every_module_has_a_place(self):
    """And every place a module."""
    found = {name.split('.')[1] for name in SOURCES if 'ossgd' in name}
    self.assertEqual(found - {'__init__'}, set(LIBRARY), 'give it one above')

  @parameterized.parameters(*LIBRARY)
  def test_library_imports_run_one_way(self, name):
    """From the edge to the words; nothing there knows the scripts."""
    source = SOURCES[f'ossgd.{name}']
    above = LIBRARY[: LIBRARY.index(name)]
    self.assertContainsSubset(modules(source, 'ossgd'), above)
    for other in imported(source):
      self.assertNotRegex(other, r'^(experiments\b|\.)')

  def test_package_imports_nothing(self):
    """`import ossgd` is free: who wants a module asks for it."""
    self.assertEmpty(imported(SOURCES['ossgd.__init__']))

  @parameterized.parameters(*(n for n in SOURCES if 'experiments' in n))
  def test_scripts_import_no_script(self, name):
    """What two scripts share has a module of its own, in one direction."""
    above = SHARED_BY_SCRIPTS
    stem = name.split('.')[1]
    if stem in above:
      above = above[: above.index(stem)]
    self.assertContainsSubset(modules(SOURCES[name], 'experiments'), above)
    for other in imported(SOURCES[name]):
      self.assertNotStartsWith(other, '.')


class MannersTest(parameterized.TestCase):
  @parameterized.parameters(*SOURCES)
  def test_public_jax_only(self, name):
    """Private parts of JAX move with any release."""
    self.assertEmpty(list(filter(PRIVATE.match, used(SOURCES[name]))))

  @parameterized.parameters(*(n for n in SOURCES if 'ossgd' in n))
  def test_library_neither_prints_nor_reads_flags(self, name):
    """Flags and terminals are the scripts' affair."""
    calls = ast.walk(ast.parse(SOURCES[name]))
    called = {ast.unparse(n.func) for n in calls if isinstance(n, ast.Call)}
    self.assertNoCommonElements(called, {'print', 'input', 'exit', 'sys.exit'})
    self.assertEmpty(modules(SOURCES[name], 'absl'))

  @parameterized.parameters(*SOURCES)
  def test_heavy_imports_have_one_home(self, name):
    """TensorFlow nowhere, TFDS when it is needed, figures without pyplot."""
    names = imported(SOURCES[name])
    tops = {full.split('.')[0] for full in names}
    self.assertNotIn('tensorflow', tops)
    at_import = imported(top_level(SOURCES[name]))
    self.assertNotIn('tensorflow_datasets', at_import)
    self.assertNotIn('torch', at_import)
    self.assertNotIn('matplotlib.pyplot', names)
    package, stem = name.split('.')
    if package == 'ossgd' and stem not in DRAWING:
      self.assertNotIn('matplotlib', tops)

  def test_flags_are_read_at_the_edge(self):
    """No script sees a flag: it is given a config."""
    readers = {n for n in SOURCES if 'flags' in modules(SOURCES[n], 'absl')}
    self.assertEqual(readers, {'experiments.options'})

  def test_dependencies_are_declared(self):
    """A fresh install has all that is imported, but for the rivals' torch."""
    project = tomllib.loads((ROOT / 'pyproject.toml').read_text())['project']
    declared = {
      canonical(re.match(r'[\w.-]+', requirement)[0])
      for requirement in project['dependencies']
      + project['optional-dependencies']['benchmark']
    }
    homes = importlib.metadata.packages_distributions()
    tops = {n.split('.')[0] for s in SOURCES.values() for n in imported(s)}
    outside = tops - sys.stdlib_module_names - {'ossgd', 'experiments'}
    needed = {canonical(homes.get(top, [top])[0]) for top in outside}
    self.assertContainsSubset(needed, declared)

  def test_constraints(self):
    """The versions of the committed numbers are among those allowed."""
    project = tomllib.loads((ROOT / 'pyproject.toml').read_text())['project']
    lines = (ROOT / 'constraints.txt').read_text().splitlines()
    pins = dict(line.split('==') for line in lines if not line.startswith('#'))
    extras = project['optional-dependencies'].values()
    for text in itertools.chain(project['dependencies'], *extras):
      allowed = requirements.Requirement(text)
      self.assertIn(pins[canonical(allowed.name)], allowed.specifier, text)


class StartUpTest(parameterized.TestCase):
  def test_light_imports(self):
    """What is slow to import, or opens windows, is not there unasked."""
    script = f"""
import importlib, sys
for name in {LIBRARY}:
  if name not in {DRAWING}:
    importlib.import_module('ossgd.' + name)
print(*sys.modules)
from ossgd import plots, records
import xarray
plots.steps_figure(
  xarray.Dataset(
    dict(steps_to_accuracy=(('width', 'seed'), [[1.0]])),
    dict(width=[1], seed=[0], step=[1]),
    dict(target=0.5),
  )
)
print(*sys.modules)
"""
    run = subprocess.run(
      [sys.executable, '-c', script],
      capture_output=True,
      text=True,
      check=True,
      cwd=ROOT,
    )
    light, drawing = (line.split() for line in run.stdout.splitlines())
    self.assertContainsSubset({'ossgd.sweeps', 'ossgd.images'}, light)
    heavy = {'tensorflow', 'tensorflow_datasets', 'matplotlib', 'IPython'}
    self.assertNoCommonElements(light, heavy)
    self.assertIn('matplotlib', drawing)
    self.assertNoCommonElements(drawing, heavy - {'matplotlib'})
    self.assertNotIn('matplotlib.pyplot', drawing)

  @parameterized.parameters(*SCRIPTS)
  def test_help_waits_for_jax_only(self, name):
    """--help answers in about a second: tables and figures come later."""
    script = f"""
import contextlib, io, sys
from {name} import main
with contextlib.suppress(SystemExit), contextlib.redirect_stdout(io.StringIO()):
  main(['script', '--help'])
print(*sys.modules)
"""
    run = subprocess.run(
      [sys.executable, '-c', script],
      capture_output=True,
      text=True,
      check=True,
      cwd=ROOT,
    )
    loaded = run.stdout.split()
    self.assertContainsSubset({'jax', 'experiments.options'}, loaded)
    late = {'xarray', 'matplotlib', 'scipy', 'sklearn', 'torch'}
    self.assertEmpty(late.intersection(loaded))


if __name__ == '__main__':
  absltest.main()
