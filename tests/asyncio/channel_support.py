"""Shared by the tests of channels: tests that are coroutines, and peers that are asyncio's own streams."""

import asyncio
import functools
import socket
import struct
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import goev
import goev.asyncio
from goev.asyncio import Channel
from support import LOCAL, PATIENCE, text_of

FRAMES = goev.LengthPrefixed(4)

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


def on_loop(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Run a test that is a coroutine on ``goev.asyncio.EventLoop``, with a limit."""

    @functools.wraps(test)
    def run(*args: Any, **kwargs: Any) -> None:
        goev.asyncio.run(asyncio.wait_for(test(*args, **kwargs), PATIENCE))

    return run


@asynccontextmanager
async def peer_of(**options: Any) -> AsyncIterator[tuple[Channel, asyncio.StreamReader, asyncio.StreamWriter]]:
    """A channel to a server of asyncio's, and the server's end of it."""
    accepted: asyncio.Future[Streams] = asyncio.get_running_loop().create_future()
    server = await asyncio.start_server(lambda *streams: accepted.set_result(streams), "127.0.0.1", 0)
    async with server:
        channel = await goev.asyncio.connect(text_of(server.sockets[0].getsockname()), **options)
        reader, writer = await accepted
        try:
            yield channel, reader, writer
        finally:
            channel.abort()
            writer.close()


@asynccontextmanager
async def served(handle: Any, address: str = LOCAL, **options: Any) -> AsyncIterator[goev.asyncio.Server]:
    """A server without a grace, so that a test which fails ends soon."""
    async with goev.asyncio.serve(handle, address, **{"grace": 0, **options}) as server:
        yield server


async def client_of(server: goev.asyncio.Server) -> Streams:
    """A client with asyncio's streams."""
    return await asyncio.open_connection(*server.address[:2])


async def all_of(channel: Channel) -> list[Any]:
    """Everything that comes by ``async for``."""
    return [message async for message in channel]


def reset(writer: asyncio.StreamWriter) -> None:
    """End with RST instead of FIN."""
    sock = writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


async def settled(turns: int = 5) -> None:
    """Let the loop run a few turns, so that an event that must not come would have come."""
    for _ in range(turns):
        await asyncio.sleep(0)


async def cancelled(task: "asyncio.Task[Any]") -> None:
    """Cancel a task, and wait for its end."""
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()
