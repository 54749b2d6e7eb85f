"""C1: on_open first and once; after it on_close once and last, whatever happened."""

import functools
from contextlib import suppress
from typing import Any

import pytest

import goev
from support import Client, Echo, Recorder, held, on_poller, settle


class Lived(goev.Connection):
    """Reports every callback; ``opens``, ``reads`` and ``eof`` are what those callbacks do besides."""

    def __init__(self, events: Any, **acts: Any) -> None:
        self.events = events
        self.acts = acts

    def act(self, name: str) -> Any:
        self.events(name, self)
        return self.acts[name](self) if name in self.acts else None

    def on_open(self) -> bool | None:
        return self.act("open")

    def on_read(self) -> bool | None:
        self.read()
        return self.act("read")

    def on_drain(self) -> None:
        self.act("drain")

    def on_timeout(self) -> bool | None:
        return self.act("timeout")

    def on_close(self, error: BaseException | None) -> None:
        self.events("close", error)


class RefusedError(Exception):
    pass


def refuse(connection: goev.Connection) -> None:
    raise RefusedError("by this test")


def test_callbacks_come_in_order_for_an_ordinary_visit(start, events):
    client = start(lambda: Recorder(events)).connect()
    assert events.next()[0] == "open"
    client.send(b"hello")
    assert events.next() == ("read", b"hello")
    client.close()
    assert events.next() == ("close", None)


def test_on_open_comes_without_any_input(start, events):
    start(lambda: Recorder(events)).connect()
    assert events.next()[0] == "open"


def peer_closes(server, client, handler):
    client.close()


def peer_resets(server, client, handler):
    client.reset()


def peer_resets_after_sending(server, client, handler):
    client.send(b"x" * 1000)
    client.reset()


def handler_closes(server, client, handler):
    on_poller(handler, handler.close)


def handler_aborts(server, client, handler):
    on_poller(handler, handler.abort)


def closed_from_another_thread(server, client, handler):
    handler.close()


def aborted_from_another_thread(server, client, handler):
    handler.abort()


def closed_three_times(server, client, handler):
    for end in (handler.close, handler.abort, handler.close):
        end()


def reactor_stops(server, client, handler):
    client.close()
    server.reactor.stop()


ENDS = [
    peer_closes,
    peer_resets,
    peer_resets_after_sending,
    handler_closes,
    handler_aborts,
    closed_from_another_thread,
    aborted_from_another_thread,
    closed_three_times,
    reactor_stops,
]


@pytest.mark.parametrize("end", ENDS, ids=lambda end: end.__name__)
def test_open_is_first_and_close_is_last_and_each_is_once(start, events, end):
    server = start(lambda: Lived(events))
    client = server.connect()
    handler = events.until("open")[1]
    end(server, client, handler)
    events.until("close")
    server.reactor.stop(grace=1)
    server.reactor.join(10)
    names = events.names
    assert (names[0], names[-1]) == ("open", "close")
    assert (names.count("open"), names.count("close")) == (1, 1)


@pytest.mark.parametrize(
    ("end", "error"),
    [
        (peer_closes, type(None)),
        (peer_resets, ConnectionResetError),
        (peer_resets_after_sending, ConnectionResetError),
        (handler_closes, type(None)),
        (closed_from_another_thread, type(None)),
        (handler_aborts, ConnectionAbortedError),
        (aborted_from_another_thread, ConnectionAbortedError),
    ],
    ids=lambda value: value.__name__,
)
def test_on_close_says_how_it_ended(start, events, end, error):
    server = start(lambda: Lived(events))
    client = server.connect()
    end(server, client, events.until("open")[1])
    assert type(events.until("close")[1]) is error


def test_reset_keeps_errno_in_the_error(start, events):
    client = start(lambda: Lived(events)).connect()
    events.until("open")
    client.reset()
    error = events.until("close")[1]
    assert error.errno == 104  # ECONNRESET


@pytest.mark.parametrize("name", ["open", "read"])
def test_false_closes_in_an_orderly_way(start, events, name):
    client = start(lambda: Lived(events, **{name: lambda _: False})).connect()
    client.send(b"x")
    assert events.until("close") == ("close", None)
    assert client.receive_all() == b""


@pytest.mark.parametrize("value", [None, True])
def test_none_and_true_go_on(start, events, value):
    client = start(lambda: Lived(events, open=lambda _: value, read=lambda _: value)).connect()
    for count in (1, 2, 3):
        client.send(b"x")
        events.times("read", count)
    assert "close" not in events.names


@pytest.mark.parametrize("name", ["open", "read"])
def test_a_callback_that_raises_is_followed_by_on_close_with_its_exception(start, events, log, name):
    client = start(lambda: Lived(events, **{name: refuse})).connect()
    client.send(b"x")
    error = events.until("close")[1]
    assert isinstance(error, RefusedError)
    assert client.receive_all() == b""


