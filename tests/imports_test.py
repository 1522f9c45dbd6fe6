"""Tests of what imports what: the layers of the design, and start-up cost."""

import ast
import functools
import importlib.metadata
import importlib.util
import itertools
import pathlib
import re
import sys
import tomllib

from absl.testing import parameterized
from packaging import requirements, version

ROOT = pathlib.Path(__file__).parents[1]

# A package may import those above it, a module those before it in its own. A
# new one gets a place here, as high as it can stand.
LIBRARY = {
  'paper': 'types choices model network gradients metrics decomposition theory '
  'descent adversary convexity kernels',
  'machine': 'memory timing hosts lanes sources files compilations',
  'data.files': 'opening names columns libsvm',
  'data.own': 'containers values labels',
  'data.tfds': 'tfrecords prepared builders',
  'data': 'geometry components mixtures arrays paths idx archives file_sets '
  'tfds_store sources images',
  'recording': 'recorders shapes extras divergence',
  'compact': 'normals coefficients tiled weights',
  'engines': 'meshes measuring optimizers orders sgd blocked interface setup '
  'tiles gram kinds cost',
  'running': 'identities jobs watching caching datasets compiled '
  'states blocks execution labels asking sweeps',
  'results': 'statistics judging claims paper_claims tables drawing plots '
  'panels',
  'storing': 'checkpoints netcdf records folders pooling saving growing',
}
# What a package may import of the others; nothing imports the scripts.
ARROWS = {
  'paper': '',
  'machine': '',
  'data.files': 'machine',
  'data.own': 'machine',
  'data.tfds': 'machine',
  'data': 'machine paper data.files data.own data.tfds',
  'recording': 'paper',
  'compact': 'paper',
  'engines': 'paper data recording compact',
  'running': 'machine paper data data.own recording compact engines',
  'storing': 'machine paper data recording engines running',
  'results': 'paper',
}
# The same below `experiments`; every other module there is a script.
SHARED = {
  'common': 'printing options scripts stopping progress_line company '
  'command models training fits seeds section7',
  'common.publishing': 'summaries judgements judged run_folders pages',
  'common.lemmas': 'evidence precisions cases coupled_units falling_loss '
  'large_gradients exponents',
  'common.speed': 'rivals floor growth agreement device_table device',
}
SHARED_ARROWS = {
  'common': '',
  'common.publishing': 'common',
  'common.lemmas': 'common',
  'common.speed': 'common',
}
LARGEST = 12  # modules of a package
LONGEST = 300  # lines of a file
LONGEST_BODY = 50  # lines of a function, without signature and docstring


def module_of(path: pathlib.Path) -> str:
  parts = path.relative_to(ROOT).with_suffix('').parts
  return '.'.join(parts).removesuffix('.__init__')


SOURCES = {
  module_of(path): path.read_text()
  for root in ('ossgd', 'experiments')
  for path in sorted((ROOT / root).rglob('*.py'))
}
PACKAGES = {
  module_of(path)
  for root in ('ossgd', 'experiments')
  for path in (ROOT / root).rglob('__init__.py')
}
MODULES = sorted(set(SOURCES) - PACKAGES)
OURS = [name for name in MODULES if re.match(r'ossgd\.\w+\.', name)]
THEIRS = [name for name in MODULES if name.startswith('experiments.')]
SCRIPTS = [name for name in THEIRS if name.count('.') == 1]
# By full names: a package's modules in their order, and what it may import.
PLACES: dict[str, list[str]] = {}
MAY_IMPORT: dict[str, list[str]] = {}
for root, rooms, arrows in (
  ('ossgd', LIBRARY, ARROWS),
  ('experiments', SHARED, SHARED_ARROWS),
):
  for room, names in rooms.items():
    PLACES[f'{root}.{room}'] = names.split()
    others = arrows[room].split()
    MAY_IMPORT[f'{root}.{room}'] = [f'{root}.{other}' for other in others]
DRAWING = ('drawing', 'plots', 'panels')
PRIVATE = re.compile(
  r'jax\.(_src|core|interpreters|lib|extend)\b|jax\._|jaxlib\b'
)


@functools.cache
def imported(source: str) -> frozenset[str]:
  """Full names of what a file imports, wherever in it."""
  names = set()
  for node in ast.walk(ast.parse(source)):
    if isinstance(node, ast.Import):
      names |= {alias.name for alias in node.names}
    elif isinstance(node, ast.ImportFrom):
      origin = '.' * node.level + (node.module or '')
      dot = '' if origin.endswith('.') else '.'
      names |= {f'{origin}{dot}{alias.name}' for alias in node.names}
  return frozenset(names)


