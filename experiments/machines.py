"""What a run costs on machines that are not here: a model, from shapes alone.

Devices form a mesh: `seeds` parts of the seeds that are trained side by side,
times `units` parts of the hidden units. A step takes

  max(FLOPs / peak, bytes / bandwidth)
    + all-reduces x latency(units) + 2 (1 - 1/units) sent / link,

where FLOPs, bytes and memory are those of `cost`, for a device's share of units
and seeds. Nothing hides the all-reduces: a step's gradient waits for the sum of
its logits. Peaks are data sheets' and kernels start at once, which is too good;
a tile's passes in cache count as if they were from memory, which is too bad.
"""

import functools
from typing import NamedTuple

import numpy as np

from ossgd import blocks, chunks, cost, runs

_FLOAT = 4
_ENGINES = ('gram', 'blocked', 'plain')


class Machine(NamedTuple):
  """Devices, and what joins them; per device and second."""

  name: str
  devices: int
  flops: float  # of float32 matmuls at highest precision
  bandwidth: float  # bytes of its memory
  memory: float  # bytes
  link: float  # bytes it sends
  latency: float  # seconds of an all-reduce, or of one hop on a torus
  torus: tuple[int, ...] = ()  # lengths of its rings; none with a switch

  def all_reduce(self, units: int) -> float:
    """Seconds that an all-reduce of next to nothing takes.

    On a torus the sum goes half around each ring in use and comes back.
    """
    if units == 1:
      return 0.0
    hops, left = 0, units
    for ring in self.torus:
      used = min(ring, left)
      hops += used if used > 1 else 0
      left = -(-left // ring)
    return self.latency * (hops or 1)


# Data sheet of the NVIDIA H100 SXM: 67 TFLOP/s in FP32 without tensor cores
# (TF32 would be 'high'), 80 GB, 3.35 TB/s, NVLink with 900 GB/s of both
# directions together. Six microseconds were measured for two of them, by
# nccl-tests with CUDA graphs, and more for more: github.com/NVIDIA/nccl, #1259.
H100 = Machine('8 x H100', 8, 67e12, 3.35e12, 80e9, 450e9, 6e-6)
# docs.cloud.google.com/tpu/docs/v5p: 459 TFLOP/s in bfloat16, of which highest
# precision takes six passes (jax.lax.Precision); 95 GiB, 2765 GB/s, links of
# 1200 GB/s both ways together, and of their three axes one is at work; 256
# chips are 4 x 8 x 8. A hop: about 1 us, jax-ml.github.io/scaling-book, part 3.
V5P = Machine(
  '256 x TPU v5p',
  256,
  459e12 / 6,
  2.765e12,
  95 * 2**30,
  200e9,
  1e-6,
  torus=(8, 8, 4),
)


class Problem(NamedTuple):
  """What is trained, but for width and seeds."""

  name: str
  shape: cost.Shape
  record_steps: tuple[int, ...]


# Section 7's sizes: its synthetic data, measured at every step, and MNIST.
SYNTHETIC = Problem(
  'synthetic',
  cost.Shape(1, 1000, 10, 1000, 1000, 1000, 16, 1),
  tuple(range(401)),
)
MNIST = Problem(
  'MNIST',
  cost.Shape(1, 784, 10, 60000, 10000, 5000, 64, 1),
  tuple(range(0, 1001, 20)),
)


class Sent(NamedTuple):
  """What devices sum among them in a run of one seed."""

  all_reduces: int  # one after another; those of several seeds are one
  bytes: int  # of the arrays that are summed


def sent(
  engine: str, shape: cost.Shape, record_steps: np.ndarray, units: int
) -> Sent:
  """All-reduces along the unit axis, as the compiled programs have them.

  Every step sums its logits (B, k). A chunk of S steps of `gram` sums
  products (S, B, B) and (S,) for its distances, and logits (P, n, k) and
  changed patterns (P,) of its P pieces. A measurement of the other engines sums
  logits, the changed patterns of each test example and two squared norms, in
  batches of examples; patterns are integers there, and go apart from the rest.
  One device sends nothing.
  """
  if units == 1:
    return Sent(0, 0)
  k, batch = shape.num_classes, shape.batch_size
  block = blocks.size(batch, shape.width)
  if engine == 'gram':
    n = shape.num_train + shape.num_test
    planned = list(chunks.plan(record_steps, block))
    pieces = sum(c.recorded.shape[0] for c in planned)
    steps = len(planned) * block
    rounds = 2 * len(planned)
    measured = steps * (batch**2 + 1) + pieces * (n * k + 1)
  else:
    gaps = np.diff(record_steps, prepend=0)
    taken = -(-gaps // block) * block if engine == 'blocked' else gaps
    steps = int(taken.sum())
    at_once = max(1, runs.EVALUATED_AT_ONCE // (shape.width // units))
    of_test = -(-shape.num_test // at_once)
    passes = of_test + -(-shape.num_train_eval // at_once)
    # The last logits of each go together.
    rounds = len(gaps) * (max(1, passes - 1) + of_test)
    examples = shape.num_test + shape.num_train_eval
    measured = len(gaps) * (examples * k + shape.num_test + 2)
  return Sent(steps + rounds, _FLOAT * (steps * batch * k + measured))


class Step(NamedTuple):
  """One step of the seeds at once, on one device; means over a run."""

  mesh: tuple[int, int]
  seeds_at_once: int
  engine: str
  memory: int  # bytes, the most at any time
  sent: float  # bytes
  arithmetic: float  # seconds, as all that follows
  traffic: float
  latency: float
  links: float

  @property
  def work(self) -> float:
    """Seconds that the device is at work."""
    return max(self.arithmetic, self.traffic)

  @property
  def time(self) -> float:
    """Seconds."""
    return self.work + self.latency + self.links

  @property
  def bound(self) -> str:
    """Which of them is the largest."""
    parts = ('arithmetic', 'traffic', 'latency', 'links')
    return max(parts, key=lambda part: getattr(self, part))


def predict(
  machine: Machine,
  problem: Problem,
  width: int,
  engine: str,
  mesh: tuple[int, int],
  at_once: int,
) -> Step:
  """A step on a mesh of (seeds, units) devices, `at_once` seeds side by side.

  It may need more memory than there is.
  """
  shape = problem.shape._replace(width=width, seeds_at_once=at_once)
  steps = problem.record_steps[-1]
  work, summed = _of_one_seed(problem, width, engine, mesh[1])
  seeds = at_once // mesh[0] / steps
  return Step(
    mesh,
    at_once,
    engine,
    cost.memory(engine, shape, steps, mesh),
    seeds * summed.bytes,
    seeds * work.flops / machine.flops,
    seeds * work.bytes / machine.bandwidth,
    summed.all_reduces / steps * machine.all_reduce(mesh[1]),
    2 * (1 - 1 / mesh[1]) * seeds * summed.bytes / machine.link,
  )


def best(
  machine: Machine, problem: Problem, width: int, num_seeds: int
) -> Step | None:
  """The fastest way through all seeds; None if not one of them fits.

  Of those that are equal to three digits, the one that sends the least.
  """
  steps = (
    predict(machine, problem, width, engine, (seeds, units), at_once)
    for engine in _ENGINES
    for seeds in reversed(_powers(num_seeds, machine.devices))
    for units in _powers(width, machine.devices // seeds)
    for at_once in range(seeds, num_seeds + 1, seeds)
    if num_seeds % at_once == 0
  )
  fitting = (step for step in steps if step.memory <= machine.memory)

  def time_of_seed(step):
    return float(f'{step.time / step.seeds_at_once:.3g}')

  return min(fitting, key=time_of_seed, default=None)


def fewest(machine: Machine, problem: Problem, width: int) -> int:
  """Devices, a power of two, that have the memory for one seed."""
  shape = problem.shape._replace(width=width)
  steps = problem.record_steps[-1]
  return next(
    units
    for units in _powers(2**63, 2**63)
    if any(
      cost.memory(engine, shape, steps, (1, units)) <= machine.memory
      for engine in _ENGINES
    )
  )


def half(machine: Machine, problem: Problem, width: int, step: Step) -> float:
  """Devices over which the units may go until half the time is all-reduces.

  Those of a step's seeds on one device, at the latency of the whole machine.
  """
  seeds, units = step.mesh
  split = predict(
    machine,
    problem,
    width,
    step.engine,
    (seeds, machine.devices),
    step.seeds_at_once,
  )
  return units * step.work / (split.latency + split.links)


@functools.cache
def _of_one_seed(
  problem: Problem, width: int, engine: str, units: int
) -> tuple[cost.Work, Sent]:
  """Of a whole run, on one device."""
  shape = problem.shape._replace(width=width)
  steps = np.array(problem.record_steps)
  work = cost.work(engine, shape, steps, units)
  return work, sent(engine, shape, steps, units)


def _powers(number: int, most: int) -> list[int]:
  """Powers of two up to `most` that divide a number."""
  powers = (1 << i for i in range(most.bit_length()))
  return [power for power in powers if number % power == 0]
