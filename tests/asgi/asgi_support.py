"""Shared by the tests of ASGI: applications that report scopes and messages, and handlers with an application."""

import asyncio
import gc
from collections.abc import Callable
from typing import Any

import goev
from support import Events

TEXT = [(b"content-type", b"text/plain")]
# The fields of a WebSocket's handshake.
UPGRADE = (
    "Connection: Upgrade",
    "Upgrade: websocket",
    "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
)


def site(app: Any, **attributes: Any) -> type[goev.asgi.Connection]:
    """A handler class with this application."""
    return type("Site", (goev.asgi.Connection,), {"app": staticmethod(app), **attributes})


def start_message(status: int = 200, headers: Any = (), **more: Any) -> dict[str, Any]:
    return {"type": "http.response.start", "status": status, "headers": list(headers), **more}


def body_message(body: bytes = b"", **more: Any) -> dict[str, Any]:
    return {"type": "http.response.body", "body": body, **more}


def sending(*messages: Any) -> Callable[..., Any]:
    """An application that sends these; a number is a wait in turns of the loop."""

    async def app(scope, receive, send):
        for message in messages:
            await (asyncio.sleep(0) if message is None else send(message))

    return app


def hello(body: bytes = b"hello") -> Callable[..., Any]:
    return sending(start_message(200, TEXT), body_message(body))


def scope_of(events: Events) -> Callable[..., Any]:
    """An application that reports its scope."""

    async def app(scope, receive, send):
        events("scope", scope)
        await send(start_message())
        await send(body_message(b"ok"))

    return app


async def whole_body(receive) -> bytes:
    """The body of a request."""
    parts, more = [], True
    while more:
        message = await receive()
        assert message["type"] == "http.request", message
        parts.append(message["body"])
        more = message["more_body"]
    return b"".join(parts)


async def cancelled_waits(receive) -> int:
    """Waits for a message 100 times, each of which is cancelled: the number of futures that are left."""
    for _ in range(100):  # as `request.is_disconnected()` of Starlette does
        waiting = asyncio.ensure_future(receive())
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.wait([waiting])
    del waiting
    gc.collect()
    return sum(isinstance(each, asyncio.Future) and each.cancelled() for each in gc.get_objects())
