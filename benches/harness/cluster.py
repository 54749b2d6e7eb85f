"""Groups over several processes, by NATS or Redis, beside local groups and the bare clients of these engines.

The first argument of a peer is the engine, or empty for local groups. With an engine the second one says whether the
messages of the cluster count, or those of a local group beside it.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from harness import Unavailable, process, server
from harness.measure import Bench, Run, run_program
from harness.peers import Peer

SIZES = (1, 10, 100, 1_000, 3_000)  # of groups
NODES = 3
SPARE_FILES = 100


@contextmanager
def _engine(bench: Bench, name: str) -> Iterator[str]:
    """The URL of an engine that runs; empty without one."""
    if not name:
        yield ""
        return
    with server.start(bench.programs.command(f"{name} engine")) as running:
        yield f"{name}://127.0.0.1:{running.port}"


@contextmanager
def _nodes(bench: Bench, engine: str, count: int) -> Iterator[list[server.Server]]:
    node = bench.programs.command("goev node")
    with ExitStack() as stack:
        url = stack.enter_context(_engine(bench, engine))
        yield [stack.enter_context(server.start([*node, "--engine", url])) for _ in range(count)]


def held(bench: Bench, peer: Peer) -> Run:
    """The time that ``send`` holds its caller, by the number of members; messages of both kinds are sent in turn."""
    engine, kind = peer.arguments
    sizes = [size for size in SIZES if size <= bench.effort.members]
    load = bench.programs.command("cluster load")
    with _nodes(bench, engine, 2) as nodes:
        ports = [str(node.port) for node in nodes]
        measured = run_program([*load, "held", *ports, "--sizes", *map(str, sizes)])
    return {f"held_{size}": measured[f"{kind}_{size}"] for size in sizes} | {
        f"held_p99_{size}": measured[f"{kind}_p99_{size}"] for size in sizes
    }


def rounds(bench: Bench, peer: Peer) -> Run:
    """The time of a message from one process to another and back."""
    kind, engine = peer.arguments
    program = [*bench.programs.command("goev round"), kind]
    with _engine(bench, engine) as url, server.start([*program, url]):
        return run_program([*program, url])


def fan_out(bench: Bench, peer: Peer) -> Run:
    """Messages per second that the members of three processes get, and the processes' CPU time for each."""
    members = min(bench.effort.members, 3_000)
    if process.raise_file_limit() < NODES * members + SPARE_FILES:
        raise Unavailable(f"a process may not open {NODES * members + SPARE_FILES:,} files here")
    load = bench.programs.command("cluster load")
    senders = 1 if peer.arguments[0] else NODES
    with _nodes(bench, peer.arguments[0], NODES) as nodes:
        before = sum(node.cpu_seconds() for node in nodes)
        options = ["--members", str(members), "--senders", str(senders), "--seconds", str(bench.effort.seconds)]
        seen = run_program([*load, "fan-out", *(str(node.port) for node in nodes), *options])
        cpu = sum(node.cpu_seconds() for node in nodes) - before
    return {"deliveries": seen["deliveries"] / seen["seconds"], "delivery_cpu": cpu / seen["deliveries"]}
