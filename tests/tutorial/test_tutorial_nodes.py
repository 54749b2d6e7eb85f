"""The last step of the tutorial: two nodes are one room, by NATS and by Redis."""

import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from test_tutorial import PAGES, meet, person
from websockets.sync.client import ClientConnection

from real_servers import RedisServer, free_port
from support import PATIENCE, Child, Client, eventually, need
from tutorial_support import PROGRAM, copied, service

PAGE = PAGES["10"]
ENGINE, *NODES = PAGE.commands()


@pytest.fixture(params=["nats", "redis"])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    with nats_server() if request.param == "nats" else redis_server(tmp_path) as url:
        yield url


@contextmanager
def nats_server() -> Iterator[str]:
    """By the command of the page, on a free port."""
    port = free_port()
    program, *arguments = ENGINE.split()
    process = subprocess.Popen([need(program), *arguments, "-p", str(port)], stderr=subprocess.DEVNULL)

    def answers() -> bool:
        try:
            with Client(("127.0.0.1", port)) as client:
                return client.socket.recv(4) == b"INFO"
        except (ConnectionRefusedError, ConnectionResetError):
            return False

    try:
        eventually(answers, "nats-server answers")
        yield f"nats://127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait(PATIENCE)


@contextmanager
def redis_server(folder: Path) -> Iterator[str]:
    server = RedisServer(folder)
    try:
        yield server.url
    finally:
        server.kill()


def hears(listener: ClientConnection, speaker: ClientConnection) -> bool:
    """Whether a word of the speaker arrives."""
    speaker.send("one, two")
    try:
        return "one, two" in listener.recv(0.1)
    except TimeoutError:
        return False


def test_step_10_lets_two_nodes_talk(engine, tmp_path, monkeypatch):
    assert [re.findall(r":(808\d)$", line) for line in NODES] == [["8081"], ["8082"]]
    monkeypatch.setenv("ENGINE", engine)
    with (
        copied(tmp_path) as folder,
        service(folder, NODES[0]) as (one, _),
        service(folder, NODES[1]) as (two, _),
        person("Listener", one) as listener,
    ):
        with person("Speaker", two) as speaker:  # until the engine knows the room of both nodes
            eventually(lambda: hears(listener, speaker), "one node hears the other")
        while listener.recv(PATIENCE) != "Speaker has left":
            pass
        seen = meet(one, two)
    assert PAGE.shows(*seen)


def test_step_10_says_that_no_engine_is_there(tmp_path, monkeypatch):
    monkeypatch.setenv("ENGINE", f"nats://127.0.0.1:{free_port()}")
    with copied(tmp_path) as folder:
        program = folder / "step10_nodes.py"
        program.write_text(program.read_text().replace('4222"))', '4222"), timeout=0.1)'))
        with Child("-c", PROGRAM, str(folder), program.name) as child:
            assert child.end() == 1
    line = re.sub(r":\d+ within 0\.1 s", ":4222 within 10.0 s", child.errors.splitlines()[-1])
    assert PAGE.shows(line.partition(": [Errno")[0])
