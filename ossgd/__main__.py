"""`ossgd NAME --flags` and `python -m ossgd NAME --flags`: the scripts."""

import importlib
import sys


def main() -> None:
  """Runs the script of that name with the rest of the command line."""
  try:
    scripts = importlib.import_module('ossgd.experiments.common.scripts')
  except ModuleNotFoundError:
    sys.exit('error: in a checkout use python -m experiments.NAME --flags')
  names = scripts.names()
  name = sys.argv[1] if len(sys.argv) > 1 else ''
  if name not in names:
    known = name in ('-h', '--help')
    told = 'usage' if known else f'error: there is no script {name!r}; expected'
    print(
      f'{told}: ossgd NAME --flags, NAME one of {", ".join(names)}',
      file=sys.stdout if known else sys.stderr,
    )
    sys.exit(0 if known else 2)
  scripts.load(name).main(sys.argv[1:])


if __name__ == '__main__':
  main()