def modules(source: str, home: str) -> set[str]:
  """Our modules that a file imports: full names, whatever is taken of them.

  Args:
    source: of the file.
    home: the package that it is in.
  """
  found = set()
  for name in imported(source):
    full = importlib.util.resolve_name(name, home)
    while full and full not in SOURCES:
      full = full.rpartition('.')[0]
    if full:
      found.add(full)
  return found


@functools.cache
def top_level(source: str) -> str:
  """A file without the bodies of its functions: what importing it runs."""
  tree = ast.parse(source)
  for node in ast.walk(tree):
    if isinstance(node, ast.FunctionDef):
      node.body = [ast.Pass()]
  return ast.unparse(tree)


@functools.cache
def used(source: str) -> frozenset[str]:
  """Full names of what a file imports or takes from an object by a dot."""
  nodes = ast.walk(ast.parse(source))
  dotted = {ast.unparse(n) for n in nodes if isinstance(n, ast.Attribute)}
  return frozenset(dotted | imported(source))


def canonical(name: str) -> str:
  """A distribution's name as the package index compares it."""
  return re.sub('[-_.]+', '-', name).lower()


def required(*extras: str) -> list[requirements.Requirement]:
  """What an installation asks for, with extras or without."""
  project = tomllib.loads((ROOT / 'pyproject.toml').read_text())['project']
  optional = project['optional-dependencies']
  more = itertools.chain.from_iterable(optional[extra] for extra in extras)
  return [
    requirements.Requirement(t) for t in (*project['dependencies'], *more)
  ]


def pinned(file: str, python: str) -> dict[str, str]:
  """Versions by name, of a file of constraints for a version of Python."""
  lines = (ROOT / file).read_text().splitlines()
  pins = [requirements.Requirement(t) for t in lines if not t.startswith('#')]
  return {
    pin.name: str(pin.specifier).removeprefix('==')
    for pin in pins
    if pin.marker is None or pin.marker.evaluate({'python_version': python})
  }


class CheckerTest(parameterized.TestCase):
  def test_every_kind_of_import_is_seen(self):
    """Else the other tests could not fail."""
    source = """
import ossgd.paper.types as short, numpy
from ossgd.paper import network, metrics
from ossgd.data.arrays import to_split
from . import options
from ..common.seeds import basis
class Class:
  def method(self):
    import ossgd.engines.sgd
    return numpy.seven, jax._src.core.eight()
"""
    above = {
      'ossgd.paper.types',
      'ossgd.paper.network',
      'ossgd.paper.metrics',
      'ossgd.data.arrays',
      'experiments.common.options',
      'experiments.common.seeds',
    }
    home = 'experiments.common'
    self.assertEqual(modules(source, home), above | {'ossgd.engines.sgd'})
    self.assertEqual(modules(top_level(source), home), above)
    self.assertContainsSubset({'numpy', '.options'}, imported(source))
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
    places = {f'{room}.{name}' for room in PLACES for name in PLACES[room]}
    expected = places | {'ossgd.__main__', *SCRIPTS}
    self.assertEqual(set(MODULES), expected, 'give it one above')

  def test_sizes(self):
    """A room is seen at a glance."""
    for module, source in SOURCES.items():
      self.assertLessEqual(source.count('\n'), LONGEST, module)
      for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef):
          body = node.body[ast.get_docstring(node) is not None :] or node.body
          lines = node.end_lineno - body[0].lineno + 1
          self.assertLess(lines, LONGEST_BODY, f'{module}.{node.name}')

  @parameterized.parameters(*OURS, *THEIRS)
  def test_imports_run_one_way(self, name):
    """From the edge to the words; no script imports another."""
    home, _, module = name.rpartition('.')
    shared = [f'experiments.{room}' for room in SHARED]
    rooms = MAY_IMPORT.get(home, shared)  # a script's home is no room
    allowed = {f'{room}.{other}' for room in rooms for other in PLACES[room]}
    if home in PLACES:
      before = PLACES[home][: PLACES[home].index(module)]
      allowed |= {f'{home}.{other}' for other in before}
    if name in THEIRS:
      allowed |= set(OURS)
    # The front door knows the version, and nothing else that may be wanted.
    found = modules(SOURCES[name], home) - {'ossgd'}
    self.assertContainsSubset(found, allowed)

  @parameterized.parameters(*MODULES)
  def test_scripts_are_found_wherever_they_are(self, name):
    """Below `ossgd` when installed: they import each other by place.

    The library does not know them.
    """
    tops = {full.split('.')[0] for full in imported(SOURCES[name])}
    self.assertNotIn('experiments', tops)

  @parameterized.parameters(*sorted(PACKAGES - {'ossgd'}))
  def test_packages_import_nothing(self, name):
    """They say what belongs there, and what it may import."""
    self.assertEmpty(imported(SOURCES[name]))
    self.assertIsNotNone(ast.get_docstring(ast.parse(SOURCES[name])))

  @parameterized.parameters(*PACKAGES)
  def test_rooms_are_small(self, name):
    inside = [m for m in MODULES if m.rpartition('.')[0] == name]
    if name != 'experiments':
      self.assertLessEqual(len(inside), LARGEST)


