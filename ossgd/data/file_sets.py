"""A user's files as their makers ship them: which are a set, and of what kind.

Names tell training from test and images from labels; of what kind a file is,
its content tells. A set is one archive, four files, or two tables.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ossgd.data import archives, idx
from ossgd.data.files import columns, libsvm, names, opening

# Where torchvision, EMNIST's own archive and Hugging Face put files.
_BELOW = ('.', 'raw', 'gzip', 'data', '*/raw')
_MAGIC = {
  b'PK\3\4': 'npz',
  b'PAR1': 'parquet',
  b'\0\0\x08': 'idx',
  b'\0\0\x0c': 'idx',
}
_TABLES: dict[str, Callable[..., opening.Four]] = {
  'csv': columns.read_csv,
  'parquet': columns.read_parquet,
  'libsvm': libsvm.read,
}
_EXPECTED = {
  'idx': f'four IDX files, {", ".join(idx.FILES)}, plain or packed',
  'npz': 'an npz archive of x_train, y_train, x_test and y_test, or four of '
  'one array each',
  '': 'four IDX files named like train-images-idx3-ubyte, an npz archive, or '
  'two tables, such as train.csv and test.csv, of CSV, Parquet or LIBSVM text',
}

Files = Mapping[tuple[str, str], list[Path]]  # by part and role

# A note that those who turn images over need not have.
LYING = (
  "images lie transposed, as EMNIST's are stored; transposed: before the name "
  'sets them upright'
)


class Found(NamedTuple):
  """A user's set as it was read, and what has to be said of it."""

  arrays: idx.Arrays
  note: str  # '' if there is nothing


class FileSet(NamedTuple):
  """Files that belong together; all of them, if `lacks` is empty."""

  kind: str
  prefix: str  # of their names
  files: Files

  @property
  def lacks(self) -> list[str]:
    """What is not there, in words."""
    if self.kind == 'npz' and ('', '') in self.files:
      return []
    roles = {'': ' rows'}
    if self.kind not in _TABLES:
      roles = {'x': ' images', 'y': ' labels'}
    return [
      f'{part}{words}'
      for part in ('train', 'test')
      for role, words in roles.items()
      if (part, role) not in self.files
    ]


def read(place: Path, kind: str = '') -> Found:
  """Reads the set at a place, recognised from what is there.

  Args:
    place: a folder with one set in it; or any file of a set; or what the names
      of its files begin with, where a folder has several: DIR/emnist-letters.
    kind: 'idx', 'npz', 'csv', 'parquet' or 'libsvm'; '' for any.

  Raises:
    FileNotFoundError: there is nothing, or a part of a set is missing.
    ValueError: files are damaged, or it cannot be told which are meant.
    ImportError: what reads this kind is not installed.
  """
  sets = [one for one in _at(place) if kind in ('', one.kind)]
  whole = [one for one in sets if not one.lacks]
  if kind == 'idx':  # MNIST's own names come first
    whole = [one for one in whole if not one.prefix] or whole
  if len(whole) > 1:
    raise ValueError(
      f'{place} holds several sets; name one of them: '
      + ', '.join(str(_name(one, whole)) for one in whole)
    )
  if not whole:
    raise _refusal(place, kind, sets)
  ((kind, prefix, files),) = whole
  if kind == 'idx':
    return _from_idx(prefix, files)
  if kind == 'npz':
    if ('', '') in files:
      return _from_archive(files['', ''][0])
    return Found(idx.Arrays(*map(_only_array, _four(files))), '')
  four = _TABLES[kind](files['train', ''], files['test', ''])
  return Found(idx.Arrays(*four), _left_out(files))


def _at(place: Path) -> list[FileSet]:
  """Sets that a user's path may mean, complete or not."""
  if place.is_dir():
    found: list[FileSet] = []
    for below in _BELOW:
      folders = sorted(place.glob(below)) if '*' in below else [place / below]
      found += [one for folder in folders for one in _sets(folder)]
      if not all(one.lacks for one in found):
        break
    return found
  sets = _sets(place.parent)
  if not place.is_file():
    return [one for one in sets if one.prefix == place.name]
  name = names.without_packing(place.name)
  found = [
    one
    for one in sets
    for paths in one.files.values()
    if name in [names.without_packing(path.name) for path in paths]
  ]
  kind = _kind(place)
  alone = [FileSet(kind, '', {('', ''): [place]})]
  if kind == 'npz' and all(one.lacks for one in found):
    return alone  # an archive may hold all, whatever it is called
  return found or alone


def _sets(folder: Path) -> list[FileSet]:
  if not folder.is_dir():
    return []
  paths = [path for path in folder.iterdir() if path.is_file()]
  # Of a plain and a packed file of one name, the plain one.
  paths.sort(key=lambda p: len(p.name), reverse=True)
  plain = {names.without_packing(path.name): path for path in paths}
  sets: dict[tuple[str, str, str], dict[tuple[str, str], list[Path]]] = {}
  for name, path in sorted(plain.items()):
    said = names.read(name)
    if name.endswith('.t') and name[:-2] in plain:  # as LIBSVM's site has them
      said = names.Name(name[:-2], '', 'test', '')
    elif f'{name}.t' in plain:
      said = names.Name(name, '', 'train', '')
    elif not said.part and not name.endswith('.npz'):
      continue
    kind = _kind(path)
    if kind in _TABLES and said.role == 'y':
      continue  # labels beside what they are of, as QMNIST has them once more
    role = said.role if said.part and kind not in _TABLES else ''
    key = (kind, said.prefix, said.rest)
    sets.setdefault(key, {}).setdefault((said.part, role), []).append(path)
  return [FileSet(kind, prefix, f) for (kind, prefix, _), f in sets.items()]


