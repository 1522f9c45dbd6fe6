"""LIBSVM's text: a label and numbered values in each line."""

import io
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ossgd.data.files import opening

_LINE = re.compile(
  rf'{opening.NUMBER}(?:\s+qid:\d+)?(?:\s+\d+:{opening.NUMBER})+\s*(?:#.*)?'
)


def is_libsvm(line: str) -> bool:
  """Whether a line of text is LIBSVM's."""
  return _LINE.fullmatch(line.strip()) is not None


def read(train: Sequence[Path], test: Sequence[Path]) -> opening.Four:
  """LIBSVM's text: a label and the values that are not zero in each line.

  Coordinates count from 1, or from 0 if one of either set is numbered 0.

  Raises:
    ValueError: it is no such file, or too large as dense arrays.
  """
  sparse = []
  for path in (*train, *test):
    with opening.named(path):
      sparse.append(_sparse(path))
  # The last coordinates may be zero in all of one file.
  dim = max(x.shape[1] for x, _ in sparse)
  with opening.named(train[0]):
    opening.check_memory(8 * dim * sum(x.shape[0] for x, _ in sparse))
  first = 1 - any((x.indices == 0).any() for x, _ in sparse)
  dense = []
  for x, y in sparse:
    x.resize(x.shape[0], dim)
    dense.append((x.toarray()[:, first:], y))

  def joined(parts):
    return map(np.concatenate, zip(*parts, strict=True))

  x_train, y_train = joined(dense[: len(train)])
  x_test, y_test = joined(dense[len(train) :])
  return x_train, y_train, x_test, y_test


def _sparse(path: Path) -> tuple[Any, np.ndarray]:
  """A sparse matrix, its first column for the number 0, and labels."""
  from sklearn import datasets

  x, y = datasets.load_svmlight_file(
    io.BytesIO(opening.text(path)), dtype=np.float32, zero_based=True
  )
  if (np.abs(y) < 2**53).all() and (y == np.rint(y)).all():
    y = y.astype(np.int64)  # they are written with or without a point
  return x, y
