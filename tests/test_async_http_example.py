"""``examples/async_http.py``: a pool does the slow work, the poller serves on, and answers leave in request order."""

import re
import select
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest

from support import ROOT, Child, Client, cpu_seconds, in_thread, need, resident

EXAMPLE = ROOT / "examples" / "async_http.py"
IN_FLIGHT = 16  # the limit the example has


class Server:
    def __init__(self, stack: ExitStack, *options: str) -> None:
        self.stack = stack
        self.child = stack.enter_context(Child(str(EXAMPLE), "--port", "0", *options))
        found = re.search(r":(\d+)", self.child.line())
        assert found
        self.address = ("127.0.0.1", int(found[1]))

    def connect(self) -> Client:
        return self.stack.enter_context(Client(self.address))


@contextmanager
def running(*options: str) -> Iterator[Server]:
    """The example, which must log nothing and end with status 0 on SIGINT."""
    with ExitStack() as stack:
        server = Server(stack, *options)
        # The clients go first. The end waits for those that are there.
        with ExitStack() as server.stack:
            yield server
        assert server.child.process.poll() is None, server.child.errors
        server.child.interrupt()
        assert (server.child.end(), server.child.complaints) == (0, "")


@pytest.fixture
def server() -> Iterator[Server]:
    with running() as started:
        yield started


def get(path: str, *headers: str) -> bytes:
    lines = [f"GET {path} HTTP/1.1", "Host: localhost", *headers]
    return "\r\n".join([*lines, "", ""]).encode()


def slow(ms: int) -> bytes:
    return get(f"/slow?ms={ms}")


def answer(client: Client) -> tuple[int, str]:
    """Status and text of one response."""
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        head += client.receive(1)
    status = re.match(rb"HTTP/1\.1 (\d{3}) ", head)
    length = re.search(rb"(?i)\r\nContent-Length: (\d+)\r\n", head)
    assert status
    assert length
    return int(status[1]), " ".join(client.receive(int(length[1])).decode().split())


def is_silent(client: Client) -> bool:
    return not select.select([client.socket], [], [], 0)[0]


def test_it_is_short() -> None:
    assert len(EXAMPLE.read_text().splitlines()) < 80


def test_curl_gets_both_pages(server: Server) -> None:
    curl = need("curl")
    url = "http://{}:{}".format(*server.address)
    command = [curl, "-sS", "--max-time", "10", f"{url}/slow?ms=50", f"{url}/fast"]
    shown = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True).stdout
    assert shown.split() == ["slept", "50", "ms", "fast"]


def test_the_poller_serves_others_while_a_request_is_handled(server: Server) -> None:
    waiting, other = server.connect(), server.connect()
    waiting.send(slow(1500))
    for _ in range(100):
        other.send(get("/fast"))
        assert answer(other) == (200, "fast")
    other.send(slow(1))
    assert answer(other) == (200, "slept 1 ms")
    assert is_silent(waiting)
    assert answer(waiting) == (200, "slept 1500 ms")


def test_pipelined_answers_leave_in_the_order_of_the_requests(server: Server) -> None:
    """The later, the faster: each finishes before the one that has to leave first."""
    client = server.connect()
    times = [400, 300, 200, 100, 1]
    client.send(b"".join(slow(ms) + get("/fast") for ms in times))
    began = time.monotonic()
    for ms in times:
        assert answer(client) == (200, f"slept {ms} ms")
        assert answer(client) == (200, "fast")
    assert time.monotonic() - began < 0.9, "handled one after the other"


def test_a_thousand_pipelined_requests_of_random_times(server: Server) -> None:
    client = server.connect()
    times = [number * 7919 % 13 for number in range(1000)]
    sending = in_thread(client.send, b"".join(slow(ms) if ms else get("/fast") for ms in times))
    for ms in times:
        assert answer(client) == (200, f"slept {ms} ms" if ms else "fast")
    sending.result(10)


def test_a_finished_answer_at_the_head_does_not_wait_for_those_behind(server: Server) -> None:
    client = server.connect()
    client.send(get("/fast") + slow(1) + slow(1500) + get("/fast"))
    assert answer(client) == (200, "fast")
    assert answer(client) == (200, "slept 1 ms")
    assert is_silent(client)


