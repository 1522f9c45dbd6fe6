"""Tests of jobs: a job is known by what its numbers depend on."""

import functools
import json
import pathlib
import tempfile

import hypothesis
import jax.numpy as jnp
import numpy as np
import optax
from absl.testing import parameterized
from hypothesis import strategies

from experiments import random_labels
from ossgd.data import arrays, mixtures
from ossgd.engines import sgd
from ossgd.paper import decomposition
from ossgd.paper.types import Dataset, Split
from ossgd.running import identities, jobs
from tests import forked

ROOT = pathlib.Path(__file__).parents[2]

# A user's module: with a helper, a constant, and what draws.
USERS = '''
"""A study."""
import numpy as np
from ossgd.paper.types import Split

SCALE = 2.0  # how much
TABLE = np.arange(3)


def helper(x):
  """Doubles."""
  return x * SCALE + TABLE[1]


def transform(key, split):
  """Of the data."""
  # A comment.
  return split._replace(train=helper(split.train))


def maker(by):
  def inner(key, split):
    return by * helper(split)
  return inner


def figure():
  return 'blue'
'''


EDITS = (
  ('# A comment.', '# Another.\n\n', True),
  ('Of the data.', 'Of all the data.', True),
  ('Doubles.', 'Does it.', True),
  ("'blue'", "'red'", True),
  ('# how much', '', True),
  ('x * SCALE', 'x / SCALE', False),
  ('SCALE = 2.0', 'SCALE = 3.0', False),
  ('np.arange(3)', 'np.arange(4)', False),
  ('TABLE[1]', 'TABLE[2]', False),
  ('train=helper', 'test=helper', False),
)
HOLDING = (
  'users.maker(1.0)',
  'users.maker(2.0)',
  'functools.partial(users.transform, 1)',
  'functools.partial(users.transform, 2)',
  'jax.jit(users.transform)',
  'jax.jit(users.maker(1.0))',
)
# A folder that is a package without an __init__.py, and what goes through it.
STUDY = {
  'users.py': """
import functools
import typing
import jax
import study.helpers
from study import laws


class Scaled(typing.NamedTuple):
  by: float

  def __call__(self, key, split):
    return self.by * split


class Shifted(typing.NamedTuple):
  by: float

  def __call__(self, key, split):
    return self.by + split


@jax.custom_jvp
def straight(x):
  return x


@straight.defjvp
def tangent(primals, tangents):
  return primals[0], 2 * tangents[0]


def transform(key, split):
  import study.later
  from study import late
  law = laws.Law()
  found = late.twice(study.helpers.double(law.scale(split)))
  return straight(found) * study.later.ONE * law.weight * transform.rate


transform.rate = 3.0
""",
  'study/helpers.py': """
def double(x):
  return 2 * x


def figure():
  return 'blue'
""",
  'study/late.py': 'def twice(x):\n  return 2 * x\n',
  'study/later.py': 'ONE = 1.0\nTWO = 2.0\n',
  'study/laws.py': """
import enum


class Kind(enum.Enum):
  WIDE = 10


class Base:
  rate = 0.5

  @property
  def weight(self):
    return self.rate * 7


class Law(Base):
  kind = Kind.WIDE

  @staticmethod
  def scale(x):
    return x - 1
""",
}
STUDY_EDITS = (
  ('study/helpers.py', "'blue'", "'red'", True),
  ('study/later.py', 'TWO = 2.0', 'TWO = 3.0', True),
  ('study/helpers.py', '2 * x', '3 * x', False),
  ('study/late.py', '2 * x', '3 * x', False),
  ('study/later.py', 'ONE = 1.0', 'ONE = 3.0', False),
  ('study/laws.py', 'x - 1', 'x - 2', False),
  ('study/laws.py', 'rate * 7', 'rate * 8', False),
  ('study/laws.py', 'rate = 0.5', 'rate = 0.6', False),
  ('study/laws.py', 'WIDE = 10', 'WIDE = 11', False),
  ('users.py', '2 * tangents', '3 * tangents', False),
  ('users.py', 'rate = 3.0', 'rate = 4.0', False),
)


