"""C1, C2: the peer has finished sending (on_eof, half open), we have (shutdown_write), and a close that lingers."""

import hashlib
import time

import pytest

import goev
from support import PATIENCE, eventually, in_thread, on_poller, settle

pytestmark = pytest.mark.wires("plain", "tls", "tls 1.2, no FIN")


class HalfOpen(goev.Connection):
    """With an on_eof of its own a connection stays open after the peer's FIN."""

    answer: object = None

    def __init__(self, events) -> None:
        self.events = events

    def on_open(self):
        self.events("open", self)

    def on_read(self):
        self.events("read", self.read())

    def on_eof(self):
        self.events("eof", self.pending_input)
        return self.answer

    def on_close(self, error):
        self.events("close", error)


def test_without_on_eof_output_is_flushed_and_the_connection_closed(start, events):
    class Replies(goev.Connection):
        def on_read(self):
            self.write(self.read() * 100_000)

        def on_close(self, error):
            events("close", error)

    client = start(Replies).connect()
    client.send(b"0123456789")
    client.finish()
    assert client.hash_all() == (1_000_000, hashlib.sha256(b"0123456789" * 100_000).hexdigest())
    assert events.next() == ("close", None)


def test_on_eof_comes_once_after_all_input(start, events):
    client = start(lambda: HalfOpen(events)).connect()
    client.send(b"last words")
    client.finish()
    assert [event[0] for event in (events.next(), events.next(), events.next())] == ["open", "read", "eof"]
    assert events.history[1:] == [("read", b"last words"), ("eof", 0)]


@pytest.mark.parametrize("answer", [None, True])
def test_with_on_eof_the_connection_stays_and_can_still_write(start, events, answer):
    class Stays(HalfOpen):
        pass

    Stays.answer = answer
    client = start(lambda: Stays(events)).connect()
    handler = events.until("open")[1]
    client.finish()
    events.until("eof")
    settle(handler)
    assert "close" not in events.names
    handler.write(b"still here")
    assert client.receive(10) == b"still here"
    handler.close()
    assert client.receive_all() == b""
    assert events.until("close") == ("close", None)
    assert events.names.count("eof") == 1


def test_false_from_on_eof_closes(start, events):
    class Leaves(HalfOpen):
        answer = False

    client = start(lambda: Leaves(events)).connect()
    client.finish()
    assert events.until("close") == ("close", None)
    assert client.receive_all() == b""


def test_input_left_unread_is_still_there_in_on_eof(start, events):
    class Late(HalfOpen):
        def on_read(self):
            self.events("ready")

        def on_eof(self):
            self.events("eof", self.read())

    client = start(lambda: Late(events)).connect()
    client.send(b"unread")
    events.until("ready")
    client.finish()
    assert events.until("eof") == ("eof", b"unread")


def test_eof_is_delivered_to_a_peer_that_sent_nothing(start, events):
    client = start(lambda: HalfOpen(events)).connect()
    client.finish()
    assert events.until("eof") == ("eof", 0)


def test_shutdown_write_flushes_then_ends_our_side_only(start, events):
    class Finishes(HalfOpen):
        def on_open(self):
            self.write(b"x" * 3_000_000)
            self.shutdown_write()

    client = start(lambda: Finishes(events)).connect()
    assert client.hash_all() == (3_000_000, hashlib.sha256(b"x" * 3_000_000).hexdigest())
    client.send(b"and I go on")
    assert events.until("read") == ("read", b"and I go on")
    client.close()
    events.until("eof")


def test_write_after_shutdown_write_raises_connection_closed(start, events):
    start(lambda: HalfOpen(events)).connect()
    handler = events.until("open")[1]

    def write_late() -> None:
        handler.shutdown_write()
        handler.write(b"x")

    with pytest.raises(goev.ConnectionClosed):
        on_poller(handler, write_late)


def test_shutdown_write_then_eof_of_the_peer_is_an_orderly_end(start, events):
    class Finishes(goev.Connection):
        def on_open(self):
            self.shutdown_write()

        def on_close(self, error):
            events("close", error)

    client = start(Finishes).connect()
    assert client.receive_all() == b""
    client.close()
    assert events.until("close") == ("close", None)


class ByeUnread(goev.Connection):
    """Answers and closes without having looked at its input."""

    def on_read(self):
        self.write(b"bye")
        self.close()


