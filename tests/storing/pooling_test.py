"""Tests of merging: seeds and widths of several folders as one."""

import pathlib
import tempfile

import numpy as np
import xarray as xr
from absl.testing import parameterized

import ossgd
from ossgd.data import mixtures
from ossgd.running import sweeps
from ossgd.storing import pooling, records
from tests.results.drawn import make_records


def make(num_seeds=4, widths=(8, 16)) -> xr.Dataset:
  """As of a sweep, with an engine and a list of lengths of its own."""
  results = make_records(values=widths, num_seeds=num_seeds)
  engines = ['gram' if width > 8 else 'plain' for width in widths]
  results = results.assign_coords(
    engine=('width', engines), seed=np.arange(num_seeds)
  )
  return results.assign(limit=('rank', np.arange(results.sizes['rank'])))


class MergeTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    self.root = pathlib.Path(self.enter_context(tempfile.TemporaryDirectory()))

  def save(self, **named: xr.Dataset) -> list[pathlib.Path]:
    for name, results in named.items():
      ossgd.save(results, self.root / name)
    return [self.root / name for name in named]

  def test_seeds_and_widths(self):
    """All that there was, to the bit, in order; and where it came from."""
    whole = make()
    places = self.save(
      a=whole.isel(seed=[3]),
      b=whole.isel(seed=[0, 1]),
      c=whole.isel(seed=[2]),
    )
    merged = ossgd.merge(places)
    pooled = merged.attrs.pop('pooled')
    xr.testing.assert_identical(merged, whole)
    for name in whole:
      self.assertEqual(merged[name].dtype, whole[name].dtype, name)
    first = (
      f'{places[0]}: width 8 16, seed 3; {places[1]}: width 8 16, seed 0 1'
    )
    self.assertStartsWith(pooled, first)
    again = ossgd.merge(self.root)
    xr.testing.assert_identical(again, merged.assign_attrs(pooled=pooled))

  def test_widths_without_a_dim(self):
    """Seeds of two widths are no sample of either."""
    whole = make().isel(width=0, drop=True)
    places = self.save(
      a=whole.isel(seed=[0]).assign_attrs(width=8),
      b=whole.isel(seed=[1]).assign_attrs(width=16),
    )
    with self.assertRaisesRegex(records.RecordError, 'of the widths 16, 8'):
      ossgd.merge(places)
    for i, place in enumerate(places):  # beside a dim that is not all of them
      other = make().isel(seed=[i]).assign_attrs(width=8 * (i + 1))
      ossgd.save(other, place, overwrite=True)
    with self.assertRaisesRegex(records.RecordError, 'of the widths 16, 8'):
      ossgd.merge(places)

  def test_other_data(self):
    """Which nothing else in the attributes may tell."""
    x = np.random.default_rng(0).normal(size=(30, 4))
    y = np.arange(30) % 2
    kinds = (
      [
        mixtures.bounded(
          num_classes=2, num_components=1, dim=4, separation=s, ratio=0.1
        )
        for s in (0.5, 1.0)
      ],
      [(v[:20], y[:20], v[20:], y[20:]) for v in (x, x + 0.1)],
    )
    small = dict(widths=(4,), num_steps=2, num_train=20, num_test=10)
    for i, kind in enumerate(kinds):
      places = [self.root / f'{i}{j}' for j in range(3)]
      for seed, (data, place) in enumerate(
        zip((*kind, kind[0]), places, strict=True)
      ):
        found = sweeps.sweep(data, **small, num_seeds=1, seed=seed)
        ossgd.save(found, place)
      with self.assertRaisesRegex(records.RecordError, 'settings.data: '):
        ossgd.merge(places[:2])
      self.assertEqual(ossgd.merge(places[::2]).sizes['seed'], 2)

  def test_unfinished(self):
    """What is missing of any is told of all."""
    whole = make().isel(width=[0])
    named = {
      name: whole.isel(seed=[i]).assign_attrs(unfinished=text)
      for i, (name, text) in enumerate((('a', '1 of 2'), ('b', '2 of 3')))
    }
    self.assertEqual(pooling.pool(named).unfinished, 'a: 1 of 2; b: 2 of 3')

  def test_the_same_run_twice(self):
    """Once, if the numbers are the same; else it is refused."""
    whole = make()
    places = self.save(a=whole.isel(seed=[0, 1]), b=whole.isel(seed=[1, 2]))
    merged = ossgd.merge(places)
    xr.testing.assert_identical(
      merged.drop_attrs(), whole.isel(seed=[0, 1, 2]).drop_attrs()
    )
    other = whole.isel(seed=[1, 2]) + 1e-6
    ossgd.save(other.assign_attrs(whole.attrs), places[1], overwrite=True)
    with self.assertRaisesRegex(
      records.RecordError, r'a and .*b both have .*seed \[1\], with other num'
    ):
      ossgd.merge(places)

  def test_missing_runs(self):
    """Widths of their own; NaN where nobody has a run."""
    whole = make(widths=(8, 16, 32))
    wide = whole.sel(width=[32], seed=[0]).isel(rank=slice(5))
    merged = ossgd.merge(self.save(a=whole.sel(width=[8, 16]), b=wide))
    self.assertEqual(merged.engine.values.tolist(), ['plain', 'gram', 'gram'])
    np.testing.assert_array_equal(
      merged.test_accuracy.isnull().any('step'),
      [[False] * 4] * 2 + [[False, True, True, True]],
    )
    values = merged.singular_values_update.sel(width=32, seed=0)
    np.testing.assert_array_equal(values[5:], np.nan)
    np.testing.assert_array_equal(
      values[:5], whole.singular_values_update.sel(width=32, seed=0)[:5]
    )

  def test_other_settings(self):
    """They are refused with the difference; engines may differ, and show."""
    whole = make()
    one, other = whole.isel(seed=[0]), whole.isel(seed=[1])
    moved = other.assign_attrs(target=0.9)
    with self.assertRaisesRegex(records.RecordError, 'target: 0.98 .*0.9'):
      ossgd.merge(self.save(a=one, b=moved))
    grown = {
      name: {
        'settings': {},
        records.SIZE: {'seeds': [0, 1], 'num_steps': steps},
      }
      for name, steps in (('a', 100), ('b', 400))
    }
    with self.assertRaisesRegex(records.RecordError, 'num_steps: 100 .*400'):
      pooling.check(grown)
    for _ in range(2):  # what was read back is the same results as well
      ossgd.save(ossgd.load(self.root / 'a'), self.root / 'again')
    blocked = other.assign_coords(engine=('width', ['plain', 'blocked']))
    merged = pooling.pool({'a': one, 'b': blocked})
    self.assertEqual(merged.engine.values.tolist(), ['plain', 'gram, blocked'])
    with self.assertRaisesRegex(records.RecordError, 'a, b differ in what'):
      pooling.pool({'a': one, 'b': other.assign(limit=other.limit + 1)})
    with self.assertRaisesRegex(records.RecordError, 'b has no seeds'):
      pooling.pool({'a': one, 'b': other.mean('seed')})
    with self.assertRaisesRegex(records.RecordError, 'no folders'):
      ossgd.merge([])
    with self.assertRaisesRegex(records.RecordError, 'no run folders to'):
      ossgd.merge(self.root / 'a')
