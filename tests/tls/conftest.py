"""Fixtures of the tests of TLS: a CA, certificates from it, servers, and the log of failed handshakes."""

import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import goev
from certificates import Authority, Identity
from support import Events, eventually, open_fds
from tls_support import Echo, Peer, Tells, trusting


@pytest.fixture(scope="session")
def root() -> Authority:
    """A CA that the tests trust."""
    return Authority()


@pytest.fixture(scope="session")
def server(root: Authority) -> Identity:
    """A server's certificate, for a.example and 127.0.0.1."""
    return root.issue("a.example", "127.0.0.1")


@pytest.fixture(scope="session")
def identity(root: Authority) -> Identity:
    """The certificate of a server on this machine."""
    return root.issue("localhost", "127.0.0.1")


@pytest.fixture
def serve(reactor: goev.Reactor, identity: Identity) -> Callable[..., goev.Acceptor]:
    """``serve(handler, own, tls={…}, …)``: an acceptor with options of its context, and options of its own."""

    def serve(
        handler: Callable[[], goev.Connection], own: Identity = identity, *, tls: Any = None, **options: Any
    ) -> goev.Acceptor:
        context = goev.tls.ServerContext(own.chain, own.key, **(tls or {}))
        return goev.Acceptor(reactor, "127.0.0.1:0", handler, tls=context, **options)

    return serve


@pytest.fixture
def tells() -> Iterator[Tells]:
    """The lines about failed handshakes."""
    handler, logger = Tells(), logging.getLogger("goev")
    before = logger.level
    logger.setLevel(logging.INFO)
    logger.addHandler(handler)
    yield handler
    logger.removeHandler(handler)
    logger.setLevel(before)


@pytest.fixture
def target(
    serve: Callable[..., goev.Acceptor], reactor: goev.Reactor, root: Authority, tells: Tells, events: Events
) -> Iterator[tuple[str, int]]:
    """The address of an echo server. Behind the test it must serve on, hold nothing, and have logged INFO at most."""

    class Watched(Echo):
        def on_close(self, error: BaseException | None) -> None:
            events("close", error)

    address = serve(Watched).address
    before = open_fds()
    yield address
    with Peer.to(address, trusting(root)) as client:
        assert client.ask(b"hello") == b"hello"
        client.say_close()
    eventually(lambda: reactor.stats()[0]["open"] == 0, "no connection is left")
    eventually(lambda: open_fds() <= before, "no descriptor is left")
    assert set(tells.events.names) <= {"INFO"}, tells.events.history
