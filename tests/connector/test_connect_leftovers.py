"""A connect that is over leaves no descriptor, timer or handler behind, and the counters balance."""

import gc
import weakref

import pytest

import goev
from connector_support import Dials
from support import Echo, eventually, held, on_poller, open_fds, settle, settled_fds, text_of, wait_until_all_run


def balanced(reactor) -> bool:
    return all(
        poller["open"] == poller["accepted"] + poller["connected"] - poller["closed"] for poller in reactor.stats()
    )


def total(reactor, name: str) -> int:
    return sum(poller[name] for poller in reactor.stats())


def test_the_counters_balance(start, events, dead):
    server = start(Echo, pollers=2)
    connector = goev.Connector(server.reactor)
    assert {poller["connected"] for poller in server.reactor.stats()} == {0}
    for _ in range(10):
        connector.connect(text_of(server.address), Dials(events))
        connector.connect(dead, Dials(events))
    events.times("fail", 10)
    events.times("open", 10)
    eventually(lambda: total(server.reactor, "accepted") == 10, "all are accepted")
    assert (total(server.reactor, "connected"), total(server.reactor, "open")) == (10, 20)
    assert balanced(server.reactor)
    for _, connection in events.of("open"):
        connection.close()
    eventually(lambda: total(server.reactor, "open") == 0, "all are closed")
    assert total(server.reactor, "closed") == 20
    assert balanced(server.reactor)


def test_the_timers_of_a_connect_are_gone_with_its_end(reactor, events, silent, target):
    connector = goev.Connector(reactor)
    connector.connect([silent, target], Dials(events), timeout=60.0)
    connector.connect(target, Dials(events), timeout=60.0)
    events.times("open", 2)
    eventually(lambda: settle(reactor) or total(reactor, "timers") == 0, "no timer is left")


def test_a_thousand_failures_leave_no_descriptor(reactor, events, dead):
    connector = goev.Connector(reactor)
    before = settled_fds()
    for _ in range(10):
        for _ in range(100):
            connector.connect([dead, "unix:/nonexistent"], Dials(events))
        events.times("fail", len(events.of("fail")) // 100 * 100 + 100)
    assert len(events.history) == 1000
    eventually(lambda: open_fds() == before, "no descriptor is left")
    assert total(reactor, "connected") == total(reactor, "open") == 0


def test_a_thousand_timeouts_leave_no_descriptor(reactor, events, silent):
    connector = goev.Connector(reactor)
    before = settled_fds()
    for _ in range(5):
        for _ in range(200):
            connector.connect([silent, silent], Dials(events), timeout=0.02)
        events.times("fail", len(events.of("fail")) // 200 * 200 + 200)
    assert {type(error) for _, error in events.history} == {TimeoutError}
    eventually(lambda: open_fds() == before, "no descriptor is left")


def test_a_thousand_connections_leave_no_descriptor(start, events):
    class Leaves(Dials):
        def on_open(self):
            self.write(b"x")

        def on_read(self):
            self.close()

    server = start(Echo, pollers=2)
    connector = goev.Connector(server.reactor)
    wait_until_all_run(server.reactor)  # each opens a descriptor of its own
    before = settled_fds()
    for count in range(100, 1001, 100):
        for _ in range(100):
            connector.connect(text_of(server.address), Leaves(events))
        events.times("close", count)
    assert events.names == ["close"] * 1000
    eventually(lambda: open_fds() == before, "no descriptor is left")
    assert total(server.reactor, "closed") == 2000
    assert balanced(server.reactor)


@pytest.mark.parametrize("end", ["fail", "close"])
def test_a_handler_is_freed_after_its_end(reactor, events, dead, target, end):
    class Ends(Dials):
        def on_open(self):
            return False

        def on_connect_fail(self, error):
            events("fail")

        def on_close(self, error):
            events("close")

    gc.collect()
    gc.disable()  # only reference counts free anything here
    try:
        handler = Ends(events)
        gone = weakref.ref(handler)
        goev.Connector(reactor).connect(dead if end == "fail" else target, handler)
        del handler
        events.until(end)
        eventually(lambda: settle(reactor) or gone() is None, "the handler is freed")
    finally:
        gc.enable()


def test_a_handler_that_connects_is_kept_by_the_reactor(reactor, events, target):
    with held(reactor):
        goev.Connector(reactor).connect(target, Dials(events))
        gc.collect()
    connection = events.next()[1]
    del events.history[:]
    gc.collect()
    assert on_poller(connection, lambda: connection.fileno()) >= 0
