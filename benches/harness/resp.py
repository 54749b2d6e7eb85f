"""Commands of the Redis protocol, by redis-benchmark."""

import csv
import io
import subprocess

from harness import Unavailable, server
from harness.measure import RUN_TIMEOUT, Bench, Run
from harness.peers import Peer
from harness.server import Server

DEPTH = 16
CONNECTIONS = 50
COMMANDS_PER_SECOND = 200_000  # commands to send for each second of a run, about


def commands(bench: Bench, peer: Peer) -> Run:
    """SET and GET per second, and the server's CPU time for each command."""
    load = bench.programs.command("redis-benchmark")
    number = bench.effort.seconds * COMMANDS_PER_SECOND
    with server.start(bench.programs.command(f"{peer.program} resp")) as running:
        _check(running)
        options = ["-p", running.port, "-t", "set,get", "-P", DEPTH, "-c", CONNECTIONS, "-n", number, "-d", 64, "--csv"]
        before = running.cpu_seconds()
        result = subprocess.run(
            [*load, *map(str, options)], check=False, capture_output=True, text=True, timeout=RUN_TIMEOUT
        )
        cpu = running.cpu_seconds() - before
    rates = {row["test"]: float(row["rps"]) for row in csv.DictReader(io.StringIO(result.stdout))}
    if result.returncode != 0 or rates.keys() != {"SET", "GET"}:
        raise Unavailable("redis-benchmark failed", result.stdout + result.stderr)
    return {"set_rate": rates["SET"], "get_rate": rates["GET"], "cpu": cpu / (2 * number)}


def _check(running: Server) -> None:
    """Checks that GET returns the value that SET stored."""
    with running.connect() as client:
        client.sendall(b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$4\r\na\r\nb\r\n*2\r\n$3\r\nGET\r\n$1\r\nk\r\n")
        server.expect(client, b"+OK\r\n$4\r\na\r\nb\r\n")
