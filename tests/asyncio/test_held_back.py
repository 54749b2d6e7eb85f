"""Callbacks that wait for a coroutine of their connection: nothing overtakes, and nothing waits for ever."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import goev
import goev.asyncio
from support import PATIENCE

TWO_POSTS = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx" * 2


def converse(factory: Callable[[], goev.Connection], sent: bytes) -> None:
    """Serve one connection of a peer that sends this and then finishes, to its end."""

    async def main() -> None:
        acceptor = goev.Acceptor(goev.asyncio.reactor(), "127.0.0.1:0", factory)
        async with asyncio.timeout(PATIENCE):
            reader, writer = await asyncio.open_connection(*acceptor.address)
            writer.write(sent)
            writer.write_eof()
            await reader.read()
            writer.close()

    goev.asyncio.run(main())


def test_a_timer_comes_between_messages_that_wait():
    happened: list[bytes] = []

    class Lines(goev.Connection):
        framing = goev.Delimited()

        async def on_message(self, message: bytes) -> None:
            happened.append(message)
            if message == b"1":
                self.schedule(0.001, lambda: happened.append(b"timer"))
            later = asyncio.Event()
            self.reactor.schedule(0.01, later.set)  # due behind the other timer, and called behind it
            await later.wait()

    converse(Lines, b"1\n2\n3\n")
    assert happened == [b"1", b"timer", b"2", b"3"]


def test_the_end_of_one_coroutine_does_not_release_what_another_one_holds_back():
    happened: list[Any] = []

    class Told(goev.http.Connection):
        on_disconnect = "finish"

        def __init__(self) -> None:
            self.told = asyncio.Event()

        async def on_request(self, request: goev.http.Request) -> None:
            happened.append("request")
            if happened.count("request") == 2:
                await self.told.wait()
                await turns()
            happened.append("end of the request")

        async def on_body(self, request: goev.http.Request, data: bytes) -> None:
            happened.append(data)
            if not data:
                request.respond()

        async def on_answered(self, *_: object) -> None:
            await turns()
            self.told.set()

    converse(Told, TWO_POSTS)
    assert happened == ["request", "end of the request", b"x", b""] * 2


def turns() -> Coroutine[Any, Any, None]:
    """Some turns of the loop, in which a callback that is due would come."""
    return asyncio.sleep(0.01)