class MannersTest(parameterized.TestCase):
  @parameterized.parameters(*SOURCES)
  def test_public_jax_only(self, name):
    """Private parts of JAX move with any release."""
    self.assertEmpty(list(filter(PRIVATE.match, used(SOURCES[name]))))

  @parameterized.parameters(*OURS)
  def test_library_neither_prints_nor_reads_flags(self, name):
    """Flags and terminals are the scripts' affair."""
    calls = ast.walk(ast.parse(SOURCES[name]))
    called = {ast.unparse(n.func) for n in calls if isinstance(n, ast.Call)}
    self.assertNoCommonElements(called, {'print', 'input', 'exit', 'sys.exit'})
    tops = {full.split('.')[0] for full in imported(SOURCES[name])}
    self.assertNotIn('absl', tops)

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
    if name in OURS and name.split('.')[-1] not in (*DRAWING, 'records'):
      self.assertNotIn('matplotlib', tops)

  def test_flags_are_read_at_the_edge(self):
    """No script sees a flag: it is given a config."""
    readers = {n for n in SOURCES if 'absl.flags' in imported(SOURCES[n])}
    self.assertEqual(readers, {'experiments.common.options'})

  def test_packages_are_declared(self):
    """An installation has all of them; scripts are below ossgd there."""
    tools = tomllib.loads((ROOT / 'pyproject.toml').read_text())['tool']
    here = {re.sub('^experiments', 'ossgd.experiments', p) for p in PACKAGES}
    self.assertEqual(set(tools['setuptools']['packages']), here)

  def test_dependencies_are_declared(self):
    """A fresh install has all that is imported, but for the rivals' torch."""
    declared = {
      canonical(needed.name) for needed in required('benchmark', 'parquet')
    }
    homes = importlib.metadata.packages_distributions()
    tops = {n.split('.')[0] for s in SOURCES.values() for n in imported(s)}
    outside = tops - sys.stdlib_module_names - {'ossgd', ''}
    needed = {canonical(homes.get(top, [top])[0]) for top in outside}
    self.assertContainsSubset(needed, declared)

  @parameterized.parameters('3.11', '3.12', '3.13', '3.14')
  def test_constraints(self, python):
    """What the committed numbers were made with is among what is allowed."""
    pins = pinned('constraints.txt', python)
    for allowed in required('test', 'benchmark', 'parquet', 'cuda', 'tpu'):
      pin = pins[canonical(allowed.name)]
      self.assertIn(pin, allowed.specifier, str(allowed))

  def test_oldest_constraints(self):
    """Each is the lower end of its range: the tests have passed with that."""
    pins = pinned('constraints-oldest.txt', '3.11')
    for allowed in required('test'):
      pin = version.Version(pins.pop(canonical(allowed.name)))
      (low,) = [s.version for s in allowed.specifier if s.operator == '>=']
      end = version.Version(low).release
      self.assertEqual(pin.release[: len(end)], end, str(allowed))
    self.assertEmpty(pins)

  def test_accelerators(self):
    """Their extras are JAX's own, and never ask for another JAX than we do."""
    (jax,) = [needed for needed in required() if needed.name == 'jax']
    for extra in ('cuda', 'tpu'):
      (own,) = [n for n in required(extra) if n.extras]
      self.assertEqual((own.name, own.extras), ('jax', {extra}))
      self.assertEqual(own.specifier, jax.specifier)

  def test_platforms(self):
    """Windows has all but array-record, which has no wheel for it."""
    windows = {'sys_platform': 'win32', 'platform_machine': 'AMD64'}
    missing = [
      needed.name
      for needed in required()
      if needed.marker and not needed.marker.evaluate(windows)
    ]
    self.assertEqual(missing, ['array-record'])
    for name in SOURCES:
      at_import = imported(top_level(SOURCES[name]))
      tops = {full.split('.')[0] for full in at_import}
      self.assertNotIn('array_record', tops, name)
