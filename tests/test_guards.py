"""Limits in time: each ends the connection with its own exception, never early; who keeps to it is left alone."""

import socket
import time

import pytest

import goev
from support import Echo, Recorder, Server, eventually, on_poller, settle

pytestmark = pytest.mark.wires("plain", "tls")

SHORT = 0.2


class Talks(Recorder):
    """Echoes what it reads, and reports."""

    def on_read(self):
        data = self.read()
        self.write(data)
        self.events("read", data)


class Silent(Recorder):
    """Leaves a peer without an answer, and stays when it has finished."""

    def on_eof(self):
        self.events("eof")


def ended(events) -> tuple[BaseException | None, float]:
    """What `on_close` was told, and when."""
    return events.until("close")[1], time.monotonic()


@pytest.mark.parametrize(
    ("option", "error"),
    [
        ("idle_timeout", goev.IdleTimeout),
        ("first_byte_timeout", goev.FirstByteTimeout),
        ("lifetime", goev.LifetimeExceeded),
    ],
)
def test_a_silent_peer_is_ended_in_order_and_not_early(start, events, option, error):
    server = start(lambda: Recorder(events), **{option: SHORT})
    began = time.monotonic()
    client = server.connect()
    reason, when = ended(events)
    assert type(reason) is error
    assert isinstance(reason, goev.Error)
    assert isinstance(reason, TimeoutError)
    assert f"{option}={SHORT}" in str(reason)
    assert SHORT <= when - began < SHORT + 1.0
    assert client.receive_all() == b"", "the stream ends, and no reset comes"


def test_each_byte_either_way_begins_the_idle_time_anew(start, events):
    server = start(lambda: Recorder(events), idle_timeout=SHORT)
    client = server.connect()
    connection = events.until("open")[1]
    last = time.monotonic()
    for turn in range(6):
        time.sleep(SHORT / 2)  # the time that has to pass
        last = time.monotonic()
        if turn % 2:
            client.send(b"x")
            events.until("read")
        else:
            connection.write(b"y")
            assert client.receive(1) == b"y"
    reason, when = ended(events)
    assert type(reason) is goev.IdleTimeout
    assert when - last >= SHORT


def test_one_byte_is_enough_for_the_first(start, events):
    server = start(lambda: Talks(events), first_byte_timeout=SHORT)
    client = server.connect()
    assert client.ask(b"x") == b"x"
    time.sleep(2 * SHORT)  # the time that has to pass
    assert client.ask(b"y") == b"y"
    assert "close" not in events.names


def test_a_busy_connection_ends_when_its_life_is_over_and_gets_what_was_queued(start, events):
    answer = bytes(300_000)

    class Answers(Recorder):
        def on_read(self):
            self.read()
            self.write(answer)

    server = start(lambda: Answers(events), lifetime=SHORT, max_input=1000)
    client = server.connect()
    client.send(b"x")
    received = client.hash_all()[0]
    assert received == len(answer)
    assert type(ended(events)[0]) is goev.LifetimeExceeded


@pytest.mark.parametrize("closing", [False, True], ids=["open", "closing"])
def test_a_peer_that_takes_nothing_is_reset_after_the_write_timeout(start, events, closing):
    class Floods(Recorder):
        def on_open(self):
            self.write(bytes(30_000_000))
            self.events("open", self)
            if closing:
                self.close()

    server = start(lambda: Floods(events), write_timeout=SHORT)
    client = server.connect(receive_buffer=4096)
    began = time.monotonic()
    reason, when = ended(events)
    assert type(reason) is goev.WriteTimeout
    assert SHORT <= when - began < 1.25 * SHORT + 1.0
    with pytest.raises(ConnectionResetError):
        client.hash_all()


def test_a_peer_that_takes_little_is_left_alone(start, events):
    """Too little for the kernel to ask for more within the time: it is the kernel's own queue that tells."""

    class Sends(Recorder):
        def on_open(self):
            self.write(bytes(8_000_000))
            self.close()

    server = start(lambda: Sends(events), write_timeout=0.4)
    client = server.connect(receive_buffer=4096)
    taken, until = 0, time.monotonic() + 1.6
    while time.monotonic() < until:
        taken += len(client.socket.recv(20_000))
        time.sleep(0.05)  # a slow peer
    assert "close" not in events.names
    assert taken + client.hash_all()[0] == 8_000_000
    assert ended(events)[0] is None


