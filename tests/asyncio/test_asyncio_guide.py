"""`docs/asyncio.md` tells the truth: its programs run, beside real databases, clients and test runners."""

import http.client
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
import websockets.sync.client

import goev
import goev.asyncio
from guides import Guide, output
from real_servers import PostgresServer, RedisServer, free_port
from support import PATIENCE, Client, eventually

GUIDE = Guide("asyncio.md", 8080)
serving = GUIDE.serving


def get(port: int, path: str = "/", data: bytes | None = None) -> tuple[int, bytes, http.client.HTTPMessage]:
    """Status, body and fields of an answer."""
    try:
        answer = urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", data, PATIENCE)
    except urllib.error.HTTPError as error:
        answer = error
    with answer:
        return answer.status, answer.read(), answer.headers


@pytest.mark.parametrize("number", [0, 1], ids=["serve", "main"])
def test_the_first_programs_answer_from_coroutines(tmp_path: Path, number: int) -> None:
    with serving(tmp_path, "", number) as (port, _):
        assert get(port)[:2] == (200, b"Hello from a coroutine\n")


# --- async callbacks, the loop, awaitables ---


def test_callbacks_of_a_connection_wait_for_each_other(tmp_path: Path) -> None:
    with serving(tmp_path, "Async callbacks", 0) as (port, _), Client(("127.0.0.1", port)) as client:
        client.send(b"one\ntwo\n")
        assert client.receive(len(b"hello\nONE\nTWO\n")) == b"hello\nONE\nTWO\n"


def test_a_request_is_finished_for_a_peer_that_has_half_closed(tmp_path: Path) -> None:
    with serving(tmp_path, "Async callbacks", 1) as (port, _), Client(("127.0.0.1", port)) as client:
        client.send(b"POST / HTTP/1.1\r\nHost: a\r\n\r\n")
        client.finish()
        assert client.receive_all().endswith(b"\r\n\r\nordered\n")


def test_the_loop_runs_in_each_way_that_the_page_shows(tmp_path: Path) -> None:
    with GUIDE.program(tmp_path, "The event loop") as child:
        assert output(child) == "b'hello'\nb'hello'"


def test_an_answer_in_pieces_waits_for_its_peer(tmp_path: Path) -> None:
    with serving(tmp_path, "Awaitables", 0) as (port, _):
        assert get(port)[1] == b"".join(b"row %d\n" % number for number in range(10_000))


def test_a_function_that_blocks_runs_in_a_thread(tmp_path: Path) -> None:
    with serving(tmp_path, "Awaitables", 1) as (port, _), Client(("127.0.0.1", port)) as client:
        client.send(b"a\nb\n")
        first, second = client.receive(130).split()
        assert first != second


# --- channels ---


def test_a_channel_has_messages(tmp_path: Path) -> None:
    with GUIDE.program(tmp_path, "Channels", 0) as child:
        assert output(child) == "b'your name?'\nb'hello ada'"


def test_a_channel_has_bytes(tmp_path: Path) -> None:
    with GUIDE.program(tmp_path, "Channels", 1) as child:
        assert output(child) == "b'ONE\\nTWO\\n'"


# --- recipes ---


@pytest.fixture(scope="module")
def database() -> Iterator[str]:
    with closing(PostgresServer()) as server:
        yield server.url


def test_handlers_share_a_pool_of_asyncpg(tmp_path: Path, database: str) -> None:
    with serving(tmp_path, "A pool of asyncpg", 0, DATABASE=database) as (port, _):
        assert get(port)[1] == b'["postgres", "template0", "template1"]'


def test_each_poller_has_a_pool_of_its_own(tmp_path: Path, database: str) -> None:
    with serving(tmp_path, "A pool of asyncpg", 1, DATABASE=database) as (port, _):
        for _ in range(4):
            assert get(port)[1].startswith(b"PostgreSQL ")


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path)
    yield server
    server.kill()


