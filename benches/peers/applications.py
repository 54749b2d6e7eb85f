"""The applications that servers of ASGI and WSGI serve from their command lines: one answer, whatever is asked."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import Any

import stores

Send = Callable[[dict[str, Any]], Awaitable[None]]

BODY = b"Hello, World!"
ASGI_HEADERS = [(b"content-type", b"text/plain"), (b"content-length", b"%d" % len(BODY))]
WSGI_HEADERS = [("Content-Type", "text/plain"), ("Content-Length", str(len(BODY)))]


async def asgi(scope: dict[str, Any], receive: Any, send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": ASGI_HEADERS})
    await send({"type": "http.response.body", "body": BODY})


def wsgi(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    start_response("200 OK", WSGI_HEADERS)
    return [BODY]


def starlette() -> Any:
    """An application of Starlette that answers with JSON."""
    from starlette.applications import Starlette  # only one case needs it
    from starlette.responses import JSONResponse
    from starlette.routing import Route

    async def item(request: Any) -> JSONResponse:
        return JSONResponse(stores.ITEM)

    return Starlette(routes=[Route("/", item)])
