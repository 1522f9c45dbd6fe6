"""Results of a session as a run folder and back; several folders as one."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ossgd.running import identities, labels
from ossgd.storing import checkpoints, folders, pooling, records

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
    complete(place, config)


def complete(folder: Path, config: Mapping[str, Any]) -> None:
  """Writes what makes a folder with results complete.

  They are shown as they are read, which is the same however often.
  """
  results, _ = records.read_measured(folder)
  report = f'# sweep\n\n```\n{results}\n```\n'
  records.write_report(folder, config, report=report, seconds={})


def load(folder: str | os.PathLike[str]) -> xr.Dataset:
  """The results of a run folder, of a script, of `sweep` or of `save`.

  Of unfinished work it is what is finished, NaN where a run is missing: the
  attribute `unfinished`, which no complete results have, says so. Another
  process may be at work there.

  Raises:
    RecordError: there are none, or they are damaged.
  """
  place = Path(folder).expanduser()
  if not place.is_dir():
    what = 'a file' if place.exists() else 'not there'
    raise records.RecordError(
      f'{place} is {what}; expected a run folder, which holds {records.RESULTS}'
    )
  notes = records.read_notes(place)
  if not notes:
    return records.read(place)[0]
  if folders.measured(place) == notes:
    return records.read_measured(place)[0]
  found = _so_far(place, notes)
  if found is not None:
    return found
  if (place / records.CONFIG).exists():
    before = records.read(place)[0]
    return before.assign_attrs(unfinished='more was asked for since')
  raise records.RecordError(
    f'{place} is unfinished, and no run of it is finished that can be shown; '
    'wait, or go on with it'
  )


def merge(
  folders: Iterable[str | os.PathLike[str]] | str | os.PathLike[str],
) -> xr.Dataset:
  """Run folders that differ in seeds or widths as one Dataset.

  The attribute `pooled` says what came from where. A run that is in none of
  them is NaN.

  Args:
    folders: such as one of every task of a job array; a single one stands for
      all run folders in it, but those in which no run is finished, which a log
      line names.

  Raises:
    RecordError: a folder has no results or other settings, or a run is in two
      of them with other numbers.
  """
  if isinstance(folders, str | os.PathLike):
    above = Path(folders).expanduser()
    folders = [place for place in sorted(above.glob('*')) if _has_runs(place)]
    if not folders:
      raise records.RecordError(f'{above} holds no run folders to merge')
  places = [Path(folder).expanduser() for folder in folders]
  if not places:
    raise records.RecordError('no folders to merge; expected at least one')
  named = {str(place): load(place) for place in places}
  configs = {str(p): records.read_notes(p) or records.found(p) for p in places}
  pooling.check(configs)
  return pooling.pool(named)


def _has_runs(place: Path) -> bool:
  """Whether a folder is a run folder with anything finished; says if not."""
  if (place / records.CONFIG).exists():
    return True
  notes = records.read_notes(place)
  if notes and _so_far(place, notes) is None:
    logging.warning('%s is left out: no run in it is finished yet', place)
    return False
  return bool(notes)


def _so_far(place: Path, notes: Mapping[str, Any]) -> xr.Dataset | None:
  """What the finished jobs of unfinished work say; None if there are none."""
  import xarray as xr

  size = notes.get(records.SIZE)
  parts: dict[str, dict[Any, xr.Dataset]] = {}
  finished = [*checkpoints.finished(place / records.CHECKPOINTS)]
  # Runs of other sources or versions are not gone on with.
  today = finished[-1][1] if finished else {}
  if size is not None:
    today = {**today, 'code': notes['code']}
  for name, described, arrays in finished:
    ours = all(described[n] == today[n] for n in ('code', 'environment'))
    if ours and (size is None or folders.is_asked(described, size)):
      run = described['width'], described['seed']
      part = parts.setdefault(name.rpartition('m=')[0].strip(), {})
      part[run] = labels.from_arrays(arrays)
  if not parts:
    return None
  together = [
    pooling.pool({f'm={m} seed={s}': one for (m, s), one in part.items()})
    for part in parts.values()
  ]
  results = together[0]
  if len(parts) > 1:
    names = xr.Variable('part', list(parts))
    results = xr.concat(together, names, join='outer', data_vars='all')
  if size is not None:  # which may have been another one in earlier calls
    results = labels.at_target(results, size['target'])
  number = sum(map(len, parts.values()))
  of = '' if size is None else f' of {len(size["widths"]) * size["seeds"][1]}'
  results.attrs.pop('pooled', None)
  return results.assign_attrs(unfinished=f'{number}{of} runs are finished')
