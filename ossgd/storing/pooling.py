"""Results of several run folders as one: their seeds together, their widths.

What agrees is kept once; what is in two of them has to be the same.
"""

from __future__ import annotations

import itertools
import json
import logging
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ossgd.running import jobs
from ossgd.storing import folders, records

if TYPE_CHECKING:
  import xarray as xr

# Attributes and settings that runs of one experiment may differ in.
_FREE = ('widths', 'num_seeds', 'seed', 'width', 'mesh', 'seeds_at_once')
_OF_A_RUN = ('command', 'seconds', 'config', 'unfinished', 'pooled')


def settings(config: Mapping[str, Any]) -> dict[str, Any]:
  """What has to agree, of a run folder's config."""
  asked = folders.asked(config)
  asked.pop('digests', None)  # of results that were saved by hand
  own = asked.get('settings')
  if isinstance(own, Mapping):
    aside = (*_FREE, *_OF_A_RUN)
    size = config.get(records.SIZE) or {}  # of a sweep that may grow
    told = {n: size[n] for n in ('num_steps', 'target') if n in size}
    every = {**own, **told}
    asked['settings'] = {n: v for n, v in every.items() if n not in aside}
  return asked


def check(configs: Mapping[str, Mapping[str, Any]]) -> None:
  """Raises RecordError unless settings agree; says so if versions do not.

  Args:
    configs: by the names of their folders.
  """
  (first, config), *others = configs.items()
  for name, other in others:
    difference = jobs.difference(settings(config), settings(other))
    if difference:
      raise records.RecordError(
        f'{name} holds other results than {first} ({difference}); expected '
        'runs that differ in their seeds and widths only'
      )
    moved = folders.moved(config, other)
    if moved:
      logging.warning(
        '%s was made with other versions or sources than %s (%s)',
        name,
        first,
        moved,
      )


def overlap(one: xr.Dataset, other: xr.Dataset) -> dict[str, list[Any]]:
  """The widths and seeds that both have, by dim; {} if they share no run."""
  shared = {
    dim: np.intersect1d(one[dim], other[dim]).tolist() for dim in _dims(one)
  }
  return shared if all(shared.values()) else {}


def pool(named: Mapping[str, xr.Dataset]) -> xr.Dataset:
  """All widths and seeds of several Datasets; NaN where none has a run.

  Attributes that differ are dropped; `seconds` are those of all, and `pooled`
  says what came from where.

  Args:
    named: by the name that they are spoken of under.

  Raises:
    RecordError: there is no dim seed, a run is in two of them with other
      numbers, or what belongs to no run differs.
  """
  import xarray as xr

  for name, results in named.items():
    if 'seed' not in results.dims:
      raise records.RecordError(f'{name} has no seeds to be pooled')
  alone = {str(results.attrs.get('width')) for results in named.values()}
  if len(alone) > 1:
    raise records.RecordError(
      f'{", ".join(named)} are of the widths {", ".join(sorted(alone)):.200}, '
      'and have no dim for them'
    )
  for one, other in _sharing(named):
    _check_overlap(named[one], named[other], f'{one} and {other}')
  bare = [
    results.drop_vars('engine', errors='ignore') for results in named.values()
  ]
  groups: dict[tuple, list[xr.Dataset]] = {}
  for results in bare:
    widths = results['width'].values.tolist() if 'width' in results.dims else ()
    group = groups.setdefault(tuple(widths), [])
    there = [seed for r in group for seed in r['seed'].values.tolist()]
    new = [s for s in results['seed'].values.tolist() if s not in there]
    if new:
      group.append(results.sel(seed=new))
  try:
    pooled = xr.merge(
      [_concatenated(group) for group in groups.values()],
      compat='no_conflicts',
      join='outer',
      combine_attrs='drop_conflicts',
    )
  except ValueError as error:
    raise records.RecordError(
      f'{", ".join(named)} differ in what no seed decides: {error!s:.400}'
    ) from error
  return _labelled(pooled.sortby(_dims(pooled)), named)


def _sharing(named: Mapping[str, xr.Dataset]) -> list[tuple[str, str]]:
  """Pairs of names that may have a run in common, in their order."""
  holders: dict[tuple[Any, ...], list[str]] = {}
  for name, results in named.items():
    dims = _dims(results)
    values = (results[dim].values.tolist() for dim in dims)
    for run in itertools.product([tuple(dims)], *values):
      holders.setdefault(run, []).append(name)
  pairs = {
    pair
    for names in holders.values()
    for pair in itertools.combinations(names, 2)
  }
  return [pair for pair in itertools.combinations(named, 2) if pair in pairs]


def _dims(results: xr.Dataset) -> list[str]:
  return [dim for dim in ('width', 'seed') if dim in results.dims]


def _concatenated(group: Sequence[xr.Dataset]) -> xr.Dataset:
  import xarray as xr

  return xr.concat(
    group,
    'seed',
    data_vars='minimal',
    coords='minimal',
    compat='equals',
    join='outer',
    combine_attrs='drop_conflicts',
  )


def _check_overlap(one: xr.Dataset, other: xr.Dataset, names: str) -> None:
  import xarray as xr

  shared = overlap(one, other)
  if not shared:
    return
  # Spectra are as long as that of the widest network beside them.
  found = xr.align(
    *(r.sel(shared).drop_vars('engine', errors='ignore') for r in (one, other)),
    join='outer',
  )
  both = set(found[0].variables) & set(found[1].variables)
  if not found[0][list(both)].equals(found[1][list(both)]):
    runs = ', '.join(f'{dim} {values}' for dim, values in shared.items())
    raise records.RecordError(
      f'{names} both have {runs:.400}, with other numbers; leave one of '
      'them out'
    )


def _labelled(
  pooled: xr.Dataset, named: Mapping[str, xr.Dataset]
) -> xr.Dataset:
  """With what is made of the attributes and engines of all."""
  attrs = [results.attrs for results in named.values()]
  of_runs = '; '.join(
    f'{name}: '
    + ', '.join(f'{d} {" ".join(map(str, r[d].values))}' for d in _dims(r))
    for name, r in named.items()
  )
  told: dict[str, Any] = {'pooled': of_runs}
  begun = [
    f'{name}: {results.attrs["unfinished"]}'
    for name, results in named.items()
    if 'unfinished' in results.attrs
  ]
  if begun:
    told['unfinished'] = '; '.join(begun)
  if all('seconds' in one for one in attrs):
    told['seconds'] = sum(one['seconds'] for one in attrs)
  if all('config' in one for one in attrs):
    config = json.loads(attrs[0]['config'])
    config['settings'] |= {
      'seed': int(pooled.seed[0]),
      'num_seeds': pooled.sizes['seed'],
    }
    told['config'] = json.dumps(config)
  if all('command' in one for one in attrs):
    others = len(attrs) - 1
    told['command'] = f'{attrs[0]["command"]} and {others} more of other seeds'
  if 'width' in pooled.dims and all('engine' in r for r in named.values()):
    engines: dict[Any, dict[str, None]] = {w: {} for w in pooled.width.values}
    for results in named.values():
      pairs = zip(results.width.values, results.engine.values, strict=True)
      for width, engine in pairs:
        engines[width][str(engine)] = None
    texts = [', '.join(names) for names in engines.values()]
    pooled = pooled.assign_coords(engine=('width', texts))
  return pooled.assign_attrs(told)
