"""Faults that only a layer between the socket and the buffers can have: it holds input of which no event of the poll
tells, and the last word may find the socket full.
"""

import hashlib
import os
import random
import socket
import ssl
import threading

import pytest
from wires import SecureSocket

import goev
from support import PATIENCE, Echo, Recorder, eventually, held, in_thread, on_poller, settle, sha256

pytestmark = pytest.mark.wires("tls")


class Counts(Recorder):
    """Reports the bytes that came, as a hash."""

    def __init__(self, events, step=None):
        super().__init__(events)
        self.digest, self.count, self.step = hashlib.sha256(), 0, step

    def on_open(self):
        self.events("open", self)

    def on_read(self):
        data = self.read() if self.step is None else self.read(self.step)
        self.digest.update(data)
        self.count += len(data)
        self.events("count", self.count, self.digest.hexdigest())


# --- input ---


@pytest.mark.parametrize("max_input", [100, 5000, 16_384, 65_536, 262_144])
@pytest.mark.parametrize("size", [50_000, 100_000, 200_000, 300_000])
def test_all_that_came_is_delivered_though_the_peer_sends_no_more(start, events, size, max_input):
    """The peer has sent everything before it is read: no event comes for the rest, and it does not end its stream."""
    data = random.Random(size).randbytes(size)
    server = start(lambda: Counts(events), max_input=max_input, receive_buffer_size=1 << 20)
    client = server.connect()
    events.until("open")
    with held(server.reactor):
        assert client.fill(data) == size
    while events.until("count")[1] < size:
        pass
    assert events.history[-1][2] == sha256(data)


@pytest.mark.parametrize("step", [1000, 20_000])
def test_what_a_pause_held_back_in_the_machine_comes_when_it_is_over(start, events, step):
    """The handler takes a step and pauses: nothing comes until it resumes, and then no event is needed."""

    class Pauses(Counts):
        def on_read(self):
            super().on_read()
            self.pause_reading()

    data = os.urandom(200_000)
    server = start(lambda: Pauses(events, step), max_input=30_000, receive_buffer_size=1 << 20)
    client = server.connect()
    connection = events.until("open")[1]
    with held(server.reactor):
        assert client.fill(data) == len(data)
    while (came := events.until("count"))[1] < len(data):
        settle(connection, 2)
        assert events.history[-1] is came, "it is paused"
        on_poller(connection, connection.resume_reading)
    assert came[2] == sha256(data)


@pytest.mark.wires("tls", "tls 1.2, no FIN")
@pytest.mark.parametrize("size", [0, 1, 20_000, 100_000])
def test_a_last_word_behind_the_data_in_one_read_ends_the_input(start, events, size):
    class Stays(Counts):
        def on_eof(self):
            self.events("eof", self.count)

    server = start(lambda: Stays(events))
    client = server.connect()
    events.until("open")
    with held(server.reactor):
        client.send(bytes(size))
        client.finish()
    assert events.until("eof")[1] == size


def test_what_came_before_a_broken_record_is_delivered(start, events):
    """Both in one read. The peer gets the alert."""
    server = start(lambda: Counts(events))
    client = server.connect()
    events.until("open")
    with held(server.reactor):
        client.send(b"good")
        client.socket.raw.sendall(b"\x17\x03\x03\x00\x20" + bytes(32))
    assert events.next()[:2] == ("count", 4)
    error = events.until("close")[1]
    assert isinstance(error, goev.tls.Error)
    assert not isinstance(error, goev.tls.TruncatedError)
    with pytest.raises(ssl.SSLError, match=r"(?i)bad.record.mac"):
        client.receive_all()


def test_what_came_before_the_cut_of_a_stream_is_delivered(start, events):
    server = start(lambda: Counts(events))
    client = server.connect()
    events.until("open")
    with held(server.reactor):
        client.send(bytes(50_000))
        client.socket.raw.sendall(b"\x17\x03\x03\x00\x20" + bytes(3))
        client.socket.break_off()
    error = events.until("close")[1]
    assert isinstance(error, goev.tls.TruncatedError)
    assert events.of("count")[-1][1] == 50_000
    assert "eof" not in events.names


