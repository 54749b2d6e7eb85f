"""Sends a message of 100 bytes to all members: on goev by a group, on uvloop by a plain loop.

From a connection "j" makes it a member, "s" sends the message, "t" asks how long the last call took.
"""

import argparse
import asyncio
import importlib
import struct
import time
from collections.abc import Callable
from typing import Any, cast

MESSAGE = bytes(100)

answers: dict[bytes, Callable[[Any], bytes]] = {}
took = 0.0


def timed(send: Callable[[], object]) -> bytes:
    global took
    began = time.perf_counter()
    send()
    took = time.perf_counter() - began
    return b""


def answer(connection: Any, data: bytes) -> bytes:
    if data == b"t":
        return struct.pack("<d", took)
    return answers[data](connection)


def serve_goev(port: int) -> None:
    import goev

    group = goev.Group()

    class Member(goev.Connection):
        def on_read(self) -> None:
            if reply := answer(self, self.read()):
                self.write(reply)

    answers[b"j"] = lambda member: group.add(member) or b"j"
    answers[b"s"] = lambda _: timed(lambda: group.send(MESSAGE))
    goev.serve(Member, f"127.0.0.1:{port}", pollers=1, backlog=4096, ready=lambda _: print("ready", flush=True))


class Protocol(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self.transport.write(answer(self, data))


def serve_loop(port: int, name: str) -> None:
    members: list[asyncio.Transport] = []

    def send() -> None:
        for transport in members:
            transport.write(MESSAGE)

    async def serve() -> None:
        server = await asyncio.get_running_loop().create_server(Protocol, "127.0.0.1", port, backlog=4096)
        print("ready", flush=True)
        await server.serve_forever()

    answers[b"j"] = lambda protocol: members.append(protocol.transport) or b"j"
    answers[b"s"] = lambda _: timed(send)
    loop: asyncio.AbstractEventLoop = importlib.import_module(name).new_event_loop()
    asyncio.set_event_loop(loop)
    loop.run_until_complete(serve())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=9999)
    parser.add_argument("--pollers", type=int, default=1, choices=[1])
    parser.add_argument("--loop", choices=["goev", "uvloop"], default="goev")
    arguments = parser.parse_args()
    if arguments.loop == "goev":
        serve_goev(arguments.port)
    else:
        serve_loop(arguments.port, arguments.loop)


if __name__ == "__main__":
    main()
