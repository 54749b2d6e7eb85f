"""Fixtures of the tests of the PROXY protocol: a CA, and a server's certificate from it."""

import pytest

from certificates import Authority, Identity


@pytest.fixture(scope="session")
def root() -> Authority:
    """A CA that the tests trust."""
    return Authority()


@pytest.fixture(scope="session")
def server(root: Authority) -> Identity:
    """A server's certificate, for a.example and 127.0.0.1."""
    return root.issue("a.example", "127.0.0.1")
