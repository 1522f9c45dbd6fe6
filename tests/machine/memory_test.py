"""Limits of control groups, from made-up trees of both versions."""

import pathlib
import tempfile
from unittest import mock

import psutil
from absl.testing import parameterized

from ossgd.data import mixtures
from ossgd.machine import memory
from ossgd.running import free_memory, sweeps

MB = 10**6
UNLIMITED = 9223372036854771712  # what version 1 says where there is no limit


class GroupsTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    temporary = tempfile.TemporaryDirectory()
    self.top = pathlib.Path(self.enter_context(temporary))
    self.process = self.top / 'proc'
    self.process.mkdir()

  def tell(self, cgroup, *mounts):
    """/proc/self: its groups, and (root, folder, type, options) of mounts."""
    (self.process / 'cgroup').write_text(cgroup)
    lines = [
      f'31 23 0:28 {root} {folder} rw,relatime shared:9 - {kind} {kind} '
      f'{options}\n'
      for root, folder, kind, options in mounts
    ]
    (self.process / 'mountinfo').write_text(
      '23 1 8:1 / / rw,noatime - ext4 /dev/root rw\n' + ''.join(lines)
    )

  def group(self, path, **files):
    """A group's files; dots in their names are written as two underscores."""
    folder = self.top / path
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
      (folder / name.replace('__', '.')).write_text(f'{text}\n')
    return folder

  def free(self):
    return memory.in_groups(self.process)

  def test_nested_v2(self):
    """The own group and those around it; read files do not count as used."""
    top = self.group('fs')  # the root has no limit
    self.group('fs/jobs', memory__max=900 * MB, memory__current=500 * MB)
    self.group(
      'fs/jobs/7',
      memory__max='max',
      memory__high=800 * MB,
      memory__current=300 * MB,
      memory__stat=f'anon {100 * MB}\nfile 5\ninactive_file {200 * MB}',
    )
    self.tell('0::/jobs/7\n', ('/', top, 'cgroup2', 'rw,nsdelegate'))
    self.assertCountEqual(self.free(), [400 * MB, 700 * MB])

  def test_nested_v1(self):
    """A limit that is none is larger than any memory."""
    top = self.group(
      'fs/memory',
      memory__limit_in_bytes=UNLIMITED,
      memory__usage_in_bytes=50 * MB,
    )
    self.group(
      'fs/memory/jobs/7',
      memory__limit_in_bytes=900 * MB,
      memory__usage_in_bytes=350 * MB,
      memory__stat=f'inactive_file 1\ntotal_inactive_file {250 * MB}',
    )
    self.tell(
      '9:cpu,cpuacct:/other\n4:memory:/jobs/7\n0::/\n',
      ('/', self.group('fs/cpu'), 'cgroup', 'rw,cpu,cpuacct'),
      ('/', top, 'cgroup', 'rw,memory'),
      ('/', self.group('fs/unified'), 'cgroup2', 'rw'),
    )
    own, root = sorted(self.free())
    self.assertEqual(own, 800 * MB)
    self.assertGreater(root, 2**62)

  @parameterized.parameters(
    ('/docker/abc', '/docker/abc', 4, 60),  # the host's path, its own group
    ('/', '/', 4, 60),  # a namespace of its own
    ('/', '/../../elsewhere', 4, 60),  # another namespace's
    ('/docker/abc', '/docker/abcd', 4, 60),
    ('/', '/', 90, 0),  # past the limit: nothing, and no negative number
  )
  def test_inside_a_container(self, root, path, used, free):
    """Its own group is the top of what it sees."""
    top = self.group('fs', memory__max=64 * MB, memory__current=used * MB)
    self.tell(f'0::{path}\n', (root, top, 'cgroup2', 'rw'))
    self.assertEqual(self.free(), [free * MB])

  def test_nothing_to_read(self):
    """No /proc, no group, no files, or none that says a number: no limit."""
    self.assertEqual(self.free(), [])
    top = self.group('fs')
    self.tell('0::/gone\n', ('/', top, 'cgroup2', 'rw'))
    self.assertEqual(self.free(), [])
    self.group('fs', memory__max='max', memory__current=7)
    self.assertEqual(self.free(), [])
    self.group('fs', memory__max='', memory__high='?')
    self.assertEqual(self.free(), [])
    (top / 'memory.max').unlink()
    (top / 'memory.max').mkdir()  # not to be read
    self.assertEqual(self.free(), [])


class AvailableTest(parameterized.TestCase):
  def test_least_of_all(self):
    """What psutil says of the machine, unless a group has less."""
    machine = mock.Mock(available=7 * MB)
    with mock.patch.object(psutil, 'virtual_memory', return_value=machine):
      for limits, expected in (([], 7), ([9 * MB], 7), ([9 * MB, 3 * MB], 3)):
        with mock.patch.object(memory, 'in_groups', return_value=limits):
          self.assertEqual(free_memory.of_host(), expected * MB)

  def test_run_is_refused(self):
    """Before it begins, with the bytes that its group leaves."""
    spec = mixtures.gaussian(dim=1000)
    with (
      mock.patch.object(memory, 'in_groups', return_value=[200 * MB]),
      self.assertRaisesRegex(ValueError, r'width 30000 needs .* 0\.2 GB'),
    ):
      sweeps.sweep(spec, widths=(30000,), num_seeds=1)
