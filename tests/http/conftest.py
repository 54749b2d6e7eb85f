"""Fixtures start an HTTP server with a client, and hold requests until the test answers them."""

import pytest

from http_support import HttpClient, Keeps


@pytest.fixture
def connected(start, stack):
    """``connected(factory, **options)``: a server of that handler, and a client of it."""
    return lambda factory, **options: HttpClient(stack, start(factory, **options))


@pytest.fixture
def kept(connected, events):
    """``kept(*requests)``: a client that sent these, and the requests as the handler got them, not answered yet."""

    def connect(*requests, kind=Keeps, **options):
        client = connected(lambda: kind(events), **options)
        client.send(b"".join(requests))
        return client, *(events.until("request")[1] for _ in requests)

    return connect
