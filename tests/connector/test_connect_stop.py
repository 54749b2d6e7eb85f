"""A stop ends each connect with an error, and closes the connections that are open in order."""

import errno
import itertools
import time
from collections import Counter
from threading import Semaphore

import pytest

import goev
from connector_support import Dials, accept, listening
from support import PATIENCE, Events, in_thread, settle, text_of


def test_a_stop_while_connecting_is_a_connection_aborted_error(events, silent):
    with goev.Reactor(pollers=2) as reactor:
        reactor.start()
        connector = goev.Connector(reactor)
        for _ in range(4):
            connector.connect(silent, Dials(events))
        settle(reactor)
        began = time.monotonic()
        reactor.stop()
        reactor.join(5)
    assert time.monotonic() - began < 1.0
    assert events.names == ["fail"] * 4
    for _, error in events.history:
        assert type(error) is ConnectionAbortedError
        assert error.errno == errno.ECONNABORTED
        assert "stop" in str(error)
        assert silent in str(error)


def test_connects_that_race_with_a_stop_are_answered_or_refused():
    class Counts(Dials):
        def on_open(self):
            self.events("open")
            return False

        def on_connect_fail(self, error):
            super().on_connect_fail(error)
            room.release()

        def on_close(self, error):
            super().on_close(error)
            room.release()

    def connect_until_refused(connector, target, events) -> int:
        for count in itertools.count():
            assert room.acquire(timeout=PATIENCE)
            try:
                connector.connect(target, Counts(events))
            except RuntimeError:
                return count
        raise AssertionError

    for _ in range(10):
        events, room = Events(), Semaphore(60)
        with listening() as listener, goev.Reactor(pollers=2) as reactor:
            reactor.start()
            arguments = (goev.Connector(reactor), text_of(listener.getsockname()), events)
            threads = [in_thread(connect_until_refused, *arguments) for _ in range(2)]
            events.times("open", 20)
            reactor.stop(grace=0.1)
            reactor.join(5)
            for _ in threads:
                room.release()
            taken = sum(thread.result(PATIENCE) for thread in threads)
        names = Counter(events.names)
        assert names["open"] + names["fail"] == taken
        assert names["close"] == names["open"]


def test_connecting_on_a_stopped_reactor_is_refused_and_the_handler_stays_free(reactor, events, target):
    handler = Dials(events)
    with goev.Reactor(pollers=1) as stopped:
        stopped.start()
        connector = goev.Connector(stopped)
        stopped.stop()
        stopped.join(5)
        for call in (connector.connect, lambda *args: goev.connect(stopped, *args)):
            with pytest.raises(RuntimeError, match="stopped"):
                call(target, handler)
        with pytest.raises(RuntimeError, match="stopped"):
            goev.Connector(stopped)
    goev.Connector(reactor).connect(target, handler)
    assert events.next() == ("open", handler)


def test_connecting_while_the_reactor_stops_is_refused(events, silent, target):
    class Retries(Dials):
        def on_connect_fail(self, error):
            events("fail", error)
            with pytest.raises(RuntimeError, match="stop"):
                connector.connect(target, self)
            events("refused")

    with goev.Reactor(pollers=1) as reactor:
        reactor.start()
        connector = goev.Connector(reactor)
        connector.connect(silent, Retries(events))
        settle(reactor)
        reactor.stop()
        reactor.join(5)
    assert events.names == ["fail", "refused"]


def test_a_handler_is_told_or_free_again_when_the_reactor_was_stopped_before_it_ran(reactor, events, target):
    handler = Dials(events)
    with goev.Reactor(pollers=1) as unused:
        goev.Connector(unused).connect(target, handler)
        unused.stop()
        unused.run()
    if events.names != ["fail"]:
        assert events.names == []
        goev.Connector(reactor).connect(target, handler)
        assert events.next() == ("open", handler)


def test_open_outgoing_connections_are_flushed_and_closed_by_a_stop(events, listener, target, stack):
    with goev.Reactor(pollers=1) as reactor:
        reactor.start()
        goev.Connector(reactor).connect(target, Dials(events))
        connection = events.until("open")[1]
        peer = accept(listener, stack)
        connection.write(b"last words" * 1000)
        reactor.stop()
        data = b"".join(iter(lambda: peer.recv(65536), b""))
        peer.close()
        reactor.join(5)
    assert data == b"last words" * 1000
    assert events.until("close") == ("close", None)
