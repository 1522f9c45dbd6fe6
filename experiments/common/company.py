"""Several processes that work together: they meet, and end together.

Process 0 listens where --coordinator says, the others come and tell who they
are, before JAX's runtime begins there. JAX would wait for minutes, in silence
and deaf to signals, where one of them is missing or there twice; here all hear
of it in one line. The connections stay, and the port is JAX's again: whoever
ends says goodbye, and whoever is gone without it ends the others.
"""

import contextlib
import os
import re
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from multiprocessing import connection
from typing import Any, NamedTuple, NoReturn

import jax

from . import options, printing

_PATIENCE = 300.0  # seconds until all must have come; JAX's own
_SILENCE = 3.0  # seconds until it is said what is waited for
_HEARTBEAT = 30  # seconds until JAX takes another process for dead
_GRACE = 30.0  # seconds in which a process ends by itself when another has
_DONE, _REFUSED = 'done', 'refused'  # goodbyes


class Place(NamedTuple):
  """Where several processes meet, and who this one is among how many."""

  coordinator: str  # HOST:PORT
  num_processes: int
  process_id: int

  def address(self) -> tuple[str, int]:
    """Host and port of process 0."""
    host, _, port = self.coordinator.rpartition(':')
    return host.strip('[]'), int(port)

  def fail(self, message: str) -> NoReturn:
    """Ends this process as a wrong command line does."""
    options.fail(f'--coordinator={self.coordinator}: {message}')


@contextlib.contextmanager
def joined(
  coordinator: str, num_processes: int | None, process_id: int | None
) -> Iterator[None]:
  """This process is one of several; call it before a device is asked for.

  Whoever ends early ends the others, with one line each.
  """
  if not coordinator:
    if num_processes is not None or process_id is not None:
      options.fail('--num_processes and --process_id need --coordinator')
    yield
    return
  if coordinator == 'auto':
    _initialize()
    yield
    return
  place = _place(coordinator, num_processes, process_id)
  others = meet(place)
  refused: list[int] = []
  thread = threading.Thread(target=_listen, args=(others, refused), daemon=True)
  thread.start()
  _initialize(*place)
  try:
    yield
  except Exception:
    time.sleep(2)  # because another has gone? then that is what is told
    raise
  except BaseException:  # it has refused, or was asked to stop
    _tell(others, _REFUSED)
    raise
  _tell(others, _DONE)
  if process_id:
    thread.join()
    if refused:
      options.fail('process 0 has refused; it says why')


def _place(
  coordinator: str, num_processes: int | None, process_id: int | None
) -> Place:
  """Checked flags."""
  if num_processes is None or process_id is None or process_id >= num_processes:
    options.fail(
      f'--coordinator={coordinator}: expected --num_processes and a '
      '--process_id below it'
    )
  place = Place(coordinator, num_processes, process_id)
  host, _, port = coordinator.rpartition(':')
  if not host or not port.isdecimal() or not 0 < int(port) < 1 << 16:
    place.fail('expected HOST:PORT, such as localhost:8476, or auto')
  return place


def _initialize(
  coordinator: str | None = None,
  num_processes: int | None = None,
  process_id: int | None = None,
) -> None:
  """JAX's runtime, in a thread: it waits deaf to signals."""
  failed: list[Exception] = []

  def work():
    try:
      jax.distributed.initialize(
        coordinator,
        num_processes,
        process_id,
        heartbeat_timeout_seconds=_HEARTBEAT,
      )
    except Exception as error:
      failed.append(error)

  thread = threading.Thread(target=work, daemon=True)
  thread.start()
  while thread.is_alive():
    thread.join(0.1)
  for error in failed:
    if coordinator is None:
      options.fail(
        f'--coordinator=auto: no cluster that JAX knows ({error}); give '
        '--coordinator=HOST:PORT, --num_processes and --process_id'
      )
    options.fail(f'--coordinator={coordinator}: {error}')


def meet(place: Place) -> dict[socket.socket, int]:
  """Connections and who is there: process 0's to all, theirs to it."""
  return {_visit(place): 0} if place.process_id else _receive(place)


def _waiting(place: Place, whom: Callable[[], str]) -> Iterator[None]:
  """Goes on until patience ends; says once what is waited for."""
  begin, said = time.monotonic(), ''
  while (waited := time.monotonic() - begin) < _PATIENCE:
    if waited > _SILENCE and said != whom():
      said = whom()
      printing.warn(f'waiting for {said}')
    yield
  place.fail(f'{whom()} did not come in {_PATIENCE:.0f} s')


