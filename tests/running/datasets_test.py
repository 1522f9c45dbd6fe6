"""Where sweeps have data from: what people pass, and functions of a key."""

import functools
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
from absl.testing import parameterized
from sklearn import utils

from ossgd.data import mixtures
from ossgd.engines import measuring
from ossgd.engines.setup import Setup
from ossgd.paper.types import Dataset, Split
from ossgd.running import datasets, sweeps

SMALL = dict(widths=(16,), num_seeds=2, num_steps=5, batch_size=4, eval_every=5)
X = np.random.default_rng(0).normal(size=(12, 5)).astype(np.float32)
Y = np.arange(12) % 3


def blobs(key, scale=1.0):
  """Three classes around their own axis; all classes in every seed."""
  key_train, key_test = jax.random.split(key)

  def examples(key, n):
    y = jnp.arange(n, dtype=jnp.int32) % 3
    x = scale * jax.random.normal(key, (n, 4)) + 3 * jnp.eye(3, 4)[y]
    return Dataset(x, y)

  return Split(examples(key_train, 21), examples(key_test, 9))


def changed(change, key):
  """The same, with the training set changed."""
  split = blobs(key)
  return split._replace(train=Dataset(*change(*split.train)))


def past_seed_0(change, key):
  """The same, with the labels of all seeds but seed 0 changed."""
  first = jax.random.key_data(measuring.seed_keys(jnp.asarray(0)).data)
  is_first = jnp.all(jax.random.key_data(key) == first)
  split = blobs(key)
  y = jnp.where(is_first, split.train.y, change(split.train.y))
  return split._replace(train=Dataset(split.train.x, y))


class CheckedTest(parameterized.TestCase):
  @parameterized.parameters(
    lambda y: y,
    lambda y: y + 1,
    lambda y: y[:, None] * 1.0,
    lambda y: np.eye(3)[y],
    lambda y: np.array(['a', 'b', 'c'])[y],
  )
  def test_labels_are_read_alike(self, encode):
    """In a Split, in arrays, in pairs and in Bunches."""
    train, test = (X, encode(Y)), (X[:4], encode(Y[:4]))
    for data in (
      Split(Dataset(*train), Dataset(*test)),
      (*train, *test),
      (train, test),
      tuple(utils.Bunch(data=x, target=y) for x, y in (train, test)),
    ):
      split = datasets.checked(data)
      np.testing.assert_array_equal(split.train.y, Y)
      np.testing.assert_array_equal(split.test.y, Y[:4])

  def test_inputs(self):
    """Those of a Split stay, of any type and shape; others have unit norm.

    The log says which of the two it was.
    """
    images = 3 * X.reshape(12, 5, 1)
    four = (images, Y, images[:4], Y[:4])
    with self.assertLogs(level='INFO') as logs:
      scaled = datasets.checked(four)
    self.assertIn('scaled to unit norm', logs.output[-1])
    np.testing.assert_allclose(np.linalg.norm(scaled.train.x, axis=1), 1, 1e-6)
    with self.assertLogs(level='INFO') as logs:
      kept = datasets.checked(Split(Dataset(*four[:2]), Dataset(*four[2:])))
    norms = 3 * np.linalg.norm(X, axis=1)
    self.assertIn(
      f'norms from {norms.min():.3g} to {norms.max():.3g}', logs.output[-1]
    )
    np.testing.assert_array_equal(kept.train.x, 3 * X)

  def test_what_is_prepared_stays(self):
    """No copy, no log line; and who drew what is still known."""
    x = jnp.asarray(X / np.linalg.norm(X, axis=1, keepdims=True))
    y = jnp.asarray(Y, jnp.int32)
    split = Split(Dataset(x, y), Dataset(x[:4], y[:4]), y, y[:4])
    with self.assertNoLogs(level='INFO'):
      found = datasets.checked(split)
    self.assertIs(found.train.x, split.train.x)
    self.assertIs(found.test.x, split.test.x)
    self.assertIs(found.train_component, split.train_component)
    np.testing.assert_array_equal(found.train.y, split.train.y)

  @parameterized.named_parameters(
    ('masked', (np.ma.masked_less(X, -1), Y, X, Y), 'train x has masked'),
    ('a_class', mixtures.gaussian, r'the class Gaussian; .*Gaussian\(\.\.\.\)'),
    ('one_set', (X, Y), 'data is one set'),
  )
  def test_refused(self, data, message):
    with self.assertRaisesRegex(ValueError, message):
      datasets.checked(data)

  def test_a_split_is_refused_as_arrays_are(self):
    """In the same words."""
    x = np.where(np.arange(60).reshape(12, 5) == 7, np.nan, X)
    for train in ((x, Y), (X, Y + 0.5), (X[:3], Y)):
      said = []
      for data in ((*train, X, Y), Split(Dataset(*train), Dataset(X, Y))):
        with self.assertRaises(ValueError) as caught:
          datasets.checked(data)
        said.append(str(caught.exception))
      self.assertEqual(*said)


