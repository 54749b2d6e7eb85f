"""Shared by the tests of coroutines: gates that hold them until the test opens them."""

import asyncio
import threading

import goev
from support import PATIENCE


class Gate:
    """Coroutines on any thread wait at it until the test opens it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._is_open = False
        self._waiting: list[tuple[asyncio.AbstractEventLoop, asyncio.Future[None]]] = []

    async def wait(self) -> None:
        loop = asyncio.get_running_loop()
        future = loop.create_future()
        with self._lock:
            if self._is_open:
                return
            self._waiting.append((loop, future))
        await future

    def open(self) -> None:
        with self._lock:
            self._is_open = True
            waiting, self._waiting = self._waiting, []
        for loop, future in waiting:
            loop.call_soon_threadsafe(_release, future)


def _release(future: "asyncio.Future[None]") -> None:
    if not future.done():
        future.set_result(None)


def run(main, **options):
    """Run a coroutine function on an `EventLoop`, with a limit."""

    async def limited():
        async with asyncio.timeout(PATIENCE):
            return await main()

    return goev.asyncio.run(limited(), **options)


async def ask(address, data: bytes, count: int | None = None) -> bytes:
    """Send, then receive, by a connection of asyncio's own."""
    reader, writer = await asyncio.open_connection(*address[:2])
    writer.write(data)
    try:
        return await reader.readexactly(len(data) if count is None else count)
    finally:
        writer.close()
        await writer.wait_closed()
