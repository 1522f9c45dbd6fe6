"""Devices as a mesh: seeds are split along one axis, hidden units the other.

The network is a sum over units,

  f_i(x) = sum_r a_{i,r} ReLU(<w_r, x>),

and eq. (1)'s row r needs no other row: a device that holds some rows of w and
the same columns of a lacks nothing but the other devices' part of the logits,
(batch, k) numbers a step. Seeds need nothing of each other.
"""

import itertools
import math
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

SEED, UNIT = 'seed', 'unit'
# They stand in trees where arrays do.
ROWS: Any = PartitionSpec(UNIT)  # of an array (m, ...)
COLUMNS: Any = PartitionSpec(None, UNIT)  # of an array (n, m)
WHOLE: Any = PartitionSpec()  # the same on all devices of a seed


def make(
  asked: str | Mesh,
  *,
  widths: Sequence[int],
  num_seeds: int,
  seeds_at_once: int | None,
) -> Mesh | None:
  """The mesh of a sweep; None stands for one device.

  Args:
    asked: 'seed:2,unit:4', where an axis that is not named has size 1; 'auto'
      for the mesh of most devices that divides seeds and widths, and of those
      the one with most along seed; or a Mesh with the axes seed and unit.
    widths: the values of m; unit divides them all.
    num_seeds: seed divides it.
    seeds_at_once: and this, if given.

  Raises:
    ValueError: there are too few devices, or an axis does not divide.
  """
  seeds = math.gcd(num_seeds, seeds_at_once or num_seeds)
  width = math.gcd(*widths)
  if isinstance(asked, Mesh):
    if asked.axis_names != (SEED, UNIT):
      raise ValueError(
        f'the mesh has axes {asked.axis_names}; expected {(SEED, UNIT)}'
      )
    sizes, mesh = asked.devices.shape, asked
  elif asked == 'auto':
    sizes, mesh = _most_devices(seeds, width, jax.device_count()), None
  else:
    sizes, mesh = _parsed(asked), None
  for axis, size, whole, what in (
    (SEED, sizes[0], seeds, f'num_seeds {num_seeds}, seeds_at_once'),
    (UNIT, sizes[1], width, f'widths {", ".join(map(str, widths))}'),
  ):
    if whole % size:
      fitting = ', '.join(map(str, _divisors(whole)))
      raise ValueError(
        f'mesh has {axis}:{size}, which does not divide all of {what}; '
        f'expected {axis} to be one of {fitting}'
      )
  if math.prod(sizes) > jax.device_count():
    raise ValueError(
      f'mesh {asked} needs {math.prod(sizes)} devices; there are '
      f'{jax.device_count()}: ask for fewer, or for auto'
    )
  if jax.process_count() > 1 and math.prod(sizes) != jax.device_count():
    raise ValueError(
      f'mesh is {asked}, {math.prod(sizes)} devices at most; expected all '
      f'{jax.device_count()} devices of the {jax.process_count()} processes'
    )
  if math.prod(sizes) == 1:
    return None
  return mesh or jax.make_mesh(
    sizes, (SEED, UNIT), axis_types=(AxisType.Auto,) * 2
  )


def shards(mesh: Mesh | None) -> tuple[int, int]:
  """How many parts seeds and units are split into."""
  return (1, 1) if mesh is None else (mesh.shape[SEED], mesh.shape[UNIT])


def text(mesh: Mesh | None) -> str:
  """A mesh as `make` reads it."""
  return '{0}:{2},{1}:{3}'.format(SEED, UNIT, *shards(mesh))


def constrain(
  values: Any, specs: Any, mesh: Mesh | None, *, of_seeds: bool
) -> Any:
  """Arrays laid out on the mesh, inside of a program.

  Args:
    values: a tree of arrays.
    specs: of one seed's arrays, a tree of PartitionSpecs; each may stand for a
      whole subtree.
    mesh: or None, which changes nothing.
    of_seeds: whether the arrays have an axis of seeds before all others.
  """
  if mesh is None:
    return values
  shardings = jax.tree.map(
    lambda spec: _sharding(spec, mesh, of_seeds),
    specs,
    is_leaf=lambda spec: isinstance(spec, PartitionSpec),
  )
  return jax.lax.with_sharding_constraint(values, shardings)


def put(values: Any, mesh: Mesh | None, *, of_seeds: bool) -> Any:
  """Arrays sent to all devices, those of each seed to its own."""
  if mesh is None:
    return values
  return jax.device_put(values, _sharding(WHOLE, mesh, of_seeds))


def _sharding(spec: PartitionSpec, mesh: Mesh, of_seeds: bool) -> NamedSharding:
  return NamedSharding(mesh, PartitionSpec(SEED, *spec) if of_seeds else spec)


def _parsed(asked: str) -> tuple[int, int]:
  sizes: dict[str, int] = {}
  for part in asked.split(','):
    axis, _, size = part.strip().partition(':')
    known = axis in (SEED, UNIT) and axis not in sizes
    if not (known and size.isdecimal() and int(size)):
      raise ValueError(
        f'mesh is {asked!r}; expected auto, or how many devices each axis has, '
        'such as seed:2,unit:4'
      )
    sizes[axis] = int(size)
  return sizes.get(SEED, 1), sizes.get(UNIT, 1)


def _most_devices(seeds: int, width: int, most: int) -> tuple[int, int]:
  pairs = itertools.product(_divisors(seeds, most), _divisors(width, most))
  fitting = [pair for pair in pairs if math.prod(pair) <= most]
  return max(fitting, key=lambda pair: (math.prod(pair), pair[0]))


def _divisors(number: int, most: int | None = None) -> list[int]:
  candidates = np.arange(1, min(number, most or number) + 1)
  return candidates[number % candidates == 0].tolist()