def test_close_with_unread_input_does_not_reset_the_peer(start):
    client = start(ByeUnread).connect()
    sending = in_thread(client.send, b"x" * 3_000_000)  # far more than the server ever read
    assert client.receive_all() == b"bye"
    sending.result(PATIENCE)
    client.send(b"the other side still discards what comes")


def test_close_in_on_open_lets_the_peer_finish_its_request(start):
    class Busy(goev.Connection):
        def on_open(self):
            self.write(b"503 later\r\n")
            return False

    server = start(Busy)
    for _ in range(50):
        with server.connect() as client:
            client.send(b"GET / HTTP/1.1\r\n\r\n" * 100)
            assert client.receive_all() == b"503 later\r\n"


def takes(client, data: bytes) -> bool:
    """Whether the peer still accepts what is sent."""
    try:
        client.send(data)
    except (ConnectionResetError, BrokenPipeError):
        return False
    return True


def test_lingering_ends_at_linger_timeout(start):
    client = start(ByeUnread, linger_timeout=0.3).connect()
    client.send(b"x")
    assert client.receive_all() == b"bye"
    began = time.monotonic()
    eventually(lambda: not takes(client, b"x"), "the server stops listening to us")
    assert 0.2 < time.monotonic() - began < 3.0


def test_lingering_neither_delays_on_close_nor_calls_the_handler(start, events):
    class Bye(ByeUnread):
        def on_read(self):
            events("read")
            super().on_read()

        def on_close(self, error):
            events("close", error)

    client = start(Bye, linger_timeout=30.0).connect()
    client.send(b"x")
    events.until("close", timeout=3.0)
    client.send(b"more")
    assert client.receive_all() == b"bye"
    assert events.names == ["read", "close"]


def test_abort_resets_the_peer_and_drops_queued_output(start):
    class Aborts(goev.Connection):
        def on_read(self):
            self.write(b"x" * 50_000_000)
            self.abort()

    client = start(Aborts, send_buffer_size=16384).connect(receive_buffer=16384)
    client.send(b"x")
    with pytest.raises(ConnectionResetError):
        client.receive_all()


@pytest.mark.parametrize("paused", [False, True])
def test_a_reset_after_the_end_of_input_ends_a_half_open_connection(start, events, paused):
    client = start(lambda: HalfOpen(events)).connect()
    handler = events.until("open")[1]
    client.finish()
    events.until("eof")
    if paused:
        on_poller(handler, handler.pause_reading)
    client.reset()
    assert type(events.until("close")[1]) in (BrokenPipeError, ConnectionResetError)
    assert events.names == ["open", "eof", "close"]


@pytest.mark.parametrize("output", [0, 3_000_000])
@pytest.mark.parametrize("when", ["in on_eof", "later"])
def test_a_connection_finished_by_both_sides_closes_by_itself(start, events, output, when):
    class Finishes(HalfOpen):
        def on_eof(self):
            super().on_eof()
            if when == "in on_eof":
                self.finish()

        def finish(self):
            self.write(b"x" * output)
            self.shutdown_write()

    client = start(lambda: Finishes(events)).connect()
    handler = events.until("open")[1]
    client.finish()
    events.until("eof")
    if when == "later":
        on_poller(handler, handler.finish)
    assert len(client.receive_all()) == output
    assert events.until("close") == ("close", None)
    assert events.names == ["open", "eof", "close"]


def test_a_write_of_another_thread_after_shutdown_write_raises_connection_closed(start, events):
    client = start(lambda: HalfOpen(events)).connect()
    handler = events.until("open")[1]
    on_poller(handler, handler.shutdown_write)
    assert client.receive_all() == b""
    with pytest.raises(goev.ConnectionClosed):
        handler.write(b"late")
    client.send(b"and I go on")
    assert events.until("read") == ("read", b"and I go on")


def test_no_timer_is_left_of_lingering_that_ended(start):
    server = start(ByeUnread, linger_timeout=60.0)
    for _ in range(200):
        with server.connect() as client:
            client.send(b"x")
            assert client.receive_all() == b"bye"

    def timers() -> int:
        settle(server.reactor, 1)  # the number is as of the last batch
        return sum(poller["timers"] for poller in server.reactor.stats())

    eventually(lambda: timers() == 0, "no timer is left")
