"""Servers of WSGI applications, each with threads of its own that end with the test."""

from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import pytest

import goev.wsgi
from http_support import HttpClient
from support import Server


class Site(Server):
    """A server of one application."""

    def __init__(self, stack: ExitStack, app: Any, base: type = goev.wsgi.Connection, **settings: Any) -> None:
        own = ("threads", "max_waiting", "root_path", "multiprocess", "limits")
        attributes = {name: settings.pop(name) for name in own if name in settings}
        self.handler = type("Handler", (base,), {"app": staticmethod(app), **attributes})
        stack.callback(self.handler.close_pool)
        super().__init__(stack, self.handler, **settings)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.address[1]}"


@pytest.fixture
def site(stack: ExitStack) -> Callable[..., Site]:
    return lambda app, **settings: Site(stack, app, **settings)


@pytest.fixture
def client(stack: ExitStack) -> Callable[..., HttpClient]:
    """Serve an application; return a raw client of it."""

    def connect(app: Any, **settings: Any) -> HttpClient:
        server = app if isinstance(app, Site) else Site(stack, app, **settings)
        return HttpClient(stack, server)

    return connect
