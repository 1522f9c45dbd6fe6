"""Flags of the model that a sweep trains; the defaults are the paper's."""

import dataclasses
from typing import Any

from ossgd.paper import choices, model

from .options import option


@dataclasses.dataclass(frozen=True)
class Config:
  """What may be other than in the paper; functions are for Python."""

  activation: str = option(
    'relu',
    'phi of f_i = sum_r a_{i,r} phi(<w_r, x>) (Section 3: relu). Without '
    'patterns where it is not piecewise linear.',
    choices=tuple(choices.ACTIVATIONS),
  )
  loss: str = option(
    'cross_entropy',
    'squared: half the squared distance to one-hot. hinge: of Crammer and '
    'Singer. logistic: of two classes. (Section 3: cross_entropy.)',
    choices=tuple(choices.LOSSES),
  )
  output_law: str = option(
    'gaussian',
    'Of the output weights a (A3: gaussian).',
    choices=tuple(model.OUTPUT_LAWS),
  )
  start: str = option(
    'iid',
    'antisymmetric: pairs of units with one w and opposite a, so that f is 0 '
    'at the start (A3: iid).',
    choices=model.STARTS,
  )
  layers: str = option(
    'hidden',
    'Which layers are trained (Section 3: hidden, w alone).',
    choices=model.LAYERS,
  )
  output_lr_times_width: float = option(
    0.0,
    'With --layers=both, the step size of a, times m. 0: as --lr_times_width; '
    'for a to move f as much as w does it takes about m times as much.',
    lower_bound=0.0,
  )


def settings(config: Config) -> dict[str, Any]:
  """What `sweeps.sweep` is told of it."""
  names = [field.name for field in dataclasses.fields(model.Model)]
  return {
    'model': model.Model(**{name: getattr(config, name) for name in names}),
    'output_lr_times_width': config.output_lr_times_width or None,
  }


def check_unvaried(config: Config, *names: str) -> None:
  """Raises ValueError where a script is about the paper's model in these."""
  for name in names:
    value, paper = getattr(config, name), getattr(model.PAPER, name)
    if value != paper:
      raise ValueError(
        f'--{name}={value}; expected {paper}, which is what this script is '
        'about'
      )
