"""The client of these tests has a server with patience."""

import pytest


@pytest.fixture
def connected(connected):
    """A server of that handler, which has patience with what is still sent to it; and a client of it."""
    return lambda factory: connected(factory, linger_timeout=30.0)
