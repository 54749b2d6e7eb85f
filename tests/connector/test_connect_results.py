"""A handler hears on_open or on_connect_fail, exactly one of them, once, and never inside connect."""

import errno
import random

import goev
from connector_support import Dials
from support import Echo, on_poller, settle, text_of


def test_a_good_address_opens_once_and_does_not_fail(reactor, events, target):
    handler = Dials(events)
    goev.Connector(reactor).connect(target, handler)
    assert events.next() == ("open", handler)
    settle(reactor)
    assert events.names == ["open"]


def test_the_short_form_does_the_same(reactor, events, target):
    handler = Dials(events)
    goev.connect(reactor, target, handler, timeout=5.0, nodelay=False)
    assert events.next() == ("open", handler)


def test_a_refused_address_fails_once_with_errno_and_the_address(reactor, events, dead):
    goev.Connector(reactor).connect(dead, Dials(events))
    error = events.next()[1]
    assert type(error) is ConnectionRefusedError
    assert error.errno == errno.ECONNREFUSED
    assert f"cannot connect to {dead}" in str(error)
    settle(reactor)
    assert events.names == ["fail"]


def test_neither_is_called_inside_connect(reactor, events, target, dead):
    connector = goev.Connector(reactor)

    def connect_here() -> None:
        for address in (target, dead, "unix:/nonexistent/socket"):
            connector.connect(address, Dials(events))
        assert events.history == []

    on_poller(reactor, connect_here)
    events.times("fail", 2)
    events.times("open", 1)


def test_every_one_of_many_gets_exactly_one_answer(reactor, events, target, dead):
    connector = goev.Connector(reactor)
    for _ in range(100):
        connector.connect(target, Dials(events))
        connector.connect(dead, Dials(events))
    events.times("open", 100)
    events.times("fail", 100)
    settle(reactor)
    assert len(events.history) == 200


def test_a_timeout_that_races_with_success_gives_exactly_one_answer(start, events):
    class Both(Dials):
        def __init__(self) -> None:
            super().__init__(events)
            self.told: list[str] = []

        def on_open(self):
            self.told.append("open")
            self.close()

        def on_connect_fail(self, error):
            self.told.append("fail")
            events("end", error)

        def on_close(self, error):
            self.told.append("close")
            events("end", error)

    server = start(Echo, pollers=2)
    connector = goev.Connector(server.reactor)
    chance = random.Random(1)
    handlers = [Both() for _ in range(500)]
    for handler in handlers:
        connector.connect(text_of(server.address), handler, timeout=chance.uniform(1e-5, 2e-3))
    events.times("end", 500)
    settle(server.reactor)
    assert {tuple(handler.told) for handler in handlers} <= {("open", "close"), ("fail",)}