def test_without_a_write_timeout_a_close_waits_for_the_peer(start, events):
    class Sends(Recorder):
        def on_open(self):
            self.write(bytes(8_000_000))
            self.close()

    server = start(lambda: Sends(events), write_timeout=None)
    client = server.connect(receive_buffer=4096)
    time.sleep(0.5)  # the time that has to pass
    assert client.hash_all()[0] == 8_000_000
    assert ended(events)[0] is None


def test_a_sender_below_the_rate_is_ended_and_one_above_it_is_not(start, events):
    server = start(lambda: Recorder(events), min_rate=(1000, SHORT))
    client = server.connect()
    for _ in range(6):
        client.send(bytes(400))
        time.sleep(SHORT / 2)  # the pace
    assert "close" not in events.names
    reason, _ = ended(events)
    assert type(reason) is goev.TooSlow
    assert "min_rate is 1000 bytes a second" in str(reason)


def test_who_is_not_read_is_neither_idle_nor_slow(start, events):
    class Pauses(Recorder):
        def on_open(self):
            self.pause_reading()
            self.events("open", self)

    server = start(lambda: Pauses(events), idle_timeout=SHORT, min_rate=(1000, SHORT))
    client = server.connect()
    client.send(b"x")
    connection = events.until("open")[1]
    time.sleep(3 * SHORT)  # the time that has to pass
    on_poller(connection, connection.resume_reading)
    assert events.until("read")[1] == b"x"
    assert type(ended(events)[0]) in (goev.IdleTimeout, goev.TooSlow)


def test_the_guards_of_one_connection_can_be_changed(start, events):
    server = start(lambda: Recorder(events))
    client = server.connect()
    connection = events.until("open")[1]
    on_poller(connection, lambda: connection.set_limits(idle_timeout=60))
    began = time.monotonic()
    on_poller(connection, lambda: connection.set_limits(idle_timeout=SHORT))
    client.send(b"x")
    reason, when = ended(events)
    assert type(reason) is goev.IdleTimeout
    assert when - began >= SHORT


def test_a_guard_that_is_taken_off_in_time_ends_nothing(start, events):
    server = start(lambda: Talks(events), idle_timeout=SHORT, lifetime=60, write_timeout=SHORT)
    client = server.connect()
    connection = events.until("open")[1]
    on_poller(connection, lambda: connection.set_limits(idle_timeout=None))
    time.sleep(2 * SHORT)  # the time that has to pass
    assert client.ask(b"x") == b"x"


def test_limits_of_memory_can_be_changed_too(start, events):
    server = start(lambda: Recorder(events), max_input=1000)
    server.connect(receive_buffer=4096)
    connection = events.until("open")[1]
    on_poller(connection, lambda: connection.set_limits(max_output=10_000, high_water=10, low_water=5))
    with pytest.raises(goev.ConnectionClosed):
        on_poller(connection, lambda: [connection.write(bytes(3_000_000)) for _ in range(9)])
    assert type(ended(events)[0]) is goev.OutputOverflow


@pytest.mark.parametrize(
    ("limits", "error", "text"),
    [
        ({"idle_timeout": 0}, ValueError, "idle_timeout must be more than 0 seconds, not 0"),
        ({"idle_timeout": 0.05, "lifetime": -1}, ValueError, "lifetime must be from 0 to"),
        ({"write_timeout": float("nan")}, ValueError, "write_timeout must be from 0 to"),
        ({"first_byte_timeout": "1"}, TypeError, "argument 'first_byte_timeout': "),
        ({"min_rate": 1000}, TypeError, "argument 'min_rate': must be None or a tuple"),
        ({"min_rate": (0, 1)}, ValueError, "the rate of min_rate must be more than 0 bytes a second, not 0"),
        ({"min_rate": (1, 0)}, ValueError, "the window of min_rate must be more than 0 seconds"),
        ({"max_input": 0}, ValueError, "max_input must be from 1 to"),
        ({"low_water": 1 << 20}, ValueError, "low_water must be from 0 to 65536, not 1048576"),
        ({"idle": 1}, TypeError, r"set_limits\(\) got an unexpected keyword argument 'idle'"),
        ({"backlog": 1}, TypeError, r"set_limits\(\) got an unexpected keyword argument 'backlog'"),
    ],
)
def test_wrong_limits_are_refused_and_change_nothing(start, events, limits, error, text):
    server = start(lambda: Talks(events))
    client = server.connect()
    connection = events.until("open")[1]
    with pytest.raises(error, match=text):
        on_poller(connection, lambda: connection.set_limits(**{"lifetime": 0.05, **limits}))
    time.sleep(0.1)  # the time that has to pass
    assert client.ask(b"x") == b"x"