def _kind(path: Path) -> str:
  """By content; where that says nothing, what the name promises."""
  with opening.named(path), opening.unpacked(path) as stream:
    begin = stream.read(2**16)
  for magic, kind in _MAGIC.items():
    if begin.startswith(magic):
      return kind
  lines = begin.decode('latin-1').splitlines()
  if any(libsvm.is_libsvm(line) for line in lines[:20]):
    return 'libsvm'
  # What is damaged at its beginning will be refused by what reads its kind.
  promised = re.search(r'\.(npz|parquet|csv)\b|(idx)[1-4]', path.name)
  if promised:
    return promised[1] or promised[2]
  is_table = b'\0' not in begin and re.search('[,;\t]', (lines or [''])[0])
  return 'csv' if is_table else ''


def _four(files: Files) -> Iterator[Path]:
  """Of images and labels, to train and to test with."""
  for part in ('train', 'test'):
    for role in 'xy':
      yield files[part, role][0]


def _from_idx(prefix: str, files: Files) -> Found:
  arrays = idx.Arrays(*map(idx.read_idx, _four(files)))
  notes = []
  if arrays.y_train.ndim == 2:  # QMNIST's: digit, writer, and where it was
    notes.append("of QMNIST's columns of labels the first is used, the digit")
    for part, labels in zip(('train', 'test'), arrays[1::2], strict=True):
      if labels.shape[1:] != (8,):
        raise ValueError(
          f'{files[part, "y"][0]} has labels of shape {labels.shape}, expected '
          "QMNIST's (n, 8)."
        )
    arrays = arrays._replace(
      y_train=arrays.y_train[:, 0], y_test=arrays.y_test[:, 0]
    )
  if 'emnist' in prefix.lower():
    notes.append(LYING)
  return Found(arrays, '; '.join(notes))


def _from_archive(path: Path) -> Found:
  """One archive of four arrays, by whatever words their names say so."""
  held = archives.names(path)
  said: dict[tuple[str, str], list[str]] = {}
  for name in held:
    _, _, part, role = names.read(name)
    said.setdefault((part, role), []).append(name)
  four = [said.get((part, r), []) for part in ('train', 'test') for r in 'xy']
  if {*idx.Arrays._fields} <= {*held} or not all(len(f) == 1 for f in four):
    arrays = archives.read_sets(path)  # which says what it lacks
  else:
    wanted = [name for (name,) in four]
    by_name = archives.read(path, tuple(wanted))
    arrays = idx.Arrays(*(by_name[name] for name in wanted))
  return Found(arrays, _left_out(said))


def _left_out(parts: Mapping[tuple[str, str], object]) -> str:
  there = any(part == 'validation' for part, _ in parts)
  return 'its validation set is left out' if there else ''


def _only_array(path: Path) -> np.ndarray:
  arrays = archives.read(path)
  if len(arrays) != 1:
    raise ValueError(
      f'{path} holds {len(arrays)} arrays; expected one, as three files beside '
      'it are to hold the others.'
    )
  return next(iter(arrays.values()))


def _name(one: FileSet, of: list[FileSet]) -> Path:
  """What a set is asked for by, where there are others."""
  first = next(iter(one.files.values()))[0]
  alike = [
    o for o in of if next(iter(o.files.values()))[0].parent == first.parent
  ]
  if len(alike) == 1:
    return first.parent
  if one.prefix and [o.prefix for o in alike].count(one.prefix) == 1:
    return first.parent / one.prefix
  return first


def _refusal(place: Path, kind: str, sets: list[FileSet]) -> Exception:
  """The line that mends it."""
  if not sets and not place.exists():
    return FileNotFoundError(
      f'there is no file or folder {place}; check the name'
    )
  known = [one for one in sets if one.kind]
  if (
    place.is_file() and known and known[0].lacks == ['train rows', 'test rows']
  ):
    end = ''.join(place.suffixes)
    return ValueError(
      f'{place} does not say which of its rows are to test with: save them as '
      f'two files, train{end} and test{end}, in a folder of their own'
    )
  if known:
    return FileNotFoundError(
      f'{place} has no {" and no ".join(known[0].lacks)}; expected '
      + _EXPECTED.get(known[0].kind, _EXPECTED[''])
    )
  expected = _EXPECTED.get(kind, _EXPECTED[''])
  if place.is_file():
    return ValueError(
      f'{place} cannot be used, save or fetch it again: it is not one of what '
      f'is read, {expected}'
    )
  return FileNotFoundError(
    f'{place} has no set that is read: expected {expected}'
  )
