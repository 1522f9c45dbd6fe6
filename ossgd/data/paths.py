"""Names of files and folders that users give."""

import os
import re


def check_local(path: str | os.PathLike[str]) -> None:
  """Raises ValueError for the address of a bucket or of a server.

  Python would make a folder of that name below the one it is in.
  """
  if re.match(r'[A-Za-z][A-Za-z0-9+.-]+:/', str(path)):  # C:/ is a drive
    raise ValueError(
      f'{path} is an address; expected a folder of this machine: mount the '
      'bucket, for example with gcsfuse, or copy from and to it'
    )
