"""What is asked of a sweep: whether it can be; what its jobs are known by."""

import dataclasses
import json
import logging
import numbers
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import jax

from ossgd.engines import cost, measuring
from ossgd.engines.setup import Setup
from ossgd.machine import hosts, memory
from ossgd.paper import model as models
from ossgd.paper.model import PAPER
from ossgd.paper.types import Split
from ossgd.recording import extras
from ossgd.running import datasets, identities, jobs, watching


def basis(
  setup: Setup,
  data: datasets.Known,
  transform: Callable[[jax.Array, Split], Split] | None,
  extra: measuring.Extra | None,
  keep: str | None,
  store: watching.Store | None,
) -> str:
  """All that the numbers of a sweep's jobs depend on, but their own.

  Without a store, which knows jobs by it, nothing.
  """
  if store is None:
    return ''
  aside = {'width', 'engine', 'used_columns'}
  if setup.order == 'full_batch':
    aside.add('batch_size')
  if setup.model == PAPER:  # as jobs were known before there were others
    aside |= {'model', 'output_lr_times_width'}
  if not setup.recorders:
    aside.add('recorders')
  settings = {n: v for n, v in vars(setup).items() if n not in aside}
  known = content(data)
  if isinstance(data, Split):
    store.data.add(known)
  more = {'data': known, 'transform': transform, 'extra': extra}
  more |= {'keep': keep} if keep else {}
  return jobs.basis(settings | more, 'ossgd.running.sweeps')


def content(data: datasets.Known) -> Any:
  """What data are told from others by: themselves, arrays by a digest."""
  return jobs.data_digest(data) if isinstance(data, Split) else data


def known_as(
  data: datasets.Known, transform: Callable[[jax.Array, Split], Split] | None
) -> str:
  """What data are told from others by, 16 hexadecimal digits; '' if nothing."""
  try:
    told = identities.of((content(data), transform), 'data')
  except ValueError:  # a function that holds what cannot be told from others
    return ''
  return identities.sha256(json.dumps(told, sort_keys=True))[:16]


def widths(given: Iterable[Any]) -> tuple[Any, ...]:
  """The widths as Python's numbers, of any sequence or array of them.

  Raises:
    ValueError: it is none.
  """
  try:
    return tuple(w.item() if hasattr(w, 'item') else w for w in given)
  except (TypeError, ValueError) as error:
    raise ValueError(
      f'widths is {given!r:.60}; expected several whole numbers, such as '
      '(1000, 4000)'
    ) from error


def check(
  setup: Setup,
  widths: Sequence[int],
  seed: int,
  num_seeds: int,
  seeds_at_once: int | None,
  target: float,
  keep: str | None,
  source: datasets.Source,
  extra: measuring.Extra | None,
) -> None:
  """Raises ValueError for settings that no sweep can have."""
  if not isinstance(setup.model, models.Model):
    raise ValueError(
      f'model is {setup.model!r:.60}; expected an ossgd.Model, such as '
      "ossgd.Model(activation='tanh')"
    )
  function = setup.gradient_fn
  if not callable(function):
    raise ValueError(f'gradient_fn is {function!r:.60}; expected a function')
  for name, value in (
    ('num_seeds', num_seeds),
    ('seeds_at_once', 1 if seeds_at_once is None else seeds_at_once),
  ):
    if not isinstance(value, numbers.Integral) or value < 1:
      raise ValueError(f'{name} is {value}; expected a whole number from 1 on')
  whole = all(isinstance(width, numbers.Integral) for width in widths)
  if not widths or len(set(widths)) < len(widths) or not whole:
    raise ValueError(
      f'widths are {tuple(widths)}; expected whole numbers, at least one, all '
      'different'
    )
  of_widths = [dataclasses.replace(setup, width=int(m)) for m in widths]
  for of_width in of_widths:
    of_width.check()
  for remark in models.remarks(
    setup.model,
    width=of_widths[-1].width,
    scale=setup.init_scale,
    lr_times_width=setup.lr_times_width,
  ):
    logging.getLogger(__name__).warning(remark)
  if not 0 < target <= 1:
    raise ValueError(f'target is {target}; expected an accuracy in (0, 1]')
  if keep not in (None, 'weights'):
    raise ValueError(f"keep is {keep!r}; expected None or 'weights'")
  measuring.check_seeds(seed, num_seeds)
  of_widths[0].check_recorders(*of_widths[1:])
  if extra:
    extras.check(
      *(extra, source.shapes, setup.measured),
      *(one.recorder_sizes for one in of_widths),
    )
  _check_room(of_widths, num_seeds, keep)
  datasets.check_seeds(source, range(seed, seed + num_seeds))


def _check_room(
  of_widths: Sequence[Setup], num_seeds: int, keep: str | None
) -> None:
  """Raises ValueError where the results alone do not fit in memory."""
  needed = num_seeds * sum(map(cost.results, of_widths))
  if keep:  # twice: as they come, and all seeds of a width together
    for one in of_widths:
      of_unit = 8 * (2 * one.dim + one.num_classes)
      needed += num_seeds * of_unit * one.width
  free = hosts.least(memory.free())
  if needed > free:
    raise ValueError(
      f'the results of {num_seeds} seeds need about {needed / 1e9:.3g} GB, but '
      f'{free / 1e9:.3g} GB are free; lower num_seeds, widths or num_steps, or '
      'raise eval_every'
    )
