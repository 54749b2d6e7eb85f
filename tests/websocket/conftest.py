"""Fixtures start a WebSocket server with a client, before or after the handshake."""

import pytest

from websocket_support import ClientPeer, Echo


@pytest.fixture
def connected(start, stack, events):
    """``connected(kind, attributes, **options)``: a server of that kind with these attributes, and a client of it."""

    def connect(kind=Echo, attributes=None, **options):
        kind = type(kind.__name__, (kind,), attributes or {})
        return ClientPeer(stack, start(lambda: kind(events), **options))

    return connect


@pytest.fixture
def opened(connected, events):
    """``opened(kind, attributes, *fields, **options)``: a client after its handshake, and the handler."""

    def connect(kind=Echo, attributes=None, *fields, **options):
        client = connected(kind, attributes, **options)
        client.open(*fields)
        return client, events.until("open")[1]

    return connect
