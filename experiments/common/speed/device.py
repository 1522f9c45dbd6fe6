"""Eight minutes on an accelerator: are the numbers right, and how fast.

Installs nothing and needs no network. First the machine's own limits, then
whether the engines' numbers are those of the CPU, then how fast they train
beside plain JAX and, where it is there with CUDA, PyTorch: the most important
cases first, small ones before large ones. --out has device.json and device.md
after every case, so that nothing is lost if the machine is taken away; a case
that fails or does not fit is noted, and so are those that the time did not
allow. Exits with 1 if numbers are not those of the CPU.

  python -m experiments.benchmark --device --out=runs/device
"""

from __future__ import annotations

import dataclasses
import functools
import gc
import importlib.util
import json
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from absl import app

from ossgd.engines import cost
from ossgd.machine import files
from ossgd.running import jobs

from .. import options, printing
from ..options import option
from . import agreement, device_table, floor, rivals

_SHORTER = 20  # how many times shorter the rivals train
_ENGINES = ('gram', 'blocked', 'plain')
_WORKS = ('synthetic, every step', 'MNIST shape')


@dataclasses.dataclass(frozen=True)
class Config:
  """Sizes of the work, and how long it may take."""

  device: bool = option(True, 'This, and not the comparison on a CPU.')
  widths: tuple[int, ...] = option((4000, 16000, 64000, 256000), 'm.')
  num_seeds: int = option(16, 'Seeds side by side, beside one.', lower_bound=2)
  num_steps: int = option(400, 'T of one timed training.', lower_bound=1)
  repetitions: int = option(3, 'Timed trainings of each.', lower_bound=1)
  matmul_side: int = option(8192, 'Of the matrices that show the limit.')
  copied: int = option(2**28, 'Numbers in the array that shows the limit.')
  minutes: float = option(
    8.0, 'No case begins that would end later.', lower_bound=0.0
  )
  out: str = option('runs/device', 'Folder for device.json and device.md.')


class Timed(NamedTuple):
  """One case: a contender at a piece of work."""

  work: str
  width: int
  num_seeds: int
  contender: str


def main(argv: list[str]) -> None:
  """From the flags to device.json and device.md."""
  app.run(
    _run,
    argv=argv,
    flags_parser=lambda args: options.parse_config('benchmark', Config, args),
  )


def _run(config: Config) -> None:
  folder = options.folder(config.out)
  try:
    folder.mkdir(parents=True, exist_ok=True)
    found = run(config, functools.partial(_write, folder))
  except (OSError, files.SaveError) as error:
    options.fail(str(error))
  printing.say(f'{device_table.table(found)}\nsee {folder}')
  if not all(line['within'] for line in found['agreement']):
    sys.exit(1)


def _write(folder: Path, found: dict[str, Any]) -> None:
  """What is known by now."""
  for name, text in (
    ('device.json', json.dumps(found, indent=1)),
    ('device.md', device_table.table(found)),
  ):
    with files.replacing(folder / name) as path:
      path.write_text(text, encoding='utf-8')


def run(
  config: Config, tell: Callable[[dict[str, Any]], None]
) -> dict[str, Any]:
  """Measures everything, and tells after every case what is known by then.

  Args:
    config: the sizes.
    tell: called with what will be returned.

  Returns:
    What device.json holds; all of it are JSON values.
  """
  begin = time.perf_counter()
  device = jax.devices()[0]
  found: dict[str, Any] = {
    'environment': jobs.environment() | _torch(),
    'device': {
      'kind': device.device_kind,
      'platform': device.platform,
      'number': jax.device_count(),
      'bytes': (device.memory_stats() or {}).get('bytes_limit'),
    },
    'settings': dataclasses.asdict(config),
    'agreement': [],
    'cases': [],
  }
  # The rivals in JAX follow it; the engines state theirs in every product.
  with jax.default_matmul_precision('highest'):
    flops, bandwidth = floor.machine(config.matmul_side, config.copied, 10)
    found['machine'] = {'matmul_flops': flops, 'copy_bandwidth': bandwidth}
    tell(found)
    smallest = rivals.case_of(_WORKS[0], config.widths[0], config.num_steps)
    try:
      for line in agreement.lines(smallest, _ENGINES, config.num_seeds):
        found['agreement'].append(line)
        tell(found)
    except Exception as error:  # no CPU beside it, say: the speed is told yet
      found['agreement'].append(agreement.failed(_first_line(error)))
    del smallest
    for timed in cases(config, bool(_torch()['torch_cuda'])):
      left = 60 * config.minutes - (time.perf_counter() - begin)
      began = time.perf_counter()
      line = _attempt(timed, config, found, left)
      line['wall_seconds'] = time.perf_counter() - began
      found['cases'].append(timed._asdict() | line)
      found['seconds'] = time.perf_counter() - begin
      tell(found)
  return found


