"""Ends of streams: in the same segment as the data, from either side or both, while paused, with output queued."""

import os

import pytest

from support import Recorder, held, on_poller, sha256

pytestmark = pytest.mark.wires("plain", "tls", "tls 1.2, no FIN")

# Sizes around max_input, around the read of one turn of a connection, and around the reads of one batch.
SIZES = [1, 4095, 4096, 4097, 65_536, 65_537, 300_000]


class Collects(Recorder):
    """Keeps its input, and reports a hash of it with the end."""

    def __init__(self, events):
        super().__init__(events)
        self.data = bytearray()

    def on_read(self):
        self.data += self.read()

    def on_eof(self):
        self.events("eof", sha256(self.data))
        self.write(self.data)
        self.close()


@pytest.fixture(params=["tcp", "unix"])
def address(request, tmp_path):
    """Addresses of both kinds: on a Unix socket the hang-up comes with the data."""
    return "127.0.0.1:0" if request.param == "tcp" else f"unix:{tmp_path}/socket"


@pytest.mark.parametrize("size", SIZES)
def test_data_and_end_at_once_are_all_delivered_and_answered(start, events, address, size):
    data = os.urandom(size)
    server = start(lambda: Collects(events), address=address, max_input=4096)
    client = server.connect()
    with held(server.reactor):
        sent = client.fill(data)  # the bytes that the kernel takes before the poller reads
    client.send(data[sent:])
    client.finish()
    assert client.receive_all() == data
    client.close()
    assert events.until("close")[1] is None
    assert events.names == ["open", "eof", "close"]
    assert events.of("eof") == [("eof", sha256(data))]


def test_data_and_hang_up_at_once_are_delivered(start, events, address):
    """The peer has closed both directions; no answer can reach it."""
    data = os.urandom(50_000)

    class Reads(Recorder):
        def __init__(self, events):
            super().__init__(events)
            self.data = bytearray()

        def on_read(self):
            self.data += self.read()

        def on_close(self, error):
            self.events("close", bytes(self.data), error)

    server = start(lambda: Reads(events), address=address)
    client = server.connect()
    events.until("open")
    with held(server.reactor):
        client.send(data)
        client.close()
    assert events.until("close") == ("close", data, None)


@pytest.mark.parametrize("first", ["peer", "ours", "both"])
def test_both_ways_in_any_order(start, events, address, first):
    class Half(Recorder):
        def on_eof(self):
            self.events("eof")

    server = start(lambda: Half(events), address=address)
    client = server.connect()
    connection = events.until("open")[1]
    if first == "peer":
        client.finish()
        events.until("eof")
        on_poller(connection, lambda: (connection.write(b"still"), connection.shutdown_write()))
        assert client.receive_all() == b"still"
    elif first == "ours":
        on_poller(connection, lambda: (connection.write(b"still"), connection.shutdown_write()))
        assert client.receive_all() == b"still"
        client.send(b"going")
        assert events.until("read")[1] == b"going"
        client.finish()
        events.until("eof")
    else:
        with held(connection):
            client.finish()
            connection.call_soon(connection.shutdown_write)
        assert client.receive_all() == b""
    assert events.until("close")[1] is None
    assert events.names.count("close") == events.names.count("open") == 1
    assert events.names[-1] == "close"


def test_an_end_while_paused_waits_behind_the_input(start, events, address):
    class Pauses(Collects):
        def on_open(self):
            self.pause_reading()
            self.events("open", self)

    data = os.urandom(10_000)
    server = start(lambda: Pauses(events), address=address)
    client = server.connect()
    connection = events.until("open")[1]
    client.send(data)
    client.finish()
    on_poller(connection, connection.resume_reading)
    assert client.receive_all() == data
    assert events.until("eof")[1] == sha256(data)


def test_an_end_with_output_queued_does_not_cut_the_output(start, events, address):
    answer = os.urandom(5_000_000)

    class Answers(Recorder):
        def on_read(self):
            self.read()
            self.write(answer)

    server = start(lambda: Answers(events), address=address)
    client = server.connect()
    client.send(b"?")
    client.finish()  # Answers has no on_eof: the connection is flushed, then closed
    assert client.hash_all() == (len(answer), sha256(answer))
    client.close()
    assert events.until("close")[1] is None
