"""ASGI 3 applications behind goev: Starlette, FastAPI, Django and the like.

::

    import goev
    from web import app

    class Site(goev.asgi.Connection):
        app = app

    goev.serve(Site, ":8080")
"""

from goev.asgi.connection import Connection
from goev.asgi.ended import ClientDisconnected, LifespanFailed
from goev.asgi.lifespan import Lifespan
from goev.asgi.sockets import WebSocket

__all__ = ["ClientDisconnected", "Connection", "Lifespan", "LifespanFailed", "WebSocket"]
