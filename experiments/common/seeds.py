"""Scripts that go from seed to seed: networks, devices, what is finished."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import jax
import numpy as np
from jax.sharding import Mesh

from ossgd.engines import measuring, meshes
from ossgd.machine import hosts, memory
from ossgd.paper.types import Params
from ossgd.results import paper_claims
from ossgd.running import identities, jobs, watching

from .options import option

if TYPE_CHECKING:
  import xarray as xr


@dataclasses.dataclass(frozen=True)
class Config:
  """Which networks, how many of each, and over which devices."""

  widths: tuple[int, ...] = option(
    (500, 1000, 2000, 4000, 8000), 'm, hidden units (our choice).'
  )
  num_seeds: int = option(5, 'Runs of each setting.')
  seed: int = option(0, 'The first seed; run s is the same whatever this is.')
  dim: int = option(1000, 'd, input coordinates (Section 7: 1000).')
  num_classes: int = option(10, 'k (Section 7: 10).')
  mesh: str = option(
    'auto',
    'Devices: unit:4 splits the hidden units over 4; seeds go one by one. '
    'auto: as many as divide all widths. Numbers agree to rounding.',
  )


def devices(config: Config, widths: Sequence[int]) -> Mesh | None:
  """The mesh that a Config asks for; None stands for one device.

  Args:
    config: the settings.
    widths: all values of m that there will be.

  Raises:
    ValueError: no such runs can be, there are too few devices, or an axis does
      not divide.
  """
  for name, values in (('num_seeds', [config.num_seeds]), ('widths', widths)):
    if not all(value > 0 for value in values):
      raise ValueError(
        f'{name}: {", ".join(map(str, values))}; expected positive numbers'
      )
  measuring.check_seeds(config.seed, config.num_seeds)
  # What one seed has measured is an array in a dict.
  least = 300 * config.num_seeds * len(config.widths)
  free = hosts.least(memory.free())
  if least > free:
    raise ValueError(
      f'num_seeds {config.num_seeds}: their results need at least '
      f'{least / 1e9:.3g} GB, but {free / 1e9:.3g} GB are free; lower num_seeds'
    )
  if not config.widths or len(set(config.widths)) < len(config.widths):
    raise ValueError(
      f'widths are {config.widths}; expected at least one, all different'
    )
  return meshes.make(
    config.mesh, widths=widths, num_seeds=config.num_seeds, seeds_at_once=1
  )


def over_seeds(
  config: Config,
  measure: Callable[[int, Params], dict[str, Any]],
  progress: Callable[[float, str], None],
  *,
  width: int,
  mesh: Mesh | None,
) -> dict[str, np.ndarray]:
  """What is measured of every seed's network: arrays, seeds first.

  Args:
    config: says which seeds.
    measure: (seed, Params at w(0)) -> arrays by name; the units of Params lie
      on the mesh, and what is compiled of it follows them.
    progress: told of every seed; a `watching.Watch` with a store keeps each
      one that is finished on disk.
    width: m.
    mesh: of `devices`.
  """

  @jax.jit
  def draw(seed):
    params = measuring.draw_params(
      measuring.seed_keys(seed).init,
      width=width,
      dim=config.dim,
      num_classes=config.num_classes,
      scale=1.0,
    )
    laid_out = Params(meshes.ROWS, meshes.COLUMNS)
    return meshes.constrain(params, laid_out, mesh, of_seeds=False)

  def compute(seed):
    return hosts.fetch(measure(seed, draw(seed)))

  watch = watching.watch(progress)
  shared = basis(config, measure, watch)
  found = []
  for i in range(config.num_seeds):
    seed = config.seed + i
    watch(i / config.num_seeds, f'seed={seed}')
    job = jobs.Job(width, seed, '', shared)
    found.append(watch.once(f'seed={seed}', job, compute, seed))
  return jax.tree.map(lambda *v: np.stack(v), *found)


def basis(config: Any, measure: Callable, watch: watching.Watch) -> str:
  """What the jobs of a script have in common, where they are stored.

  Args:
    config: its settings; how many runs there are, and where, does not count.
    measure: in whose modules, or in those they import, numbers are made.
    watch: with the store, if there is one.
  """
  if watch.store is None:
    return ''
  settings = dataclasses.asdict(config)
  for name in ('widths', 'num_seeds', 'seed', 'mesh'):
    settings.pop(name, None)
  return jobs.basis(settings, __name__, *sorted(identities.modules(measure)))


def over_widths(
  config: Config,
  measure: Callable[[int, Params], dict[str, Any]],
  progress: Callable[[float, str], None],
  *,
  dims: Callable[[str], tuple[str, ...]],
  mesh: Mesh | None,
) -> xr.Dataset:
  """`over_seeds` at every width: dims width, seed and those of each array.

  Args:
    config: says which widths and seeds.
    measure: as in `over_seeds`; of every width the same shapes.
    progress: as in `over_seeds`.
    dims: by the name of an array, those after width and seed.
    mesh: of `devices`.
  """
  import xarray as xr

  widths = ((f'm={width}', width) for width in config.widths)
  parts = watching.watch(progress).parts(widths)
  rows = [
    over_seeds(config, measure, part, width=width, mesh=mesh)
    for width, part in zip(config.widths, parts, strict=True)
  ]
  progress(1.0, 'done')
  found = jax.tree.map(lambda *v: np.stack(v), *rows)
  return xr.Dataset(
    {name: (('width', 'seed', *dims(name)), v) for name, v in found.items()},
    {
      'width': list(config.widths),
      'seed': config.seed + np.arange(config.num_seeds),
    },
    paper_claims.told(config) | {'mesh': meshes.text(mesh)},
  )