def identities_of(*asked: tuple[dict[str, str], str]) -> list[str]:
  """What processes say of a user's modules: of sources and expressions."""
  with tempfile.TemporaryDirectory() as root:
    scripts = []
    for number, (files, expression) in enumerate(asked):
      folder = pathlib.Path(root, str(number))
      for name, source in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(source)
      script = (
        'import functools, json, jax, users\n'
        'from ossgd.running import identities\n'
        f'print(json.dumps(identities.of({expression})))'
      )
      scripts.append((folder, script))
    imports = 'jax', 'ossgd.running.identities'
    return forked.printed(scripts, imports, path=str(ROOT))


@functools.cache
def of_edits() -> list[str]:
  """Of the module as it is, and after each edit."""
  texts = [USERS, *(USERS.replace(old, new) for old, new, _ in EDITS)]
  asked = (({'users.py': text}, 'users.transform') for text in texts)
  return identities_of(*asked)


@functools.cache
def of_study_edits() -> list[str]:
  """The same of a package of modules."""
  asked = [(STUDY, 'users.transform')]
  for name, old, new, _ in STUDY_EDITS:
    files = STUDY | {name: STUDY[name].replace(old, new)}
    asked.append((files, 'users.transform'))
  return identities_of(*asked)


class FunctionTest(parameterized.TestCase):
  @parameterized.parameters(*range(len(EDITS)))
  def test_an_edit(self, number):
    """Comments and drawing change nothing; a helper's helper does."""
    old, _, same = EDITS[number]
    self.assertIn(old, USERS)
    before, *after = of_edits()
    self.assertEqual(before == after[number], same)

  @parameterized.parameters(*range(len(STUDY_EDITS)))
  def test_an_edit_of_a_package(self, number):
    """What is gone through counts: modules, late imports, classes, rules."""
    name, old, _, same = STUDY_EDITS[number]
    self.assertIn(old, STUDY[name])
    before, *after = of_study_edits()
    self.assertEqual(before == after[number], same)

  def test_a_late_import_that_fails(self):
    """In a branch that is not taken: known by its sources, and no error."""
    users = """
def transform(key, split, fast=False):
  if fast:
    from study import elsewhere
    return elsewhere.run(split)
  return split
"""
    texts = (
      *('raise OSError("no such device")', 'raise OSError("no such machine")'),
      *('import sys\nsys.exit(2)', 'no Python'),
    )
    found = identities_of(
      *(
        ({'users.py': users, 'study/elsewhere.py': text}, 'users.transform')
        for text in (*texts, texts[0])
      )
    )
    self.assertLen({*found}, len(texts))
    self.assertEqual(found[0], found[-1])

  def test_functions_that_are_tuples(self):
    """By what they do, not by their fields alone."""
    one, other = identities_of(
      (STUDY, 'users.Scaled(0.1)'), (STUDY, 'users.Shifted(0.1)')
    )
    self.assertNotEqual(one, other)

  def test_what_functions_hold(self):
    """Closures, partial arguments and `jit` are looked through."""
    files = {'users.py': USERS}
    asked = ((files, text) for text in (*HOLDING, HOLDING[0]))
    *named, again = identities_of(*asked)
    self.assertLen(set(named), len(HOLDING))
    self.assertEqual(named[0], again)

  def test_known_functions(self):
    """By name and version or sources; settings as they are."""
    for one, other in (
      (optax.sgd, optax.adam),
      (optax.sgd, functools.partial(optax.sgd, momentum=0.9)),
      (sgd.true_gradient, sgd.pseudo_gradient),
      (lambda lr: optax.adam(lr), lambda lr: optax.adam(2 * lr)),
      (jnp.arange(3), jnp.arange(4)),
      (np.zeros(2), np.zeros(2, np.float32)),
      (
        functools.partial(random_labels.corrupt, fraction=0.1, k=2),
        functools.partial(random_labels.corrupt, fraction=0.2, k=2),
      ),
      (
        decomposition.take_apart,
        functools.partial(decomposition.take_apart, ranks=(1,)),
      ),
      (mixtures.gaussian(dim=3), mixtures.gaussian(dim=4)),
    ):
      self.assertEqual(identities.of(one), identities.of(one))
      self.assertNotEqual(identities.of(one), identities.of(other))
      json.dumps(identities.of(one))

  def test_what_cannot_be_told(self):
    """Is refused with what to pass instead."""

    class Transform:
      def __call__(self, key, split):
        return split

    for value in (Transform(), functools.partial(print, Transform())):
      with self.assertRaisesRegex(
        ValueError, r'transform holds .*Transform.*functools\.partial'
      ):
        jobs.basis({'transform': value}, 'ossgd.running.sweeps')


