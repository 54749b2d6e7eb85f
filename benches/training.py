#!/usr/bin/env python3
"""Serves what users build, so that the compiler sees which ways through goev are the frequent ones.

``tools/wheels/training.py`` runs it with a build that counts. It runs on any Python that has goev, and needs nothing
else but openssl, for a certificate. Each server is asked over plain TCP and over TLS, by single
requests and by several in a write.
"""

import socket
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

sys.path.append(str(Path(__file__).parent / "peers"))

from applications import asgi, wsgi
from goev_peer import Plain
from http_peer import Hello
from instructions import CASES, Case, Client, Server
from messages_peer import Batches
from messages_peer import Echo as Messages
from websocket_peer import Echo as WebSocket

import goev
from harness import certificate
from harness.http import TEXT
from harness.server import REQUEST

CONNECTIONS = 16
ROUNDS = 400
DEPTHS = (1, 4, 16)

LINE = b"a line of a chat or of a protocol of commands\n"
UPLOAD = (
    b"POST /items HTTP/1.1\r\nHost: localhost\r\nContent-Type: text/plain\r\nContent-Length: 600\r\n\r\n" + b"x" * 600
)
CHUNKED = (
    b"POST /items HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n"
)


class Lines(goev.Connection):
    framing = goev.Delimited()

    def on_message(self, message: bytes) -> None:
        self.send(message)


class Bytes(goev.Connection):
    def on_read(self) -> None:
        self.write(self.read())


class Items(goev.http.Connection):
    def on_request(self, request: goev.http.Request) -> None:
        if request.method == "POST" and request.path == "/items" and request.headers.get("host"):
            request.respond(200, {"content-type": "text/plain", "x-length": str(len(request.body))}, TEXT.body)


class Pieces(goev.http.Connection):
    def on_request(self, request: goev.http.Request) -> None:
        request.start(200, [("content-type", "text/plain")])

    def on_body(self, request: goev.http.Request, data: bytes) -> None:
        if data:
            request.write(data)
        else:
            request.write(TEXT.body)
            request.end()


class Coroutine(goev.http.Connection):
    async def on_request(self, request: goev.http.Request) -> None:
        request.respond(200, {"content-type": "text/plain"}, TEXT.body)


class Asgi(goev.asgi.Connection):
    app = staticmethod(asgi)


class Wsgi(goev.wsgi.Connection):
    app = staticmethod(wsgi)


ON_A_LOOP = (Coroutine, Asgi)
LAST_CHUNK = b"0\r\n\r\n"
TRAINED: list[tuple[type[goev.Connection], Case]] = [
    (Plain, CASES["plaintext"]),
    (Bytes, Case("bytes", "", LINE, LINE)),
    (Lines, Case("lines", "", LINE, LINE)),
    (Messages, CASES["message"]),
    (Batches, CASES["messages"]),
    (WebSocket, CASES["websocket"]),
    (Hello, CASES["http"]),
    (Items, Case("bodies", "", UPLOAD, TEXT.body)),
    (Items, Case("bodies in chunks", "", CHUNKED, TEXT.body)),
    (Pieces, Case("bodies in pieces", "", UPLOAD, LAST_CHUNK)),
    (Coroutine, CASES["http"]),
    (Asgi, CASES["http"]),
    (Wsgi, Case("WSGI", "", REQUEST, TEXT.body)),
]


class Secure(Server):
    """A server of which the client speaks TLS."""

    def connect(self) -> socket.socket:
        return certificate.client_context().wrap_socket(super().connect())


@contextmanager
def serving(handler: type[goev.Connection], tls: goev.tls.ServerContext | None) -> Iterator[Server]:
    """A server of this handler, on a thread of this process."""
    reactor = goev.Reactor(1, asyncio=handler in ON_A_LOOP)
    acceptor = goev.Acceptor(reactor, "127.0.0.1:0", handler, tls=tls)
    reactor.start()
    try:
        yield (Secure if tls else Server)(acceptor.address[1], 0)
    finally:
        reactor.stop(0)
        reactor.join()


def train(server: Server, case: Case) -> None:
    with ExitStack() as stack:
        for depth in DEPTHS:
            clients = [
                Client(stack.enter_context(server.connect()), replace(case, depth=depth)) for _ in range(CONNECTIONS)
            ]
            for _ in range(ROUNDS // depth):
                for client in clients:
                    client.ask()


def main() -> None:
    _, chain, _, key = certificate.arguments()
    context = goev.tls.ServerContext(chain, key)
    for handler, case in TRAINED:
        for tls in (None, context):
            with serving(handler, tls) as server:
                train(server, case)
        print(f"{handler.__name__}, {case.title}", flush=True)


if __name__ == "__main__":
    main()
