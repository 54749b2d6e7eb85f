"""Servers that implement HTTP/1.1 in full: all give the same answer, each with a head of its own form."""

import socket
from contextlib import ExitStack
from dataclasses import dataclass
from email import message_from_bytes
from email.message import Message

from harness import Unavailable, measure, server
from harness.measure import Bench, Run
from harness.peers import Peer
from harness.server import REQUEST

END_OF_HEAD = b"\r\n\r\n"

# As for plaintext, but no cut in the first line: socketify 0.0.31 answers such a cut with 505.
EXCHANGES = (
    ((REQUEST,), 1),
    ((REQUEST * 3,), 3),
    ((REQUEST[:20], REQUEST[20:]), 1),
    ((REQUEST + REQUEST[:-2], REQUEST[-2:] + REQUEST), 3),
)


@dataclass(frozen=True)
class Answer:
    """The answer that all servers have to give."""

    content_type: str
    body: bytes

    def take(self, connection: socket.socket, replies: int) -> None:
        """Takes exactly so many of them, and checks each."""
        received = b""
        for _ in range(replies):
            head, received = _split(connection, received, END_OF_HEAD)
            self._check(head)
            other, received = _split(connection, received, self.body)
            if other:
                raise Unavailable("its body is not the one that all servers give", repr(other))
        if received:
            raise Unavailable("it sends more than its answers", repr(received))

    def _check(self, head: bytes) -> None:
        status, _, fields = head.partition(b"\r\n")
        headers = message_from_bytes(fields)
        proper = (
            status.startswith(b"HTTP/1.1 200 ")
            and headers.get_all("Content-Type") == [self.content_type]
            and headers.get_all("Content-Length") == [str(len(self.body))]
            and _stays_open(headers)
        )
        if not proper:
            raise Unavailable("the head of its answer is not a proper one", repr(head))


TEXT = Answer("text/plain", b"Hello, World!")
JSON = Answer("application/json", b'{"id": 1, "message": "Hello, World!"}')


def requests(bench: Bench, peer: Peer, connections: int, depth: int) -> Run:
    """Requests per second by wrk, and the server's CPU time for each."""
    bench.programs.command("wrk")  # before a server has to wait for it
    program = bench.programs.command(f"{peer.program} http")
    with server.serve([*program, *peer.arguments], TEXT.take, EXCHANGES) as running:
        return measure.wrk(bench, running, connections, depth)


def items(bench: Bench, peer: Peer, connections: int, store: str | None = None) -> Run:
    """The same for an item as JSON; for each request the server asks a store for it, unless there is none."""
    bench.programs.command("wrk")
    program = [*bench.programs.command(f"{peer.program} api"), *peer.arguments]
    with ExitStack() as stack:
        if store:
            running = stack.enter_context(server.start(bench.programs.command(f"{store} store")))
            program += ["--store", store, "--store-port", str(running.port)]
        running = stack.enter_context(server.serve(program, JSON.take, EXCHANGES))
        return measure.wrk(bench, running, connections, depth=1)


def _split(connection: socket.socket, received: bytes, end: bytes) -> tuple[bytes, bytes]:
    """Reads until ``end`` has come; returns the bytes before it and the bytes after it."""
    while end not in received:
        data = connection.recv(65536)
        if not data:
            raise Unavailable("it closed the connection without a whole answer", repr(received))
        received += data
    before, _, behind = received.partition(end)
    return before, behind


def _stays_open(headers: Message) -> bool:
    return headers.get("Connection", "keep-alive").lower() == "keep-alive" and "Transfer-Encoding" not in headers
