"""What a run costs: FLOPs, bytes moved and memory of each engine, from shapes.

One place decides which engine is the fastest and whether it fits. Times are
compared, never promised: a machine is described by how many FLOPs it does while
it moves a byte, and while it compiles.
"""

import math
from typing import NamedTuple

import jax
import numpy as np

from ossgd.compact import normals
from ossgd.compact import weights as rows_of_weights
from ossgd.data import mixtures
from ossgd.engines import blocked, gram, interface, measuring, tiles
from ossgd.engines.setup import Setup
from ossgd.recording import recorders

# Two EPYC cores were measured at 180 GFLOP/s and 20 GB/s; accelerators have 10
# to 25 as well.
_FLOPS_PER_BYTE = 10
_FLOAT = 4
_COMPONENTS = 2  # l, of which few make a difference
_KEPT = 1.1  # memory that was given back, and that the allocator keeps
# What a process holds besides: Python, JAX, programs, what compiles them.
RUNTIME = 7 * 10**8
# FLOPs in the time that compiling an engine takes, 1, 2 and 4 s there; counted
# as if for five seeds, so that no seed's engine depends on how many are run.
_COMPILATION = {'plain': 2e11 / 5, 'blocked': 4e11 / 5, 'gram': 8e11 / 5}


class Work(NamedTuple):
  """Of one run, all steps and measurements; not of its start and end."""

  flops: float
  bytes: float

  @property
  def time(self) -> float:
    """In FLOPs: a byte moved takes as long as so many."""
    return self.flops + _FLOPS_PER_BYTE * self.bytes


