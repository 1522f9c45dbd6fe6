"""Several processes find each other, before JAX's runtime begins.

Process 0 listens where --coordinator says, the others come and tell who they
are. JAX would wait for minutes, in silence and deaf to signals, where one of
them is missing or there twice; here all hear of it in one line. The
connections stay (`company`), the port is JAX's again.
"""

import contextlib
import json
import selectors
import socket
import time
from typing import NamedTuple, NoReturn

from . import options, printing

_PATIENCE = 300.0  # seconds until all must have come; JAX's own
_SILENCE = 3.0  # seconds until it is said what is waited for
_LONGEST = 4096  # bytes of a greeting


class Place(NamedTuple):
  """Who this process is among how many, and where they meet."""

  host: str
  port: int
  num_processes: int
  process_id: int

  def fail(self, message: str) -> NoReturn:
    """Ends this process as a wrong command line does."""
    options.fail(f'--coordinator={self.host}:{self.port}: {message}')


def meet(place: Place, patience: float = _PATIENCE) -> dict[int, socket.socket]:
  """Connections to the others by index: process 0's to all, theirs to it."""
  wait = _Wait(place, patience)
  if place.process_id == 0:
    return _receive(place, wait)
  return {0: _visit(place, wait)}


class _Wait:
  """Time that passes, and the line that says for whom."""

  def __init__(self, place: Place, patience: float):
    self._place = place
    self._begin, self._end = time.monotonic(), time.monotonic() + patience
    self._said = ''

  def check(self, what: str) -> None:
    """Says once what is waited for, and gives up in the end."""
    now = time.monotonic()
    if now > self._end:
      seconds = self._end - self._begin
      self._place.fail(f'{what} did not come in {seconds:.0f} s')
    if now > self._begin + _SILENCE and what != self._said:
      printing.warn(f'waiting for {what}')
      self._said = what


def _receive(place: Place, wait: _Wait) -> dict[int, socket.socket]:
  """Process 0: waits until all have come."""
  dual = socket.has_dualstack_ipv6()
  try:
    listener = socket.create_server(
      ('', place.port),
      family=socket.AF_INET6 if dual else socket.AF_INET,
      dualstack_ipv6=dual,
      backlog=place.num_processes,
    )
  except OSError as error:
    place.fail(
      f'process 0 cannot listen on port {place.port}: {error.strerror}; is '
      'there another process 0?'
    )
  came: dict[int, socket.socket] = {}
  with listener, selectors.DefaultSelector() as selector:
    listener.settimeout(_SILENCE)
    selector.register(listener, selectors.EVENT_READ)
    while len(came) < place.num_processes - 1:
      missing = sorted({*range(1, place.num_processes)} - came.keys())
      wait.check(
        f'process {", ".join(map(str, missing))} of {place.num_processes} at '
        f'{place.host}:{place.port}'
      )
      for key, _ in selector.select(0.2):
        if key.fileobj is listener:
          _welcome(place, listener, came, selector)
        else:  # it has nothing to say, so it has gone: another may come
          selector.unregister(key.fileobj)
          came.pop(key.data).close()
  for connection in came.values():
    _tell(connection, {'error': ''})
  return came


def _welcome(
  place: Place,
  listener: socket.socket,
  came: dict[int, socket.socket],
  selector: selectors.BaseSelector,
) -> None:
  """Hears who comes; whoever does not fit ends all."""
  connection, _ = listener.accept()
  greeting = _hear(connection)
  if greeting is None or 'process_id' not in greeting:
    connection.close()  # none of ours
    return
  index, number = greeting['process_id'], greeting['num_processes']
  problem = ''
  if number != place.num_processes:
    problem = (
      f'process {index} has --num_processes={number}, process 0 '
      f'--num_processes={place.num_processes}'
    )
  elif index in came:
    problem = f'two processes have --process_id={index}'
  if problem:
    for other in (connection, *came.values()):
      _tell(other, {'error': problem})
    place.fail(problem)
  came[index] = connection
  selector.register(connection, selectors.EVENT_READ, index)


def _visit(place: Place, wait: _Wait) -> socket.socket:
  """Every other process: goes to process 0, and waits to be sent on."""
  try:
    socket.getaddrinfo(place.host, place.port)
  except OSError as error:
    place.fail(f'{place.host}: {error.strerror}')
  at = f'{place.host}:{place.port}'
  while True:
    wait.check(f'process 0 at {at}')
    with contextlib.suppress(OSError):
      connection = socket.create_connection((place.host, place.port), timeout=2)
      break
    time.sleep(0.2)
  _tell(
    connection,
    {'process_id': place.process_id, 'num_processes': place.num_processes},
  )
  with selectors.DefaultSelector() as selector:
    selector.register(connection, selectors.EVENT_READ)
    while not selector.select(0.2):
      wait.check(f'the other processes at {at}')
  answer = _hear(connection)
  if answer is None or 'error' not in answer:
    place.fail(
      'what listens there is no process 0 that waits for others: it has '
      'ended, has begun without this process, or is another program'
    )
  if answer['error']:
    place.fail(answer['error'])
  return connection


def _tell(connection: socket.socket, message: dict) -> None:
  """Sends a line; whoever has gone does not hear it."""
  with contextlib.suppress(OSError):
    connection.sendall(json.dumps(message).encode() + b'\n')


def _hear(connection: socket.socket) -> dict | None:
  """The line that the other one sends, or None."""
  connection.settimeout(_SILENCE)
  line = b''
  try:
    while not line.endswith(b'\n') and len(line) < _LONGEST:
      byte = connection.recv(1)  # what follows is not ours to read
      if not byte:
        return None
      line += byte
    message = json.loads(line)
  except (OSError, ValueError):
    return None
  return message if isinstance(message, dict) else None
