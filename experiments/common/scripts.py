"""The scripts there are, by name: those of this checkout or installation."""

import importlib
import pkgutil
import types
from pathlib import Path

# Settings of how work is grouped, not of what it is: config.json has none.
GROUPING = ('mesh', 'seeds_at_once')
# Settings that there were not always: config.json has those that are not these.
LATER = {
  'activation': 'relu',
  'loss': 'cross_entropy',
  'output_law': 'gaussian',
  'start': 'iid',
  'layers': 'hidden',
  'output_lr_times_width': 0.0,
}
_PACKAGE = __package__.removesuffix('.common')


def names() -> list[str]:
  """All that a person may run."""
  folder = str(Path(__file__).parents[1])
  return [m.name for m in pkgutil.iter_modules([folder]) if not m.ispkg]


def load(name: str) -> types.ModuleType:
  """A script's module."""
  return importlib.import_module(f'{_PACKAGE}.{name}')
