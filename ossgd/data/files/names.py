"""What names of files and of arrays say: train or test, inputs or labels."""

import re
from typing import NamedTuple

_PARTS = {
  **dict.fromkeys(('train', 'training'), 'train'),
  **dict.fromkeys(('test', 'testing', 't10k'), 'test'),
  **dict.fromkeys(('val', 'valid', 'validation'), 'validation'),
}
_ROLES = {
  **dict.fromkeys(('x', 'images', 'imgs', 'data', 'features', 'inputs'), 'x'),
  **dict.fromkeys(('y', 'labels', 'label', 'targets', 'target'), 'y'),
}
# Types of IDX, and which of how many files: the same set, whatever they are.
_SILENT = re.compile(r'idx\d|ubyte|int|of|\d{5}')


class Name(NamedTuple):
  """A name, taken apart."""

  prefix: str  # what stands before the first word that says something
  rest: str  # all other words, in lower case
  part: str  # 'train', 'test', 'validation' or ''
  role: str  # 'x', 'y' or ''


def read(name: str) -> Name:
  """Takes a name apart: `x_train`, `trainX`, `emnist-letters-train-images-...`.

  Case does not matter, nor does what stands between words.
  """
  name = re.sub('(?<=[a-z])(?=[A-Z])', '_', without_packing(name))
  name = re.sub('(?i)(?<![a-z])([xy])(?=train|test|val)', r'\1_', name)
  part = role = ''
  prefix, rest = None, []
  for match in re.finditer('[A-Za-z0-9]+', name):
    word = match[0].lower()
    if not part and word in _PARTS:
      part = _PARTS[word]
    elif not role and word in _ROLES:
      role = _ROLES[word]
    elif _SILENT.fullmatch(word):
      continue
    else:
      rest.append(word)
      continue
    if prefix is None:
      prefix = name[: match.start()].rstrip('-_. ')
  return Name(prefix or '', ' '.join(rest), part, role)


def without_packing(name: str) -> str:
  """The name of what a packed file holds."""
  return re.sub(r'\.(gz|bz2|xz)\Z', '', name)
