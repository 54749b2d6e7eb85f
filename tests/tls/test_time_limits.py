"""The time limits of a client's handshake: that of its connect, and that of handshakes."""

import socket
from collections.abc import Iterator

import pytest

import goev
from support import Events, Recorder, eventually


class Fails(Recorder):
    def on_connect_fail(self, error: Exception) -> None:
        self.events("fail", error)


class SocketFails(goev.websocket.Connection):
    def __init__(self, events: Events) -> None:
        self.events = events

    def on_connect_fail(self, error: Exception) -> None:
        self.events("fail", error)


@pytest.fixture
def silent() -> Iterator[str]:
    """The address of a server that says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"127.0.0.1:{listener.getsockname()[1]}"


@pytest.fixture
def tls(root) -> goev.tls.ClientContext:
    return goev.tls.ClientContext(ca=root.pem)


def test_a_connect_fails_within_its_timeout(silent, reactor, tls, events) -> None:
    goev.connect(reactor, silent, Fails(events), timeout=0.05, tls=tls)
    error = events.until("fail")[1]
    assert isinstance(error, TimeoutError)
    assert f"cannot connect to {silent} within 0.05 s" in str(error)
    eventually(lambda: reactor.stats()[0]["timers"] == 0, "no timer is left")


def test_a_websocket_fails_within_its_timeout(silent, reactor, tls, events) -> None:
    goev.websocket.connect(reactor, f"wss://{silent}/", SocketFails(events), timeout=0.05, tls=tls)
    assert isinstance(events.until("fail")[1], TimeoutError)


def test_a_handshake_has_its_own_limit_within_that(silent, reactor, tls, events) -> None:
    goev.connect(reactor, silent, Fails(events), timeout=10, tls=tls, handshake_timeout=0.05)
    error = events.until("fail")[1]
    assert isinstance(error, goev.tls.Error)
    assert "within handshake_timeout=0.05 s" in str(error)
    eventually(lambda: reactor.stats()[0]["timers"] == 0, "no timer is left")


def test_an_open_connection_has_no_timer_of_its_connect(serve, reactor, tls, events) -> None:
    port = serve(lambda: Recorder(Events())).address[1]
    goev.connect(reactor, f"localhost:{port}", Fails(events), tls=tls)
    events.until("open")
    eventually(lambda: reactor.stats()[0]["timers"] == 0, "no timer is left")


def test_a_stop_ends_a_handshake(silent, reactor, tls, events) -> None:
    goev.connect(reactor, silent, Fails(events), tls=tls)
    eventually(lambda: reactor.stats()[0]["timers"] == 2, "the handshake has begun, with both limits")
    reactor.stop(grace=0)
    error = events.until("fail")[1]
    assert isinstance(error, ConnectionAbortedError)
    assert f"cannot connect to {silent}: the reactor stops" in str(error)
