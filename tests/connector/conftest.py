"""Fixtures offer addresses to connect to: one that takes connections, one that refuses, one that is silent."""

import socket
from contextlib import ExitStack

import pytest

from connector_support import listening
from support import text_of


@pytest.fixture
def listener():
    with listening() as listener:
        yield listener


@pytest.fixture
def dead():
    """An address that refuses: bound, so that nobody else gets it, and not listening."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield text_of(bound.getsockname())


@pytest.fixture
def silent():
    """An address that does not answer: the backlog of its listener is full."""
    with ExitStack() as opened:
        listener = opened.enter_context(listening(backlog=0))
        for _ in range(10):
            filler = opened.enter_context(socket.socket())
            filler.settimeout(0.2)
            try:
                filler.connect(listener.getsockname())
            except TimeoutError:
                break
        yield text_of(listener.getsockname())


@pytest.fixture
def target(listener) -> str:
    """An address that takes connections; what comes of them is left to the test."""
    return text_of(listener.getsockname())