def test_limits_are_for_the_thread_of_the_poller_and_an_open_connection(start, events):
    server = start(lambda: Recorder(events))
    client = server.connect()
    connection = events.until("open")[1]
    with pytest.raises(goev.WrongThread):
        connection.set_limits(lifetime=1)
    client.close()
    ended(events)
    with pytest.raises(goev.ConnectionClosed):
        on_poller(server.reactor, lambda: connection.set_limits(lifetime=1))


def test_outgoing_connections_have_guards(reactor, events):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        goev.connect(reactor, f"127.0.0.1:{port}", Recorder(events), first_byte_timeout=SHORT)
        assert type(ended(events)[0]) is goev.FirstByteTimeout


def test_a_handed_over_connection_keeps_its_guards(start, events):
    class Upgrades(goev.Connection):
        def on_read(self):
            self.hand_over(Recorder(events))

    server = start(Upgrades, lifetime=SHORT)
    server.connect().send(b"x")
    assert type(ended(events)[0]) is goev.LifetimeExceeded


def test_what_a_callback_raised_is_told_even_if_the_flush_is_stuck(start, events, log):
    class Raises(Recorder):
        def on_open(self):
            self.write(bytes(30_000_000))
            raise ValueError("mine")

    server = start(lambda: Raises(events), write_timeout=SHORT)
    server.connect(receive_buffer=4096)
    assert str(ended(events)[0]) == "mine"
    log.next()


@pytest.mark.wires("plain")
def test_a_thousand_idle_connections_need_no_callback_and_one_timer_each(start, events):
    server = start(Echo, idle_timeout=60, lifetime=600, write_timeout=30)
    clients = [server.connect() for _ in range(1000)]
    for client in clients:
        assert client.ask(b"x") == b"x"
    settle(server.reactor)
    (before,) = server.reactor.stats()
    assert before["timers"] <= 1000
    assert before["open"] == 1000


def test_ends_by_guards_are_counted_by_their_names(start, events):
    for option in ("idle_timeout", "first_byte_timeout", "lifetime"):
        server: Server = start(lambda: Recorder(events), **{option: 0.05})
        server.connect()
        ended(events)
        eventually(lambda server=server: server.reactor.stats()[0]["open"] == 0, "it is counted")
        (stats,) = server.reactor.stats()
        assert stats["closed_by"][option] == stats["closed"] == stats["accepted"] == 1


def test_the_peer_has_to_send_whatever_is_sent_to_it(start, events):
    """Output restarts ``idle_timeout``, but not ``receive_timeout``."""

    class Sends(Recorder):
        def on_open(self):
            super().on_open()
            self.schedule(0.0, lambda: self.write(b"y"), every=0.02)

    server = start(lambda: Sends(events), receive_timeout=SHORT, idle_timeout=60)
    client = server.connect()
    last = time.monotonic()
    for _ in range(3):
        time.sleep(SHORT / 2)  # the time that has to pass
        last = time.monotonic()
        client.send(b"x")
        events.until("read")
    reason, when = ended(events)
    assert type(reason) is goev.ReceiveTimeout
    assert isinstance(reason, TimeoutError)
    assert f"receive_timeout={SHORT}" in str(reason)
    assert SHORT <= when - last < SHORT + 1.0
    assert server.reactor.stats()[0]["closed_by"]["receive_timeout"] == 1


def test_a_peer_that_is_not_read_is_not_silent(start, events):
    class Pauses(Recorder):
        def on_open(self):
            super().on_open()
            self.pause_reading()

    server = start(lambda: Pauses(events), receive_timeout=SHORT)
    client = server.connect()
    connection = events.until("open")[1]
    client.send(b"x")
    time.sleep(3 * SHORT)  # the time that has to pass
    on_poller(connection, connection.resume_reading)
    assert events.next() == ("read", b"x")
    assert type(ended(events)[0]) is goev.ReceiveTimeout
