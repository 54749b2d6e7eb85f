"""The ways to serve an object: handlers of goev itself, ASGI applications, WSGI applications.

An interface is made in the worker, from the object that the target names. It knows nothing of processes and sockets.
"""

from importlib import import_module
from inspect import isclass, iscoroutinefunction
from typing import Any, Literal, Protocol

from goev._core import AsgiConnection, Connection, WsgiConnection, _has_coroutine
from goev.service.settings import Settings


class Interface(Protocol):
    """Serves one application.

    Attributes:
        on_loop: whether the application has to begin and end on the event loop that its connections run on. Then the
            worker has one poller.
        asyncio: whether the pollers need event loops of asyncio.
    """

    on_loop: bool
    asyncio: bool

    def __init__(self, app: Any, settings: Settings) -> None:
        """Raise ``TypeError`` if ``app`` is no such application."""

    def connection(self) -> Connection:
        """A fresh handler for a connection that was accepted."""

    async def begin(self) -> None:
        """Run before the sockets accept, with ``on_loop`` only. An exception means that the worker cannot start."""

    async def end(self) -> None:
        """Run after the last connection has ended, with ``on_loop`` only."""

    def close(self) -> None:
        """Give back threads and the like, after everything else."""


class Handlers:
    """Handlers of goev: a ``Connection`` subclass, or a callable that returns a fresh handler."""

    on_loop = False

    def __init__(self, app: Any, settings: Settings) -> None:
        if not callable(app):
            text = f"{settings.target} is {app!r}, and no Connection subclass and no function that makes one"
            raise TypeError(f"{text} [GOEV801]")
        self.asyncio = bool(settings.reactor.get("asyncio", _has_coroutine(app)))
        self.connection = app

    async def begin(self) -> None:
        """Nothing begins here."""

    async def end(self) -> None:
        """Nothing ends here."""

    def close(self) -> None:
        """Nothing was taken."""


def name_of(app: Any) -> Literal["goev", "asgi", "wsgi"]:
    """The interface of an object, by the object itself: handler classes and functions, coroutine functions, others."""
    if isclass(app) and issubclass(app, Connection):
        return "asgi" if issubclass(app, AsgiConnection) else "wsgi" if issubclass(app, WsgiConnection) else "goev"
    return "asgi" if iscoroutinefunction(app) or iscoroutinefunction(type(app).__call__) else "wsgi"


def interface_of(app: Any, settings: Settings) -> Interface:
    """The interface that the settings ask for, with ``app`` in it."""
    name = name_of(app) if settings.interface == "auto" else settings.interface
    if name == "goev":
        return Handlers(app, settings)
    module = import_module(f"goev.{name}.interface")  # only services with such applications import asgi or wsgi
    interface: Interface = module.Application(app, settings)
    pollers = settings.reactor.get("pollers")
    if interface.on_loop and pollers not in (None, 1):
        raise ValueError(f"pollers must be 1 with {name}, because its applications have one event loop, not {pollers}")
    return interface
