"""The measurements of plaintext servers, timers and pools, one of them in each run."""

import json
import os
import socket
import struct
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from harness import BENCHES, Unavailable, process, server
from harness.peers import Peer
from harness.programs import Command, Programs
from harness.server import REQUEST, Server

Run = dict[str, float]  # seconds, bytes, counts, or counts per second, by metric

RUN_TIMEOUT = 120.0
SPARE_FILES = 500  # files that a server opens besides its idle connections
SETTLE_TIME = 0.5  # before memory is read


@dataclass(frozen=True)
class Effort:
    """The amount of work in one measurement."""

    rounds: int = 5
    seconds: int = 2
    connects: int = 10_000
    timers: int = 1_000_000
    idle_connections: int = 10_000
    members: int = 5_000
    download_bytes: int = 1_000_000_000
    handshakes: int = 4_000
    pairs: int = 1_000_000  # acquire and release
    loop_rounds: int = 7  # within a run

    def rounds_of(self, least: int) -> int:
        """At least as many rounds as a case needs; with ``--quick`` one."""
        return 1 if self == QUICK else max(self.rounds, least)


QUICK = Effort(
    rounds=1,
    seconds=1,
    connects=1_000,
    timers=50_000,
    idle_connections=500,
    members=500,
    download_bytes=50_000_000,
    handshakes=500,
    pairs=50_000,
    loop_rounds=3,
)


@dataclass(frozen=True)
class Bench:
    programs: Programs
    effort: Effort

    @contextmanager
    def serve(self, peer: Peer) -> Iterator[Server]:
        with server.serve([*self.programs.command(peer.program), *peer.arguments]) as running:
            yield running


def requests(bench: Bench, peer: Peer, connections: int, depth: int, *, one_cpu: bool = False) -> Run:
    """Requests per second of plaintext; ``one_cpu`` keeps the client on a single CPU."""
    client = "wrk on one CPU" if one_cpu else "wrk"
    bench.programs.command(client)  # before a server has to wait for it
    with bench.serve(peer) as running:
        return wrk(bench, running, connections, depth, client)


def two_servers(bench: Bench, peer: Peer, connections: int) -> Run:
    """Requests per second of two processes of one server at once, and the latencies of the slower one."""
    bench.programs.command("wrk")
    with bench.serve(peer) as first, bench.serve(peer) as second, ThreadPoolExecutor(2) as loads:
        runs = list(loads.map(lambda running: wrk(bench, running, connections, depth=1), (first, second)))
    rate = sum(run["rate"] for run in runs)
    return {
        "rate": rate,
        "p50": max(run["p50"] for run in runs),
        "p99": max(run["p99"] for run in runs),
        "cpu": sum(run["cpu"] * run["rate"] for run in runs) / rate,
    }


def wrk(bench: Bench, running: Server, connections: int, depth: int, client: str = "wrk") -> Run:
    """Requests per second by wrk, and the server's CPU time for each."""
    load = [*bench.programs.command(client), "-t", "2", "-c", str(connections), "-d", str(bench.effort.seconds)]
    environment = {"CONNECTIONS": str(connections), "DEPTH": str(depth)}
    url = f"{'https' if running.tls else 'http'}://127.0.0.1:{running.port}/"
    before = running.cpu_seconds()
    seen = run_program([*load, "--timeout", "5", "-s", str(BENCHES / "wrk.lua"), url], environment)
    cpu = running.cpu_seconds() - before
    if seen["failed"] or not seen["requests"]:
        raise Unavailable(f"wrk counted {seen['failed']:.0f} failures and {seen['requests']:.0f} replies")
    return {
        "rate": seen["requests"] / seen["microseconds"] * 1e6,
        "p50": seen["p50"] / 1e6,
        "p99": seen["p99"] / 1e6,
        "cpu": cpu / seen["requests"],
    }


def churn(bench: Bench, peer: Peer) -> Run:
    """Connections per second; only connections that got their reply count."""
    client = bench.programs.command("churn")
    with bench.serve(peer) as running:
        before = running.cpu_seconds()
        seen = run_program([*client, str(running.port), str(bench.effort.connects)])
        cpu = running.cpu_seconds() - before
    if not seen["replies"]:
        raise Unavailable("none of the connections got a reply")
    return {"connects": seen["replies"] / seen["seconds"], "lost": seen["lost"], "cpu": cpu / seen["replies"]}


def timers(bench: Bench, peer: Peer) -> Run:
    """The cost of timers, as the peer's program measures it."""
    program = bench.programs.command(f"{peer.program} timers")
    return run_program([*program, "--timers", str(bench.effort.timers)])


def pool(bench: Bench, peer: Peer) -> Run:
    """The cost of a pair of acquire and release, as the peer's program measures it."""
    return run_program([*bench.programs.command(f"{peer.program} pool"), "--times", str(bench.effort.pairs)])


def loop(bench: Bench, peer: Peer) -> Run:
    """The speed of asyncio's own work beside the stock loop, as the peer's program measures it."""
    return run_program([*bench.programs.command(f"{peer.program} loop"), "--rounds", str(bench.effort.loop_rounds)])


def idle(bench: Bench, peer: Peer) -> Run:
    """Bytes by which the server grows for each connection that stays open after one reply."""
    count = idle_connections(bench)
    with bench.serve(peer) as running, ExitStack() as stack:
        before = running.resident_bytes()
        for _ in range(count):
            connection = stack.enter_context(running.connect())
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # no TIME_WAIT
            server.exchange(connection, (REQUEST,), 1)
        time.sleep(SETTLE_TIME)
        return {"bytes": (running.resident_bytes() - before) / count}


def idle_connections(bench: Bench) -> int:
    """The number of connections to hold, for which the limit of open files is raised."""
    count = bench.effort.idle_connections
    if process.raise_file_limit() < count + SPARE_FILES:
        raise Unavailable(f"a process may not open {count + SPARE_FILES:,} files here")
    return count


def echo_load(bench: Bench, running: Server, program: str, *arguments: str) -> tuple[Run, Run]:
    """Echoes per second, the server's CPU time for each and the latencies, and all that the load's program counted."""
    load = bench.programs.command(program)
    before = running.cpu_seconds()
    tls = ["tls"] if running.tls else []
    seen = run_program([*load, str(running.port), str(bench.effort.seconds), *arguments, *tls])
    cpu = running.cpu_seconds() - before
    if not seen["echoes"]:
        raise Unavailable("no echo came")
    latencies: Run = {name: seen[name] for name in ("p50", "p99") if name in seen}
    return {"echoes": seen["echoes"] / seen["seconds"], "cpu": cpu / seen["echoes"], **latencies}, seen


def run_program(command: Command, environment: dict[str, str] | None = None) -> Run:
    """Runs a program that prints its result as JSON in its last line of output."""
    environment = os.environ | (environment or {})
    try:
        result = subprocess.run(
            command, check=False, capture_output=True, text=True, env=environment, timeout=RUN_TIMEOUT
        )
    except subprocess.TimeoutExpired as error:
        raise Unavailable(f"a run took longer than {RUN_TIMEOUT:.0f} s") from error
    if result.returncode != 0:
        raise Unavailable(f"a run ended with status {result.returncode}", result.stderr or result.stdout)
    measured: Run = json.loads(result.stdout.splitlines()[-1])
    return measured
