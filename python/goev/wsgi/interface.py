"""The interface of a service that serves a WSGI application."""

from typing import Any

from goev.service.settings import Settings
from goev.wsgi.connection import Connection


class Application:
    """One WSGI application in ``settings.threads`` threads, or a subclass of ``goev.wsgi.Connection`` as it is."""

    on_loop = False
    asyncio = False
    _class: type[Connection]

    def __init__(self, app: Any, settings: Settings) -> None:
        if isinstance(app, type) and issubclass(app, Connection):
            self._class = app
            return
        if not callable(app):
            raise TypeError(f"{settings.target} is {app!r}, and no WSGI application: it cannot be called [GOEV801]")
        if settings.threads < 1:
            raise ValueError(f"threads must be at least 1, not {settings.threads}")
        attributes = {
            "app": staticmethod(app),
            "threads": settings.threads,
            "multiprocess": settings.workers > 1,
            "__doc__": "A connection of the service.",
        }
        self._class = type("Application", (Connection,), attributes)

    def connection(self) -> Connection:
        """A fresh handler for a connection that was accepted."""
        return self._class()

    async def begin(self) -> None:
        """Nothing begins here: the first connection starts the threads."""

    async def end(self) -> None:
        """Nothing ends here."""

    def close(self) -> None:
        """End the threads."""
        self._class.close_pool()
