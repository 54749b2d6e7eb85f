"""docs/examples.md names each example, and its lines do as the page shows."""

import os
import re
import subprocess
import sys
from contextlib import closing

import pytest
from test_api_database_example import options
from test_examples import running

from real_servers import PostgresServer, RedisServer
from support import ROOT, Child, need

PAGE = (ROOT / "docs" / "examples.md").read_text()
SECTIONS = dict(re.findall(r"(?ms)^### (.+?)\n(.*?)(?=^##|\Z)", PAGE))
# Examples whose lines other tests type, with other servers or a browser.
ELSEWHERE = {
    "A TCP relay": "test_proxy_example.py",
    "A pool of connections": "test_gallery.py",
    "An API over PostgreSQL and Redis": "test_gallery.py",
    "Chat": "test_chat_example.py",
    "Nodes behind a balancer": "test_cluster_example.py",
    "Mail with STARTTLS": "test_starttls_example.py",
}
TRIED = sorted(set(SECTIONS) - set(ELSEWHERE))
# Stands in for netcat, of which the distributions have several. Sends its input, and prints all that comes back.
NETCAT = """
import socket, sys

kind = socket.SOCK_DGRAM if "-u" in sys.argv else socket.SOCK_STREAM
with socket.socket(socket.AF_INET, kind) as peer:
    peer.settimeout(10)
    peer.connect((sys.argv[-2], int(sys.argv[-1])))
    peer.sendall(sys.stdin.buffer.read())
    if kind == socket.SOCK_STREAM:
        peer.shutdown(socket.SHUT_WR)
    while data := peer.recv(65536):
        sys.stdout.buffer.write(data)
        if kind == socket.SOCK_DGRAM:
            break
"""


def blocks(section: str, language: str) -> list[str]:
    return re.findall(rf"(?ms)^```{language}\n(.*?)^```", SECTIONS[section])


def conversation(section: str) -> list[tuple[str, str]]:
    """The commands of the second terminal, and what each prints."""
    [text] = blocks(section, "console")
    return re.findall(r"(?m)^\$ (.*)\n((?:(?!\$ ).*\n)*)", text)


def to_port(command: str, port: str) -> str:
    """The command for a server on another port."""
    command = re.sub(r"\b(8080|6380|9999)\b", port, command)
    command = re.sub(r"^(python \S+)", rf"\1 --port {port}", command)
    # As if it printed to a terminal.
    return re.sub(r"^redis-cli", "redis-cli --no-raw", command)


@pytest.fixture
def terminal(tmp_path):
    """Runs a command as a user types it in a clone, but for the port."""
    (tmp_path / "netcat.py").write_text(NETCAT)
    (tmp_path / "nc").write_text(f'#!/bin/sh\nexec {sys.executable} {tmp_path}/netcat.py "$@"\n')
    (tmp_path / "python").write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    for program in ("nc", "python"):
        (tmp_path / program).chmod(0o755)
    environment = os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}"}

    def typed(command: str) -> str:
        done = subprocess.run(
            ["bash", "-c", command], cwd=ROOT, capture_output=True, text=True, timeout=20, env=environment, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return typed


@pytest.mark.parametrize("section", TRIED)
def test_the_lines_of_an_example_print_what_the_page_shows(section, terminal, monkeypatch):
    [server] = blocks(section, "sh")
    python, program, *options = server.split()
    assert python == "python"
    for client in {"curl", "redis-cli"} & set(SECTIONS[section].split()):
        need(client)
    monkeypatch.chdir(ROOT)
    with Child(program, *options, "--port", "0") as run:
        port = re.findall(r":(\d+)", run.line())[-1]
        for command, output in conversation(section):
            assert terminal(to_port(command, port)) == output
        run.interrupt()
        assert run.end() == 0


def test_the_lines_of_the_api_print_what_the_page_shows(terminal, tmp_path):
    redis = RedisServer(tmp_path)
    with closing(PostgresServer()) as postgres, running("api_database", *options(postgres, redis)) as (_, port):
        for command, output in conversation("An API over PostgreSQL and Redis"):
            assert terminal(f"{to_port(command, str(port))}; echo") == output
    redis.kill()


def test_the_line_of_the_pool_prints_what_the_page_shows(terminal, tmp_path):
    redis = RedisServer(tmp_path)
    [command] = blocks("A pool of connections", "sh")
    [shown] = re.findall(r"It prints `(.*)`", SECTIONS["A pool of connections"])
    assert terminal(to_port(command.strip(), str(redis.port))) == f"{shown}\n"
    redis.kill()


def test_each_example_is_in_the_gallery():
    folder = ROOT / "examples"
    there = {path.name for path in folder.iterdir() if path.is_dir() or path.suffix in (".py", ".html")}
    there.discard("__pycache__")
    assert there <= set(re.findall(r"examples/([\w.]+)", PAGE))


def test_each_example_that_the_gallery_links_to_is_there():
    for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", PAGE):
        assert (ROOT / "docs" / target).exists(), target


def test_sections_that_are_tried_elsewhere_are_there_and_so_are_their_tests():
    assert set(ELSEWHERE) <= set(SECTIONS)
    tests = {path.name for path in (ROOT / "tests").rglob("test_*.py")}
    assert set(ELSEWHERE.values()) <= tests


def test_the_pictures_are_pictures():
    for picture in re.findall(r"[\w-]+\.png", PAGE):
        assert (ROOT / "docs" / picture).read_bytes().startswith(b"\x89PNG")
