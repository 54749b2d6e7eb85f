"""Fixtures bind a handler, and open raw peers for it."""

import socket

import pytest

import goev
from datagram_support import V4, Peer
from support import on_poller


@pytest.fixture
def peer(stack):
    """``peer(family=AF_INET)``: a raw socket, closed after the test."""
    return lambda family=socket.AF_INET: stack.enter_context(Peer(family))


@pytest.fixture
def bind(reactor):
    """``bind(handler, address=V4, **options)``: bind it, wait until it is open, return its address."""

    def bind_and_wait(handler: goev.Datagram, address: str = V4, **options):
        handler.bind(reactor, address, **options)
        return on_poller(reactor, lambda: handler.local_address)

    return bind_and_wait
