"""asyncio beside goev: an event loop that is a poller, so handlers and coroutines share one thread.

::

    async def main():
        async with goev.asyncio.serve(Api, ":8080"):
            ...

    goev.asyncio.run(main())  # or asyncio.run(main(), loop_factory=goev.asyncio.EventLoop)
"""

from goev.asyncio.channel import Channel, WebSocketChannel
from goev.asyncio.connecting import connect
from goev.asyncio.ended import ChannelClosed
from goev.asyncio.loop import EventLoop, reactor, run
from goev.asyncio.serving import Server, serve

__all__ = [
    "Channel",
    "ChannelClosed",
    "EventLoop",
    "Server",
    "WebSocketChannel",
    "connect",
    "reactor",
    "run",
    "serve",
]