class DifferenceTest(parameterized.TestCase):
  def test_of_functions(self):
    """What they hold is told, code and content by no digest."""

    def of(by, table):
      return lambda key, split: by * helper(split, table)

    def difference(one, other):
      there, here = ({'transform': identities.of(v, '')} for v in (one, other))
      return jobs.difference(there, here)

    helper, table = np.dot, np.arange(3)
    self.assertEqual(
      difference(of(1.0, table), of(2.5, table)),
      'transform.holds.by: 1.0 there, 2.5 here',
    )
    self.assertEqual(
      difference(of(1.0, table), of(1.0, 2 * table)),
      'transform.holds.table differs',
    )
    self.assertIn(
      'transform.code differs; ',
      difference(of(1.0, table), lambda key, split: split),
    )
    spec = mixtures.gaussian(dim=3)
    self.assertEqual(
      difference(spec, mixtures.gaussian(dim=4)),
      'transform.dim: 3 there, 4 here',
    )
    self.assertEqual(difference(spec, spec), '')

  def test_of_lists(self):
    """A list of numbers is one setting; order, length and type count."""
    for there, here, said in (
      ([8, 32], [8], 'm: [8, 32] there, [8] here'),
      ([8, 32], [32, 8], 'm: [8, 32] there, [32, 8] here'),
      ([1], [True], 'm: [1] there, [true] here'),
      ((1, 2), [1, 2], ''),
      ([[1], 2], [[1], 3], 'm: 2 there, 3 here'),
      ([[1]], [[1], [2]], 'm: None there, [2] here'),
      ([{}], [{}, {}], 'm: None there, {} here'),
      ({'a': {}}, {}, 'm.a: {} there, None here'),
    ):
      self.assertEqual(jobs.difference({'m': there}, {'m': here}), said)

  @hypothesis.settings(max_examples=300, deadline=None)
  @hypothesis.given(strategies.data())
  def test_of_anything(self, data):
    """Nothing differs exactly where both say the same as JSON."""
    leaves = strategies.sampled_from([None, True, 1, 1.0, 'a', {}, [], ()])
    nested = strategies.recursive(
      leaves,
      lambda inner: (
        strategies.lists(inner, max_size=3)
        | strategies.dictionaries(strategies.sampled_from('ab'), inner)
      ),
      max_leaves=6,
    )
    settings = strategies.dictionaries(strategies.sampled_from('mn'), nested)
    there, here = data.draw(settings), data.draw(settings)
    same = json.dumps(there, sort_keys=True) == json.dumps(here, sort_keys=True)
    self.assertEqual(jobs.difference(there, here) == '', same)


class DataTest(parameterized.TestCase):
  def test_digest(self):
    """Of the content: any number or label that differs is other data."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(12, 5)), np.arange(12) % 3
    split = arrays.to_split(x, y, x[:6], y[:6])
    digest = jobs.data_digest(split)
    self.assertEqual(
      jobs.data_digest(arrays.to_split(x, y, x[:6], y[:6])), digest
    )
    on_host = Split(
      Dataset(np.float64(split.train.x), np.int64(split.train.y)), split.test
    )
    self.assertEqual(jobs.data_digest(on_host), digest)
    x[3, 2] += 1e-5
    self.assertNotEqual(
      jobs.data_digest(arrays.to_split(x, y, split.test.x, y[:6])), digest
    )
    other = split._replace(test=Dataset(split.test.x, split.test.y[::-1]))
    self.assertNotEqual(jobs.data_digest(other), digest)

  def test_unit_norm_has_the_same_bits_everywhere(self):
    """In another order of summation, or as a part of more rows."""
    x = np.random.default_rng(1).normal(size=(40, 3000)).astype(np.float32)
    y = np.arange(40) % 2
    split = arrays.to_split(x, y, x[:7], y[:7])
    np.testing.assert_array_equal(split.train.x[:7], split.test.x)
    scaled = x / np.abs(x).max(axis=1, keepdims=True)
    for i in (0, 39):
      total = np.float64(0)
      for value in scaled[i].tolist():
        total += value * value
      expected = (scaled[i] / np.sqrt(total)).astype(np.float32)
      np.testing.assert_array_equal(split.train.x[i], expected)
