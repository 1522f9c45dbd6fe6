"""The memory estimate against processes' peaks: python -m tests.memory_model.

Every shape runs in a process of its own, one after another. Prints estimate,
peak and ratio of each, and exits with 1 if one is below its peak or past 1.5
times it. Needs 8 GB.
"""

import resource
import subprocess
import sys
from typing import Any
from unittest import mock

import numpy as np

from ossgd.data import mixtures
from ossgd.engines import cost
from ossgd.running import sweeps

_LOWEST, _HIGHEST = 1.0, 1.5
_SMALL: dict[str, Any] = dict(num_steps=2, eval_growth=0.0)

# engine, width, dim, and what else there is.
SHAPES: list[tuple[str, int, int, dict[str, Any]]] = [
  ('plain', 40000, 1000, {}),
  ('plain', 100000, 1000, {}),
  ('plain', 200000, 1000, dict(num_test=200)),
  ('plain', 4000, 20000, dict(num_train=300, num_test=100)),
  ('plain', 64, 1000000, dict(num_train=100, num_test=60)),
  ('plain', 32, 4000000, dict(num_train=60, num_test=40)),
  ('plain', 30000, 200, dict(num_train=4000, num_test=4000, batch_size=512)),
  ('plain', 30000, 200, dict(num_train=2000, order='full_batch')),
  ('plain', 20000, 500, dict(num_classes=200)),
  ('plain', 20000, 1000, dict(num_seeds=4, seeds_at_once=4)),
  ('plain', 60000, 1000, dict(num_train=10000, num_train_eval=500)),
  ('plain', 1000, 3000, dict(num_train=60000, num_test=10000)),
  ('blocked', 40000, 1000, {}),
  ('blocked', 100000, 500, dict(batch_size=64)),
  ('blocked', 150000, 1000, dict(num_test=100)),
  ('blocked', 5000, 20000, dict(num_train=300, num_test=100)),
  ('blocked', 64, 1000000, dict(num_train=100, num_test=60)),
  ('blocked', 20000, 784, dict(num_train=20000, num_test=5000, batch_size=64)),
  ('blocked', 20000, 1000, dict(num_seeds=3, seeds_at_once=3)),
  ('blocked', 30000, 200, dict(num_train=1000, order='full_batch')),
  ('blocked', 8000, 1000, dict(fixed=True, num_train=20000)),
  ('gram', 40000, 1000, {}),
  ('gram', 100000, 1000, {}),
  ('gram', 150000, 500, dict(num_test=2000)),
  ('gram', 40009, 1000, {}),
  ('gram', 20000, 3000, dict(num_train=4000, num_test=1000)),
  ('gram', 5000, 20000, dict(num_train=500, num_test=500)),
  ('gram', 32, 2000000, dict(num_train=100, num_test=60)),
  ('gram', 30000, 1000, dict(num_seeds=4, seeds_at_once=4)),
  ('gram', 30000, 500, dict(num_train=500, order='full_batch')),
  ('gram', 4000, 500, dict(num_train=12000, num_test=2000)),
  ('gram', 30000, 1000, dict(fixed=True)),
  ('gram', 60000, 1000, dict(batch_size=128, num_classes=100)),
  # C is folded.
  ('gram', 30000, 300, dict(num_steps=12, order='full_batch')),
  (
    'gram',
    20000,
    2000,
    dict(num_train=50, num_test=50, num_steps=1301, order='full_batch'),
  ),
  # C in bits.
  ('gram', 600000, 500, {}),
  ('gram', 1000000, 200, dict(num_train=800, num_test=200)),
]


def arguments(shape: tuple[str, int, int, dict[str, Any]]) -> dict[str, Any]:
  """Of `sweeps.sweep`, the data among them."""
  engine, width, dim, others = shape
  settings = {'num_seeds': 1, **_SMALL, **others, 'engine': engine}
  classes = settings.pop('num_classes', 10)
  data: Any = mixtures.gaussian(num_classes=classes, dim=dim)
  if settings.pop('fixed', False):
    rng = np.random.default_rng(0)
    sizes = settings.pop('num_train', 1000), settings.pop('num_test', 1000)
    data = tuple(
      v
      for n in sizes
      for v in (rng.random((n, dim), np.float32), np.arange(n) % classes)
    )
  return {'data': data, 'widths': (width,), **settings}


def run(index: int) -> None:
  """Prints what `sweeps.sweep` thinks that a shape needs, and what it took."""
  expected, memory = [], cost.memory

  def spy(*args, **others):
    expected.append(memory(*args, **others) + cost.RUNTIME)
    return memory(*args, **others)

  with mock.patch.object(cost, 'memory', spy):
    sweeps.sweep(**arguments(SHAPES[index]))
  used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
  print(expected[0], used * (1 if sys.platform == 'darwin' else 1024))


def main() -> int:
  """All shapes; the exit status."""
  ratios = []
  for i, shape in enumerate(SHAPES):
    command = [sys.executable, '-m', 'tests.memory_model', str(i)]
    child = subprocess.run(command, capture_output=True, text=True, check=True)
    expected, peak = map(int, child.stdout.splitlines()[-1].split())
    ratios.append(expected / peak)
    print(
      f'{expected / 1e9:6.2f} GB {peak / 1e9:6.2f} GB {ratios[-1]:5.2f}',
      *shape,
      flush=True,
    )
  print(f'{len(ratios)} shapes: {min(ratios):.2f} to {max(ratios):.2f}')
  return int(not _LOWEST <= min(ratios) <= max(ratios) <= _HIGHEST)


if __name__ == '__main__':
  if sys.argv[1:]:
    run(int(sys.argv[1]))
  else:
    sys.exit(main())
