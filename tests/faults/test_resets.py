"""A reset of the peer at every stage: input that arrived is delivered, on_close comes once, nothing is left."""

import gc
import threading

import pytest

import goev
from http_support import get
from support import PATIENCE, Recorder, Server, eventually, held, open_fds, settle
from websocket_support import BINARY, fragments, frame, handshake

pytestmark = pytest.mark.wires("plain", "tls")


class Stays(Recorder):
    """Stays half open after the end of input."""

    def on_eof(self):
        self.events("eof")


def all_is_balanced(server: Server, accepted: int) -> None:
    """Check that every opened connection has ended, and was counted once."""
    eventually(lambda: sum(poller["open"] for poller in server.reactor.stats()) == 0, "all have ended")
    stats = server.reactor.stats()
    assert sum(poller["accepted"] for poller in stats) == sum(poller["closed"] for poller in stats) == accepted
    assert all(sum(poller["closed_by"].values()) == poller["closed"] for poller in stats)


@pytest.fixture(autouse=True)
def no_descriptor_is_left(events):
    before = open_fds()
    yield
    # A connection keeps its poller's mailbox alive, and the mailbox keeps the descriptor that wakes the poller.
    events.history.clear()
    gc.collect()
    eventually(lambda: open_fds() <= before, "all descriptors are closed")


@pytest.mark.wires("plain")
def test_before_it_is_accepted(start, events):
    """The kernel loses the bytes sent before the reset; a connection that opens must still end."""
    server = start(lambda: Recorder(events))
    with held(server.reactor):
        for _ in range(20):
            client = server.connect()
            client.send(b"x")
            client.reset()
    server.connect().close()
    # The last one shows that the listener works; the kernel may report the others or not.
    eventually(lambda: server.reactor.stats()[0]["closed_by"]["in_order"] == 1, "the last one came and went")
    eventually(lambda: server.reactor.stats()[0]["open"] == 0, "all have ended")
    settle(server.reactor)
    assert events.names.count("open") == events.names.count("close")
    assert all(type(event[1]) is ConnectionResetError for event in events.of("close") if event[1] is not None)


@pytest.mark.parametrize("callback", ["on_open", "on_read"])
def test_while_a_callback_runs(start, events, callback):
    arrived, go_on = threading.Event(), threading.Event()

    def wait(self):
        arrived.set()
        assert go_on.wait(PATIENCE)
        if callback == "on_read":
            events("read", self.read())
        self.write(b"answer")

    server = start(lambda: type("Waits", (Recorder,), {callback: wait})(events))
    client = server.connect()
    client.send(b"question")
    assert arrived.wait(PATIENCE)
    client.reset()
    go_on.set()
    error = events.until("close")[1]
    # The read fails with ECONNRESET, or the write before it with EPIPE.
    assert type(error) in (ConnectionResetError, BrokenPipeError)
    assert events.names[-1] == "close"
    all_is_balanced(server, 1)


class PausedFrames(goev.Connection):
    framing = goev.LengthPrefixed(1)

    def on_message(self, message):
        self.come(message, self.send)


class PausedRequests(goev.http.Connection):
    def on_request(self, request):
        self.come(request.path[1:].encode(), lambda answer: request.respond(200, {}, answer))


class PausedSocket(goev.websocket.Connection):
    def on_message(self, message):
        self.come(message, self.send)


@pytest.mark.parametrize(
    ("base", "hello", "two"),
    [
        (PausedFrames, b"", b"\x01a\x01b"),
        (PausedRequests, b"", get("/a") + get("/b")),
        (PausedSocket, handshake(), frame(BINARY, b"a") + frame(BINARY, b"b")),
        (PausedSocket, handshake(), frame(BINARY, b"a") + fragments(BINARY, b"b", b"c")),
    ],
    ids=["frames", "requests", "websocket", "websocket in fragments"],
)
def test_while_it_is_paused_with_another_message_at_hand(start, events, base, hello, two):
    """A handler that paused gets no more input: a message already found in it is dropped with the rest."""
    go_on = threading.Event()

    class Pauses(base):
        def on_open(self):
            events("open")

        def come(self, message, answer):
            events("message", message)
            self.pause_reading()
            assert go_on.wait(PATIENCE)
            answer(b"x" * 10)

        def on_close(self, error):
            events("close", error)

    server = start(Pauses)
    client = server.connect()
    client.send(hello)
    events.until("open")
    client.send(two)
    assert events.until("message") == ("message", b"a")
    client.reset()
    go_on.set()
    assert type(events.next()[1]) in (ConnectionResetError, BrokenPipeError)
    all_is_balanced(server, 1)


def test_with_output_queued(start, events):
    class Floods(Recorder):
        def on_open(self):
            self.write(bytes(20_000_000))
            self.events("open", self)

    server = start(lambda: Floods(events))
    client = server.connect(receive_buffer=4096)
    connection = events.until("open")[1]
    client.receive(1000)
    client.reset()
    assert type(events.until("close")[1]) in (ConnectionResetError, BrokenPipeError)
    with pytest.raises(goev.ConnectionClosed):
        connection.write(b"x")
    all_is_balanced(server, 1)


def test_after_a_half_close_of_the_peer(start, events):
    server = start(lambda: Stays(events))
    client = server.connect()
    client.send(b"last words")
    client.finish()
    events.until("eof")
    client.reset()
    # Linux reports EPIPE for a reset after the end of the stream (tcp_reset in tcp_input.c).
    assert type(events.until("close")[1]) is BrokenPipeError
    assert events.of("read") == [("read", b"last words")]
    all_is_balanced(server, 1)


def test_after_a_half_close_of_ours(start, events):
    class Finishes(Recorder):
        def on_open(self):
            self.write(b"hello")
            self.shutdown_write()

    server = start(lambda: Finishes(events))
    client = server.connect()
    assert client.receive_all() == b"hello"
    client.send(b"last words")
    assert events.until("read")[1] == b"last words"
    client.reset()
    assert type(events.until("close")[1]) is ConnectionResetError
    all_is_balanced(server, 1)


def test_while_we_linger(start, events):
    class Closes(Recorder):
        def on_read(self):
            self.read()
            self.close()

    server = start(lambda: Closes(events), linger_timeout=60)
    client = server.connect()
    client.send(b"x")
    assert client.receive_all() == b""
    assert events.until("close")[1] is None, "it had ended in order before"
    client.reset()
    all_is_balanced(server, 1)


def test_with_input_that_a_pause_holds_back(start, events):
    """The pause holds back the input. It holds back the end until the handler resumes or the poll reports the reset."""

    class Pauses(Recorder):
        def on_open(self):
            self.pause_reading()
            self.events("open", self)

    server = start(lambda: Pauses(events))
    client = server.connect()
    events.until("open")
    client.send(b"x")
    client.reset()
    assert type(events.until("close")[1]) is ConnectionResetError
    all_is_balanced(server, 1)


def test_of_five_hundred_at_once(start, events):
    server = start(lambda: Recorder(events), pollers=2)
    clients = [server.connect() for _ in range(500)]
    for client in clients:
        client.send(b"x")
    events.times("read", 500)
    for client in clients:
        client.reset()
    events.times("close", 500)
    assert {type(event[1]) for event in events.of("close")} == {ConnectionResetError}
    all_is_balanced(server, 500)
    assert sum(poller["closed_by"]["failed"] for poller in server.reactor.stats()) == 500
