"""Input that had arrived is read before a limit of its connection is judged, and handed out before its timers fire.

The poller is held in a callback while the input arrives and the time passes.
"""

import resource
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

import goev
from support import PATIENCE, Echo, Recorder, eventually, held, on_poller, settle, text_of
from websocket_support import handshake

SHORT = 0.1

LIMITS = [{"first_byte_timeout": SHORT}, {"idle_timeout": SHORT}, {"receive_timeout": SHORT}, {"min_rate": (1, SHORT)}]


@contextmanager
def held_with(connection: goev.Connection, **limits: Any) -> Iterator[None]:
    """Set limits, and hold the poller in the same callback until they have passed: so none is judged before that."""
    began, release = threading.Event(), threading.Event()

    def hold() -> None:
        connection.set_limits(**limits)
        began.set()
        release.wait(PATIENCE)

    connection.call_soon(hold)
    assert began.wait(PATIENCE)
    try:
        yield
        time.sleep(2 * SHORT)
    finally:
        release.set()


@pytest.mark.parametrize("limit", LIMITS, ids=lambda limit: next(iter(limit)))
def test_a_peer_that_was_in_time_is_not_ended(start, events, limit):
    server = start(lambda: Recorder(events))
    client = server.connect()
    with held_with(events.until("open")[1], **limit):
        client.send(b"in time")
    assert events.next() == ("read", b"in time")


def test_a_peer_that_has_sent_before_its_handler_was_made_is_not_ended(start, events):
    """It was accepted, and the poller is busy with another call before it makes the handler."""
    server = start(lambda: Recorder(events), first_byte_timeout=SHORT)
    for _ in range(3):  # the calls that come first change from batch to batch
        with held(server.reactor):
            client = server.connect()
            client.send(b"in time")
            server.reactor.call_soon(time.sleep, 2 * SHORT)
        assert [event[0] for event in (events.next(), events.next())] == ["open", "read"]
        client.close()
        assert events.next() == ("close", None)


def test_the_end_of_the_input_is_told_and_no_limit(start, events):
    server = start(lambda: Recorder(events))
    client = server.connect()
    with held_with(events.until("open")[1], first_byte_timeout=SHORT):
        client.finish()
    assert events.until("close")[1] is None


def test_a_first_byte_behind_a_pause_came_in_time(start, events):
    class Pauses(Recorder):
        def on_open(self):
            self.pause_reading()
            super().on_open()

    server = start(lambda: Pauses(events))
    client = server.connect()
    connection = events.until("open")[1]
    with held_with(connection, first_byte_timeout=SHORT):
        client.send(b"x")
    settle(connection)
    on_poller(connection, connection.resume_reading)
    assert events.next() == ("read", b"x")


def test_a_timer_fires_after_the_input_that_arrived_before_it(start, events):
    server = start(lambda: Recorder(events))
    client = server.connect()
    connection = events.until("open")[1]
    for _ in range(6):  # the calls that come first change from batch to batch
        with held(connection):
            client.send(b"x")
            connection.call_soon(connection.schedule, 0.0, lambda: events("timer"))
            # Another call keeps the poller busy until the timer is due.
            connection.call_soon(time.sleep, 0.002)
        assert [events.next()[0], events.next()[0]] == ["read", "timer"]


def test_a_repeating_timer_goes_on_behind_input(start, events):
    server = start(lambda: Recorder(events))
    client = server.connect()
    connection = events.until("open")[1]
    on_poller(connection, lambda: connection.schedule(0.01, lambda: events("timer"), every=0.01))
    with held(connection):
        client.send(b"x")
        time.sleep(0.05)
    assert [event[0] for event in (events.until("read"), events.next(), events.next())] == ["read", "timer", "timer"]


def test_a_timer_of_a_connection_whose_input_never_ends_fires(start, events):
    """Its input arrives faster than it is taken: what comes after the deadline does not put the timer off."""

    class Slow(goev.Connection):
        def on_open(self):
            self.schedule(0.05, lambda: events("timer"))

        def on_read(self):
            self.read(1_000)
            time.sleep(0.0005)

    server = start(Slow, max_input=20_000)
    client = server.connect()
    client.socket.settimeout(0.2)
    end = time.monotonic() + 8
    while "timer" not in events.names and time.monotonic() < end:
        try:
            client.socket.send(bytes(100_000))
        except TimeoutError:
            continue
    events.until("timer", 2)


def test_a_timer_that_waits_for_input_can_be_cancelled_by_its_handler(start, events):
    class Cancels(Recorder):
        def on_read(self):
            super().on_read()
            self.timer.cancel()

    server = start(lambda: Cancels(events))
    client = server.connect()
    connection = events.until("open")[1]
    for _ in range(6):
        # Set and due in the callback that holds the poller, so that the input comes before the timer can fire.
        began, release = threading.Event(), threading.Event()

        def schedule(began=began, release=release):
            connection.timer = connection.schedule(0.0, lambda: events("timer"))
            began.set()
            release.wait(PATIENCE)

        connection.call_soon(schedule)
        assert began.wait(PATIENCE)
        client.send(b"x")
        release.set()
        assert events.next() == ("read", b"x")
    on_poller(connection, lambda: None)
    assert "timer" not in events.names


def test_a_handshake_that_came_in_time_opens_the_websocket(start, events):
    class Opens(goev.websocket.Connection):
        open_timeout = SHORT

        def on_open(self):
            events("open")

    server = start(Opens)
    client = server.connect()
    on_poller(server.reactor, lambda: None)
    with held(server.reactor):
        client.send(handshake())
        time.sleep(2 * SHORT)
    assert client.receive(12) == b"HTTP/1.1 101"
    events.until("open")


def test_a_connect_that_succeeded_in_time_is_no_failure(reactor, events):
    class Connects(Recorder):
        def on_connect_fail(self, error):
            self.events("fail", error)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = text_of(listener.getsockname())

        def connect_and_stay_busy() -> None:
            goev.connect(reactor, address, Connects(events), timeout=0.05)
            reactor.call_soon(time.sleep, 0.15)

        on_poller(reactor, connect_and_stay_busy)
        assert events.next()[0] == "open"


def test_more_connections_than_one_look_at_the_poll_takes_are_all_in_time(start, stack):
    """epoll reports at most 1,024 at once."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < 3_000:
        pytest.skip(f"needs RLIMIT_NOFILE above 3,000 (ulimit -Hn), which is {hard}")
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    stack.callback(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
    connections, clients = [], []

    class Collects(Echo):
        def on_open(self):
            connections.append(self)

    def limit_all() -> None:
        for connection in connections:
            connection.set_limits(min_rate=(1, SHORT))
        limited.set()
        sent.wait(PATIENCE)

    server = start(Collects, backlog=4096)
    for _ in range(1_200):
        clients.append(socket.create_connection(server.address))
        stack.callback(clients[-1].close)
    eventually(lambda: len(connections) == 1_200, "all are open")
    limited, sent = threading.Event(), threading.Event()
    server.reactor.call_soon(limit_all)
    assert limited.wait(PATIENCE)
    for client in clients:
        client.sendall(b"x")
    time.sleep(2 * SHORT)
    sent.set()
    for client in clients:
        client.settimeout(PATIENCE)
        assert client.recv(1) == b"x"
