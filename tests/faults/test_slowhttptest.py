"""The limits that docs/http.md recommends for the open internet, against slowhttptest in all four of its modes.

The limits are read out of the page, so the test runs against exactly that list. Their times have to pass: the test
takes as long as the longest of them, with all modes at once.
"""

import ast
import re
import socket
import subprocess
import time

import pytest

import goev
from support import PATIENCE, ROOT, Client, eventually, need

PEERS = 50  # of each mode
LIMIT = 150  # seconds, for slowhttptest and for the server to be rid of its peers
MODES = {
    "slow headers": ["-H", "-i", "5"],
    "slow body": ["-B", "-i", "5", "-s", "100000"],
    "range": ["-R", "-a", "5", "-b", "2000"],
    "slow read": ["-X", "-w", "1", "-y", "512", "-n", "1", "-z", "5"],
}
OTHER = b"GET /other HTTP/1.1\r\nHost: a\r\n\r\n"
ANSWER = b"other"
LARGE = bytes(2_000_000)  # more than the kernel takes of an answer that is not read


class Site(goev.http.Connection):
    def on_request(self, request):
        request.respond(200, None, ANSWER if request.path == "/other" else LARGE)


def recommended() -> dict[str, object]:
    """The keyword arguments of the call of ``serve`` that the page recommends."""
    section = (ROOT / "docs" / "http.md").read_text().split("## On the open internet")[1]
    (block, *_) = re.findall(r"```python\n(.*?)```", section, re.DOTALL)
    calls = [node for node in ast.walk(ast.parse(block)) if isinstance(node, ast.Call)]
    (serve,) = [call for call in calls if ast.unparse(call.func) == "goev.serve"]
    return {keyword.arg: ast.literal_eval(keyword.value) for keyword in serve.keywords if keyword.arg}


class Another(Client):
    """A client with another address than slowhttptest, as other users have."""

    def __init__(self, address) -> None:
        self.socket = socket.create_connection(address, PATIENCE, ("127.0.0.2", 0))

    def is_served(self) -> bool:
        self.send(OTHER)
        answer = b""
        while not answer.endswith(b"\r\n\r\n" + ANSWER):
            answer += self.socket.recv(65536)
        return answer.startswith(b"HTTP/1.1 200 ")


@pytest.fixture
def servers(start):
    """A server with the recommended limits for each mode."""
    assert set(recommended()) >= {"max_connections", "max_connections_per_address", "idle_timeout"}
    return {mode: start(Site, **recommended()) for mode in MODES}


@pytest.mark.timeout(LIMIT + 60)
def test_slow_peers_are_ended_and_others_are_served_meanwhile(servers, stack, log):  # a busy machine logs stalls
    program = need("slowhttptest")
    for mode, server in servers.items():
        host, port = server.address
        command = [program, *MODES[mode], "-c", str(PEERS), "-r", "50", "-l", str(LIMIT), "-p", "10"]
        command += ["-u", f"http://{host}:{port}/"]
        running = stack.enter_context(subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
        stack.callback(running.kill)
    for mode, server in servers.items():
        eventually(lambda server=server: count(server, "accepted") >= PEERS, f"{mode}: the peers came")
    end = time.monotonic() + LIMIT
    while time.monotonic() < end and any(count(server, "open") for server in servers.values()):
        for mode, server in servers.items():
            with Another(server.address) as other:
                assert other.is_served(), mode
        time.sleep(0.5)  # the pace of the others
    assert {mode: count(server, "open") for mode, server in servers.items()} == dict.fromkeys(MODES, 0)


def count(server, name: str) -> int:
    return sum(poller[name] for poller in server.reactor.stats())
