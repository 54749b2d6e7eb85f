"""A storm of handshakes, and connections that are open already."""

import select
import socket
import ssl
import threading

import pytest

import goev
from support import PATIENCE, Recorder

STORM = 40


@pytest.fixture
def hello(root) -> bytes:
    """The first message of a client."""
    coming, going = ssl.MemoryBIO(), ssl.MemoryBIO()
    trusting = ssl.create_default_context(cadata=root.pem.decode())
    client = trusting.wrap_bio(coming, going, server_hostname="a.example")
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    return going.read()


@pytest.mark.parametrize("limit", [1, 3])
def test_a_storm_of_handshakes_holds_up_no_open_connection(stack, server, hello, events, limit) -> None:
    clients: list[socket.socket] = []

    class Pinged(Recorder):
        def on_read(self) -> None:
            self.read()
            answered, _, _ = select.select(clients, [], [], 0)
            self.events("ping", len(answered))

    reactor = stack.enter_context(goev.Reactor(handshakes_per_batch=limit))
    tls = goev.tls.ServerContext(server.chain, server.key)
    plain = goev.Acceptor(reactor, "127.0.0.1:0", lambda: Pinged(events))
    secured = goev.Acceptor(reactor, "127.0.0.1:0", lambda: Recorder(events), tls=tls)
    reactor.start()
    pinger = stack.enter_context(socket.create_connection(plain.address, PATIENCE))
    events.until("open")
    held, gate = threading.Event(), threading.Event()
    reactor.call_soon(lambda: (held.set(), gate.wait(PATIENCE)))
    assert held.wait(PATIENCE)
    for _ in range(STORM):
        client = stack.enter_context(socket.create_connection(secured.address, PATIENCE))
        client.sendall(hello)
        clients.append(client)
    pinger.sendall(b"ping")
    gate.set()
    # The steps of the batch that read the ping, and of one more if that came between.
    assert events.until("ping")[1] <= 2 * limit
    for client in clients:
        client.settimeout(PATIENCE)
        assert client.recv(1) == b"\x16", "every handshake goes on"


def test_the_limit_is_checked() -> None:
    for wrong in (0, -1, 65_537):
        with pytest.raises(ValueError, match="handshakes_per_batch"):
            goev.Reactor(handshakes_per_batch=wrong)
