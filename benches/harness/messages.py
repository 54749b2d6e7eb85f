"""Echoes of small messages with their length before them."""

import struct

from harness import server
from harness.measure import Bench, Run, echo_load
from harness.peers import Peer
from harness.server import Server

SIZES = (64, 0, 1, 5000)  # of the messages that the check sends, cut in different places


def echoes(bench: Bench, peer: Peer, kind: str = "messages", connections: int = 16, in_flight: int = 32) -> Run:
    """Echoes per second, and the server's CPU time for each."""
    with server.start([*bench.programs.command(f"{peer.program} {kind}"), *peer.arguments]) as running:
        _check(running)
        return echo_load(bench, running, "messages load", str(connections), str(in_flight))[0]


def _check(running: Server) -> None:
    frames = b"".join(struct.pack(">I", size) + bytes(size) for size in SIZES)
    with running.connect() as client:
        for at in (0, 2, 4, 70, len(frames) - 1):
            client.sendall(frames[:at])
            client.sendall(frames[at:])
            server.expect(client, frames)
