"""Whether an accelerator's numbers are those of the CPU beside it."""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import numpy as np

from ossgd.engines import kinds
from ossgd.recording import recorders

from . import rivals

# Of the largest value, at highest precision; `moved` is w - w(0). The three
# decimals of TensorFloat-32 and bfloat16 do not do.
TOLERANCES = {'moved': 1e-3} | {
  one.name: 1e-4 for one in recorders.STANDARD if 'accuracy' not in one.name
}
_STEPS = 40


def lines(
  case: rivals.Case, engines: Sequence[str], num_seeds: int
) -> Iterator[dict[str, Any]]:
  """Each engine here beside itself on the CPU, and seeds beside one by one.

  Args:
    case: a piece of work, of which the first steps are taken.
    engines: by name.
    num_seeds: side by side.

  Yields:
    What was compared, how far apart it is, and whether that is within
    tolerance, as JSON values.
  """
  case = case._replace(num_steps=min(_STEPS, case.num_steps))
  cpu, here = jax.devices('cpu')[0], jax.devices()[0]
  for name in engines:
    found, expected = (
      _trained(jax.device_put(case.arrays, device), case, name)
      for device in (here, cpu)
    )
    for quantity, value in expected.items():
      yield _line(f'{name}, {quantity}', quantity, found[quantity], value)
  name = rivals.fastest(case)
  w0 = np.asarray(case.params.w)
  together = np.asarray(rivals.ours(case, name, num_seeds)()) - w0
  for i in (0, num_seeds - 1):
    alone = rivals.ours(case.of_seed(i), name)()
    yield _line(
      f'{name}, seed {i} of {num_seeds} and alone, moved',
      'moved',
      together[i],
      np.asarray(alone) - w0,
    )


def failed(reason: str) -> dict[str, Any]:
  """The line of a comparison that could not be made."""
  return {
    'what': f'failed: {reason}',
    'difference': None,
    'tolerance': None,
    'within': False,
  }


def _trained(arrays: Any, case: rivals.Case, name: str) -> dict[str, Any]:
  """What is measured after every step, and w(T) - w(0), where the arrays are.

  Args:
    arrays: params, data and key.
    case: the work.
    name: of an engine.
  """
  params, split, key = arrays
  engine = kinds.make(dataclasses.replace(case.setup, engine=name))
  state, begin = jax.jit(engine.start)(key, params, split)
  stages = [jax.jit(stage) for stage in engine.stages.values()]
  records = []
  for chunk in engine.chunks:
    passed: tuple = ()
    for stage, told in zip(stages, chunk.arguments, strict=True):
      state, passed = stage(state, begin, split, *passed, *told)
    records.append(
      jax.tree.map(
        lambda v, on=chunk.recorded: np.reshape(v, -1)[on], passed[0]
      )
    )
  record = jax.tree.map(lambda *v: np.concatenate(v), *records)
  w = jax.jit(engine.weights)(engine.kept(state), params, split).w
  return record | {'moved': np.asarray(w) - np.asarray(params.w)}


def _line(
  what: str, quantity: str, found: np.ndarray, expected: np.ndarray
) -> dict[str, Any]:
  """How far apart: of the largest value, or in examples counted."""
  counted = quantity not in TOLERANCES
  apart = np.abs(np.asarray(found, np.float64) - expected)
  difference = float(apart.max())
  if not counted:
    difference /= float(np.abs(expected).max())
  tolerance = 1.0 if counted else TOLERANCES[quantity]
  return {
    'what': what,
    'difference': difference,
    'tolerance': tolerance,
    'within': bool(difference <= tolerance),  # not where it is no number
  }
