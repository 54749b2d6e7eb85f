"""Fixtures make pools of connections to a server, and an address without one."""

import socket

import pytest

import goev
from pool_support import Peer


@pytest.fixture
def peers():
    return []


@pytest.fixture
def server(start, peers):
    return start(lambda: Peer(peers))


@pytest.fixture
def make(stack, server, reactor):
    """``make(**options)``: a pool of connections to the server, closed after the test."""

    def make_pool(factory=goev.PooledConnection, *, address=None, on=reactor, **options):
        address = address or "{}:{}".format(*server.address)
        return stack.enter_context(goev.ConnectionPool(goev.Connector(on), address, factory, **options))

    return make_pool


@pytest.fixture
def nobody(stack):
    """A socket that is bound and does not listen: connecting to it is refused, and no one else gets its port."""
    unused = stack.enter_context(socket.socket())
    unused.bind(("127.0.0.1", 0))
    return unused