def _torch() -> dict[str, Any]:
  """Its versions, None without."""
  if importlib.util.find_spec('torch') is None:
    return {'torch': None, 'torch_cuda': None}
  import torch

  there = torch.cuda.is_available()
  return {
    'torch': str(torch.__version__),
    'torch_cuda': torch.version.cuda if there else None,
  }


def cases(config: Config, torch: bool) -> Iterator[Timed]:
  """All there is to time, the most important first.

  Of our engines the one that is taken, beside the rivals; then many seeds; then
  the other engines, whose times say whether another one should be taken.
  """
  rivals_here = ('jax loop', *(['torch eager'] if torch else []))
  for num_seeds, contenders in (
    (1, ('fast', *rivals_here)),
    (config.num_seeds, ('fast',)),
    (1, _ENGINES),
    (config.num_seeds, _ENGINES),
  ):
    for work in _WORKS:
      for width in config.widths:
        for contender in contenders:
          yield Timed(work, width, num_seeds, contender)


def _attempt(
  timed: Timed, config: Config, found: dict[str, Any], left: float
) -> dict[str, Any]:
  """What a case took, or why there is no number."""
  expected = _expected(timed, found['cases'])
  if expected >= left:
    return {'left_out': f'{expected:.0f} s expected, {max(left, 0):.0f} s left'}
  try:
    return _measured(timed, config, found['machine'])
  except Exception as error:  # out of memory, most of all: the rest goes on
    return {'failed': _first_line(error)}
  finally:
    gc.collect()  # what a case held, on the device as well


def _first_line(error: Exception) -> str:
  text = str(error).strip() or type(error).__name__
  return text.splitlines()[0][:200]


# Cases at one width come one after the other; one has gigabytes.
_case = functools.lru_cache(maxsize=1)(rivals.case_of)


def _expected(timed: Timed, done: list[dict[str, Any]]) -> float:
  """Seconds, from the same at another width, or from fewer seeds."""
  known = [
    line['wall_seconds']
    * max(1.0, timed.width / line['width'])
    * max(1.0, timed.num_seeds / line['num_seeds'])
    for line in done
    if (line['work'], line['contender']) == (timed.work, timed.contender)
    and 'seconds' in line
  ]
  return min(known, default=0.0)


def _measured(
  timed: Timed, config: Config, machine: dict[str, float]
) -> dict[str, Any]:
  """Times one case; seconds are of all its seeds, `num_steps` each."""
  whole = _case(timed.work, timed.width, config.num_steps)
  line: dict[str, Any] = {}
  name, shorter = timed.contender, 1.0
  if name in ('fast', *_ENGINES):
    if name == 'fast':
      name = line['engine'] = rivals.fastest(whole)
    setup = whole.setup
    line['estimated_bytes'] = cost.memory(name, setup, timed.num_seeds)
    train = rivals.ours(whole, name, timed.num_seeds)
  else:
    part = whole._replace(num_steps=max(1, config.num_steps // _SHORTER))
    shorter = config.num_steps / part.num_steps
    train = (
      rivals.jax_loop(part)
      if name == 'jax loop'
      else rivals.torch_script(part, threads=1, device='cuda')
    )
  taken = []
  for _ in range(1 + config.repetitions):
    begin = time.perf_counter()
    train()
    taken.append(shorter * (time.perf_counter() - begin))
  seconds = float(np.median(taken[1:]))
  flops, num_bytes = (timed.num_seeds * v for v in floor.unavoidable(whole))
  limits = {
    'floor_by_bandwidth': num_bytes / machine['copy_bandwidth'],
    'floor_by_matmul': flops / machine['matmul_flops'],
  }
  stats = jax.devices()[0].memory_stats() or {}
  return line | {
    'seconds': seconds,
    'all_seconds': taken[1:],
    'first_seconds': taken[0] / shorter,
    'trained_steps': round(config.num_steps / shorter),
    **limits,
    'peak_bytes_so_far': stats.get('peak_bytes_in_use'),
  }
