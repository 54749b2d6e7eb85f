"""Fixtures start a server with an application, and a raw client of it."""

import pytest

from asgi_support import site
from http_support import HttpClient


@pytest.fixture
def serving(start):
    """``serving(app, **attributes)``: a server with the application on the event loop of its only poller."""
    return lambda app, options=None, **attributes: start(site(app, **attributes), asyncio=True, **(options or {}))


@pytest.fixture
def client_of(serving, stack):
    """As ``serving``, and a client of it."""
    return lambda app, **attributes: HttpClient(stack, serving(app, **attributes))
