"""An outgoing connection lives, reads, writes and ends like any other."""

import errno
import os
import socket
from collections import Counter
from threading import get_ident

import pytest

import goev
from connector_support import Dials, accept, opened
from support import PATIENCE, Echo, eventually, held, in_thread, on_poller, settle, sha256, text_of


def test_an_outgoing_connection_lives_in_order(start, events):
    class Lives(Dials):
        def on_open(self):
            self.write(b"hello")
            events("open", get_ident())

        def on_read(self):
            events("read", self.read(), get_ident())
            self.schedule(0.001)

        def on_timeout(self):
            events("timeout", get_ident())
            self.call_soon(lambda: events("soon", get_ident()))
            self.call_soon(self.close)

        def on_close(self, error):
            events("close", error, get_ident())

    server = start(Echo, pollers=2)
    goev.Connector(server.reactor).connect(text_of(server.address), Lives(events))
    events.until("close")
    settle(server.reactor)
    assert events.names == ["open", "read", "timeout", "soon", "close"]
    assert events.of("read")[0][1] == b"hello"
    assert events.of("close")[0][1] is None
    assert len({event[-1] for event in events.history}) == 1


@pytest.mark.parametrize("size", [0, 1, 300_000])
def test_what_the_peer_sent_before_on_open_is_delivered_after_it(reactor, events, listener, target, stack, size):
    data = os.urandom(size)
    connector = goev.Connector(reactor)
    with held(reactor):
        connector.connect(target, Dials(events))
    peer = accept(listener, stack)
    peer.sendall(data)
    peer.close()
    assert events.until("close") == ("close", None)
    assert events.names[0] == "open"
    assert b"".join(event[1] for event in events.of("read")) == data


def test_a_peer_that_closes_at_once_is_an_open_and_a_close(start, events):
    class Refuses(goev.Connection):
        def on_open(self):
            return False

    server = start(Refuses)
    for _ in range(50):
        goev.Connector(server.reactor).connect(text_of(server.address), Dials(events))
    events.times("close", 50)
    assert Counter(events.names) == {"open": 50, "close": 50}
    assert {event[1] for event in events.of("close")} == {None}


def test_a_reset_by_the_peer_is_told(reactor, events, listener, target, stack):
    connection = opened(reactor, events, target)
    peer = accept(listener, stack)
    peer.sendall(b"before")
    assert events.until("read") == ("read", b"before")
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    peer.close()
    error = events.until("close")[1]
    assert type(error) is ConnectionResetError
    assert error.errno == errno.ECONNRESET
    with pytest.raises(goev.ConnectionClosed):
        connection.write(b"x")


@pytest.mark.parametrize("how", ["false", "raises"])
def test_on_open_may_end_it(reactor, events, log, target, how):
    class Ends(Dials):
        def on_open(self):
            events("open", self)
            if how == "raises":
                raise LookupError("no")
            return False

    goev.Connector(reactor).connect(target, Ends(events))
    error = events.until("close")[1]
    assert (error is None) if how == "false" else (type(error) is LookupError)
    assert events.names == ["open", "close"]
    assert len(log.texts()) == (how == "raises")


def test_abort_resets_the_peer(reactor, events, listener, target, stack):
    connection = opened(reactor, events, target)
    peer = accept(listener, stack)
    connection.abort()
    assert type(events.until("close")[1]) is ConnectionAbortedError
    with pytest.raises(ConnectionResetError):
        peer.recv(1)


def test_writes_from_threads_keep_their_order(start, events):
    received = bytearray()

    class Collects(Dials):
        def on_read(self):
            received.extend(self.read())
            events("read", len(received))

    server = start(Echo)
    goev.Connector(server.reactor).connect(text_of(server.address), Collects(events))
    connection = events.until("open")[1]

    def write_many(who: int) -> None:
        for number in range(1000):
            connection.write(b"%d:%04d\n" % (who, number))

    for future in [in_thread(write_many, who) for who in range(4)]:
        future.result(PATIENCE)
    eventually(lambda: len(received) == 4 * 1000 * 7, "everything came back")
    lines = bytes(received).split()
    for who in range(4):
        mine = [line for line in lines if line.startswith(b"%d:" % who)]
        assert mine == [b"%d:%04d" % (who, number) for number in range(1000)]


def test_a_large_answer_arrives_whole_under_back_pressure(start, events):
    data = os.urandom(5_000_000)

    class Sends(Dials):
        received = bytearray()

        def on_open(self):
            self.write(data)

        def on_read(self):
            self.received += self.read()
            if len(self.received) == len(data):
                self.close()

    server = start(Echo)
    goev.Connector(server.reactor).connect(text_of(server.address), Sends(events))
    assert events.until("close") == ("close", None)
    assert sha256(Sends.received) == sha256(data)


def test_half_close_and_hand_over_work(reactor, events, listener, target, stack):
    class Second(Dials):
        def on_eof(self):
            events("eof")
            self.write(b"bye")
            self.close()

    class First(Dials):
        def on_open(self):
            self.hand_over(Second(events))

    goev.Connector(reactor).connect(target, First(events))
    peer = accept(listener, stack)
    peer.sendall(b"x")
    assert events.until("read") == ("read", b"x")
    peer.shutdown(socket.SHUT_WR)
    assert peer.recv(10) == b"bye"
    events.times("close", 2)
    assert events.names == ["close", "open", "read", "eof", "close"]


def test_sockets_are_not_inherited(reactor, events, target):
    connection = opened(reactor, events, target)
    assert on_poller(connection, lambda: os.get_inheritable(connection.fileno())) is False
