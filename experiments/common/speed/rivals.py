"""What a user would otherwise write: the same training in JAX and PyTorch.

A contender takes a Case, prepares everything, and returns a function that
trains once from the start, waits for the end and returns the weights. With
metrics, all that `runs.Record` holds is measured after every step.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import numpy as np
import optax

from ossgd.engines import blocked, cost, interface, sgd
from ossgd.paper import metrics, network
from ossgd.paper.types import Params, Split

Contender = Callable[[], np.ndarray]


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
  def record_steps(self) -> np.ndarray:
    """Where an engine measures; it needs an end."""
    if self.metrics:
      return np.arange(self.num_steps + 1)
    return np.array([self.num_steps])

  @property
  def shape(self) -> cost.Shape:
    """The sizes, for the cost model."""
    num_train, dim = self.split.train.x.shape
    num_classes, width = self.params.a.shape
    num_test = self.split.test.x.shape[0]
    sizes = (width, dim, num_classes, num_train, num_test, num_train)
    return cost.Shape(*sizes, self.batch_size, 1)

  def rows(self) -> np.ndarray:
    """The examples of every step, in the engines' order: (T, B)."""
    steps, examples = np.arange(self.num_steps), np.arange(self.shape.num_train)
    rows = functools.partial(
      blocked.next_rows, order='epochs', batch_size=self.batch_size
    )
    batches, _ = jax.jit(rows)(self.key, steps, examples.astype(np.int32))
    return np.asarray(batches)


def ours(case: Case, name: str) -> Contender:
  """An engine, by name; 'fast' is the one that the cost model takes."""
  if name == 'fast':
    limit = cost.available()
    name = cost.choose(
      ('gram', 'blocked'), case.shape, case.record_steps, limit
    )
  method = sgd.Method(
    optax.sgd(case.step_size), case.batch_size, 'epochs', sgd.true_gradient
  )
  settings = interface.Settings(
    method, case.shape.width, case.step_size, case.record_steps, None
  )
  engine = interface.ENGINES[name](settings)
  stages = [jax.jit(f, donate_argnums=1) for f in engine.stages.values()]
  if not case.metrics and name != 'gram':
    del stages[1:]  # on the Gram matrix, measuring moves the state as well
  start, weights = jax.jit(engine.start), jax.jit(engine.weights)

  def run():
    state, begin = start(case.key, case.params, case.split)
    for chunk in engine.chunks:
      passed = None
      for stage, argument in zip(stages, chunk.arguments, strict=False):
        state, passed = stage(
          case.key, state, passed, begin, case.split, argument
        )
      jax.block_until_ready(passed)
    kept = engine.kept(state)
    return np.asarray(weights(kept, case.params, case.split))

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
    return np.asarray(w)

  return run


def torch_script(case: Case, compiled: bool, threads: int) -> Contender:
  """Idiomatic PyTorch: nn.Linear, cross_entropy, autograd, optim.SGD."""
  import torch  # not a dependency: only this script compares with it
  from torch.nn import functional

  torch.set_num_threads(threads)
  w0, a, *data = (
    torch.tensor(np.array(values))
    for values in (*case.params, *case.split.train, *case.split.test)
  )
  x, y, x_test, y_test = (
    v if v.is_floating_point() else v.long() for v in data
  )
  rows = torch.tensor(case.rows())
  layer = torch.nn.Linear(w0.shape[1], w0.shape[0], bias=False)
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
    return layer.weight.detach().numpy().copy()

  return run
