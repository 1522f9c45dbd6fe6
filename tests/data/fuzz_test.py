"""Thousands of damaged and hostile inputs: read as they are, or refused.

Whatever the bytes: nothing but the library's own errors, no file written, and
an end within seconds. The suite tries the first fifth of each kind; all are
tried by

  python -m tests.data.fuzz_test
"""

import contextlib
import faulthandler
import gzip
import io
import json
import pathlib
import random
import shutil
import sys
import tempfile

import hypothesis
import numpy as np
import pandas as pd
from absl.testing import absltest, parameterized
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_numpy
from PIL import Image
from sklearn import datasets

from experiments.common import options
from experiments.common.publishing import run_folders
from ossgd.data import archives, arrays, file_sets, idx
from ossgd.storing import folders, records
from tests import idx_files, mutations
from tests.experiments import options_test
from tests.storing import records_test

COUNTS = {
  'argv': 1500,
  'idx': 2500,
  'npz': 2400,
  'tables': 450,
  'arrays': 200,
  'config.json': 1600,
  'hostile config.json': 600,
}
if __name__ != '__main__':
  COUNTS = {kind: count // 5 for kind, count in COUNTS.items()}
SECONDS = 10  # for one input, on a machine that has other things to do
FLAGS = (
  *('--widths=1,2', '--scales=1e-3,.5', '--num_seeds=7', '--rate=4e2'),
  *('--normalize', '--nonormalize', '--order=one_pass', '--name=npz:/a'),
  *('--out=~/x', '--out=~stranger/x', '--overwrite', '--preset=quick'),
  *('--checkpoint_every=1', '--matmul_precision=high', '--widths', '-h=no'),
  *('--flagfile=bytes', '--flagfile=itself', '--flagfile=wrong'),
  *('--flagfile=.', '--undefok=a', '--', '-', '--=', 'word', ''),
)


def settings(name: str) -> hypothesis.settings:
  return hypothesis.settings(
    derandomize=True, deadline=None, max_examples=COUNTS[name], database=None
  )


class Case(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    self.root = pathlib.Path(self.enter_context(tempfile.TemporaryDirectory()))
    self.folder = self.root / 'a' / 'b' / 'c'
    self.folder.mkdir(parents=True)
    self.enter_context(contextlib.chdir(self.folder))

  @contextlib.contextmanager
  def limited(self):
    """Ends the process, and says where it is, at what takes too long."""
    faulthandler.dump_traceback_later(SECONDS, exit=True, file=sys.__stderr__)
    try:
      yield
    finally:
      faulthandler.cancel_dump_traceback_later()

  def paths(self) -> list[pathlib.Path]:
    return sorted(self.root.rglob('*'))

  def outcome(self, read, path, content):
    """What is read, or None if it is refused as it should be."""
    path.write_bytes(content)
    before = self.paths()
    try:
      with self.limited():
        return read()
    except ValueError as error:
      begin, _, reason = str(error).partition(f'{path} ')
      self.assertLess(len(begin), 20)
      self.assertLess(len(reason), 1000)
      self.assertRegex(reason, r'\Acannot be used, save or fetch it again: \S')
      return None
    finally:
      self.assertEqual(self.paths(), before, 'a file was written')


class FlagsTest(Case):
  @settings('argv')
  @hypothesis.given(
    st.lists(
      st.builds(
        lambda flag, i, j, text: flag[:i] + text + flag[j:],
        *(st.sampled_from(FLAGS), st.integers(0, 20), st.integers(0, 20)),
        st.text(st.characters(), max_size=9),
      ),
      max_size=5,
    )
  )
  def test_misspelt(self, argv):
    """Flags with anything in the place of a part of them, or besides."""
    pathlib.Path('bytes').write_bytes(bytes(range(256)))
    pathlib.Path('itself').write_text('--widths=3\n--flagfile=itself\n')
    pathlib.Path('wrong').write_text('--num_seeds=x\n')
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


class FilesTest(Case):
  @parameterized.parameters('', '.gz')
  def test_idx(self, suffix):
    """What is read is what the file holds, byte for byte; gzip has a sum."""
    values = np.arange(48, dtype=np.uint8).reshape(3, 4, 4)
    written = (values, values[:, 0, 0], values + 48, values[:, 0, 0])
    idx_files.write(self.folder, written, suffix=suffix)
    pack, unpack = (
      (gzip.compress, gzip.decompress) if suffix else (bytes, bytes)
    )
    count = COUNTS['idx'] // 2
    read = 0
    for seed in range(count):
      rng = random.Random(seed)
      i = rng.randrange(4)
      path = self.folder / f'{idx.FILES[i]}{suffix}'
      honest = path.read_bytes()
      if rng.random() < 0.3:  # damage within, where gzip sees none
        content = pack(mutations.damaged(rng, unpack(honest)))
      else:
        content = mutations.damaged(rng, honest)
      got = self.outcome(lambda: idx.read_folder(self.folder), path, content)
      path.write_bytes(honest)
      if got is not None:
        read += 1
        self.assertEqual(idx_files.idx_bytes(got[i]), unpack(content))
    self.assertBetween(read, count / 20, count / 2)

  @parameterized.product(
    save=(np.savez, np.savez_compressed),
    read=(archives.read_sets, archives.read),
  )
  def test_npz(self, save, read):
    """zip has checksums: what is read is what was written."""
    written = idx.Arrays(
      x_train=np.arange(24.0).reshape(6, 4),
      y_train=np.arange(6) % 2,
      x_test=np.asfortranarray(np.zeros((200, 4), '>f4')),
      y_test=np.array([1, 0] * 100, np.uint8),
    )
    path = self.folder / 'data.npz'
    save(path, **written._asdict())
    honest = path.read_bytes()
    count = COUNTS['npz'] // 4
    refused = 0
    for seed in range(count):
      content = mutations.damaged(random.Random(seed), honest)
      got = self.outcome(lambda: read(path), path, content)
      refused += got is None
      if got is not None:
        got = idx.Arrays(**got) if isinstance(got, dict) else got
        for a, b in zip(got, written, strict=True):
          np.testing.assert_array_equal(a, b)
          self.assertEqual(a.dtype, b.dtype)
    self.assertBetween(refused, count / 2, 0.95 * count)

  @parameterized.parameters('csv', 'parquet', 'svm', 'csv.gz', 'images.parquet')
  def test_tables(self, kind):
    """Two tables, one of them damaged: rows are read, or a line says why not.

    They have no checksums, so other numbers may be read; never other than rows
    of numbers with a label each.
    """
    frame = pd.DataFrame(
      {'a': [1, 2.5, -3] * 9, 'bc': 0, 'label': [0, 1, 2] * 9}
    )
    for part in ('train', 'test'):
      self.write_table(self.folder / f'{part}.{kind}', frame)
    count = COUNTS['tables'] // 5
    read = 0
    for seed in range(count):
      rng = random.Random(seed)
      path = self.folder / f'{rng.choice(("train", "test"))}.{kind}'
      honest = path.read_bytes()
      path.write_bytes(mutations.damaged(rng, honest))
      before = self.paths()
      try:
        with self.limited():
          got = file_sets.read(self.folder).arrays
      except (ValueError, FileNotFoundError) as error:
        self.assertStartsWith(str(error), str(self.folder))
        self.assertLess(len(str(error)), 1200)
      else:
        read += 1
        for x, y in (got[:2], got[2:]):
          self.assertIn(x.dtype.kind, 'buif')
          self.assertIn(y.dtype.kind, 'buifU')
          self.assertEqual(x.shape[:1], y.shape)
        self.assertGreater(len(got.x_train) + len(got.x_test), 27)
      self.assertEqual(self.paths(), before, 'a file was written')
      path.write_bytes(honest)
    self.assertBetween(read, 1, 0.9 * count)

  def write_table(self, path, frame):
    """As makers would, in small."""
    if path.name.endswith('.images.parquet'):
      images = [Image.new('L', (4, 5), i) for i in range(len(frame))]
      streams = [io.BytesIO() for _ in images]
      for image, stream in zip(images, streams, strict=True):
        image.save(stream, 'PNG')
      encoded = [{'bytes': s.getvalue(), 'path': None} for s in streams]
      frame = pd.DataFrame({'image': encoded, 'label': frame.label})
    if path.suffix == '.parquet':
      frame.to_parquet(path)
    elif path.suffix == '.svm':
      x, y = frame[['a', 'bc']].to_numpy(), frame.label
      datasets.dump_svmlight_file(x, y, str(path), zero_based=False)
    else:
      frame.to_csv(path, index=False)


SOME_ARRAY = st_numpy.arrays(
  st.one_of(
    st_numpy.boolean_dtypes(),
    st_numpy.integer_dtypes(),
    st_numpy.floating_dtypes(),
  ),
  st_numpy.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4),
)


class ArraysTest(Case):
  @settings('arrays')
  @hypothesis.given(
    SOME_ARRAY,
    SOME_ARRAY,
    st.sampled_from((*idx.Arrays._fields, 'both')),
  )
  def test_arrays(self, x, y, which):
    """Any numbers of any shape: a checked Split, or an error of its own."""
    labels = np.arange(6) % 2
    good = dict(
      x_train=np.ones((6, 4)),
      y_train=labels,
      x_test=np.ones((2, 4)),
      y_test=labels[:2],
    )
    given = {which: x} if which != 'both' else {'x_train': x, 'y_train': y}
    try:
      with self.limited():
        split = arrays.to_split(**(good | given), normalize=False)
    except ValueError as error:
      self.assertRegex(str(error), r'^(train|test) [xy] ')
    else:
      self.assertTrue(np.isfinite(split.train.x).all())
      self.assertLess(np.max(split.test.y), 1 + np.max(split.train.y))


class ConfigTest(Case):
  def setUp(self):
    super().setUp()
    records.write_results(self.folder, records_test.make_results())
    records.write_report(
      self.folder, records_test.CONFIG, report='', seconds={'train': 1.5}
    )
    self.path = self.folder / 'config.json'
    self.honest = self.path.read_bytes()

  def check(self, content: bytes):
    """Read and compared, or refused; either way by an error of ours."""
    self.path.write_bytes(content)
    with self.limited():
      try:
        self.assertIsInstance(records.read_config(self.folder), dict)
        folders.prepare(self.folder, records_test.CONFIG)
      except records.RecordError as error:
        self.assertIn(str(self.folder), str(error))
        self.assertIn('folder', str(error))
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


if __name__ == '__main__':
  absltest.main()
