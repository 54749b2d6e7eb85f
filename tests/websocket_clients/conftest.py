"""Fixtures connect a WebSocket client to a raw server, before or after that agrees."""

import socket
from contextlib import closing

import pytest

import goev
from support import PATIENCE
from websocket_support import ServerPeer, Told


@pytest.fixture
def listener(stack):
    listening = stack.enter_context(closing(socket.create_server(("127.0.0.1", 0))))
    listening.settimeout(PATIENCE)
    return listening


@pytest.fixture
def asked(reactor, listener, stack, events):
    """``asked(kind, attributes, target, **options)``: a raw server that such a handler asks, and the handler."""

    def connect(kind=Told, attributes=None, target="/", **options):
        handler = type(kind.__name__, (kind,), attributes or {})(events)
        goev.websocket.connect(reactor, f"ws://127.0.0.1:{listener.getsockname()[1]}{target}", handler, **options)
        return ServerPeer(stack, listener), handler

    return connect


@pytest.fixture
def opened(asked, events):
    """``opened(kind, attributes, *fields)``: a raw server that agreed, and the handler."""

    def connect(kind=Told, attributes=None, *fields, **options):
        server, handler = asked(kind, attributes, **options)
        server.agree(*fields)
        assert events.next() == ("open", handler)
        return server, handler

    return connect
