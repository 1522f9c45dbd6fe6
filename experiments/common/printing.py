"""Lines for whoever reads them, if anyone does."""

import contextlib
import io
import os
import sys
from typing import TextIO


def say(text: str) -> None:
  """Prints to stdout; a reader who has left or knows only ASCII is no fault."""
  _write(sys.stdout, text)


def warn(text: str) -> None:
  """The same to stderr."""
  _write(sys.stderr, text)


def _write(stream: TextIO | None, text: str) -> None:
  if stream is None or stream.closed:  # closed before this process began
    return
  encoding = getattr(stream, 'encoding', None) or 'utf-8'
  try:
    print(text.encode(encoding, 'replace').decode(encoding), file=stream)
    stream.flush()
  except OSError as error:
    # Else Python would try again when it ends, and complain.
    with (
      contextlib.suppress(io.UnsupportedOperation),
      open(os.devnull, 'w') as nowhere,
    ):
      os.dup2(nowhere.fileno(), stream.fileno())
    left = isinstance(error, BrokenPipeError)  # as `| head -1` does
    if not left and stream is not sys.stderr:
      warn(f'cannot print: {error.strerror}')
