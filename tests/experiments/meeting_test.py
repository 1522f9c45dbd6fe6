"""Tests of meeting: who comes, who does not, and who else does."""

import concurrent.futures
import contextlib
import io
import socket
import threading

from absl.testing import absltest

from experiments.common import meeting
from tests.running import hosts_test


class MeetingTest(absltest.TestCase):
  def setUp(self):
    super().setUp()
    self.port = hosts_test.free_port()

  def place(self, process_id: int, number: int = 2) -> meeting.Place:
    return meeting.Place('127.0.0.1', self.port, number, process_id)

  def refused(self, place: meeting.Place, patience: float) -> str:
    """What it says when it ends with 2."""
    with (
      contextlib.redirect_stderr(io.StringIO()) as err,
      self.assertRaises(SystemExit) as end,
    ):
      meeting.meet(place, patience)
    self.assertEqual(end.exception.code, 2)
    return err.getvalue()

  def test_all_come(self):
    """Each is connected to process 0, which knows who is who."""
    with concurrent.futures.ThreadPoolExecutor(3) as pool:
      first, *others = pool.map(
        lambda i: meeting.meet(self.place(i, 3), 60), range(3)
      )
    self.assertCountEqual(first, [1, 2])
    for index, found in enumerate(others, 1):
      found[0].sendall(bytes([index]))
      self.assertEqual(first[index].recv(1), bytes([index]))
    for connection in (*first.values(), *(found[0] for found in others)):
      connection.close()

  def test_patience(self):
    """Nobody is waited for for ever, and it is said who."""
    first = self.refused(self.place(0, 4), 0.5)
    self.assertIn('process 1, 2, 3 of 4 at 127.0.0.1', first)
    self.assertIn('process 0 at 127.0.0.1', self.refused(self.place(1), 0.5))

  def test_two_first(self):
    """The second process 0 of a machine finds the port taken."""
    with socket.create_server(('', self.port)):
      self.assertIn('another process 0?', self.refused(self.place(0), 5))

  def test_other_program(self):
    """It listens where process 0 should, and does not speak our language."""

    def answer():
      connection, _ = server.accept()
      with connection:
        connection.sendall(b'220 smtp.example.org ready\r\n')
        connection.recv(100)

    with socket.create_server(('127.0.0.1', self.port)) as server:
      threading.Thread(target=answer).start()
      self.assertIn('is another program', self.refused(self.place(1), 5))

  def test_strangers_and_early_leavers(self):
    """A port scanner, and a process that was started again, harm nobody."""

    def visit():
      for greeting in (
        b'GET / HTTP/1.1\r\n',
        b'{"process_id": 1, "num_processes": 3}',  # no end: dropped
      ):
        with socket.create_connection(('127.0.0.1', self.port)) as stranger:
          stranger.sendall(greeting)
          pause.wait(1)
      return meeting.meet(self.place(1), 30)

    pause = threading.Event()
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
      first = pool.submit(meeting.meet, self.place(0), 60)
      pause.wait(1)  # until it listens
      second = pool.submit(visit)
      ((_, one),) = first.result(60).items()
      one.close()
      second.result(60)[0].close()
