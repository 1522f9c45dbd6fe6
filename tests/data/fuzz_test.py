"""Thousands of damaged and hostile inputs: read as they are, or refused.

Whatever the bytes: nothing but the library's own errors, nothing unpickled, no
file written, memory that follows the file, and an end within seconds.
"""

import contextlib
import gzip
import io
import json
import pathlib
import pickle
import random
import shutil
import signal
import struct
import tempfile
import tracemalloc

import hypothesis
import numpy as np
from absl.testing import absltest, parameterized
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_numpy

from experiments.common import options
from experiments.common.publishing import run_folders
from ossgd.data import arrays, idx
from ossgd.storing import folders, records
from tests import idx_files, mutations
from tests.experiments import options_test
from tests.storing import records_test

COUNTS = {
  'argv': 3500,
  'argv of any text': 500,
  'idx': 1500,
  'idx.gz': 1000,
  'npz': 2400,
  'hostile npz': 1200,
  'arrays': 200,
  'config.json': 1600,
  'hostile config.json': 600,
}
SECONDS = 10  # for one input, on a machine that has other things to do
BYTES = 4 << 20  # of memory, beyond what a file honestly holds


class TooSlow(BaseException):
  """No exception that anything would take for damage."""


class Trap:
  """Unpickling one of these is noticed."""

  sprung = False

  def __reduce__(self):
    return _spring, ()


def _spring():
  Trap.sprung = True


def settings(count: int) -> hypothesis.settings:
  return hypothesis.settings(
    derandomize=True, deadline=None, max_examples=count, database=None
  )


