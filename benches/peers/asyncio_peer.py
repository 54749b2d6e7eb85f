"""Plaintext as an asyncio protocol, in one process or several, plain or over TLS.

The loop is the standard one, uvloop, rloop, or uvloop with the transports of aiofastnet.
"""

import argparse
import asyncio
import contextlib
import importlib
import multiprocessing
import signal
import socket
import ssl
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

import busy
import secure

RESPONSE = b"HTTP/1.1 200 OK\r\nServer: x\r\nContent-Type: text/plain\r\nContent-Length: 13\r\n\r\nHello, World!"
END_OF_HEAD = b"\r\n\r\n"
BACKLOG = 1024
LOOPS = ("asyncio", "uvloop", "rloop", "aiofastnet")


class Plain(asyncio.Protocol):
    __slots__ = ("tail", "transport")

    transport: asyncio.Transport
    tail: bytes  # the beginning of a head that is not complete yet

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.tail = b""

    def data_received(self, data: bytes) -> None:
        if self.tail:
            data = self.tail + data
        heads = data.count(END_OF_HEAD)
        if heads:
            self.transport.write(RESPONSE * heads)
        self.tail = b"" if data.endswith(END_OF_HEAD) else data.rpartition(END_OF_HEAD)[2]


def listen(port: int, *, reuse_port: bool) -> socket.socket:
    """A listening socket; accepted ones inherit its TCP_NODELAY."""
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, reuse_port)
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    listener.bind(("127.0.0.1", port))
    listener.listen(BACKLOG)
    return listener


@dataclass(frozen=True)
class Serving:
    """The work of one process."""

    loop: str
    protocol: Callable[[], asyncio.Protocol]
    tls: ssl.SSLContext | None

    def new_loop(self) -> asyncio.AbstractEventLoop:
        loop: asyncio.AbstractEventLoop
        if self.loop == "aiofastnet":
            uvloop = importlib.import_module("uvloop")
            loop = importlib.import_module("aiofastnet").loop_factory(uvloop.new_event_loop)()
        else:
            loop = importlib.import_module(self.loop).new_event_loop()
        return loop


def serve(serving: Serving, listener: socket.socket, on_ready: Callable[[], None]) -> None:
    loop = serving.new_loop()
    asyncio.set_event_loop(loop)
    creation = loop.create_server(serving.protocol, sock=listener, backlog=BACKLOG, ssl=serving.tls)
    server = loop.run_until_complete(creation)
    on_ready()
    with contextlib.closing(server):
        loop.run_forever()


def say_ready() -> None:
    print("ready", flush=True)


def serve_in_processes(serving: Serving, listeners: list[socket.socket]) -> None:
    """One process per listener. Connections wait in the listeners until these processes have begun."""
    context = multiprocessing.get_context("fork")
    processes = [
        context.Process(target=serve, args=(serving, listener, lambda: None), daemon=True) for listener in listeners
    ]
    for process in processes:
        process.start()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())  # ends the daemon processes too
    say_ready()
    for process in processes:
        process.join()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=8080)
    parser.add_argument("--pollers", type=int, default=1, help="processes")
    parser.add_argument("--loop", choices=LOOPS, default="asyncio")
    parser.add_argument("--busy-thread", action="store_true", help="compute in pure Python beside it")
    secure.add_arguments(parser)
    arguments = parser.parse_args()

    if arguments.busy_thread:
        busy.start()
    serving = Serving(arguments.loop, Plain, secure.python_context(arguments))
    if arguments.pollers == 1:
        serve(serving, listen(arguments.port, reuse_port=False), say_ready)
    else:
        listeners = [listen(arguments.port, reuse_port=True) for _ in range(arguments.pollers)]
        serve_in_processes(serving, listeners)


if __name__ == "__main__":
    main()
