"""One message to many members."""

from harness import Unavailable, process, server
from harness.measure import Bench, Run, run_program
from harness.peers import Peer

SPARE_FILES = 100


def latencies(bench: Bench, peer: Peer) -> Run:
    """The time that a call holds its caller, and the time until the last member has the message."""
    members = bench.effort.members
    if process.raise_file_limit() < members + SPARE_FILES:
        raise Unavailable(f"a process may not open {members + SPARE_FILES:,} files here")
    load = bench.programs.command("broadcast load")
    with server.start(bench.programs.command(f"{peer.program} broadcast")) as running:
        return run_program([*load, str(running.port), str(members)])
