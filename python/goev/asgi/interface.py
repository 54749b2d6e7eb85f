"""ASGI applications, as a service runs them."""

from typing import Any, cast

from goev._core import AsgiConnection
from goev.asgi.connection import Connection
from goev.asgi.lifespan import Lifespan
from goev.service.settings import Settings


class Application:
    """An application, or a subclass of ``goev.asgi.Connection`` that has one; see ``goev.service.interfaces``."""

    on_loop = True
    asyncio = True

    def __init__(self, app: Any, settings: Settings) -> None:
        if isinstance(app, type) and issubclass(app, AsgiConnection):
            self._handler: Any = app
        else:
            self._handler = type("Connection", (Connection,), {"app": staticmethod(app) if callable(app) else app})
        application = getattr(self._handler, "app", None)
        if not callable(application):
            raise TypeError(f"{settings.target} is {app!r}, and no ASGI application [GOEV801]")
        self._lifespan = Lifespan(application)

    def connection(self) -> AsgiConnection:
        """A fresh handler for a connection that was accepted."""
        return cast("AsgiConnection", self._handler())

    async def begin(self) -> None:
        """Start the application; ``LifespanFailed`` with its message if it cannot."""
        self._handler.state = await self._lifespan.__aenter__()

    async def end(self) -> None:
        """Shut the application down."""
        await self._lifespan.__aexit__(None, None, None)

    def close(self) -> None:
        """Nothing was taken."""
