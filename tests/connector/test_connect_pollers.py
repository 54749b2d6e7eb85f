"""A connection is made on the poller that asks for it, and dealt round robin when asked for elsewhere."""

from collections import Counter
from threading import get_ident

import goev
from connector_support import Dials
from support import PATIENCE, Echo, Events, in_thread, on_poller, text_of


class Placed(Dials):
    """Reports the thread of each callback."""

    def on_open(self):
        self.events("open", get_ident())

    def on_connect_fail(self, error):
        self.events("fail", get_ident())


def test_connections_from_elsewhere_are_dealt_round_robin(stack, events, target, dead):
    for address, name in ((target, "open"), (dead, "fail")):
        seen = Events()
        with goev.Reactor(pollers=3) as reactor:
            reactor.start()
            connector = goev.Connector(reactor, linger_timeout=0)
            for _ in range(9):
                connector.connect(address, Placed(seen))
            seen.times(name, 9)
        threads = [event[1] for event in seen.of(name)]
        assert sorted(Counter(threads).values()) == [3, 3, 3]
        assert get_ident() not in threads


def test_inside_a_callback_the_connection_is_made_on_the_same_poller(start, events, target, dead):
    made = Events()

    class Relay(goev.Connection):
        def on_open(self):
            events("here", get_ident())
            for address in (target, dead):
                connector.connect(address, Placed(made))

    server = start(Relay, pollers=3)
    connector = goev.Connector(server.reactor, linger_timeout=0)
    for _ in range(6):
        made.history.clear()
        made._taken = 0
        server.connect()
        here = events.next()[1]
        assert {made.next(), made.next()} == {("open", here), ("fail", here)}
    assert len({event[1] for event in events.history}) == 3


def test_inside_a_callback_of_another_reactor_they_are_dealt_too(reactor, events, target):
    with goev.Reactor(pollers=2) as other:
        other.start()
        connector = goev.Connector(other, linger_timeout=0)
        on_poller(reactor, lambda: [connector.connect(target, Placed(events)) for _ in range(4)])
        events.times("open", 4)
        counts = Counter(event[1] for event in events.history)
        assert sorted(counts.values()) == [2, 2]
        assert on_poller(reactor, get_ident) not in counts


def test_the_short_form_uses_poller_0_outside_of_callbacks(events, target):
    with goev.Reactor(pollers=3) as reactor:
        reactor.start()
        for _ in range(4):
            goev.connect(reactor, target, Placed(events), linger_timeout=0)
        events.times("open", 4)
        assert {event[1] for event in events.history} == {on_poller(reactor, get_ident)}


def test_connect_before_the_start_waits_for_it(events, target, dead):
    with goev.Reactor(pollers=2) as reactor:
        connector = goev.Connector(reactor, linger_timeout=0)
        connector.connect(target, Dials(events))
        connector.connect(dead, Dials(events))
        assert events.history == []
        reactor.start()
        assert {events.next()[0], events.next()[0]} == {"open", "fail"}


def test_connect_before_run_works(events, target):
    class Stops(Dials):
        def on_open(self):
            super().on_open()
            reactor.stop()

    reactor = goev.Reactor(pollers=1)
    goev.connect(reactor, target, Stops(events), linger_timeout=0)
    reactor.run()
    assert events.names == ["open", "close"]


def test_connect_from_many_threads_at_once(start, events):
    server = start(Echo, pollers=2, backlog=4096)
    connector = goev.Connector(server.reactor, linger_timeout=0)
    address = text_of(server.address)

    def connect_many() -> None:
        for _ in range(50):
            connector.connect(address, Dials(events))

    for future in [in_thread(connect_many) for _ in range(6)]:
        future.result(PATIENCE)
    events.times("open", 300)
    assert sum(poller["connected"] for poller in server.reactor.stats()) == 300


def test_a_connector_in_a_timer_callback(reactor, events, target):
    connector = goev.Connector(reactor, linger_timeout=0)
    reactor.schedule(0.001, lambda: connector.connect(target, Dials(events)))
    assert events.next()[0] == "open"