class Case(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    root = self.enter_context(tempfile.TemporaryDirectory())
    self.folder = pathlib.Path(root) / 'a' / 'b' / 'c'
    self.folder.mkdir(parents=True)
    self.enter_context(contextlib.chdir(self.folder))
    self.root = pathlib.Path(root)

  @contextlib.contextmanager
  def limited(self, size: int | None = None):
    """Ends what takes too long; fails if it allocates too many bytes."""

    def give_up(number, frame):
      raise TooSlow

    before = signal.signal(signal.SIGALRM, give_up)
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    if size is not None:
      tracemalloc.reset_peak()
      begin = tracemalloc.get_traced_memory()[0]
    try:
      yield
    finally:
      signal.setitimer(signal.ITIMER_REAL, 0)
      signal.signal(signal.SIGALRM, before)
      if size is not None:  # refused or not
        used = tracemalloc.get_traced_memory()[1] - begin
        self.assertLess(used, 3 * size + BYTES)

  def trace(self):
    tracemalloc.start()
    self.addCleanup(tracemalloc.stop)

  def paths(self) -> list[pathlib.Path]:
    return sorted(self.root.rglob('*'))

  def assert_says(self, error, path):
    """Which file, what is wrong with it and what to do."""
    begin, _, reason = str(error).partition(f'{path} ')
    self.assertLess(len(begin), 20)
    self.assertLess(len(reason), 1000)
    self.assertRegex(reason, r'\Acannot be used, save or fetch it again: \S')


class CountTest(absltest.TestCase):
  def test_enough(self):
    self.assertGreaterEqual(sum(COUNTS.values()), 10_000)


class FlagsTest(Case):
  WORDS = (
    *('--widths=1,2', '--scales=1e-3,.5', '--num_seeds=7', '--rate=4e2'),
    *('--normalize', '--nonormalize', '--order=one_pass', '--name=npz:/a'),
    *('--out=~/x', '--out=~stranger/x', '--overwrite', '--preset=quick'),
    *('--checkpoint_every=1', '--matmul_precision=high', '--widths', '-h=no'),
    *('--flagfile=bytes', '--flagfile=itself', '--flagfile=wrong'),
    *('--flagfile=.', '--undefok=a', '--', '-', '--=', 'word', ''),
  )

  def setUp(self):
    super().setUp()
    pathlib.Path('bytes').write_bytes(bytes(range(256)))
    pathlib.Path('itself').write_text('--widths=3\n--flagfile=itself\n')
    pathlib.Path('wrong').write_text('--num_seeds=x\n')

  def check(self, *argv):
    out, err = io.StringIO(), io.StringIO()
    before = self.paths()
    try:
      with (
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
        self.limited(),
      ):
        call = options_test.parse(*argv)
    except SystemExit as end:
      self.assertEqual(end.code, 2)
      self.assertRegex(err.getvalue(), r'(?s)\A(.*\n)?error: .+\n\Z')
    else:
      self.assertIsInstance(call, options.Call)
      for name, value in vars(options_test.Toy()).items():
        self.assertIs(type(getattr(call.config, name)), type(value))
    self.assertEqual(out.getvalue(), '')
    self.assertEqual(self.paths(), before)

  def test_misspelt(self):
    for seed in range(COUNTS['argv']):
      rng = random.Random(seed)
      words = rng.choices(self.WORDS, k=rng.randrange(1, 5))
      self.check(*(mutations.misspelt(rng, word) for word in words))

  def test_any_text(self):
    @settings(COUNTS['argv of any text'])
    @hypothesis.given(
      st.lists(st.text(), max_size=4),
      st.sampled_from(('widths', 'rate', 'num_seeds', 'normalize', 'order')),
      st.text(),
    )
    def check(words, name, value):
      self.check(f'--{name}={value}', *words)

    check()


class IdxTest(Case):
  def setUp(self):
    super().setUp()
    self.trace()
    images, labels = np.arange(96, dtype=np.uint8), np.arange(3, dtype=np.uint8)
    images = images.reshape(6, 4, 4)
    self.arrays = (images[:3], labels, images[3:], labels)

  def outcome(self, path, content):
    """The arrays, or None if they are refused as they should be."""
    path.write_bytes(content)
    try:
      with self.limited(len(content)):
        return idx.read_folder(self.folder)
    except ValueError as error:
      self.assert_says(error, path)
      return None

  def test_plain(self):
    """No checksum: what is read is what the file holds, byte for byte."""
    idx_files.write(self.folder, self.arrays, suffix='')
    read = 0
    for seed in range(COUNTS['idx']):
      rng = random.Random(seed)
      i = rng.randrange(4)
      path = self.folder / idx.FILES[i]
      honest = path.read_bytes()
      content = mutations.damaged(rng, honest)
      got = self.outcome(path, content)
      path.write_bytes(honest)
      if got is not None:
        read += 1
        self.assertEqual(idx_files.idx_bytes(got[i]), content)
    self.assertBetween(read, COUNTS['idx'] / 10, COUNTS['idx'] / 2)

  def test_compressed(self):
    """gzip has one: what is read is what was written."""
    idx_files.write(self.folder, self.arrays, suffix='.gz')
    for seed in range(COUNTS['idx.gz']):
      rng = random.Random(seed)
      i = rng.randrange(4)
      path = self.folder / f'{idx.FILES[i]}.gz'
      honest = path.read_bytes()
      plain = rng.random() < 0.3  # damage within, where gzip sees none
      content = (
        gzip.compress(mutations.damaged(rng, gzip.decompress(honest)))
        if plain
        else mutations.damaged(rng, honest)
      )
      got = self.outcome(path, content)
      path.write_bytes(honest)
      if got is not None:
        expected = gzip.decompress(content)
        self.assertEqual(idx_files.idx_bytes(got[i]), expected)
        if not plain:
          np.testing.assert_array_equal(got[i], self.arrays[i])

  @parameterized.parameters('', '.gz')
  def test_claims(self, suffix):
    """Of any size, with any number of bytes behind it."""
    idx_files.write(self.folder, self.arrays, suffix=suffix)
    path = self.folder / f'{idx.FILES[0]}{suffix}'
    for size in (0, 1, 3, 2**16, 2**27, 2**31, 2**32 - 1):
      for held in (0, 15, 17, 5000):
        header = struct.pack('>4B3I', 0, 0, 8, 3, size, 4, 4)
        content = header + bytes(held)
        content = gzip.compress(content) if suffix else content
        if held != 16 * size:
          self.assertIsNone(self.outcome(path, content))


class NpzTest(Case):
  def setUp(self):
    super().setUp()
    self.trace()
    self.path = self.folder / 'data.npz'
    self.arrays = dict(
      x_train=np.arange(24.0).reshape(6, 4),
      y_train=np.arange(6) % 2,
      x_test=np.asfortranarray(np.zeros((200, 4), '>f4')),
      y_test=np.array([1, 0] * 100, np.uint8),
    )
    self.before = [*self.paths(), self.path]

  def outcome(self, content, read):
    """The arrays by name, or None if they are refused as they should be."""
    self.path.write_bytes(content)
    try:
      with self.limited(sum(a.nbytes for a in self.arrays.values())):
        got = read(self.path)
    except ValueError as error:
      self.assert_says(error, self.path)
      got = None
    self.assertFalse(Trap.sprung, 'something was unpickled')
    self.assertEqual(self.paths(), sorted(self.before), 'a file was written')
    return got._asdict() if isinstance(got, idx.Arrays) else got

  @parameterized.product(
    save=(np.savez, np.savez_compressed), read=(idx.read_npz, idx.read_archive)
  )
  def test_damaged(self, save, read):
    """zip has checksums: what is read is what was written."""
    save(self.path, **self.arrays)
    honest = self.path.read_bytes()
    count = COUNTS['npz'] // 4
    refused = 0
    for seed in range(count):
      content = mutations.damaged(random.Random(seed), honest)
      got = self.outcome(content, read)
      refused += got is None
      if got is not None:
        self.assertEqual(got.keys(), self.arrays.keys())
        for name, array in self.arrays.items():
          np.testing.assert_array_equal(got[name], array)
          self.assertEqual(got[name].dtype, array.dtype)
    self.assertBetween(refused, count / 2, 0.95 * count)

  @parameterized.parameters(idx.read_npz, idx.read_archive)
  def test_hostile(self, read):
    """Whatever is claimed, arrays are numbers that the file does hold."""
    honest = {}
    for name, array in self.arrays.items():
      stream = io.BytesIO()
      np.save(stream, array)
      honest[name] = stream.getvalue()
    pickled = io.BytesIO()
    np.save(pickled, np.array([Trap()] * 6))
    pickled = pickled.getvalue()
    trap = pickle.dumps([Trap()])
    limit = sum(map(len, honest.values())) + len(pickled)
    count = COUNTS['hostile npz'] // 2
    refused = 0
    for seed in range(count):
      rng = random.Random(seed)
      objects = rng.choice((pickled, mutations.npy("'|O'", '(6,)', trap)))
      content = mutations.hostile_npz(rng, honest, objects)
      got = self.outcome(content, read)
      refused += got is None
      for array in (got or {}).values():
        self.assertIn(array.dtype.kind, 'buif')
        self.assertLessEqual(array.nbytes, limit)
    self.assertBetween(refused, count / 2, 0.95 * count)

  def test_arrays(self):
    """Any numbers of any shape: a checked Split, or an error of its own."""
    some = st_numpy.arrays(
      st.one_of(
        st_numpy.boolean_dtypes(),
        st_numpy.integer_dtypes(),
        st_numpy.floating_dtypes(),
      ),
      st_numpy.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4),
    )

    @settings(COUNTS['arrays'])
    @hypothesis.given(some, some, st.sampled_from((*self.arrays, 'both')))
    def check(x, y, which):
      good = dict(self.arrays, x_test=np.ones((2, 4)), y_test=np.array([1, 0]))
      given = {which: x} if which != 'both' else {'x_train': x, 'y_train': y}
      try:
        with self.limited():
          split = arrays.to_split(**(good | given), normalize=False)
      except ValueError as error:
        self.assertRegex(str(error), r'^(train|test) [xy] ')
      else:
        self.assertTrue(np.isfinite(split.train.x).all())
        self.assertLess(np.max(split.test.y), 1 + np.max(split.train.y))

    check()


