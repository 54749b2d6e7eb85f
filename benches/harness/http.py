"""Servers that implement HTTP/1.1 in full: all give the same answer, each with a head of its own form."""

import socket
from email import message_from_bytes
from email.message import Message

from harness import Unavailable, measure, server
from harness.measure import Bench, Run
from harness.peers import Peer
from harness.server import REQUEST

BODY = b"Hello, World!"
END_OF_HEAD = b"\r\n\r\n"

# As for plaintext, but no cut in the first line: socketify 0.0.31 answers such a cut with 505.
EXCHANGES = (
    ((REQUEST,), 1),
    ((REQUEST * 3,), 3),
    ((REQUEST[:20], REQUEST[20:]), 1),
    ((REQUEST + REQUEST[:-2], REQUEST[-2:] + REQUEST), 3),
)


def requests(bench: Bench, peer: Peer, connections: int, depth: int) -> Run:
    """Requests per second by wrk, and the server's CPU time for each."""
    bench.programs.command("wrk")  # before a server has to wait for it
    program = bench.programs.command(f"{peer.program} http")
    with server.serve([*program, *peer.arguments], take, EXCHANGES) as running:
        return measure.wrk(bench, running, connections, depth)


def take(connection: socket.socket, replies: int) -> None:
    """Takes exactly ``replies`` answers, and checks that each is the one that all servers have to give."""
    received = b""
    for _ in range(replies):
        head, received = _split(connection, received, END_OF_HEAD)
        _check(head)
        body, received = _split(connection, received, BODY)
        if body:
            raise Unavailable("its body is not the one that all servers give", repr(body))
    if received:
        raise Unavailable("it sends more than its answers", repr(received))


def _split(connection: socket.socket, received: bytes, end: bytes) -> tuple[bytes, bytes]:
    """Reads until ``end`` has come; returns the bytes before it and the bytes after it."""
    while end not in received:
        data = connection.recv(65536)
        if not data:
            raise Unavailable("it closed the connection without a whole answer", repr(received))
        received += data
    before, _, behind = received.partition(end)
    return before, behind


def _check(head: bytes) -> None:
    status, _, fields = head.partition(b"\r\n")
    headers = message_from_bytes(fields)
    proper = (
        status.startswith(b"HTTP/1.1 200 ")
        and headers.get_all("Content-Type") == ["text/plain"]
        and headers.get_all("Content-Length") == [str(len(BODY))]
        and _stays_open(headers)
    )
    if not proper:
        raise Unavailable("the head of its answer is not a proper one", repr(head))


def _stays_open(headers: Message) -> bool:
    return headers.get("Connection", "keep-alive").lower() == "keep-alive" and "Transfer-Encoding" not in headers
