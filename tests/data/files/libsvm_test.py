"""LIBSVM's text, as scikit-learn writes it and as it is found."""

import bz2
import gzip
import io
import lzma

import numpy as np
from absl.testing import parameterized
from sklearn import datasets

from tests.data.files import cases


class LibsvmTest(cases.TableCase):
  def save_libsvm(self, names, pack=bytes, **settings):
    for name, x, y in zip(names, self.x, self.y, strict=True):
      stream = io.BytesIO()
      datasets.dump_svmlight_file(x, y, stream, **settings)
      self.write(name, pack(stream.getvalue()))

  @parameterized.parameters(
    dict(names=('a9a', 'a9a.t')),
    dict(names=('a9a.bz2', 'a9a.t.bz2'), pack=bz2.compress),
    dict(names=('a9a.bz2', 'a9a.t'), pack=gzip.compress),
    dict(names=('a9a.xz', 'a9a.t.xz'), pack=lzma.compress),
    dict(names=('train.svm', 'test.svm')),
    dict(names=('agaricus.txt.train', 'agaricus.txt.test')),
    dict(names=('a9a', 'a9a.t'), comment='of somebody'),
  )
  def test_libsvm(self, names, **settings):
    """Numbered from 1; the last coordinate is nowhere, and so is not known."""
    self.save_libsvm(names, zero_based=False, **settings)
    x_train, y_train, x_test, y_test = self.expected
    expected = (np.float32(x_train[:, :3]), y_train)
    expected += (np.float32(x_test[:, :3]), y_test)
    self.write('a9a.other', b'1 1:1\n')
    for place in ('', *names):
      self.assert_read(place, expected)

  def test_libsvm_numbers(self):
    """Of both files together: coordinates, where they begin, labels' signs."""
    self.write('a', b'+1 qid:3 1:1 2:.5\n-1 2:-1e-2 # note\n\n# note\n1\n')
    self.write('a.t', b'-1 4:2\n1 1:1.\n')
    expected = (
      np.float32([[1, 0.5, 0, 0], [0, -0.01, 0, 0], [0, 0, 0, 0]]),
      np.array([1, -1, 1]),
      np.float32([[0, 0, 0, 2], [1, 0, 0, 0]]),
      np.array([-1, 1]),
    )
    self.assert_read('a', expected)
    self.write('a.t', b'-1 0:3 4:2\n1 1:1.\n')
    test = np.float32([[3, 0, 0, 0, 2], [0, 1, 0, 0, 0]])
    train = np.pad(expected[0], ((0, 0), (1, 0)))
    self.assert_read('a', (train, expected[1], test, expected[3]))

  @parameterized.parameters(
    (b'1,2 1:1\n', 'could not convert'),
    (b'1 2:1 1:1\n', 'sorted'),
    (b'1 1:x\n', ''),
    (b'1 2147483648:1 99999999999999999999:1\n', ''),
  )
  def test_libsvm_damaged(self, line, message):
    self.write('a', b'1 1:1\n' + line)
    self.write('a.t', b'1 1:1\n')
    self.assert_refused('a', f'a cannot be used.*{message}')

  def test_far_to_the_right(self):
    """One number, far to the right."""
    for name in ('a', 'a.t'):
      self.write(name, b'1 2147483647:1\n' * 3)
    self.assert_refused('', 'it would take 103 GB of memory')
