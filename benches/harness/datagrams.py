"""Echoes of small datagrams."""

import socket

from harness import Unavailable, server
from harness.measure import Bench, Run, echo_load
from harness.peers import Peer
from harness.server import Server

WARM_UP_ROUNDS = 1000
SIZES = (64, 1, 1400)  # of the datagrams that the check sends; asyncio sends no empty ones


def echoes(bench: Bench, peer: Peer) -> Run:
    """Echoes per second, and the server's CPU time for each."""
    with server.start(bench.programs.command(f"{peer.program} udp")) as running:
        _check(running)
        result, seen = echo_load(bench, running, "udp load")
    return result | {"datagrams_lost": seen["lost"]}


def _check(running: Server) -> None:
    with socket.socket(type=socket.SOCK_DGRAM) as client:
        client.settimeout(5)
        client.connect(("127.0.0.1", running.port))
        for number in range(WARM_UP_ROUNDS):
            sent = bytes([number % 256]) * SIZES[number % len(SIZES)]
            client.send(sent)
            if client.recv(65536) != sent:
                raise Unavailable("its echo is not what was sent")
