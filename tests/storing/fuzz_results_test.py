"""Damaged and hostile results.nc: refused, or read as what they hold.

HDF5 may hang in a damaged file, so the files that it gets to see are read in
processes of their own.
"""

import collections
import json
import os
import pathlib
import random
import select
import subprocess
import sys
from unittest import mock

import h5py
from absl.testing import parameterized

from ossgd.storing import netcdf, records
from tests import mutations
from tests.data import fuzz_test
from tests.storing import records_test

COUNTS = fuzz_test.COUNTS
BYTES = 1 << 20  # of memory for a file of 10 kB


class ResultsTest(fuzz_test.Case):
  def setUp(self):
    super().setUp()
    records.write_results(self.folder, records_test.make_results())
    records.write_report(
      self.folder, records_test.CONFIG, report='', seconds={}
    )
    self.path = self.folder / 'results.nc'
    self.honest = self.path.read_bytes()

  def assert_refused(self, reason=''):
    with (
      self.limited(),
      self.assertRaisesRegex(
        records.RecordError, f'{self.path}: .*{reason}.*; move it away'
      ),
    ):
      records.read(self.folder)

  def unvouched(self):
    """As by a version that left no digest, or by someone who forged it."""
    config = json.loads((self.folder / 'config.json').read_text())
    del config[records.FILES]
    (self.folder / 'config.json').write_text(json.dumps(config))

  def test_damaged(self):
    """config.json has their SHA-256: HDF5 does not get to see the damage."""
    with mock.patch.object(netcdf, 'read') as read:
      for seed in range(COUNTS['results.nc']):
        content = mutations.damaged(random.Random(seed), self.honest)
        self.path.write_bytes(content)
        if content != self.honest:
          self.assert_refused('not the one')
    read.assert_not_called()

  def test_damaged_unvouched(self):
    """What the inspection lets pass can be read, within its size or so."""
    self.unvouched()
    paths = []
    # One that HDF5 2.0 never returns from comes first.
    for seed in (1471, *range(COUNTS['results.nc that HDF5 sees'] - 1)):
      paths.append(self.folder / f'{seed}.nc')
      content = mutations.damaged(random.Random(seed), self.honest)
      paths[-1].write_bytes(content)
    outcomes = _inspect_and_read(paths)
    counts = collections.Counter(outcome for outcome, _ in outcomes)
    self.assertEqual(sum(counts.values()), len(paths))
    self.assertNoCommonElements(counts, {'reading'}, 'an inspected file hung')
    self.assertGreater(counts['read'], len(paths) / 20)
    self.assertGreater(counts['refused'], len(paths) / 5)
    self.assertLess(max(used for _, used in outcomes), BYTES)
    for path, (outcome, _) in zip(paths, outcomes, strict=True):
      if outcome == 'inspecting':  # for ever
        path.replace(self.path)
        with mock.patch.object(netcdf, '_PATIENCE', 3):
          self.assert_refused('HDF5')

  def test_crash_and_hang(self):
    """Of the process that inspects: this one lives to tell."""
    self.unvouched()
    for does, says in (('kill -SEGV $$', '-11'), ('exec sleep 60', 'in 1 s')):
      program = self.folder / 'python'
      program.write_text(f'#!/bin/sh\n{does}\n')
      program.chmod(0o755)
      with (
        mock.patch.object(netcdf.sys, 'executable', str(program)),
        mock.patch.object(netcdf, '_PATIENCE', 1),
      ):
        self.assert_refused(f'HDF5 .*{says}')

  @parameterized.parameters(
    ('external', 'leads elsewhere'),
    ('soft', 'leads elsewhere'),
    ('raw', 'kept in another file'),
    ('virtual', 'kept in another file'),
    ('group', 'not a variable'),
    ('huge', 'claims 8000000000000 bytes'),
    ('pipe', 'no such file'),
  )
  def test_hostile(self, kind, reason):
    """Honest HDF5 that leads to the user's files, or claims what is not so."""
    self.unvouched()
    secret = self.folder / 'secret'
    secret.write_bytes(bytes(80))
    with h5py.File(self.path, 'w') as file:
      if kind == 'external':
        file['a'] = h5py.ExternalLink(str(secret), 'a')
      elif kind == 'soft':
        file['a'] = h5py.SoftLink('/b')
      elif kind == 'raw':
        file.create_dataset('a', (10,), 'f8', external=[(str(secret), 0, 80)])
      elif kind == 'virtual':
        layout = h5py.VirtualLayout((10,), 'f8')
        layout[:] = h5py.VirtualSource(str(secret), 'a', (10,))
        file.create_virtual_dataset('a', layout)
      elif kind == 'group':
        file.create_group('a')
      elif kind == 'huge':
        file.create_dataset('a', (10**12,), 'f8', chunks=(1000,))
    if kind == 'pipe':
      self.path.unlink()
      os.mkfifo(self.path)
    self.assert_refused(reason)


def _inspect_and_read(paths: list[pathlib.Path]) -> list[tuple[str, int]]:
  """How far each was read, in a process that is replaced if need be."""
  outcomes: list[tuple[str, int]] = []
  while len(outcomes) < len(paths):
    rest = map(str, paths[len(outcomes) :])
    with subprocess.Popen(
      [sys.executable, '-m', 'tests.netcdf_worker', *rest],
      cwd=pathlib.Path(__file__).parents[2],
      bufsize=0,  # or select would not see what is in the buffer
      stdout=subprocess.PIPE,
      stderr=subprocess.DEVNULL,
    ) as worker:
      last = b'inspecting'
      while len(outcomes) < len(paths):
        patience = 4 if last == b'inspecting' else 30
        ready, _, _ = select.select([worker.stdout], [], [], patience)
        line = worker.stdout.readline().strip() if ready else b''
        if not line:
          outcomes.append((last.decode(), 0))
          break
        if line not in (b'inspecting', b'reading'):
          outcome, *_, used = line.split()
          outcomes.append((outcome.decode(), int(used)))
        last = line
      worker.kill()
  return outcomes
