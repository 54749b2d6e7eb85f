"""A server under test: starts it on a free port, checks its answers first if it gives any, and ends it."""

import os
import select
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from harness import Unavailable, certificate, process
from harness.programs import Command

REQUEST = b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
RESPONSE = b"HTTP/1.1 200 OK\r\nServer: x\r\nContent-Type: text/plain\r\nContent-Length: 13\r\n\r\nHello, World!"
READY = (b"ready\n", b"serving on ", b"redis on ")  # all but the first come from goev's examples
START_TIMEOUT = 20.0
STOP_TIMEOUT = 3.0
WARM_UP_CONNECTIONS = 16
WARM_UP_ROUNDS = 100

# Pieces to send, and the number of replies to them: whole, pipelined, cut, and cut inside the separator.
Exchanges = tuple[tuple[tuple[bytes, ...], int], ...]
EXCHANGES: Exchanges = (
    ((REQUEST,), 1),
    ((REQUEST * 3,), 3),
    ((REQUEST[:9], REQUEST[9:]), 1),
    ((REQUEST + REQUEST[:-2], REQUEST[-2:] + REQUEST), 3),
)


Take = Callable[[socket.socket, int], None]  # takes exactly so many replies, and raises Unavailable for wrong ones


@dataclass(frozen=True)
class Server:
    port: int
    session: int
    tls: bool = False

    def cpu_seconds(self) -> float:
        return process.cpu_seconds(self.session)

    def resident_bytes(self) -> int:
        return process.resident_bytes(self.session)

    def connect(self) -> socket.socket:
        connection = socket.create_connection(("127.0.0.1", self.port), timeout=5)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return certificate.client_context().wrap_socket(connection) if self.tls else connection


def take_plaintext(connection: socket.socket, replies: int) -> None:
    expect(connection, RESPONSE * replies)


@contextmanager
def serve(
    command: Command, take: Take = take_plaintext, exchanges: Exchanges = EXCHANGES, *, tls: bool = False
) -> Iterator[Server]:
    """Runs a server, checks that it answers properly, and warms it up."""
    with start(command, tls=tls) as server:
        _check(server, take, exchanges)
        _warm_up(server, take)
        yield server


@contextmanager
def start(command: Command, *, tls: bool = False) -> Iterator[Server]:
    """Runs a server in a session of its own; the server prints a line of READY when it listens."""
    port = free_port()
    secure = certificate.arguments() if tls else []
    with tempfile.TemporaryFile("w+") as messages:
        child = subprocess.Popen(
            [*command, *secure, "--port", str(port)],
            bufsize=0,  # select must see the bytes that readline has not taken
            stdout=subprocess.PIPE,
            stderr=messages,
            start_new_session=True,
        )
        try:
            _wait_until_ready(child)
            yield Server(port, child.pid, tls)
        except (OSError, Unavailable) as error:
            messages.seek(0)
            raise Unavailable(str(error), f"{getattr(error, 'detail', '')}\n{messages.read()}") from error
        finally:
            _stop(child)


def exchange(connection: socket.socket, pieces: tuple[bytes, ...], replies: int, take: Take = take_plaintext) -> None:
    """Sends the pieces one after the other and takes exactly the replies that are due."""
    for index, piece in enumerate(pieces):
        if index > 0:
            time.sleep(0.01)  # so that the server reads the pieces one by one
        connection.sendall(piece)
    take(connection, replies)


def expect(connection: socket.socket, expected: bytes) -> None:
    """Takes exactly the reply ``expected``."""
    received = b""
    while len(received) < len(expected):
        data = connection.recv(65536)
        if not data:
            raise Unavailable("it closed the connection without a reply")
        received += data
    if received != expected:
        raise Unavailable("its reply is not the one that all servers give", repr(received))


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _wait_until_ready(child: subprocess.Popen[bytes]) -> None:
    """Waits for the line of READY; skips the lines that a server prints before it."""
    assert child.stdout is not None
    deadline = time.monotonic() + START_TIMEOUT
    while select.select([child.stdout], [], [], max(0, deadline - time.monotonic()))[0]:
        line = child.stdout.readline()
        if line.startswith(READY):
            return
        if not line:
            raise Unavailable("it ended at the start")
    raise Unavailable(f"it was not ready after {START_TIMEOUT:.0f} s")


def _check(server: Server, take: Take, exchanges: Exchanges) -> None:
    with server.connect() as connection:
        for pieces, replies in exchanges:
            exchange(connection, pieces, replies, take)


def _warm_up(server: Server, take: Take) -> None:
    with ExitStack() as stack:
        connections = [stack.enter_context(server.connect()) for _ in range(WARM_UP_CONNECTIONS)]
        for _ in range(WARM_UP_ROUNDS):
            for connection in connections:
                exchange(connection, (REQUEST,), 1, take)


def _stop(child: subprocess.Popen[bytes]) -> None:
    """Ends the whole session; kills a process that does not end on SIGTERM."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(child.pid, number)
            child.wait(STOP_TIMEOUT)
        except ProcessLookupError:
            break
        except subprocess.TimeoutExpired:
            continue
    child.wait()
    if child.stdout is not None:
        child.stdout.close()
