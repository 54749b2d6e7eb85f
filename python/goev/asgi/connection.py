"""The handler class."""

from collections.abc import Callable, Collection, Coroutine, Mapping
from typing import Any, ClassVar, TypeAlias

from goev._core import AsgiConnection, Limits
from goev.asgi.sockets import WebSocket

App: TypeAlias = Callable[[Any, Any, Any], Coroutine[Any, Any, Any]]


class Connection(AsgiConnection):
    """One connection of a server. An ASGI application answers its requests: subclass it and set ``app``.

    A subclass may override ``on_request``, answer some requests by itself, and call ``super().on_request(request)`` for
    the others. The body of a request comes in pieces, so ``request.body`` is empty.
    """

    app: ClassVar[App]
    """The application: a coroutine function of ``scope``, ``receive`` and ``send``, or an object that is called so."""
    root_path: ClassVar[str] = ""
    """The path under which a proxy in front has mounted the application; a prefix of ``scope["path"]``."""
    state: ClassVar[Mapping[str, Any]] = {}
    """The state that ``Lifespan`` returns: each scope gets a copy."""
    trusted_proxies: ClassVar[Collection[str]] = ()
    """Peers with ``X-Forwarded-For`` and ``X-Forwarded-Proto`` that goev believes: addresses, networks, ``"unix:"``."""
    websocket: ClassVar[type[WebSocket]] = WebSocket
    """The limits of WebSockets, by the attributes of a subclass of ``goev.asgi.WebSocket``."""
    limits = Limits(max_body=1 << 30, max_pending=1)
    """A body may have 1 GiB. Requests are answered one after the other; ``max_pending`` has no effect."""
