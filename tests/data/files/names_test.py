from absl.testing import parameterized

from ossgd.data.files import names


class NamesTest(parameterized.TestCase):
  @parameterized.parameters(
    ('train-images-idx3-ubyte', '', '', 'train', 'x'),
    ('t10k-labels.idx1-ubyte.gz', '', '', 'test', 'y'),
    (
      'emnist-letters-train-labels-idx1-ubyte',
      *('emnist-letters', 'emnist letters', 'train', 'y'),
    ),
    ('qmnist-test-labels-idx2-int.gz', 'qmnist', 'qmnist', 'test', 'y'),
    ('k49-train-imgs.npz', 'k49', 'k49 npz', 'train', 'x'),
    ('X_train', '', '', 'train', 'x'),
    ('Ytest', '', '', 'test', 'y'),
    ('trainX', '', '', 'train', 'x'),
    ('val_images', '', '', 'validation', 'x'),
    ('train-00000-of-00002.parquet', '', 'parquet', 'train', ''),
    ('mnist_train.csv.bz2', 'mnist', 'mnist csv', 'train', ''),
    ('iris.training.csv', 'iris', 'iris csv', 'train', ''),
    # Words that have these in them, and that say nothing.
    ('pathmnist.npz', '', 'pathmnist npz', '', ''),
    ('latest-training2.csv', '', 'latest training2 csv', '', ''),
    ('galaxy-contest.csv', '', 'galaxy contest csv', '', ''),
    ('', '', '', '', ''),
  )
  def test_read(self, name, *parts):
    self.assertEqual(names.read(name), names.Name(*parts))
