"""Runs an application with its lifespan in a thread, as a program would."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import goev
import goev.asyncio
from asgi_support import site
from support import PATIENCE


@contextmanager
def hosted(app: Callable[..., Any], **attributes: Any) -> Iterator[str]:
    """The URL of an application."""
    found: dict[str, Any] = {}
    is_ready = threading.Event()

    async def main() -> None:
        ended = found["ended"] = asyncio.Event()
        found["loop"] = asyncio.get_running_loop()
        async with (
            goev.asgi.Lifespan(app) as state,
            goev.asyncio.serve(site(app, state=state, **attributes), "127.0.0.1:0") as server,
        ):
            found["port"] = server.address[1]
            is_ready.set()
            await ended.wait()

    def run() -> None:
        try:
            goev.asyncio.run(main())
        except BaseException as error:
            found["error"] = error
        finally:
            is_ready.set()

    thread = threading.Thread(target=run)
    thread.start()
    try:
        assert is_ready.wait(PATIENCE)
        assert "error" not in found, found["error"]
        yield f"http://127.0.0.1:{found['port']}"
    finally:
        if "ended" in found:
            found["loop"].call_soon_threadsafe(found["ended"].set)
        thread.join(PATIENCE)
        assert not thread.is_alive()
        if "error" in found:
            raise found["error"]
