"""What a user would otherwise write: the same training in JAX and PyTorch.

A contender takes a Case, prepares everything, and returns a function that
trains once from the start, waits for the end and returns the weights, on
whatever device they are. With metrics, all that `recorders.STANDARD` lists is
measured after every step.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from ossgd.data import mixtures
from ossgd.engines import blocked, cost, kinds
from ossgd.engines.setup import Setup
from ossgd.machine import memory
from ossgd.paper import metrics, network
from ossgd.paper.types import Params, Split
from ossgd.running import caching

Contender = Callable[[], Any]  # weights (m, d)


class Case(NamedTuple):
  """One piece of work, the same for all contenders."""

  params: Params
  split: Split
  key: jax.Array  # of the order of the examples
  batch_size: int
  num_steps: int
  step_size: float
  metrics: bool  # at every step, or never

  @property
  def setup(self) -> Setup:
    """The same of our engines; a step size of eta m / m."""
    num_train, dim = self.split.train.x.shape
    num_classes, width = self.params.a.shape
    return Setup(
      width=width,
      dim=dim,
      num_classes=num_classes,
      num_train=num_train,
      num_test=self.split.test.x.shape[0],
      num_steps=self.num_steps,
      batch_size=self.batch_size,
      lr_times_width=self.step_size * width,
      eval_every=1 if self.metrics else self.num_steps,
      eval_growth=0.0,
      engine='fast',
    )

  def of_seed(self, i: jax.Array | int) -> 'Case':
    """The same in another order; see `ours`."""
    return self._replace(key=jax.random.fold_in(self.key, i))

  @property
  def arrays(self) -> tuple[Params, Split, jax.Array]:
    """What a device must have of it."""
    return self.params, self.split, self.key

  def rows(self) -> np.ndarray:
    """The examples of every step, in the engines' order: (T, B)."""
    steps, examples = np.arange(self.num_steps), np.arange(self.setup.num_train)
    rows = functools.partial(
      blocked.next_rows, order='epochs', batch_size=self.batch_size
    )
    batches, _ = jax.jit(rows)(self.key, steps, examples.astype(np.int32))
    return np.asarray(batches)


def case_of(name: str, width: int, num_steps: int) -> Case:
  """A piece of work by its name."""
  mnist = name.startswith('MNIST')
  spec = mixtures.gaussian(
    num_classes=10, num_components=2, dim=784 if mnist else 1000
  )
  keys = jax.random.split(jax.random.key(0), 3)
  draw = functools.partial(
    mixtures.sample,
    spec=spec,
    num_train=10000 if mnist else 1000,
    num_test=100 if mnist else 1000,
  )
  params = functools.partial(
    network.init_params, width=width, dim=spec.dim, num_classes=10
  )
  return Case(
    jax.jit(params)(keys[0]),
    jax.jit(draw)(keys[1]),
    keys[2],
    batch_size=64 if mnist else 16,
    num_steps=num_steps,
    step_size=10 / width,
    metrics=name.endswith('every step'),
  )


def fastest(case: Case) -> str:
  """The engine that the cost model takes."""
  return cost.choose(case.setup, memory.of_device())


def ours(case: Case, name: str, num_seeds: int = 1) -> Contender:
  """An engine, by name; 'fast' is the one that the cost model takes.

  Several seeds go side by side, each in an order of its own; their weights are
  (num_seeds, m, d).
  """
  name = fastest(case) if name == 'fast' else name
  engine = kinds.make(dataclasses.replace(case.setup, engine=name))
  key = case.key
  if num_seeds > 1:
    key = jax.vmap(lambda i: case.of_seed(i).key)(np.arange(num_seeds))

  def over_seeds(function, *axes):
    return function if num_seeds == 1 else jax.vmap(function, axes)

  def compiled(stage):
    def of_seeds(state, begin, split, passed, told):
      axes = (0, 0, None, *[0] * len(passed), *[None] * len(told))
      return over_seeds(stage, *axes)(state, begin, split, *passed, *told)

    return caching.jit(of_seeds, donate_argnums=0)

  stages = [compiled(stage) for stage in engine.stages.values()]
  if not case.metrics and name != 'gram':
    del stages[1:]  # on the Gram matrix, measuring moves the state as well
  start = caching.jit(over_seeds(engine.start, 0, None, None))
  weights = caching.jit(over_seeds(engine.weights, 0, None, None))

  def run():
    state, begin = start(key, case.params, case.split)
    for chunk in engine.chunks:
      passed = ()
      for stage, told in zip(stages, chunk.arguments, strict=False):
        state, passed = stage(state, begin, case.split, passed, told)
      jax.block_until_ready(passed)
    kept = engine.kept(state)
    return jax.block_until_ready(weights(kept, case.params, case.split).w)

  return run


