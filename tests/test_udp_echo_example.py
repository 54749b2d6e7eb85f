"""examples/udp_echo.py against raw clients."""

import re
import socket
import subprocess
import sys
from contextlib import contextmanager

import pytest

from support import PATIENCE, ROOT, Child

EXAMPLE = ROOT / "examples" / "udp_echo.py"


@contextmanager
def running():
    """The address of the example, which was started on a free port and must end with status 0 on SIGINT."""
    with Child(str(EXAMPLE), "--port", "0") as child:
        found = re.fullmatch(r"serving on 127\.0\.0\.1:(\d+)", child.line())
        assert found
        yield "127.0.0.1", int(found[1])
        assert child.process.poll() is None, child.errors
        child.interrupt()
        assert (child.end(), child.complaints) == (0, "")
        assert child._lines.empty(), "one line is all it prints"


@pytest.fixture
def clients(stack):
    """Eight sockets."""
    opened = [stack.enter_context(socket.socket(type=socket.SOCK_DGRAM)) for _ in range(8)]
    for client in opened:
        client.settimeout(PATIENCE)
    return opened


def test_the_udp_echo_example_is_short():
    assert len(EXAMPLE.read_text().splitlines()) < 80


def test_the_udp_echo_example_explains_itself():
    command = [sys.executable, str(EXAMPLE), "--help"]
    shown = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
    assert "--port" in shown.stdout
    assert "9999" in shown.stdout
    assert shown.stderr == ""


def test_the_udp_echo_example_answers_each_client_in_order(clients):
    with running() as address:
        for number in range(16):
            for client in clients:
                client.sendto(b"%d of %d" % (number, client.fileno()), address)
        for client in clients:
            got = [client.recvfrom(100) for _ in range(16)]
            assert got == [(b"%d of %d" % (number, client.fileno()), address) for number in range(16)]


@pytest.mark.parametrize("size", [0, 1, 1_472, 65_507])
def test_the_udp_echo_example_echoes_any_size(clients, size):
    with running() as address:
        clients[0].sendto(b"x" * size, address)
        assert clients[0].recv(70_000) == b"x" * size


def test_a_client_that_has_gone_does_not_disturb_the_udp_echo_example(clients):
    with running() as address:
        for client in clients[:4]:
            client.sendto(b"no answer wanted", address)
            client.close()
        for client in clients[4:]:
            client.sendto(b"alive?", address)
            assert client.recv(100) == b"alive?"


def test_the_udp_echo_example_says_which_port_is_taken(clients):
    clients[0].bind(("127.0.0.1", 0))
    port = clients[0].getsockname()[1]
    with Child(str(EXAMPLE), "--port", str(port)) as child:
        assert child.end() == 1
    assert f"cannot bind 127.0.0.1:{port}" in child.errors
