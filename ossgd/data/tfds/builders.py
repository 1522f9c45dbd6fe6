"""TensorFlow Datasets' sets by name: where they are, or prepared if possible.

Most of TFDS's builders read their files with TensorFlow. Those that do not, but
have TFDS open archives and encode arrays of pixels with it, are run here with
Python's archives and Pillow; of the others it is said what to run elsewhere.
"""

import contextlib
import difflib
import inspect
import io
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
from PIL import Image

from ossgd.data.tfds import prepared

_NAME = re.compile(r'(\w+)(?:/(\w[\w.+-]*))?(?::(\d+\.\d+\.\d+))?')
_VERSION = re.compile(r'\d+\.\d+\.\d+')


class Reference(NamedTuple):
  """A set by its name in TFDS: NAME, NAME/CONFIG or either with :VERSION."""

  name: str
  config: str | None = None
  version: str | None = None

  def __str__(self) -> str:
    config = f'/{self.config}' if self.config else ''
    return self.name + config + (f':{self.version}' if self.version else '')


def parse(text: str) -> Reference:
  """The name in TFDS of a set.

  Raises:
    ValueError: it is no such name.
  """
  if match := _NAME.fullmatch(text):
    return Reference(*match.groups())
  raise ValueError(
    f"'tfds:{text}' is no name of TFDS's; expected 'tfds:NAME', such as "
    "'tfds:cifar10' or 'tfds:emnist/letters:3.1.0'."
  )


def find(wanted: Reference, data_dir: Path) -> Path | None:
  """The folder of a prepared set's version, the newest if none is asked for.

  Args:
    wanted: what to look for.
    data_dir: TFDS's folder, the set's inside of it, or that of one version.

  Returns:
    None, if there is none. A half prepared one, if there is no other.

  Raises:
    ValueError: the set has several configurations, and none is asked for.
  """
  asked = {wanted.config, wanted.version} - {None}
  if (data_dir / prepared.INFO).is_file() and asked <= {*data_dir.parts}:
    return data_dir
  home = data_dir / wanted.name
  if not home.is_dir() and data_dir.name == wanted.name:
    home = data_dir
  if wanted.config:
    home /= wanted.config
  elif not _versions(home) and (config := _default_config(wanted, home)):
    home /= config
  found = _versions(home)
  if wanted.version:
    found = [path for path in found if path.name == wanted.version]
  whole = [path for path in found if (path / prepared.INFO).is_file()]
  return next(reversed(whole or found), None)


def prepare(wanted: Reference, data_dir: Path) -> None:
  """Has TFDS's own builder download and prepare a set, in ArrayRecord.

  Args:
    wanted: what to prepare.
    data_dir: TFDS's folder.

  Raises:
    ValueError: TFDS knows no such set or configuration.
    FileNotFoundError: it cannot be prepared here; it says what can be done.
  """
  official = _official(wanted)
  try:
    if _needs_tensorflow(official):
      raise RuntimeError("TFDS's builder of it needs TensorFlow")
    said = io.StringIO()  # messages and progress bars: a library never prints
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
      _run(official, wanted, data_dir)
  except Exception as error:  # the builder's, whatever it does
    found = find(wanted, data_dir)
    if found and (found / prepared.INFO).is_file():
      return  # another process was first
    beside = ''
    for path in sorted((data_dir / wanted.name).rglob('*')):
      if 'incomplete' in path.name:
        beside = f' ({path} was left half prepared)'
      elif path.name == prepared.INFO:
        beside = f' ({path.parent} is)'
    cause = ' '.join((str(error) or type(error).__name__).split())
    raise FileNotFoundError(
      f'tfds:{wanted} is not prepared in {data_dir}{beside}, and cannot be '
      f'prepared here: {cause:.300}. Where TensorFlow is installed, run '
      f'`tfds build {wanted} --data_dir=DIR`, and give that DIR as data_dir.'
    ) from error


