import pathlib
import tempfile

from absl.testing import parameterized

from ossgd.data.tfds import tfrecords
from tests import tfds_folders


class ReadTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    folder = self.enter_context(tempfile.TemporaryDirectory())
    self.path = pathlib.Path(folder) / 'a.tfrecord'

  def read(self, content):
    self.path.write_bytes(content)
    return [bytes(record) for record in tfrecords.read(self.path)]

  def test_oracle(self):
    """The value that RFC 3720's CRC has of nine digits."""
    self.assertEqual(tfds_folders.crc32c(b'123456789'), 0xE3069283)

  @parameterized.parameters(
    ([],), ([3],), ([0, 0],), ([7, 0, 900, 1, 256, 255],), ([*range(90)],)
  )
  def test_records(self, sizes):
    """Of any length, in the file's order."""
    written = [
      bytes(i % 251 for i in range(j, j + n)) for j, n in enumerate(sizes)
    ]
    framed = map(tfds_folders.framed, written)
    self.assertEqual(self.read(b''.join(framed)), written)

  def test_many_records(self):
    """More than are compared at a time."""
    records = [i.to_bytes(2) for i in range(9000)]
    framed = [tfds_folders.framed(record) for record in records]
    self.assertEqual(self.read(b''.join(framed)), records)
    framed[8500] = framed[8500][:-1] + bytes([framed[8500][-1] ^ 1])
    with self.assertRaisesRegex(ValueError, 'CRC of record 8500 differs'):
      self.read(b''.join(framed))

  def test_every_byte_counts(self):
    """A changed one is found wherever it is, and so is a missing end."""
    content = b''.join(map(tfds_folders.framed, (b'abc', b'', b'defgh')))
    for i in range(len(content)):
      changed = content[:i] + bytes([content[i] ^ 16]) + content[i + 1 :]
      with self.assertRaisesRegex(ValueError, 'damaged'):
        self.read(changed)
    ends = {0, 19, 35}  # between records: for who counts them
    for i in {*range(len(content))} - ends:
      with self.assertRaisesRegex(ValueError, 'cut short'):
        self.read(content[:i])

  @parameterized.parameters(4, 2**40, 2**64 - 1)
  def test_promises_are_not_allocated(self, promised):
    """A length that the file cannot hold, with the CRC that belongs to it."""
    content = tfds_folders.framed(b'abc', promised=promised)
    with self.assertRaisesRegex(ValueError, f'needs {promised} bytes, and 3'):
      self.read(content)
