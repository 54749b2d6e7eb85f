"""Much data over few connections: through a relay, and from a file."""

import os
import socket
from pathlib import Path

from harness import Unavailable, server
from harness.measure import Bench, Run, run_program
from harness.peers import Peer
from harness.programs import BUILD
from harness.server import Server

PROBE = os.urandom(64 * 1024)
PIECE = 1 << 20
HEAD_LIMIT = 8192


def relay(bench: Bench, peer: Peer) -> Run:
    """Bytes per second through a relay, and its CPU time for each byte."""
    load = bench.programs.command("relay load")
    program = bench.programs.command(f"{peer.program} relay")
    upstream = server.free_port()
    with server.start([*program, *peer.arguments, "--upstream", f"127.0.0.1:{upstream}"]) as running:
        _check_relay(running, upstream)
        before = running.cpu_seconds()
        seen = run_program([*load, str(running.port), str(upstream), str(bench.effort.seconds)])
        cpu = running.cpu_seconds() - before
    return per_byte(seen, cpu)


def download(bench: Bench, peer: Peer, connections: int) -> Run:
    """Bytes per second of simultaneous downloads of one file, and the server's CPU time for each byte."""
    size = bench.effort.download_bytes
    load = bench.programs.command("download load")
    program = bench.programs.command(f"{peer.program} download")
    file = make_file(size)
    with server.start([*program, *peer.arguments, "--file", str(file)]) as running:
        check_download(running, file, size)
        before = running.cpu_seconds()
        seen = run_program([*load, str(running.port), str(connections), str(size)])
        cpu = running.cpu_seconds() - before
    return per_byte(seen, cpu)


def per_byte(seen: Run, cpu: float) -> Run:
    """Bytes per second, and CPU time for each."""
    if not seen["bytes"]:
        raise Unavailable("nothing arrived")
    return {"throughput": seen["bytes"] / seen["seconds"], "byte_cpu": cpu / seen["bytes"]}


def _check_relay(relay: Server, upstream: int) -> None:
    """Checks that the relay connects to the future port of the sinks, and that both directions work."""
    with socket.create_server(("127.0.0.1", upstream)) as listener, relay.connect() as source:
        listener.settimeout(5)
        source.sendall(PROBE)
        sink, _ = listener.accept()
        with sink:
            sink.settimeout(5)
            _expect(sink, PROBE)
            sink.sendall(PROBE)
            _expect(source, PROBE)


def _expect(connection: socket.socket, expected: bytes) -> None:
    received = bytearray()
    while len(received) < len(expected):
        data = connection.recv(len(expected) - len(received))
        if not data:
            raise Unavailable("it closed the connection too early")
        received += data
    if received != expected:
        raise Unavailable("it sends other bytes than it should")


def check_download(running: Server, file: Path, size: int) -> None:
    """Checks that the file comes: its first ``size`` bytes, and nothing behind its end."""
    with running.connect() as connection, file.open("rb") as opened:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")
        _skip_head(connection)
        while opened.tell() < size and (piece := opened.read(PIECE)):
            _expect(connection, piece)
        if not opened.read(1) and connection.recv(1):
            raise Unavailable("it sends more than the file")


def _skip_head(connection: socket.socket) -> None:
    """Reads the head byte by byte, so that no byte of the body is taken."""
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        byte = connection.recv(1)
        if not byte or len(head) == HEAD_LIMIT:
            raise Unavailable("its reply has no proper head", repr(head))
        head += byte


def make_file(size: int) -> Path:
    """A file of random bytes, made once."""
    path = BUILD / f"file-{size}"
    if not path.exists():
        BUILD.mkdir(exist_ok=True)
        partial = path.with_suffix(".partial")
        with partial.open("wb") as file:
            for begin in range(0, size, PIECE):
                file.write(os.urandom(min(PIECE, size - begin)))
        partial.rename(path)
    return path
