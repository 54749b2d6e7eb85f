"""Echoes of small datagrams."""

import socket

from harness import Unavailable, server
from harness.measure import Bench, Run, run_program
from harness.peers import Peer
from harness.server import Server

WARM_UP_ROUNDS = 1000
SIZES = (64, 1, 1400)  # of those that are shown to come back; asyncio sends no empty ones


def echoes(bench: Bench, peer: Peer) -> Run:
    """Echoes per second, and the server's CPU time for each."""
    load = bench.programs.command("udp load")
    with server.start(bench.programs.command(f"{peer.program} udp")) as running:
        _check(running)
        before = running.cpu_seconds()
        seen = run_program([*load, str(running.port), str(bench.effort.seconds)])
        cpu = running.cpu_seconds() - before
    if not seen["echoes"]:
        raise Unavailable("no echo came")
    return {
        "echoes": seen["echoes"] / seen["seconds"],
        "datagrams_lost": seen["lost"],
        "cpu": cpu / seen["echoes"],
    }


def _check(running: Server) -> None:
    with socket.socket(type=socket.SOCK_DGRAM) as client:
        client.settimeout(5)
        client.connect(("127.0.0.1", running.port))
        for number in range(WARM_UP_ROUNDS):
            sent = bytes([number % 256]) * SIZES[number % len(SIZES)]
            client.send(sent)
            if client.recv(65536) != sent:
                raise Unavailable("its echo is not what was sent")
