"""Echoes of small messages behind their length."""

import struct

from harness import Unavailable, server
from harness.measure import Bench, Run, run_program
from harness.peers import Peer
from harness.server import Server

SIZES = (64, 0, 1, 5000)  # of those that are shown to come back, however they are cut


def echoes(bench: Bench, peer: Peer) -> Run:
    """Echoes per second, and the server's CPU time for each."""
    load = bench.programs.command("messages load")
    with server.start([*bench.programs.command(f"{peer.program} messages"), *peer.arguments]) as running:
        _check(running)
        before = running.cpu_seconds()
        seen = run_program([*load, str(running.port), str(bench.effort.seconds)])
        cpu = running.cpu_seconds() - before
    if not seen["echoes"]:
        raise Unavailable("no echo came")
    return {"echoes": seen["echoes"] / seen["seconds"], "cpu": cpu / seen["echoes"]}


def _check(running: Server) -> None:
    frames = b"".join(struct.pack(">I", size) + bytes(size) for size in SIZES)
    with running.connect() as client:
        for at in (0, 2, 4, 70, len(frames) - 1):
            client.sendall(frames[:at])
            client.sendall(frames[at:])
            received = b""
            while len(received) < len(frames):
                data = client.recv(65536)
                if not data:
                    raise Unavailable("it closed the connection without an echo")
                received += data
            if received != frames:
                raise Unavailable("its echo is not what was sent")