def _versions(home: Path) -> list[Path]:
  """Folders of versions, the newest last."""
  found = [path for path in home.glob('*.*.*') if _VERSION.fullmatch(path.name)]
  return sorted(found, key=lambda path: [*map(int, path.name.split('.'))])


def _default_config(wanted: Reference, home: Path) -> str | None:
  """TFDS's default of those that are prepared, or the only one."""
  held = sorted(path.name for path in home.glob('*') if _versions(path))
  with contextlib.suppress(OSError, ValueError):
    about = json.loads((home / '.config' / 'metadata.json').read_bytes())
    default = about.get('default_config_name')
    if default in held:
      return default
  if len(held) > 1:
    raise ValueError(
      f'{home} has the configurations {", ".join(held)}: say which, as in '
      f"'tfds:{wanted.name}/{held[0]}'."
    )
  return held[0] if held else None


def _official(wanted: Reference) -> Any:
  """TFDS's class of builders for a set."""
  import tensorflow_datasets as tfds

  try:
    official = tfds.builder_cls(wanted.name)
  except tfds.core.DatasetNotFoundError as error:
    known = tfds.list_builders(with_community_datasets=False)
    near = difflib.get_close_matches(wanted.name, known)
    hint = f'; did you mean {" or ".join(near)}?' if near else '.'
    raise ValueError(f'TFDS has no data set {wanted.name!r}{hint}') from error
  configs = [config.name for config in official.BUILDER_CONFIGS]
  if wanted.config and wanted.config not in configs:
    raise ValueError(
      f'tfds:{wanted.name} has no configuration {wanted.config!r}; expected '
      f'{", ".join(configs) or "none"}.'
    )
  return official


def _needs_tensorflow(official: Any) -> bool:
  """Whether its module has it at hand: known before anything is downloaded."""
  homes = {parent.__module__ for parent in official.__mro__}
  return any(
    hasattr(sys.modules[home], 'tf')
    for home in homes
    if not home.startswith('tensorflow_datasets.core')
  )


def _run(official: Any, wanted: Reference, data_dir: Path) -> None:
  import tensorflow_datasets as tfds

  unregistered = {'skip_registration': True}  # its name is the official one's

  class Builder(official, **unregistered):
    name = official.name
    # TFDS would look for it with a package that it does not require.
    code_path = tfds.core.Path(inspect.getfile(official))

    def _split_generators(self, dl_manager):
      dl_manager.iter_archive = _open_archive
      return super()._split_generators(dl_manager)

    def _generate_examples(self, *args, **kwargs):
      encoders = self.info.features
      for key, example in super()._generate_examples(*args, **kwargs):
        yield (
          key,
          {n: _for_pillow(value, encoders[n]) for n, value in example.items()},
        )

  builder = Builder(
    data_dir=data_dir,
    config=wanted.config,
    version=wanted.version,
    file_format='array_record',
  )
  builder.download_and_prepare(
    download_config=tfds.download.DownloadConfig(try_download_gcs=False)
  )


def _open_archive(archive: Any) -> Iterator[tuple[str, IO]]:
  """Names and contents of an archive's files, as TFDS has them."""
  import tensorflow_datasets as tfds

  if not isinstance(archive, tfds.download.Resource):
    archive = tfds.download.Resource(path=archive)
  with open(archive.path, 'rb') as stream:  # TFDS would with TensorFlow
    yield from tfds.download.iter_archive(stream, archive.extract_method)


def _for_pillow(value: Any, feature: Any) -> Any:
  """Pixels that TensorFlow would encode as PNG, for Pillow; else unchanged."""
  if not isinstance(value, np.ndarray) or value.dtype != np.uint8:
    return value
  if getattr(feature, 'encoding_format', 'none') not in (None, 'png'):
    return value
  return Image.fromarray(value[..., 0] if value.shape[-1] == 1 else value)
