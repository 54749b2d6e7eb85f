"""Slow readers and slow senders: they get every byte, delay no other, and cost no more memory than configured."""

import hashlib
import os
import threading
import time

import pytest

from support import Client, Echo, Recorder, eventually, in_thread, resident, sha256

pytestmark = pytest.mark.wires("plain", "tls")

MEGABYTE = 1 << 20


def test_a_slow_reader_costs_what_is_configured_and_gets_every_byte(start, events, wire):
    """The handler writes only while the connection takes output: at most high_water and one piece wait."""
    piece, pieces = os.urandom(MEGABYTE), 100 if wire.is_secure else 300

    class Streams(Recorder):
        def on_open(self):
            self.left = pieces
            self.events("open", self)
            self.on_drain()

        def on_drain(self):
            while self.left and not self.over_high_water:
                self.left -= 1
                self.write(piece)
            if not self.left:
                self.close()

    server = start(lambda: Streams(events), high_water=2 * MEGABYTE, low_water=MEGABYTE, max_output=4 * MEGABYTE)
    before = resident()
    client = server.connect(receive_buffer=65_536)
    connection = events.until("open")[1]
    eventually(lambda: connection.left < pieces and resident() - before < 8 * MEGABYTE, "it waits for the reader")
    left = connection.left
    assert left > pieces - 20, "the reader's slowness is felt"
    digest, highest, count = hashlib.sha256(), 0, 0
    while part := client.socket.recv(MEGABYTE):
        digest.update(part)
        count += len(part)
        highest = max(highest, resident() - before)
    assert count == pieces * MEGABYTE
    expected = hashlib.sha256()
    for _ in range(pieces):
        expected.update(piece)
    assert digest.digest() == expected.digest()
    assert highest < 16 * MEGABYTE, "of all that only the configured few were in memory"
    client.close()
    assert events.until("close")[1] is None


def test_a_slow_reader_holds_up_nobody_else(start, events):
    class Floods(Echo):
        def on_read(self):
            if self.peek(1) == b"!":
                self.read()
                self.write(bytes(30 * MEGABYTE))
            else:
                super().on_read()

    server = start(Floods)
    slow = server.connect(receive_buffer=4096)
    slow.send(b"!")
    slow.receive(1)
    client = server.connect()
    began = time.monotonic()
    for _ in range(200):
        assert client.ask(b"ping") == b"ping"
    assert time.monotonic() - began < 2.0


def test_a_sender_of_single_bytes_gets_its_line_answered(start):
    class Lines(Echo):
        def on_read(self):
            while line := self.read_until(b"\n"):
                self.write(line)

    server = start(Lines)
    client = server.connect()
    line = os.urandom(300).replace(b"\n", b".") + b"\n"
    for index in range(len(line)):
        client.send(line[index : index + 1])
    assert client.receive(len(line)) == line


@pytest.mark.timeout(60)
@pytest.mark.parametrize("by", ["poller", "thread"])
def test_a_hundred_megabytes_through_a_send_buffer_of_four_kilobytes(start, events, by, tmp_path):
    """Partial writes throughout, of pieces of all kinds: copied, held by reference, views, a file."""
    block = os.urandom(MEGABYTE)
    file = tmp_path / "block"
    file.write_bytes(block)
    kinds = [bytes, bytearray, memoryview, lambda data: data[: MEGABYTE // 2]]
    pieces = [kinds[index % 4](block) for index in range(106)]
    expected, length = hashlib.sha256(), 0
    for piece in pieces:
        expected.update(piece)
        length += len(piece)
    if by == "poller":
        expected.update(block)
        length += len(block)

    class Sends(Recorder):
        def on_open(self):
            self.events("open", self)
            if by == "poller":
                for piece in pieces:
                    self.write(piece)
                with file.open("rb") as opened:
                    self.sendfile(opened)
                self.close()

    server = start(lambda: Sends(events), send_buffer_size=4096, max_output=200 * MEGABYTE)
    client = server.connect(receive_buffer=65_536)
    connection = events.until("open")[1]
    if by == "thread":

        def send() -> None:
            for piece in pieces:
                connection.write(piece)
            connection.close()

        in_thread(send).result(10)
    assert client.hash_all() == (length, expected.hexdigest())
    client.close()
    assert events.until("close")[1] is None


@pytest.mark.timeout(120)
def test_fifty_slow_senders_and_readers_are_served_side_by_side(start):
    """With so small a window the kernel may fall to one segment in 200 ms, for tens of seconds."""
    data = os.urandom(100_000)
    server = start(Echo, pollers=2)
    clients = [server.connect(receive_buffer=4096) for _ in range(50)]
    wrong: list[int] = []

    def talk(client: Client) -> None:
        sender = in_thread(lambda: [client.send(data[at : at + 997]) for at in range(0, len(data), 997)])
        received = client.receive(len(data))
        sender.result(10)
        if sha256(received) != sha256(data):
            wrong.append(len(received))

    threads = [threading.Thread(target=talk, args=[client]) for client in clients]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(100)
        assert not thread.is_alive()
    assert wrong == []
