"""How one network is trained and measured: one description, made once.

Engines, memory, time, identity on disk and labels all follow from it.
"""

import dataclasses
from collections.abc import Callable

import numpy as np
import optax

from ossgd.engines import measuring, sgd


@dataclasses.dataclass(frozen=True)
class Setup:
  """Of a run, all but its seed and its data; the symbols are the paper's."""

  width: int  # m
  dim: int  # d
  num_classes: int  # k
  num_train: int  # N
  num_test: int
  num_steps: int = 400  # T
  batch_size: int = 16  # B, as asked for: full batches have N
  lr_times_width: float = 10.0  # eta m
  init_scale: float = 1.0  # multiplies 1 / sqrt(m)
  eval_every: int = 1
  eval_growth: float = 0.05
  order: sgd.Order = 'epochs'
  optimizer: Callable[[float], optax.GradientTransformation] = optax.sgd
  gradient_fn: sgd.GradientFn = sgd.true_gradient
  num_train_eval: int | None = None  # None: all
  engine: str = 'auto'
  used_columns: tuple[int, ...] | None = None  # None: all

  @property
  def step_size(self) -> float:
    """eta."""
    # A NumPy float would make gradients float64 in JAX's 64-bit mode.
    return float(self.lr_times_width / self.width)

  @property
  def examples_per_step(self) -> int:
    """B as engines and costs have it: N with full batches."""
    return sgd.examples_per_step(self.order, self.num_train, self.batch_size)

  @property
  def method(self) -> sgd.Method:
    """How a step is taken."""
    return sgd.Method(
      self.optimizer(self.step_size),
      self.examples_per_step,
      self.order,
      self.gradient_fn,
    )

  @property
  def record_steps(self) -> np.ndarray:
    """0, then gaps of eval_every that double in proportion to the step."""
    steps = [0]
    while steps[-1] < self.num_steps:
      steps.append(min(steps[-1] + self._gap(steps[-1]), self.num_steps))
    return np.array(steps)

  @property
  def shared_step(self) -> int:
    """The last recorded step that every longer run records as well.

    The last step of all is always recorded, so it need not be one of theirs.
    """
    before, last = self.record_steps[-2:].tolist()
    return last if last - before == self._gap(before) else before

  def _gap(self, step: int) -> int:
    """From a recorded step to the next one, of a run that goes on."""
    gap = self.eval_every
    while 2 * gap <= self.eval_growth * step:
      gap *= 2
    return gap

  @property
  def num_inputs(self) -> int:
    """The coordinates that are not zero in every example."""
    used = self.used_columns
    return self.dim if used is None else len(used)

  @property
  def num_evaluated(self) -> int:
    """The training examples that loss and accuracy are measured on."""
    return min(self.num_train_eval or self.num_train, self.num_train)

  @property
  def engines(self) -> tuple[str, ...]:
    """Those that are exact for what is asked, fastest first.

    Raises:
      ValueError: the one asked for is unknown, or not exact.
    """
    fast: tuple[str, ...] = ('gram', 'blocked')
    of_weights = [m.name for m in measuring.METRICS if m.needs == 'weights']
    if (
      self.optimizer is not optax.sgd
      or self.gradient_fn is not sgd.true_gradient
      or of_weights != [measuring.DISTANCE]
    ):
      fast = ()
    allowed = {'auto': (*fast, 'plain'), 'fast': fast, 'plain': ('plain',)}
    allowed |= {name: (name,) for name in fast}
    if self.engine not in (*allowed, 'blocked', 'gram'):
      raise ValueError(
        f'engine is {self.engine!r}; expected one of auto, fast, plain, '
        'blocked, gram'
      )
    if not allowed.get(self.engine):
      raise ValueError(
        f'engine {self.engine} is for optax.sgd on the true gradient, without '
        'metrics of weights; expected these, or the engine auto or plain'
      )
    return allowed[self.engine]

  def check(self) -> None:
    """Raises ValueError for a setting that no run can have."""
    for name, value in (
      ('width', self.width),
      ('num_train', self.num_train),
      (
        'num_train_eval',
        1 if self.num_train_eval is None else self.num_train_eval,
      ),
      ('num_steps', self.num_steps),
      ('eval_every', self.eval_every),
      ('lr_times_width', self.lr_times_width),
      ('init_scale', self.init_scale),
    ):
      if not 0 < value < float('inf'):
        raise ValueError(f'{name} is {value}; expected a positive number')
    if not 0 <= self.eval_growth < float('inf'):
      raise ValueError(
        f'eval_growth is {self.eval_growth}; expected zero or more'
      )
    sgd.check_order(self.order, self.num_train, self.batch_size, self.num_steps)
