"""Scripts in forked processes, which find done what all of them import."""

import json
import pathlib
import subprocess
import sys
from collections.abc import Iterable

# Reads [[folder, script], ...] and writes what each script prints.
_SERVER = """
import importlib, json, os, sys
for name in sys.argv[1:]:
  importlib.import_module(name)
said = []
for folder, script in json.load(sys.stdin):
  heard, told = os.pipe()
  child = os.fork()
  if not child:
    os.dup2(told, 1)
    os.chdir(folder)
    sys.path.insert(0, folder)
    exec(script)
    sys.stdout.flush()
    os._exit(0)
  os.close(told)
  with os.fdopen(heard) as file:
    said.append(file.read())
  if os.waitpid(child, 0)[1]:
    sys.exit(f'{folder}: {script}')
print(json.dumps(said))
"""


def printed(
  scripts: Iterable[tuple[pathlib.Path, str]],
  imports: Iterable[str],
  path: str = '',
) -> list[str]:
  """What each script prints, in a process of its own that begins in a folder.

  Args:
    scripts: folders, where modules are found first of all, and scripts.
    imports: modules that all have imported when they begin.
    path: where else modules are found.
  """
  run = subprocess.run(
    [sys.executable, '-c', _SERVER, *imports],
    input=json.dumps([(str(folder), script) for folder, script in scripts]),
    env={'PYTHONPATH': path, 'JAX_PLATFORMS': 'cpu'},
    capture_output=True,
    text=True,
    check=False,
  )
  assert run.returncode == 0, run.stderr
  return json.loads(run.stdout)