def test_news_from_redis_reach_all_websockets(tmp_path: Path, redis: RedisServer) -> None:
    def watch() -> websockets.sync.client.ClientConnection:
        return websockets.sync.client.connect(f"ws://127.0.0.1:{port}/news")

    with serving(tmp_path, "Redis pub/sub to a group", REDIS=redis.url) as (port, _), watch() as one, watch() as two:
        for watcher in (one, two):
            assert watcher.ping().wait(PATIENCE)  # so `on_open` has run
        assert redis.ask(b"PUBLISH news hello") == b":1"
        assert [watcher.recv(PATIENCE) for watcher in (one, two)] == ["hello", "hello"]


class Behind(goev.http.Connection):
    def on_request(self, request: goev.http.Request) -> None:
        request.respond(200, {"content-type": "text/x-behind"}, request.path.encode())


def test_a_request_is_passed_on_with_httpx(tmp_path: Path, reactor: goev.Reactor) -> None:
    behind = goev.Acceptor(reactor, "127.0.0.1:0", Behind)
    url = f"http://127.0.0.1:{behind.address[1]}"
    with serving(tmp_path, "Calls of other servers with httpx", BEHIND=url) as (port, _):
        status, body, fields = get(port, "/a")
        assert (status, body, fields["content-type"]) == (200, b"/a", "text/x-behind")
    with serving(tmp_path, "Calls of other servers with httpx", BEHIND=f"http://127.0.0.1:{free_port()}") as (port, _):
        assert get(port)[0] == 502


def test_a_task_runs_beside_its_connection_and_ends_with_it(tmp_path: Path) -> None:
    with serving(tmp_path, "Background tasks", 0) as (port, child):
        with Client(("127.0.0.1", port)) as client:
            assert client.receive(10) == b"tick\ntick\n"
        with Client(("127.0.0.1", port)) as client:
            assert client.receive(5) == b"tick\n"
        assert child.complaints == ""


def test_a_group_of_tasks_keeps_the_work_of_requests(tmp_path: Path) -> None:
    with serving(tmp_path, "Background tasks", 1) as (port, _):
        assert get(port, data=b"work")[0] == 202


def test_a_request_that_takes_too_long_has_an_answer(tmp_path: Path) -> None:
    with serving(tmp_path, "Cancellation and time limits") as (port, _):
        assert get(port)[:2] == (200, b"found\n")
        status, _, fields = get(port, "/slow")
        assert (status, fields["retry-after"]) == (503, "1")


PYTEST_ASYNCIO = "asyncio_default_fixture_loop_scope = function\n"


@pytest.mark.parametrize(
    ("number", "mark", "settings"),
    [(0, "asyncio", f"addopts = -p no:anyio\n{PYTEST_ASYNCIO}"), (1, "anyio", "addopts = -p no:asyncio\n")],
    ids=["pytest-asyncio", "anyio"],
)
def test_a_test_runs_on_the_loop(tmp_path: Path, number: int, mark: str, settings: str) -> None:
    heading = "Tests with pytest-asyncio and anyio"
    (tmp_path / "pytest.ini").write_text(f"[pytest]\nfilterwarnings = error\n{settings}")
    (tmp_path / "conftest.py").write_text(GUIDE.source(heading, number))
    (tmp_path / "test_echo.py").write_text(GUIDE.source(heading, 2).replace("mark.asyncio", f"mark.{mark}"))
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    shown = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=20)
    assert "1 passed" in shown.stdout, shown.stdout + shown.stderr


def test_a_coroutine_that_blocks_is_told_with_its_line(tmp_path: Path) -> None:
    with serving(tmp_path, "A coroutine that blocks") as (port, child):
        assert get(port)[0] == 200
        eventually(lambda: "time.sleep(0.3)  # wrong" in child.errors, "the line is told")
        assert "has been in on_request with 127.0.0.1:" in child.errors


# --- the page ---


def test_every_program_of_the_page_was_tried(request: pytest.FixtureRequest) -> None:
    here = {item.name.partition("[")[0] for item in request.session.items if item.path == Path(__file__)}
    if {name for name in globals() if name.startswith("test_")} - here:
        pytest.skip("only some tests of this file run")
    assert set(GUIDE.programs) == GUIDE.tried


def test_every_link_leads_somewhere() -> None:
    assert GUIDE.dead_links() == []


def test_lines_are_at_most_120_characters_long() -> None:
    assert not [line for line in GUIDE.text.splitlines() if len(line) > 120 and not line.startswith("|")]