class ConfigTest(Case):
  def setUp(self):
    super().setUp()
    records.write_results(self.folder, records_test.make_results())
    records.write_report(
      self.folder, records_test.CONFIG, report='', seconds={'train': 1.5}
    )
    self.path = self.folder / 'config.json'
    self.honest = self.path.read_bytes()
    self.trace()

  def check(self, content: bytes):
    """Read and compared, or refused; either way by an error of ours."""
    self.path.write_bytes(content)
    with self.limited(10 * len(content)):
      try:
        self.assertIsInstance(records.read_config(self.folder), dict)
        folders.prepare(self.folder, records_test.CONFIG)
      except records.RecordError as error:
        self.assertIn(str(self.folder), str(error))
        self.assertIn('--out', str(error))
    for path in self.folder.glob('*.damaged*'):
      path.replace(path.with_suffix('.nc'))
    shutil.rmtree(self.folder / 'checkpoints', ignore_errors=True)

  def test_damaged(self):
    for seed in range(COUNTS['config.json']):
      self.check(mutations.damaged(random.Random(seed), self.honest))

  def test_hostile(self):
    """Types and numbers that nobody expects, anywhere."""
    for seed in range(COUNTS['hostile config.json']):
      rng = random.Random(seed)
      config = json.loads(self.honest)
      owner = rng.choice((config, config['settings'], config['environment']))
      owner[rng.choice((*owner, 'more'))] = 'HERE'
      text = json.dumps(rng.choice((config, config, 'HERE')))
      text = text.replace('"HERE"', mutations.json_text(rng))
      self.check(text.encode())
      if rng.random() < 0.2:
        with self.limited():
          gathered = run_folders.gather(self.folder.parent)
        self.assertIn('c', gathered.left_out)
