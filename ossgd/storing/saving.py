"""Results of a session or notebook, as a run folder and back."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ossgd.running import identities
from ossgd.storing import folders, records

if TYPE_CHECKING:
  import xarray as xr


def save(
  results: xr.Dataset,
  folder: str | os.PathLike[str],
  *,
  overwrite: bool = False,
) -> None:
  """Leaves a Dataset in a run folder, with its settings and today's versions.

  Args:
    results: of `sweep`, or any whose variables are numbers; its attributes are
      the settings.
    folder: a new one, or one that `save` filled before.
    overwrite: other results there may be replaced.

  Raises:
    RecordError: the folder cannot be written, holds other results, or
      something that this program did not write.
    SaveError: the disk is full.
  """
  place = Path(folder).expanduser()
  of_runs = {n: results[n] for n in ('width', 'seed') if n in results.coords}
  settings = {
    str(name): np.asarray(value).tolist()  # as JSON has it
    for name, value in (results.attrs | of_runs).items()
  }
  digests = {
    str(name): identities.array_digest(values.values)
    for name, values in results.variables.items()
  }
  config = {
    'experiment': 'sweep',
    'settings': settings,
    'digests': digests,
    'environment': records.environment(),
  }
  with folders.hold(place):
    folders.prepare(place, config, overwrite=overwrite)
    records.write_results(place, results)
    report = f'# sweep\n\n```\n{results}\n```\n'
    records.write_report(place, config, report=report, seconds={})


def load(folder: str | os.PathLike[str]) -> xr.Dataset:
  """The results of a run folder, of a script or of `save`.

  Raises:
    RecordError: there are none, or they are damaged.
  """
  return records.read(Path(folder).expanduser())[0]