def work(engine: str, setup: Setup) -> Work:
  """What an engine computes and moves, as its module's docstring derives.

  Args:
    engine: 'plain', 'blocked' or 'gram'.
    setup: of the run.
  """
  m, d, k = setup.width, setup.num_inputs, setup.num_classes
  batch, record_steps = setup.examples_per_step, setup.record_steps
  block = _block(engine, setup)
  inside = 2 * batch**2 * m * block * (block - 1) / 2  # sums over earlier steps
  block_bytes = _FLOAT * m * block * batch * (6 + block / 2)
  if engine == 'gram':
    n = setup.num_train + setup.num_test
    planned = list(interface.plan(record_steps, block))
    pieces = sum(c.recorded.shape[0] for c in planned)
    recorded = sum(int(c.recorded.sum()) for c in planned)
    update = 2 * n * block * batch * m
    folds = setup.folds * (setup.num_steps // setup.steps_to_fold)
    folded = folds * 2 * (setup.num_train + n) * setup.rank * m
    return Work(
      len(planned) * (update + inside) + recorded * 2 * n * k * m + folded,
      # H once a chunk from memory, and about three times a piece from cache.
      _FLOAT * m * n * (2 * len(planned) + 1.5 * (pieces + recorded))
      + len(planned) * block_bytes,
    )
  gaps = np.diff(record_steps, prepend=0)
  steps = int(gaps.sum())
  step = 4 * batch * d * m
  if engine == 'blocked':
    num_blocks = int(np.sum(-(-gaps // block)))
    own_gram = 2 * (block * batch) ** 2 * d
    flops = num_blocks * (block * step + inside + own_gram)
    moved = num_blocks * (5 * _FLOAT * m * d + block_bytes)
  else:
    flops = steps * step
    moved = steps * _FLOAT * m * (5 * d + 6 * batch)
  examples = setup.num_test + setup.num_evaluated
  passes = _FLOAT * m * (d + 4 * examples)
  return Work(
    flops + len(gaps) * 2 * examples * (d + k) * m,
    moved + len(gaps) * passes,
  )


def memory(
  engine: str,
  setup: Setup,
  seeds_at_once: int = 1,
  shards: tuple[int, int] = (1, 1),
  *,
  whole: bool = False,
) -> int:
  """The most bytes a block of seeds holds on a device at any time.

  The largest of five times: the data are drawn, a seed begins, trains, is
  measured, ends. What is counted is what XLA's compiled programs say that they
  allocate, with arguments, results and temporary arrays.

  Args:
    engine: 'plain', 'blocked' or 'gram'.
    setup: of each run.
    seeds_at_once: runs side by side.
    shards: parts that the seeds and the units are split into.
    whole: w(T) is asked for, not its singular values alone.
  """
  m, d = setup.width // shards[1], setup.num_inputs
  weights = m * (d + setup.num_classes)
  inputs = (setup.num_train + setup.num_test) * d
  # w(0), and the random bits it comes from where it is drawn at once.
  drawn = weights if _in_pieces(setup, shards) else 4 * weights
  if engine == 'gram':
    times = _of_gram(setup, shards)
    kept = _size_of_c(setup, m)
  else:
    times = _of_weights(engine, setup, shards[1])
    kept = weights
  # Begun again, w(T) and its update, QR decompositions of both.
  end = max(kept + drawn, kept + 3 * weights, 5.1 * weights)
  if engine == 'gram' and not whole and shards == (1, 1):
    rows = min(m, max(2**14, 4 * d)) * d  # w(T) and its update, QR of each
    end = max(kept + drawn, kept + 2 * weights + 3.5 * rows)
  elif engine == 'gram':
    end = max(end, kept + 5.3 * weights)
  floats = inputs + max(_data(setup), drawn, *times, end)
  return int(_KEPT * _FLOAT * floats) * (seeds_at_once // shards[0])


def _of_gram(setup: Setup, shards: tuple[int, int]) -> tuple[float, ...]:
  """Numbers that a run holds as it begins, trains and is measured."""
  m, d = setup.width // shards[1], setup.num_inputs
  weights, padded = m * (d + setup.num_classes), m + -m % tiles.width(m)
  n = setup.num_train + setup.num_test
  held = n * (padded + setup.num_train) + _patterns(setup, m) / 8
  held += setup.num_steps * setup.examples_per_step + _size_of_c(setup, m)
  if setup.initial_of or not setup.by_visits:
    held += setup.num_train * padded
  if setup.folds:
    held += setup.rank * (padded + d)
  if setup.folds or 'test' in setup.initial_of:
    held += setup.num_test * padded
  begin = held + weights + n * d + (padded > m) * weights
  if from_rows(setup, shards):
    begin = held + n * d + _patterns(setup, m) / 8
  block = gram.steps_at_once(setup)
  rows = block * setup.examples_per_step
  train, measure = held + 8 * rows * padded, held + 5 * rows * padded
  if setup.folds:  # a fold has a new H, and inputs in fewer coordinates
    train = max(train, held + n * padded + 2 * (n + d) * setup.rank)
  if setup.by_visits and shards == (1, 1):  # U, and some rows of a step
    train = measure = held + (rows + 3 * setup.examples_per_step) * padded
  if setup.model.layers == 'both':  # a after every step, and their stack
    path = 2 * block * setup.num_classes * padded
    train, measure = train + path, measure + path
  return begin, train, measure + 2 * block * _recorded(setup)


def _of_weights(engine: str, setup: Setup, units: int) -> tuple[float, ...]:
  """`_of_gram` of the other engines, units in so many parts."""
  m, d = setup.width // units, setup.num_inputs
  weights = m * (d + setup.num_classes)
  held = 2 * weights + _patterns(setup, m) + setup.optimizer_size / units
  rows = _block(engine, setup) * setup.examples_per_step
  begin = held + weights + m * _rows(m, setup.num_test)
  train = held + weights + rows * (3 * m + d)
  if engine == 'blocked':  # a matmul of many rows packs w for its kernel
    train += weights
  measure = held + _evaluation(m, setup.num_evaluated, setup.num_test)
  return begin, train, measure + _of_units(m, setup) + 2 * _recorded(setup)


def _patterns(setup: Setup, m: int) -> float:
  """Numbers as large as the patterns at w(0), a byte each."""
  sizes = setup.recorder_sizes.examples
  return sum(sizes[e] for e in setup.patterns_of) * m / _FLOAT


def _size_of_c(setup: Setup, m: int) -> float:
  """Numbers as large as what the Gram engine keeps of w(t) - w(0)."""
  c = float(setup.num_train * (m + -m % tiles.width(m)))
  if setup.by_visits:  # a byte for eight visits
    c = -(-setup.num_visits // 8) * c / _FLOAT
  return c


def _block(engine: str, setup: Setup) -> int:
  """Steps taken at once, S."""
  if engine == 'gram':
    return gram.steps_at_once(setup)
  batch = setup.examples_per_step
  return blocked.size(batch, setup.width) if engine == 'blocked' else 1


def from_rows(setup: Setup, shards: tuple[int, int] = (1, 1)) -> bool:
  """Whether a run begins with a few rows of w(0) at a time, never all."""
  return (
    setup.by_visits
    and setup.used_columns is None
    and shards == (1, 1)
    and rows_of_weights.can_draw_rows(
      jax.random.key(0), setup.width, setup.dim, setup.model
    )
  )


def _in_pieces(setup: Setup, shards: tuple[int, int]) -> bool:
  """Whether `normals.draw` needs no memory beside what it draws."""
  return (
    jax.default_backend() == 'cpu'
    and shards == (1, 1)
    and setup.model.start == 'iid'
    and normals.draws_pieces(jax.random.key(0), (setup.width, setup.dim))
  )


def _data(setup: Setup) -> float:
  """Numbers that drawing the data holds beside the data."""
  n, d = setup.num_train + setup.num_test, setup.num_inputs
  at_once = min(n * d, max(d, mixtures.DRAWN_AT_ONCE))
  return n * d + 3 * at_once + 4 * _COMPONENTS * setup.num_classes * d


def _evaluation(m: int, num_train: int, num_test: int) -> int:
  """Numbers that measuring holds: both data sets are under way at a time.

  Pre-activations and ReLU of each; the test set's changed patterns as well,
  once the training set has only one of its two left.
  """
  train, test = _rows(m, num_train), _rows(m, num_test)
  return m * max(2 * (train + test), train + 3 * test)


def _rows(m: int, n: int) -> int:
  """Examples at a time: whole batches have a program, the rest another."""
  at_once = max(1, measuring.EVALUATED_AT_ONCE // m)
  return n if n < at_once else at_once + n % at_once


def _of_units(m: int, setup: Setup) -> int:
  """Numbers that a block of units holds while recorders measure it."""
  some = recorders.of_kind(setup.recorders, 'of_units')
  sizes = setup.recorder_sizes.examples
  n = sum(sizes[examples] for examples in {r.examples for r in some})
  return min(4 * n * m, measuring.EVALUATED_AT_ONCE)


def _recorded(setup: Setup) -> int:
  """Numbers that recorders beside the standard ones measure at a step."""
  return sum(math.prod(one.shape) for one in setup.record_shapes.values())


def results(setup: Setup) -> int:
  """Bytes that one seed's results take on the host, in float64 and stacked."""
  numbers = 1 + len(recorders.STANDARD) + _recorded(setup)
  spectra = 2 * _FLOAT * min(setup.width, setup.dim)
  return 3 * (8 * numbers * len(setup.record_steps) + spectra)


def choose(
  setup: Setup,
  limit: int,
  seeds_at_once: int = 1,
  shards: tuple[int, int] = (1, 1),
  *,
  whole: bool = False,
) -> str:
  """The engine that has the results first, of those that are exact and fit.

  Args:
    setup: of each run.
    limit: bytes of a device.
    seeds_at_once: runs side by side.
    shards: parts that the seeds and the units are split into.
    whole: as `memory` has it.

  Raises:
    ValueError: none fits, or the one asked for is unknown or not exact.
  """
  runtime = RUNTIME // jax.local_device_count()
  needed = {
    engine: memory(engine, setup, seeds_at_once, shards, whole=whole) + runtime
    for engine in setup.engines
  }
  fitting = [engine for engine in needed if needed[engine] <= limit]
  if not fitting:
    engine = min(needed, key=needed.__getitem__)
    raise ValueError(
      f'width {setup.width} needs about {needed[engine] / 1e9:.3g} GB '
      + ('' if shards == (1, 1) else 'on each device ')
      + f'with {seeds_at_once} seed(s) at once (engine {engine}), but '
      f'{limit / 1e9:.3g} GB are free; expected a run that fits: lower '
      + ('seeds_at_once, ' if seeds_at_once > 1 else '')
      + "widths, num_train, num_test or the data's dim"
    )
  return min(fitting, key=lambda e: _COMPILATION[e] + work(e, setup).time)
