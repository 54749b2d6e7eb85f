"""An exception in any callback ends its own connection with it; the other connections and the reactor go on."""

import asyncio

import pytest

import goev
from support import Echo, Recorder, on_poller


class Mine(Exception):
    pass


def raises(self, *_args):
    self.write(b"before")
    raise Mine


class Base(Recorder):
    def on_eof(self):
        self.events("eof")

    def on_read(self):
        self.events("read", self.read())


FRAMED = ("on_message", "on_messages")

PROVOKED = {
    "on_open": lambda client, connection: None,
    "on_read": lambda client, connection: client.send(b"x"),
    "on_message": lambda client, connection: client.send(b"x\n"),
    "on_messages": lambda client, connection: client.send(b"x\ny\n"),
    "on_eof": lambda client, connection: client.finish(),
    "on_timeout": lambda client, connection: on_poller(connection, lambda: connection.schedule(0.0)),
    "a timer": lambda client, connection: on_poller(
        connection, lambda: connection.schedule(0.0, lambda: raises(connection), every=1)
    ),
    "call_soon": lambda client, connection: connection.call_soon(raises, connection),
}


@pytest.mark.parametrize("where", PROVOKED)
def test_it_ends_with_what_was_raised_and_what_was_written_arrives(start, events, log, where):
    members = {where: raises} if where.startswith("on_") else {}
    if where in FRAMED:
        members["framing"] = goev.Delimited()
    handlers = iter([type("Raises", (Base,), members)(events), Echo()])
    server = start(handlers.__next__)
    client = server.connect()
    connection = None if where == "on_open" else events.until("open")[1]
    neighbour = server.connect()
    PROVOKED[where](client, connection)
    assert client.receive_all() == b"before"
    client.close()
    assert type(events.until("close")[1]) is Mine
    assert events.names.count("close") == 1
    record, text = log.next()
    assert record.levelname == "ERROR"
    assert " of Raises with 127.0.0.1:" in text
    assert "Mine" in text
    assert "raise Mine" in text, "with its traceback"
    assert neighbour.ask(b"hello") == b"hello"
    assert len(log.texts()) == 1


def test_in_on_drain(start, events, log):
    class Drains(Base):
        def on_open(self):
            self.write(bytes(10_000_000))

        def on_drain(self):
            raise Mine

    server = start(lambda: Drains(events))
    client = server.connect()
    assert client.hash_all()[0] == 10_000_000
    client.close()
    assert type(events.until("close")[1]) is Mine
    log.next()


def test_in_on_close_it_is_logged_and_nothing_else_happens(start, events, log):
    class Raises(goev.Connection):
        def on_close(self, error):
            events("close", error)
            raise Mine

    handlers = iter([Raises(), Echo()])
    server = start(handlers.__next__)
    client, neighbour = server.connect(), server.connect()
    client.close()
    assert events.until("close")[1] is None
    assert "on_close of Raises with" in log.next()[1]
    assert neighbour.ask(b"hello") == b"hello"
    assert events.names == ["close"]


def test_in_the_factory_the_peer_is_closed_and_the_next_one_served(start, log):
    def factory():
        if first.pop():
            raise Mine
        return Echo()

    first = [False, True]
    server = start(factory)
    assert server.connect().receive_all() == b""
    assert "the factory for 127.0.0.1:" in log.next()[1]
    assert server.connect().ask(b"hello") == b"hello"
    assert server.reactor.stats()[0]["closed_by"]["rejected"] == 1


def test_in_on_connect_fail_it_is_logged(reactor, events, log):
    class Raises(goev.Connection):
        def on_connect_fail(self, error):
            raise Mine from error

    goev.connect(reactor, "127.0.0.1:1", Raises())
    assert "on_connect_fail of Raises" in log.next()[1]
    assert on_poller(reactor, lambda: "goes on") == "goes on"


@pytest.mark.parametrize("kind", [asyncio.CancelledError, GeneratorExit])
@pytest.mark.parametrize("where", ["on_read", "a timer", "call_soon", "then", "on_close"])
def test_an_end_of_coroutines_and_generators_ends_its_connection_and_not_the_reactor(start, events, log, kind, where):
    def fails(*_args):
        raise kind

    class Raises(Recorder):
        def on_read(self):
            self.events("read", self.read())
            if where == "on_read":
                fails()

        def on_close(self, error):
            super().on_close(error)
            if where == "on_close":
                fails()

    handlers = iter([Raises(events), Echo()])
    server = start(handlers.__next__)
    client, neighbour = server.connect(), server.connect()
    connection = events.until("open")[1]
    match where:
        case "on_read":
            client.send(b"x")
        case "a timer":
            on_poller(connection, lambda: connection.schedule(0.0, fails))
        case "call_soon":
            connection.call_soon(fails)
        case "then":
            connection.run_in_executor(None, list, then=fails)
        case "on_close":
            client.close()
    error = events.until("close")[1]
    assert where == "on_close" or type(error) is kind
    assert kind.__name__ in log.next()[1]
    assert neighbour.ask(b"hello") == b"hello"


def test_a_call_of_the_reactor_that_is_cancelled_is_logged(reactor, log):
    def fails():
        raise asyncio.CancelledError

    reactor.call_soon(fails)
    assert "CancelledError" in log.next()[1]
    assert on_poller(reactor, lambda: "goes on") == "goes on"
