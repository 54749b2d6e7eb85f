"""A handler serves one connection, and is free again after a connect that failed."""

import pytest

import goev
from connector_support import Dials
from support import Recorder, on_poller


def is_used(call, *args) -> None:
    with pytest.raises(ValueError, match=r"handler object serves one connection.*used"):
        call(*args)


def test_a_handler_that_is_connecting_cannot_be_connected_again(reactor, events, silent, target):
    connector, handler = goev.Connector(reactor), Dials(events)
    connector.connect(silent, handler, timeout=0.3)
    is_used(connector.connect, target, handler)
    is_used(goev.connect, reactor, target, handler)
    assert type(events.next()[1]) is TimeoutError


@pytest.mark.parametrize("ended", [False, True])
def test_a_handler_that_was_connected_cannot_be_connected_again(reactor, events, target, ended):
    connector, handler = goev.Connector(reactor), Dials(events)
    connector.connect(target, handler)
    events.until("open")
    if ended:
        handler.close()
        events.until("close")
    is_used(connector.connect, target, handler)


def test_a_handler_that_was_accepted_cannot_be_connected(start, events, target):
    server = start(lambda: Recorder(events))
    server.connect()
    is_used(goev.Connector(server.reactor).connect, target, events.until("open")[1])


def test_a_handler_that_is_connecting_cannot_be_accepted_with(start, events, log, silent):
    handler = Dials(events)
    server = start(lambda: handler)
    goev.Connector(server.reactor).connect(silent, handler, timeout=0.5)
    assert server.connect().receive_all() == b""
    assert "one connection" in log.next()[1]
    assert type(events.next()[1]) is TimeoutError
    assert events.names == ["fail"]


def test_a_handler_that_is_connecting_cannot_be_handed_over_to(start, events, silent):
    server = start(lambda: Recorder(events))
    client = server.connect()
    connection, handler = events.until("open")[1], Dials(events)
    goev.Connector(server.reactor).connect(silent, handler, timeout=0.5)
    is_used(on_poller, connection, connection.hand_over, handler)
    client.send(b"still mine")
    assert events.until("read") == ("read", b"still mine")
    assert type(events.until("fail")[1]) is TimeoutError


def test_a_failed_handler_may_be_connected_again(reactor, events, target, dead):
    connector, handler = goev.Connector(reactor), Dials(events)
    for _ in range(3):
        connector.connect(dead, handler)
        assert events.next()[0] == "fail"
    connector.connect(target, handler)
    assert events.next() == ("open", handler)


def test_a_handler_may_be_connected_again_inside_on_connect_fail(reactor, events, target, dead):
    class Retries(Dials):
        addresses = iter([dead, "unix:/nonexistent", dead, target])

        def on_connect_fail(self, error):
            events("fail", error)
            connector.connect(next(self.addresses), self)

    connector, handler = goev.Connector(reactor), Retries(events)
    connector.connect(dead, handler)
    events.until("open")
    assert events.names == ["fail"] * 4 + ["open"]
    handler.write(b"works")
    handler.close()
    assert events.until("close") == ("close", None)


def test_a_failed_handler_may_be_accepted_with(start, events, dead):
    handler = Dials(events)
    server = start(lambda: handler)
    goev.Connector(server.reactor).connect(dead, handler)
    events.until("fail")
    server.connect().send(b"x")
    assert events.until("read") == ("read", b"x")


def test_before_it_is_open_a_handler_is_closed(reactor, events, silent):
    handler = Dials(events)
    goev.Connector(reactor).connect(silent, handler, timeout=0.2)
    for call in (lambda: handler.write(b"x"), handler.close, handler.abort, lambda: handler.call_soon(print)):
        with pytest.raises(goev.ConnectionClosed, match="not open yet"):
            call()
    assert type(events.next()[1]) is TimeoutError
    with pytest.raises(goev.ConnectionClosed):
        handler.write(b"x")