def test_requests_in_flight_are_bounded() -> None:
    """With 64 threads all 64 could run at once; but only 16 of one connection do, which makes 4 rounds."""
    with running("--threads", "64") as server:
        client, other = server.connect(), server.connect()
        began = time.monotonic()
        client.send(slow(200) * 4 * IN_FLIGHT)
        other.send(slow(1))
        assert answer(other) == (200, "slept 1 ms"), "another connection has its own share"
        assert time.monotonic() - began < 0.7
        for _ in range(4 * IN_FLIGHT):
            assert answer(client) == (200, "slept 200 ms")
        assert 0.8 <= time.monotonic() - began < 2.5


def test_a_flood_of_requests_is_slowed_down_and_takes_neither_memory_nor_time(server: Server) -> None:
    client = server.connect()
    client.send(get("/fast"))
    assert answer(client) == (200, "fast")
    before = resident(server.child.pid)
    flood = slow(1500) * 500_000
    assert client.fill(flood) < len(flood)
    assert resident(server.child.pid) - before < 6_000_000
    used = cpu_seconds(server.child.pid)
    client.socket.settimeout(0.5)
    with pytest.raises(TimeoutError):
        client.socket.recv(1)
    assert cpu_seconds(server.child.pid) - used < 0.2
    client.reset()


def test_a_client_that_never_reads_its_answers_takes_no_memory(server: Server) -> None:
    client, other = server.connect(), server.connect()
    client.send(get("/fast"))
    assert answer(client) == (200, "fast")
    before = resident(server.child.pid)
    flood = get("/fast") * 500_000
    assert client.fill(flood) < len(flood)
    assert resident(server.child.pid) - before < 6_000_000
    other.send(get("/fast"))
    assert answer(other) == (200, "fast")


def test_requests_of_a_client_that_left_are_not_handled() -> None:
    """One thread: without cancelling the others would wait for eight seconds of work nobody wants."""
    with running("--threads", "1") as server:
        client = server.connect()
        client.send(get("/fast") + slow(500) * IN_FLIGHT)
        assert answer(client) == (200, "fast")
        began = time.monotonic()
        client.reset()
        other = server.connect()
        other.send(slow(1))
        assert answer(other) == (200, "slept 1 ms")
        assert time.monotonic() - began < 4


def test_a_half_close_is_no_end_before_the_answers(server: Server) -> None:
    client = server.connect()
    client.send(slow(100) + get("/fast") + slow(50) * 2 * IN_FLIGHT)
    client.finish()
    for text in ["slept 100 ms", "fast", *["slept 50 ms"] * 2 * IN_FLIGHT]:
        assert answer(client) == (200, text)
    assert client.receive_all() == b""


def test_connection_close_ends_after_the_answers_so_far(server: Server) -> None:
    client = server.connect()
    client.send(slow(50) + get("/slow?ms=20", "Connection: close") + get("/fast"))
    assert answer(client) == (200, "slept 50 ms")
    assert answer(client) == (200, "slept 20 ms")
    assert client.receive_all() == b""


@pytest.mark.parametrize(
    "nonsense",
    [
        b"nonsense\r\n\r\n",
        b"POST /fast HTTP/1.1\r\nHost: x\r\n\r\n",
        get("/other"),
        get("/slow?ms=-1"),
        get("/slow?ms=99999"),
        get("/fast", "no colon"),
        get("/fast", "content-LENGTH: 5") + b"GET /f",
        get("/fast", "Transfer-Encoding: chunked"),
        b"\x00\xff\r\n\r\n",
        b"GET /fast HTTP/1.1\r\nX: " + b"x" * 2_000_000,
    ],
    ids=["words", "method", "path", "below", "above", "colon", "length", "chunks", "binary", "endless"],
)
def test_a_bad_request_is_refused_in_its_turn(server: Server, nonsense: bytes) -> None:
    client = server.connect()
    client.send(slow(50))
    client.fill(nonsense)
    assert answer(client) == (200, "slept 50 ms")
    status, _ = answer(client)
    assert status == 400
    assert client.receive_all() == b""


def test_a_request_cut_anywhere(server: Server) -> None:
    client, request = server.connect(), get("/fast")
    for cut in range(1, len(request)):
        client.send(request + request[:cut])
        assert answer(client) == (200, "fast")
        client.send(request[cut:])
        assert answer(client) == (200, "fast")


def test_ctrl_c_does_not_wait_for_queued_requests() -> None:
    with running("--threads", "1") as server:
        client = server.connect()
        client.send(get("/fast") + slow(1000) * IN_FLIGHT)
        assert answer(client) == (200, "fast")
        began = time.monotonic()
    assert time.monotonic() - began < 8
