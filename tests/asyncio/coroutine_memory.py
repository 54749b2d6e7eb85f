"""Connections and requests with coroutines, many of them; prints the memory in use before and after.

python tests/asyncio/coroutine_memory.py --count 100000
"""

import argparse
import asyncio
import gc
import socket
import struct
import sys
from pathlib import Path

import goev
import goev.http

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from http_support import get
from support import resident

ANSWER = b"fine"
PIPELINED = 20


class Api(goev.http.Connection):
    """Answers at once, after a wait, or after a task of its own, by the path."""

    async def on_request(self, request):
        if request.path == "/wait":
            await asyncio.sleep(0)
        elif request.path == "/task":
            await asyncio.create_task(asyncio.sleep(0))
        elif request.path == "/never":
            await asyncio.get_running_loop().create_future()
        request.respond(200, None, ANSWER)

    async def on_close(self, error):
        await asyncio.sleep(0)


def ask(address, *paths: str) -> None:
    """One connection with these requests. One that is never answered ends with a reset."""
    with socket.create_connection(address, 10) as client:
        client.sendall(b"".join(get(path) for path in paths))
        got, wanted = b"", sum(path != "/never" for path in paths)
        while got.count(ANSWER) < wanted:
            part = client.recv(65_536)
            assert part, "the connection ended early"
            got += part
        if wanted < len(paths):
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def work(address, count: int) -> None:
    """As many connections, and as many requests on few."""
    kinds = ["/", "/wait", "/task"]
    for number in range(count):
        ask(address, "/never") if number % 4 == 3 else ask(address, kinds[number % 4])
    for _ in range(count // PIPELINED):
        ask(address, *(kinds[number % 3] for number in range(PIPELINED)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=10_000)
    count = parser.parse_args().count
    with goev.Reactor(1, asyncio=True) as reactor:
        acceptor = goev.Acceptor(reactor, "127.0.0.1:0", Api)
        reactor.start()
        work(acceptor.address, 2000)
        gc.collect()
        before, objects = resident(), len(gc.get_objects())
        work(acceptor.address, count)
        gc.collect()
        print(before, resident(), objects, len(gc.get_objects()))


if __name__ == "__main__":
    main()
