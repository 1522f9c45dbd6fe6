"""Memory that this process can have: of a machine and its control groups.

A container or a batch job may have less than its machine: Linux kills a process
whose control group goes past its limit, however much is free outside of it. A
process is in a group, which is in another, and so on up to the root; each may
have a limit, in one of two versions of their files.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import psutil


class Version(NamedTuple):
  """The files of a group, as a version of cgroups names them."""

  filesystem: str
  limits: tuple[str, ...]  # past the second of v2 a process is slowed to a halt
  used: str
  # Of `memory.stat`: files that were read, given up before anything is killed.
  reclaimable: str


_VERSIONS = (
  Version(
    'cgroup',
    ('memory.limit_in_bytes',),
    'memory.usage_in_bytes',
    'total_inactive_file',
  ),
  Version(
    'cgroup2', ('memory.max', 'memory.high'), 'memory.current', 'inactive_file'
  ),
)


def free() -> int:
  """Bytes that this process can have, of the machine and of its groups."""
  return min([psutil.virtual_memory().available, *in_groups()])


def in_groups(process: Path = Path('/proc/self')) -> list[int]:
  """Bytes until each limit that a process is under; empty without a limit.

  Args:
    process: its folder in /proc, with the files `cgroup` and `mountinfo`.
  """
  found = []
  for version, folder in _groups(process):
    said = [_text(folder / name).strip() for name in version.limits]
    limits = [int(text) for text in said if text.isdecimal()]  # none: 'max'
    used = _text(folder / version.used).strip()
    if limits and used.isdecimal():
      lines = _text(folder / 'memory.stat').splitlines()
      statistics = dict(line.split() for line in lines)
      spare = int(statistics.get(version.reclaimable, 0))
      found.append(max(0, min(limits) - max(0, int(used) - spare)))
  return found


def _groups(process: Path) -> Iterator[tuple[Version, Path]]:
  """The folder of every group the process is in, from its own to the root."""
  own: dict[str, str] = {}  # by controller; v2 names none: '0::/jobs/7'
  for line in _text(process / 'cgroup').splitlines():
    _, controllers, path = line.split(':', 2)
    own |= dict.fromkeys(controllers.split(','), path)
  for version, controller in zip(_VERSIONS, ('memory', ''), strict=True):
    for root, mount in _mounts(process, version.filesystem, controller):
      if controller in own:
        # A container may be shown its own group as the root, or other paths.
        below = os.path.relpath(own[controller], root)
        folder = mount if below.startswith('..') else mount / below
        for parent in (folder, *folder.parents):
          if parent.is_relative_to(mount):
            yield version, parent


def _mounts(
  process: Path, filesystem: str, controller: str
) -> Iterator[tuple[str, Path]]:
  """Where a hierarchy is mounted: which group is its root, and the folder."""
  for line in _text(process / 'mountinfo').splitlines():
    mount, _, source = line.partition(' - ')
    kind, _, options = source.split(' ', 2)
    if kind == filesystem and (not controller or controller in options):
      root, folder = mount.split(' ')[3:5]
      yield root, Path(folder)


def _text(path: Path) -> str:
  """Of a file; empty if it is not there or not to be read."""
  try:
    return path.read_text()
  except OSError:
    return ''