def _receive(place: Place) -> dict[socket.socket, int]:
  """Process 0: waits until all have come."""
  dual = socket.has_dualstack_ipv6()
  _, port = place.address()
  try:
    listener = socket.create_server(
      ('', port),
      family=socket.AF_INET6 if dual else socket.AF_INET,
      dualstack_ipv6=dual,
      backlog=place.num_processes,
    )
  except OSError as error:
    place.fail(
      f'process 0 cannot listen on port {port}: {error.strerror}; is there '
      'another process 0?'
    )
  came: dict[socket.socket, int] = {}
  ready: Any

  def missing():
    indices = sorted({*range(1, place.num_processes)} - {*came.values()})
    return (
      f'process {", ".join(map(str, indices))} of {place.num_processes} at '
      f'{place.coordinator}'
    )

  with listener:
    for _ in _waiting(place, missing):
      if len(came) == place.num_processes - 1:
        break
      for ready in connection.wait([*came, listener], 0.2):
        if ready in came:  # it has nothing to say, so it has gone
          came.pop(ready)
          ready.close()
        else:  # perhaps that one, started again
          _welcome(place, listener.accept()[0], came)
  _tell(came, '')
  return came


def _welcome(
  place: Place, visitor: socket.socket, came: dict[socket.socket, int]
) -> None:
  """Hears who comes; whoever does not fit ends all."""
  greeting = re.fullmatch(r'process (\d+) of (\d+)', _hear(visitor) or '')
  if greeting is None:
    visitor.close()  # none of ours
    return
  index, number = map(int, greeting.groups())
  problem = ''
  if number != place.num_processes:
    problem = (
      f'process {index} has --num_processes={number}, process 0 '
      f'--num_processes={place.num_processes}'
    )
  elif index in came.values():
    problem = f'two processes have --process_id={index}'
  came[visitor] = index
  if problem:
    _tell(came, problem)
    place.fail(problem)


def _visit(place: Place) -> socket.socket:
  """Every other process: goes to process 0, and waits to be sent on."""
  host, port = place.address()
  try:
    socket.getaddrinfo(host, port)
  except (OSError, UnicodeError) as error:
    place.fail(f'{host}: {getattr(error, "strerror", error)}')
  at = place.coordinator
  for _ in _waiting(place, lambda: f'process 0 at {at}'):
    with contextlib.suppress(OSError):
      first = socket.create_connection((host, port), timeout=2)
      break
    time.sleep(0.2)
  _tell([first], f'process {place.process_id} of {place.num_processes}')
  for _ in _waiting(place, lambda: f'the other processes at {at}'):
    if connection.wait([first], 0.2):
      break
  problem = _hear(first)
  if problem is None:
    place.fail(
      'what listens there is no process 0 that waits for others: it has '
      'ended, has begun without this process, or is another program'
    )
  if problem:
    place.fail(problem)
  return first


def _tell(others: Iterable[socket.socket], text: str) -> None:
  """Sends a line; whoever has gone does not hear it."""
  for other in others:
    with contextlib.suppress(OSError):
      other.sendall(f'ossgd: {text}\n'.encode())


def _hear(other: socket.socket) -> str | None:
  """The line that the other one sends, if it is one of ours."""
  other.settimeout(_SILENCE)
  with contextlib.suppress(OSError), other.makefile('rb') as file:
    line = re.fullmatch(rb'ossgd: (.*)\n', file.readline(1 << 12))
    return line and line[1].decode(errors='replace')
  return None


def _listen(others: dict[socket.socket, int], refused: list[int]) -> None:
  """Ends this process if another one has, and this one does not follow."""
  waiting = dict(others)
  ready: Any
  while waiting:
    for ready in connection.wait(list(waiting)):
      index, goodbye = waiting.pop(ready), _hear(ready)
      if goodbye is None:
        _end(f'process {index} has ended before its time', 1)
      if goodbye == _REFUSED:
        refused.append(index)
        told = f'process {index} has ended'
        threading.Timer(_GRACE, _end, [told, 2]).start()


def _end(reason: str, status: int) -> NoReturn:
  """Whatever the main thread waits for."""
  printing.warn(
    f'{reason}, and this one with it; what is finished is kept, to go on '
    'start all of them again'
  )
  os._exit(status)
