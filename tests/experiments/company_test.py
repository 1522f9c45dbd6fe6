"""Tests of company: who comes, who does not, and who else does."""

import concurrent.futures
import socket
import threading
import time
from unittest import mock

from absl.testing import parameterized

from experiments.common import company
from tests.experiments.options_test import ended
from tests.running import hosts_test

WITH = {'num_processes': 2, 'process_id': 1}


class MeetTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    self.port = hosts_test.free_port()

  def place(self, process_id: int, number: int = 2) -> company.Place:
    return company.Place(f'127.0.0.1:{self.port}', number, process_id)

  def refused(self, place: company.Place) -> str:
    """What it says when it ends with 2."""
    code, _, err = ended(company.meet, place)
    self.assertEqual(code, 2)
    return err

  def test_all_come(self):
    """Each is connected to process 0, which knows who is who."""
    with concurrent.futures.ThreadPoolExecutor(3) as pool:
      places = [self.place(i, 3) for i in range(3)]
      first, *others = pool.map(company.meet, places)
    self.assertCountEqual(first.values(), [1, 2])
    for index, found in enumerate(others, 1):
      (other,) = found
      other.sendall(bytes([index]))
      other.close()
    for other, index in first.items():
      self.assertEqual(other.recv(1), bytes([index]))
      other.close()

  @mock.patch.object(company, '_PATIENCE', 0.5)
  def test_patience(self):
    """Nobody is waited for for ever, and it is said who."""
    first = self.refused(self.place(0, 4))
    self.assertIn('process 1, 2, 3 of 4 at 127.0.0.1', first)
    self.assertIn('process 0 at 127.0.0.1', self.refused(self.place(1)))

  def test_two_first(self):
    """The second process 0 of a machine finds the port taken."""
    with socket.create_server(('', self.port)):
      self.assertIn('another process 0?', self.refused(self.place(0)))

  def test_other_program(self):
    """It listens where process 0 should, and does not speak our language."""

    def answer():
      connection, _ = server.accept()
      with connection:
        connection.sendall(b'220 smtp.example.org ready\r\n')
        connection.recv(100)

    with socket.create_server(('127.0.0.1', self.port)) as server:
      threading.Thread(target=answer).start()
      self.assertIn('is another program', self.refused(self.place(1)))

  @mock.patch.object(company, '_PATIENCE', 30)
  def test_strangers_and_early_leavers(self):
    """A port scanner, and a process that was started again, harm nobody."""
    with concurrent.futures.ThreadPoolExecutor(3) as pool:
      found = [pool.submit(company.meet, self.place(0, 3))]
      time.sleep(1)  # until it listens
      for greeting in (
        b'GET / HTTP/1.1\r\n',
        b'ossgd: process 1 of 9',  # no end: dropped
        b'ossgd: process 1 of 3\n',  # gone before process 2 comes
      ):
        with socket.create_connection(('127.0.0.1', self.port)) as stranger:
          stranger.sendall(greeting)
          time.sleep(1)
      places = [self.place(i, 3) for i in (1, 2)]
      found += [pool.submit(company.meet, place) for place in places]
      for connections in found:
        for connection in connections.result(60):
          connection.close()

  @parameterized.parameters(
    ('', WITH, 'need --coordinator'),
    ('localhost:1', {}, 'expected --num_processes'),
    ('localhost:1', WITH | {'process_id': 2}, '--process_id below it'),
    ('localhost', WITH, 'expected HOST:PORT'),
    ('localhost:99999', WITH, 'expected HOST:PORT'),
    ('no.such.host.invalid:9', WITH, 'host.invalid: '),
    ('no..host:9', WITH, 'no..host: .*label'),
  )
  def test_flags(self, coordinator, numbers, message):
    """Said at once, with the exit code of a wrong command line."""
    flags = {'num_processes': None, 'process_id': None} | numbers
    joined = company.joined(coordinator, **flags)
    code, _, err = ended(joined.__enter__)
    self.assertEqual(code, 2)
    self.assertRegex(err, rf'\Aerror: [^\n]*{message}[^\n]*\n\Z')
