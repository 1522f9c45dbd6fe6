"""Several processes that work together: none is left waiting for one gone."""

import contextlib
import os
import selectors
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from typing import NoReturn

import jax

from ossgd.running import watching

from . import meeting, options, printing

_SILENCE = 30  # seconds until JAX takes another process for dead
_GRACE = 30.0  # seconds in which a process ends by itself when another has
_ALIVE = (  # notices in 25 s that a machine is off the network
  (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
  (socket.IPPROTO_TCP, getattr(socket, 'TCP_KEEPIDLE', 4), 10),
  (socket.IPPROTO_TCP, getattr(socket, 'TCP_KEEPINTVL', 5), 5),
  (socket.IPPROTO_TCP, getattr(socket, 'TCP_KEEPCNT', 6), 3),
)


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
    _initialize(coordinator, None, None, None)
    yield
    return
  place = _place(coordinator, num_processes, process_id)
  connections = meeting.meet(place)
  watch = _Watch(connections)
  _initialize(coordinator, coordinator, num_processes, process_id)
  with watch.until_the_end():
    yield


def _place(
  coordinator: str, num_processes: int | None, process_id: int | None
) -> meeting.Place:
  """Checked flags."""
  if num_processes is None or process_id is None or process_id >= num_processes:
    options.fail(
      f'--coordinator={coordinator}: expected --num_processes and a '
      '--process_id below it'
    )
  host, _, port = coordinator.rpartition(':')
  if not host or not port.isdecimal() or not 0 < int(port) < 1 << 16:
    options.fail(
      f'--coordinator={coordinator}: expected HOST:PORT, such as '
      'localhost:8476, or auto'
    )
  return meeting.Place(host.strip('[]'), int(port), num_processes, process_id)


def _initialize(
  name: str, address: str | None, number: int | None, index: int | None
) -> None:
  """JAX's runtime, in a thread: it waits deaf to signals."""
  failed: list[Exception] = []

  def work():
    try:
      jax.distributed.initialize(
        address, number, index, heartbeat_timeout_seconds=_SILENCE
      )
    except Exception as error:
      failed.append(error)

  thread = threading.Thread(target=work, daemon=True)
  thread.start()
  while thread.is_alive():
    thread.join(0.1)
  for error in failed:
    if name == 'auto':
      options.fail(
        f'--coordinator=auto: no cluster that JAX knows ({error}); give '
        '--coordinator=HOST:PORT, --num_processes and --process_id'
      )
    options.fail(f'--coordinator={name}: {error}')


class _Watch:
  """A thread that hears of the others' end."""

  def __init__(self, connections: dict[int, socket.socket]):
    self._connections = connections
    self._ended: dict[int, int] = {}  # exit status of those that said goodbye
    for connection in connections.values():
      connection.settimeout(None)
      for option in _ALIVE:
        with contextlib.suppress(OSError):
          connection.setsockopt(*option)
    self._thread = threading.Thread(target=self._listen, daemon=True)
    self._thread.start()

  @contextlib.contextmanager
  def until_the_end(self) -> Iterator[None]:
    """Says goodbye to the others, unless this process fails."""
    try:
      yield
    except SystemExit as end:
      self._say_goodbye(end.code if isinstance(end.code, int) else 1)
      raise
    except watching.Stopped as stopped:
      self._say_goodbye(128 + signal.Signals[str(stopped)])
      raise
    except Exception:
      time.sleep(2)  # because another has gone? then that is what is told
      raise
    self._say_goodbye(0)
    if 0 in self._connections:
      self._thread.join()
      if self._ended[0]:
        options.fail('process 0 has refused; it says why')

  def _say_goodbye(self, status: int) -> None:
    for connection in self._connections.values():
      with contextlib.suppress(OSError):
        connection.sendall(bytes([status]))

  def _listen(self) -> None:
    """Ends this process if another one has, and this one does not follow."""
    with selectors.DefaultSelector() as selector:
      for index, connection in self._connections.items():
        selector.register(connection, selectors.EVENT_READ, index)
      while len(self._ended) < len(self._connections):
        for key, _ in selector.select():
          status = _received(self._connections[key.data])
          if status is None:
            _end(f'process {key.data} has ended before its time', 1)
          self._ended[key.data] = status
          selector.unregister(key.fileobj)
          if status:
            threading.Timer(
              _GRACE, _end, (f'process {key.data} has ended', status)
            ).start()


def _received(connection: socket.socket) -> int | None:
  """Another's exit status, or None: it was killed, or lost."""
  with contextlib.suppress(OSError):
    for status in connection.recv(1):
      return status
  return None


def _end(message: str, status: int) -> NoReturn:
  """Whatever the main thread waits for."""
  printing.warn(
    f'{message}, and this one with it; what is finished is kept, to go on '
    'start all of them again'
  )
  sys.stdout and sys.stdout.flush()
  os._exit(status)
