"""Servers of ASGI and WSGI, and goev's own workers, each run by its command line."""

from harness import measure, server
from harness.http import EXCHANGES, TEXT, Answer
from harness.measure import Bench, Run
from harness.peers import Peer
from harness.server import REQUEST

CONNECTIONS = 64
ANSWERS = {"starlette": Answer("application/json", b'{"id":1,"message":"Hello, World!"}')}
# gunicorn's threads look at a kept connection when it has input: what was read with the request before waits there.
ONE_BY_ONE = (((REQUEST,), 1), ((REQUEST[:20], REQUEST[20:]), 1))


def requests(bench: Bench, peer: Peer, application: str) -> Run:
    """Requests per second by wrk, and the CPU time of all of the server's processes for each."""
    bench.programs.command("wrk")  # before a server has to wait for it
    kind = "starlette" if application == "starlette" else "service"  # one more package to install
    command = [*bench.programs.command(f"{peer.program} {kind}"), "--application", application, *peer.arguments]
    take = ANSWERS.get(application, TEXT).take
    with server.serve(command, take, ONE_BY_ONE if application == "wsgi" else EXCHANGES) as running:
        return measure.wrk(bench, running, CONNECTIONS, depth=1)
