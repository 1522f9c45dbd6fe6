"""How one network is trained and measured: one description, made once.

Engines, memory, time, identity on disk and labels all follow from it.
"""

import dataclasses
import numbers
from typing import Any

import jax
import numpy as np
import optax

from ossgd.engines import interface, optimizers, orders, sgd
from ossgd.engines.interface import Numbers
from ossgd.paper import model as models
from ossgd.paper.model import PAPER, Model
from ossgd.paper.types import Params
from ossgd.recording import shapes
from ossgd.recording.recorders import (
  DISTANCE,
  Examples,
  Recorder,
  of_kind,
  standard,
)

_WIDE = 2**29  # numbers in C, 2 GB: from there on it may be kept as patterns,
_MOST_VISITS = 16  # of so few visits that it is found again fast
_PER_RANK, _EPOCHS = 16, 4  # examples until C is folded: 16 r, 4 N at least


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
  order: orders.Order = 'epochs'
  optimizer: optimizers.Optimizer = optax.sgd
  gradient_fn: sgd.GradientFn = sgd.true_gradient
  num_train_eval: int | None = None  # None: all
  engine: str = 'auto'
  used_columns: tuple[int, ...] | None = None  # None: all
  model: Model = PAPER
  output_lr_times_width: float | None = None  # of a; None: that of w
  recorders: tuple[Recorder, ...] = ()  # beside the standard ones

  @property
  def step_size(self) -> float:
    """eta."""
    # A NumPy float would make gradients float64 in JAX's 64-bit mode.
    return float(self.lr_times_width / self.width)

  @property
  def examples_per_step(self) -> int:
    """B as engines and costs have it: N with full batches."""
    return orders.examples_per_step(self.order, self.num_train, self.batch_size)

  @property
  def steps_per_epoch(self) -> int:
    """Whole batches in one pass over the data."""
    return orders.steps_per_epoch(self.order, self.num_train, self.batch_size)

  @property
  def num_visits(self) -> int:
    """The most often that training comes to an example: V."""
    return max(1, -(-self.num_steps // self.steps_per_epoch))

  @property
  def by_visits(self) -> bool:
    """Whether a wide network's updates are kept as the patterns of visits."""
    wide = self.num_train * self.width > _WIDE and self.model.layers == 'hidden'
    slope = jax.eval_shape(self.model.slope, np.zeros(1, np.float32))
    return wide and slope.dtype == bool and self.num_visits <= _MOST_VISITS

  @property
  def rank(self) -> int:
    """The largest that the training inputs can have: r."""
    return min(self.num_inputs, self.num_train)

  @property
  def steps_to_fold(self) -> int:
    """Steps of `gram` until C is folded: an eighth of their FLOPs at most."""
    examples = max(_PER_RANK * self.rank, _EPOCHS * self.num_train)
    return -(-examples // self.examples_per_step)

  @property
  def folds(self) -> bool:
    """Whether a run is so long, and its coefficients are kept as such."""
    return self.num_steps > self.steps_to_fold and not self.by_visits

  @property
  def output_step_size(self) -> float:
    """Of the output weights, where they are trained."""
    own = self.output_lr_times_width
    return self.step_size if own is None else float(own / self.width)

  @property
  def numbers(self) -> Numbers:
    """What programs are told of the run."""
    batch = self.examples_per_step
    return Numbers(
      np.float32(self.init_scale / self.width**0.5),
      np.float32(self.step_size),
      np.float32(self.output_step_size),
      np.float32(self.step_size / batch),
      np.float32(self.output_step_size) / np.float32(batch),
    )

  def method(self, numbers: Numbers | None = None) -> sgd.Method:
    """How a step is taken, with numbers that may be traced."""
    sizes: Any = self.step_size, self.output_step_size
    if numbers and optimizers.is_linear(self.optimizer):
      sizes = numbers.step_size, numbers.output_step_size
    optimizer = self.optimizer(sizes[0])
    if self.model.layers == 'both':
      of_outputs = self.optimizer(sizes[1])
      optimizer = optax.multi_transform(
        {'w': optimizer, 'a': of_outputs},
        Params._make(Params._fields),  # each is its own label
      )
    return sgd.Method(
      optimizer,
      self.examples_per_step,
      self.order,
      self.gradient_fn,
      self.model,
    )

  @property
  def _moving(self) -> Any:  # by the optimizer, as shapes
    return optimizers.shapes(self.width, self.dim, self.num_classes, self.model)

  @property
  def optimizer_size(self) -> int:
    """How many numbers the optimizer keeps."""
    return optimizers.size(self.method().optimizer, self._moving)

  @property
  def record_steps(self) -> np.ndarray:
    """0, then gaps of eval_every that double in proportion to the step."""
    return interface.record_steps(
      self.num_steps, self.eval_every, self.eval_growth
    )

  @property
  def shared_step(self) -> int:
    """The last recorded step of every longer run: the end need not be one."""
    before, last = self.record_steps[-2:].tolist()
    gap = interface.gap(before, self.eval_every, self.eval_growth)
    return last if last - before == gap else before

  @property
  def num_inputs(self) -> int:
    """The coordinates that are not zero in every example."""
    return self.dim if self.used_columns is None else len(self.used_columns)

  @property
  def num_evaluated(self) -> int:
    """The training examples that loss and accuracy are measured on."""
    return min(self.num_train_eval or self.num_train, self.num_train)

  def rows(self, examples: Examples) -> slice:
    """Of the examples that are measured on, where training ones come first."""
    if examples == 'train':
      return slice(self.num_evaluated)
    return slice(self.num_train, None)

  @property
  def measured(self) -> tuple[Recorder, ...]:
    """All that is measured at a recorded step."""
    return (*standard(self.model), *self.recorders)

  @property
  def recorder_sizes(self) -> shapes.Sizes:
    """Of the arrays that recorders are given."""
    examples: dict[Examples, int] = {
      'train': self.num_evaluated,
      'test': self.num_test,
    }
    return shapes.Sizes(examples, self.num_classes, self.width, self.dim)

  @property
  def patterns_of(self) -> list[Examples]:
    """The examples that recorders look at the pattern of w(0) for."""
    some = of_kind(self.measured, 'of_pattern')
    return sorted({recorder.examples for recorder in some})

  @property
  def initial_of(self) -> list[Examples]:
    """Those that they look at the pre-activations at w(0) for."""
    sizes = self.recorder_sizes
    some = of_kind(self.recorders, 'of_units')
    return sorted({r.examples for r in some if shapes.needs_initial(r, sizes)})

  @property
  def record_shapes(self) -> dict[str, jax.ShapeDtypeStruct]:
    """Of what a step has of `recorders`; of the standard ones it has scalars.

    Raises ValueError where one returns what cannot be recorded.
    """
    sizes = self.recorder_sizes
    return {r.name: shapes.shape(r, sizes) for r in self.recorders}

  @property
  def engines(self) -> tuple[str, ...]:
    """Those that are exact for what is asked, fastest first.

    Raises:
      ValueError: the one asked for is unknown, or not exact.
    """
    fast: tuple[str, ...] = ('gram', 'blocked')
    of_weights = [r.name for r in of_kind(self.measured, 'of_weights')]
    if (
      self.optimizer is not optax.sgd
      or self.gradient_fn is not sgd.true_gradient
      or of_weights != [DISTANCE]
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
        'recorders of weights; expected these, or the engine auto or plain'
      )
    return allowed[self.engine]

  def check(self) -> None:
    """Raises ValueError for a setting that no run can have."""
    whole = 'width', 'num_train', 'num_train_eval', 'num_steps', 'eval_every'
    others = 'lr_times_width', 'init_scale', 'output_lr_times_width'
    for name in (*whole, *others):
      value = getattr(self, name)
      if value is None and name in ('num_train_eval', 'output_lr_times_width'):
        continue
      if isinstance(value, str | None) or not 0 < value < float('inf'):
        raise ValueError(f'{name} is {value!r}; expected a positive number')
    for name in (*whole, 'batch_size'):
      value = getattr(self, name)
      if value is not None and not isinstance(value, numbers.Integral):
        raise ValueError(f'{name} is {value}; expected a whole number')
    if not 0 <= self.eval_growth < float('inf'):
      raise ValueError(
        f'eval_growth is {self.eval_growth}; expected zero or more'
      )
    orders.check(self.order, self.num_train, self.batch_size, self.num_steps)
    self._check_model()
    optimizers.check(
      self.optimizer,
      lambda: self.method().optimizer,
      self._moving,
      loss=sgd.has_loss(self.gradient_fn),
    )

  def check_recorders(self, *others: 'Setup') -> None:
    """Raises ValueError for recorders that these setups cannot have."""
    shapes.check(
      self.recorders, *(one.recorder_sizes for one in (self, *others))
    )
    for recorder in of_kind(self.recorders, 'of_pattern'):
      if not self.model.piecewise_linear:
        raise ValueError(
          f'recorder {recorder.name} is of activation patterns, which only a '
          'piecewise linear activation has; expected of_units in its place'
        )

  def _check_model(self) -> None:
    models.check(
      self.model,
      width=self.width,
      dim=self.dim,
      num_classes=self.num_classes,
      scale=self.init_scale,
    )
    both = self.model.layers == 'both'
    if self.output_lr_times_width is not None and not both:
      raise ValueError(
        'output_lr_times_width is of output weights; expected layers both'
      )
    if both and self.gradient_fn is not sgd.true_gradient:
      raise ValueError(
        'layers both is for the true gradient: a pseudo-gradient, or one of '
        'your own, is of w alone; expected gradient_fn=sgd.true_gradient'
      )