class FunctionTest(parameterized.TestCase):
  @parameterized.parameters(1, 2)
  def test_fresh_for_every_seed(self, seeds_at_once):
    """Seed s has the numbers of a Split made with its data key, by hand."""
    ds = sweeps.sweep(blobs, **SMALL, seeds_at_once=seeds_at_once)
    self.assertEqual(ds.attrs['dataset'], 'function blobs')
    self.assertEqual(ds.attrs['num_classes'], 3)
    self.assertEqual((ds.attrs['num_train'], ds.attrs['num_test']), (21, 9))
    for seed in (0, 1):
      split = blobs(measuring.seed_keys(jnp.asarray(seed)).data)
      one = sweeps.sweep(split, **(SMALL | dict(num_seeds=1, seed=seed)))
      for name in ('train_loss', 'test_loss', 'relative_distance'):
        np.testing.assert_allclose(
          ds[name].sel(seed=[seed]), one[name], rtol=2e-5
        )
    losses = ds.train_loss.isel(step=0).values.ravel()
    self.assertNotEqual(*losses)

  def test_transform(self):
    """Is applied to what the function returns, which is checked without it."""

    def one_class(key, split):
      return split._replace(train=Dataset(split.train.x, 0 * split.train.y))

    source = datasets.source(blobs, 0, 0, one_class)
    datasets.check_seeds(source, range(2))
    drawn = source.draw(jnp.asarray(1))
    expected = blobs(measuring.seed_keys(jnp.asarray(1)).data)
    np.testing.assert_array_equal(drawn.train.y, 0 * expected.train.y)
    np.testing.assert_allclose(drawn.train.x, expected.train.x, rtol=1e-6)
    self.assertEqual(source.sizes['num_classes'], 3)
    self.assertIsNone(source.shared)

  @parameterized.named_parameters(
    ('tuple', lambda key: (1, 2), r'data\(key\) returns a tuple; expected oss'),
    ('pairs', lambda key: Split((X, Y), (X, Y)), 'each an ossgd.base.Dataset'),
    (
      'classes',
      lambda key: blobs(key)._replace(num_classes=9),
      r'data\(key\) says num_classes, which only fixed data can',
    ),
    (
      'flat',
      functools.partial(changed, lambda x, y: (x.ravel(), y)),
      r'data\(key\): train x has shape \(84,\)',
    ),
    (
      'float_labels',
      functools.partial(changed, lambda x, y: (x, y / 1)),
      r'data\(key\): train y has type float32.*astype\(int\)',
    ),
    (
      'one_hot',
      functools.partial(changed, lambda x, y: (x, jnp.eye(3)[y])),
      r'data\(key\): train y has shape \(21, 3\)',
    ),
    (
      'complex',
      functools.partial(changed, lambda x, y: (x * 1j, y)),
      r'data\(key\): train x has type complex64',
    ),
    (
      'dims',
      functools.partial(changed, lambda x, y: (x[:, :2], y)),
      '2 coordinates, test x has 4',
    ),
    (
      'from_one',
      functools.partial(changed, lambda x, y: (x, y + 1)),
      r'data\(key\) of seed 0: train y holds 3 .* is 1 where 0',
    ),
    (
      'nan',
      functools.partial(changed, lambda x, y: (jnp.log(x), y)),
      r'data\(key\) of seed 0: train x has values that are not finite',
    ),
    (
      'other_seed',
      functools.partial(past_seed_0, lambda y: y + 1),
      r'data\(key\) of seed 1: train y has label 3 at .* classes 0\.\.2',
    ),
  )
  def test_refused(self, data, message):
    """Before any training, whichever seed it is that cannot be trained on."""
    progress = mock.Mock()
    with self.assertRaisesRegex(ValueError, message):
      sweeps.sweep(data, **(SMALL | dict(num_seeds=3)), progress=progress)
    progress.assert_not_called()

  def test_shapes_come_first(self):
    """A wrong one is refused without any number of it."""

    def vast(key):
      x = jax.random.normal(key, (10**7, 10**6))
      return Split(Dataset(x, x[:, 0]), Dataset(x, x[:, 0]))

    with self.assertRaisesRegex(ValueError, 'train y has type float32'):
      datasets.source(vast, 0, 0, None)

  def test_classes_are_those_of_seed_0(self):
    """Whichever seeds are asked for: else a seed alone had other numbers."""
    lacks_one = functools.partial(past_seed_0, lambda y: y % 2)
    source = datasets.source(lacks_one, 0, 0, None)
    self.assertEqual(source.sizes['num_classes'], 3)
    datasets.check_seeds(source, range(3))
    self.assertEqual(source.draw(jnp.asarray(1)).train.y.max(), 1)

  def test_known_by_its_code(self):
    """As a transform is: another function, or other settings, is other work."""
    setup = Setup(width=8, dim=4, num_classes=3, num_train=21, num_test=9)

    def basis(data):
      return sweeps._basis(setup, data, None, None)

    wide = functools.partial(blobs, scale=2.0)
    self.assertEqual(basis(blobs), basis(blobs))
    self.assertEqual(basis(wide), basis(functools.partial(blobs, scale=2.0)))
    self.assertNotEqual(basis(blobs), basis(wide))
    self.assertNotEqual(basis(blobs), basis(lambda key: blobs(key)))

    class Opaque:
      def __call__(self, key):
        return blobs(key)

    with self.assertRaisesRegex(ValueError, 'data holds .*Opaque'):
      basis(Opaque())