def jax_loop(case: Case) -> Contender:
  """Plain JAX: jitted functions, `jax.grad` of the loss, a Python loop."""
  (w0, a), (train, test, *_) = case.params, case.split
  rows = case.rows()

  def logits(w, x):
    return jax.nn.relu(x @ w.T) @ a.T

  def loss(w, x, y):
    return network.loss(logits(w, x), y)

  @jax.jit
  def step(w, batch):
    return w - case.step_size * jax.grad(loss)(
      w, train.x[batch], train.y[batch]
    )

  @jax.jit
  def measure(w):
    h, h0 = test.x @ w.T, test.x @ w0.T
    f, f_train = jax.nn.relu(h) @ a.T, logits(w, train.x)
    return (
      metrics.accuracy(f, test.y),
      network.loss(f, test.y),
      metrics.pattern_difference(h >= 0, h0 >= 0),
      metrics.accuracy(f_train, train.y),
      network.loss(f_train, train.y),
      metrics.relative_distance(w, w0),
    )

  def run():
    w = w0
    for batch in rows:
      w = step(w, batch)
      if case.metrics:
        jax.device_get(measure(w))
    return jax.block_until_ready(w)

  return run


def torch_script(
  case: Case, threads: int, compiled: bool = False, device: str = 'cpu'
) -> Contender:
  """Idiomatic PyTorch: nn.Linear, cross_entropy, autograd, optim.SGD."""
  import torch  # not a dependency: only this script compares with it
  from torch.nn import functional

  torch.set_num_threads(threads)
  w0, a, x, y, x_test, y_test = (
    torch.tensor(np.array(values), device=device)
    for values in (*case.params, *case.split.train, *case.split.test)
  )
  y, y_test = y.long(), y_test.long()
  rows = torch.tensor(case.rows(), device=device)
  layer = torch.nn.Linear(w0.shape[1], w0.shape[0], False, device)
  pattern = x_test @ w0.T >= 0

  def forward(inputs):
    return torch.relu(layer(inputs)) @ a.T

  def measure():
    h = layer(x_test)
    f, f_train = torch.relu(h) @ a.T, forward(x)
    return (
      (f.argmax(1) == y_test).float().mean(),
      functional.cross_entropy(f, y_test),
      ((h >= 0) != pattern).float().mean(),
      (f_train.argmax(1) == y).float().mean(),
      functional.cross_entropy(f_train, y),
      torch.linalg.norm(layer.weight - w0) / torch.linalg.norm(w0),
    )

  if compiled:
    forward, measure = torch.compile(forward), torch.compile(measure)

  def run():
    torch.set_num_threads(threads)
    with torch.no_grad():
      layer.weight.copy_(w0)
    optimizer = torch.optim.SGD(layer.parameters(), lr=case.step_size)
    for batch in rows:
      optimizer.zero_grad()
      functional.cross_entropy(forward(x[batch]), y[batch]).backward()
      optimizer.step()
      if case.metrics:
        with torch.no_grad():
          [value.item() for value in measure()]
    found = layer.weight.detach().clone()
    if device != 'cpu':
      torch.cuda.synchronize()
    return found

  return run