def test_nothing_is_called_after_on_open_returned_false(start, events):
    server = start(lambda: Lived(events, open=lambda _: False))
    client = server.connect()
    client.send(b"too late")
    events.until("close")
    settle(server.reactor)
    assert events.names == ["open", "close"]


def test_nothing_is_called_after_on_close(start, events):
    def leave_work_behind(connection: goev.Connection) -> None:
        connection.schedule(0.0)
        connection.schedule(0.001, every=0.001)
        connection.call_soon(events, "late")
        connection.abort()

    server = start(lambda: Lived(events, read=leave_work_behind))
    server.connect().send(b"x")
    events.until("close")
    server.reactor.schedule(0.02, lambda: events("later"))
    events.until("later")
    assert events.names[-2:] == ["close", "later"]
    assert not events.of("timeout")


def test_call_soon_after_the_end_is_dropped(start, events):
    server = start(lambda: Lived(events))
    client = server.connect()
    handler = events.until("open")[1]
    client.close()
    events.until("close")
    with suppress(goev.ConnectionClosed):
        handler.call_soon(events, "late")
    settle(server.reactor)
    assert not events.of("late")


def test_a_hundred_connections_each_open_and_close_once(start, events):
    server = start(lambda: Lived(events), pollers=2)
    clients = [server.connect() for _ in range(100)]
    events.times("open", 100)
    for number, client in enumerate(clients):
        (client.close, client.reset)[number % 2]()
    events.times("close", 100)
    settle(server.reactor)
    assert (events.names.count("open"), events.names.count("close")) == (100, 100)
    assert len({id(event[1]) for event in events.of("open")}) == 100


def test_all_callbacks_have_a_default_that_does_nothing():
    connection = goev.Connection()
    assert connection.on_open() is None
    assert connection.on_read() is None
    assert connection.on_eof() is None
    assert connection.on_drain() is None
    assert connection.on_timeout() is None
    assert connection.on_connect_fail(OSError()) is None
    assert connection.on_close(None) is None


def test_super_works_in_every_callback(start, events):
    class Polite(goev.Connection):
        def on_open(self):
            events("open", super().on_open())

        def on_read(self):
            super().on_read()
            events("read", self.read())

        def on_close(self, error):
            super().on_close(error)
            events("close", error)

    with start(Polite).connect() as client:
        client.send(b"x")
        assert [events.next(), events.next()] == [("open", None), ("read", b"x")]
    assert events.next() == ("close", None)


def test_a_handler_may_have_an_init_with_arguments_and_attributes(start):
    class Greeter(goev.Connection):
        def __init__(self, greeting: bytes, *, times: int) -> None:
            super().__init__()
            self.text = greeting * times

        def on_open(self):
            self.write(self.text)
            self.close()

    assert start(lambda: Greeter(b"hi ", times=3)).connect().receive_all() == b"hi hi hi "
    assert start(functools.partial(Greeter, b"ho ", times=2)).connect().receive_all() == b"ho ho "


def test_a_factory_may_be_any_callable(start):
    class Factory:
        made = 0

        def __call__(self) -> goev.Connection:
            self.made += 1
            return Echo()

        def make(self) -> goev.Connection:
            return self()

    factory = Factory()
    assert start(factory).connect().ask(b"object") == b"object"
    assert start(factory.make).connect().ask(b"method") == b"method"
    assert factory.made == 2


def test_a_handler_may_have_slots_and_its_own_new(start):
    class Slotted(goev.Connection):
        __slots__ = ("seen",)

        def __new__(cls, *args):
            return super().__new__(cls)

        def __init__(self, seen: int) -> None:
            self.seen = seen

        def on_read(self):
            self.seen += len(self.read())
            self.write(b"%d" % self.seen)

    client = start(lambda: Slotted(40)).connect()
    client.send(b"ab")
    assert client.receive(2) == b"42"


def test_callbacks_may_come_from_a_mixin_or_an_instance_made_later(start, events):
    class Reads:
        def on_read(self):
            events("mixin", self.read())

    class Mixed(Reads, goev.Connection):
        pass

    start(Mixed).connect().send(b"x")
    assert events.until("mixin") == ("mixin", b"x")


def test_clients_that_leave_before_they_are_accepted_get_both_callbacks_or_neither(start, events):
    server = start(lambda: Lived(events))
    with held(server.reactor):
        for _ in range(50):
            Client(server.address).reset()
        last = server.connect()
    last.send(b"x")
    events.until("read")  # accepted after all of those
    last.close()
    events.times("close", events.names.count("open"))
    settle(server.reactor)
    assert events.names.count("close") == events.names.count("open")