def test_a_client_that_writes_and_closes_without_having_read_its_tickets_is_heard(stack, reactor, events, root):
    """TLS 1.3: its kernel answers our tickets with a reset, behind what it has sent."""

    class Stays(Counts):
        def on_eof(self):
            self.events("eof", self.count)
            self.close()

    identity = root.issue("localhost")
    context = goev.tls.ServerContext(identity.chain, identity.key, tickets=True)
    trusting = ssl.create_default_context(cadata=root.pem.decode())
    acceptor = goev.Acceptor(reactor, "127.0.0.1:0", lambda: Stays(events), tls=context)
    for _ in range(20):
        client = SecureSocket(socket.create_connection(acceptor.address, PATIENCE), trusting)
        client.sendall(b"x" * 30_000)
        client.close()
        assert events.until("eof")[1] == 30_000


# --- output ---


@pytest.mark.parametrize("end", ["close", "shutdown_write"])
def test_the_last_word_waits_for_room_in_a_socket_that_is_full(start, events, end):
    """All output has left, and the socket has no room for the last word, which comes later."""

    class Opens(Recorder):
        def on_open(self):
            self.events("open", self)

    server = start(lambda: Opens(events), send_buffer_size=4096, linger_timeout=5)

    def fill(most: int):
        """Write records, each in a batch of its own, until one waits or there are so many."""
        client = server.connect(receive_buffer=4096)
        connection = events.until("open")[1]
        count = 0
        while count < most and on_poller(connection, lambda: connection.pending_output) == 0:
            on_poller(connection, connection.write, b"x" * 1000)
            count += 1
        return client, connection, count

    fits = fill(10_000)[2] - 1
    for count in range(fits - 2, fits + 1):
        client, connection, _ = fill(count)
        settle(connection)
        if on_poller(connection, lambda connection=connection: connection.pending_output):
            continue
        on_poller(connection, getattr(connection, end))
        settle(server.reactor)
        assert len(client.receive_all()) == 1000 * count  # raises without close_notify
        client.close()


def test_a_connection_that_both_sides_have_finished_ends_though_the_peer_keeps_the_socket(start, events):
    class Finishes(Recorder):
        def on_eof(self):
            self.events("eof")
            self.shutdown_write()

    server = start(lambda: Finishes(events))
    client = server.connect()
    client.socket._fin = False
    client.finish()
    assert client.receive_all() == b""
    assert events.until("close")[1] is None


def test_a_fast_reader_of_large_output_does_not_hold_up_the_others(start, events):
    """Encryption may be slower than the peer, so that its socket is never full: a turn ends nevertheless."""

    class Sends(Echo):
        def on_read(self):
            if self.peek(1) == b"!":
                self.read()
                self.write(bytes(100_000_000))
                events("wrote")
            else:
                super().on_read()

    server = start(Sends)
    greedy, client = server.connect(), server.connect()
    assert client.ask(b"ping") == b"ping"
    greedy.send(b"!")
    events.until("wrote")
    stop = threading.Event()

    def take() -> int:
        count, buffer = 0, bytearray(1 << 20)
        while count < 100_000_000 and not stop.is_set():
            count += greedy.socket.raw.recv_into(buffer)
        return count

    taking = in_thread(take)
    before = server.reactor.stats()[0]["bytes_out"]
    assert client.ask(b"ping") == b"ping"
    assert server.reactor.stats()[0]["bytes_out"] - before < 50_000_000
    stop.set()
    taking.result(PATIENCE)


def test_a_file_is_sent_though_no_descriptor_is_free(start, events, tmp_path):
    import resource

    data = os.urandom(300_000)
    path = tmp_path / "file"
    path.write_bytes(data)

    class Sends(Recorder):
        def on_read(self):
            self.read()
            with path.open("rb") as file:
                self.sendfile(file)
            taken = []
            try:
                while True:
                    taken.append(os.dup(0))
            except OSError:
                self.events("full", taken)
            self.close()

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    server = start(lambda: Sends(events))
    client = server.connect()
    events.until("open")
    resource.setrlimit(resource.RLIMIT_NOFILE, (200, hard))
    try:
        client.send(b"x")
        taken = events.until("full")[1]
        received = in_thread(client.hash_all).result(PATIENCE)
    finally:
        for descriptor in taken:
            os.close(descriptor)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert received == (len(data), sha256(data))
    eventually(lambda: "close" in events.names, "it has ended")
    assert events.history[-1] == ("close", None)
