"""Each example starts, prints where it listens, answers a real client and ends cleanly on Ctrl-C."""

import importlib.util
import re
import subprocess
import sys
from contextlib import contextmanager
from types import ModuleType

import pytest

from support import ROOT, Child, Client, need

NAMES = ["echo", "plaintext", "reuseport", "two_reactors"]
MESSAGES = [
    "lines",
    "rpc",
    "redis_server",
    "chat",
    "starttls",
    "api_database",
]  # what they do is tried in files of their own
REQUEST = b"GET /plaintext HTTP/1.1\r\nHost: localhost\r\nAccept: */*\r\n\r\n"


@contextmanager
def running(name: str, *options: str):
    """The address of an example that was started on a free port and must end with status 0 on SIGINT."""
    with Child(str(ROOT / "examples" / f"{name}.py"), "--port", "0", *options) as child:
        printed = []
        while not (found := re.search(r":(\d+)", "".join(printed))):
            printed.append(child.line() + "\n")
        yield "127.0.0.1", int(found[1])
        assert child.process.poll() is None, child.errors
        child.interrupt()
        assert (child.end(), child.complaints) == (0, "")


def imported(name: str) -> ModuleType:
    """An example as a module of its own."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "examples" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def response(client: Client) -> tuple[str, dict[str, str], bytes]:
    """One response: status line, headers by lower-case name, body."""
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        head += client.receive(1)
    status, *lines = head.decode().rstrip("\r\n").split("\r\n")
    headers = {name.lower(): value.strip() for name, value in (line.split(":", 1) for line in lines)}
    return status, headers, client.receive(int(headers["content-length"]))


@pytest.mark.parametrize("name", NAMES)
def test_an_example_is_short(name):
    assert len((ROOT / "examples" / f"{name}.py").read_text().splitlines()) < 80


@pytest.mark.parametrize("name", NAMES + MESSAGES)
def test_an_example_explains_itself(name):
    command = [sys.executable, str(ROOT / "examples" / f"{name}.py"), "--help"]
    shown = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
    assert "--port" in shown.stdout
    assert shown.stderr == ""


@pytest.mark.parametrize("name", NAMES)
def test_an_example_answers_several_clients_and_ends_on_ctrl_c(name):
    with running(name) as address:
        for _ in range(8):
            with Client(address) as client:
                client.send(REQUEST)
                first = client.receive(8)
                assert first in (b"HTTP/1.1", REQUEST[:8])


def test_the_echo_example_echoes():
    with running("echo") as address, Client(address) as client:
        for text in (b"hello\n", b"x" * 100_000, b"bye\n"):
            assert client.ask(text) == text


@pytest.mark.parametrize("name", ["plaintext", "reuseport", "two_reactors"])
def test_an_example_that_speaks_http_satisfies_curl(name):
    if name != "plaintext" and "HTTP/1.1" not in (ROOT / "examples" / f"{name}.py").read_text():
        pytest.skip(f"{name} speaks no HTTP")
    curl = need("curl")
    with running(name) as (host, port):
        command = [curl, "-sS", "-i", "--max-time", "5", f"http://{host}:{port}/plaintext"]
        shown = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout
    assert shown.startswith(("HTTP/1.1 200 OK\n", "HTTP/1.1 200 OK\r\n"))
    head, _, body = shown.replace("\r\n", "\n").partition("\n\n")
    assert len(body) == int(re.search(r"(?i)content-length: (\d+)", head)[1]) > 0


def test_plaintext_sends_the_headers_of_the_benchmark():
    with running("plaintext") as address, Client(address) as client:
        client.send(REQUEST)
        status, headers, body = response(client)
    assert status == "HTTP/1.1 200 OK"
    assert body == b"Hello, World!"
    assert headers["content-length"] == "13"
    assert headers["content-type"].startswith("text/plain")
    assert headers["server"]
    assert re.fullmatch(r"(Mon|Tue|Wed|Thu|Fri|Sat|Sun), \d\d [A-Z][a-z]{2} \d{4} \d\d:\d\d:\d\d GMT", headers["date"])


def test_plaintext_answers_pipelined_requests_in_order():
    with running("plaintext") as address, Client(address) as client:
        client.send(REQUEST * 100)
        assert [response(client)[2] for _ in range(100)] == [b"Hello, World!"] * 100


def test_plaintext_answers_a_request_split_anywhere():
    """Two requests, cut at each place: the first part of the cut is answered as far as it is complete."""
    with running("plaintext") as address, Client(address) as client:
        for cut in range(1, len(REQUEST)):
            client.send(REQUEST + REQUEST[:cut])
            assert response(client)[0] == "HTTP/1.1 200 OK"
            client.send(REQUEST[cut:])
            assert response(client)[0] == "HTTP/1.1 200 OK"


def test_plaintext_refreshes_its_date():
    with running("plaintext") as address, Client(address) as client:
        dates = set()
        for _ in range(200):
            client.send(REQUEST)
            dates.add(response(client)[1]["date"])
            if len(dates) == 2:
                break
            client.socket.settimeout(0.02)
            with pytest.raises(TimeoutError):
                client.socket.recv(1)  # nothing unasked for comes meanwhile
            client.socket.settimeout(10)
        assert len(dates) == 2


@pytest.mark.parametrize(
    "nonsense",
    [
        b"nonsense\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET / HTTP/1.1\r\nno colon\r\n\r\n",
        b"GET / HTTP/1.1\r\n: no name\r\n\r\n",
        b"\x00\xff\r\n\r\n",
        b"GET / HTTP/1.1\r\nX: " + b"x" * 2_000_000,
    ],
    ids=["words", "one word", "version", "colon", "name", "binary", "endless"],
)
def test_plaintext_refuses_what_is_no_request(nonsense):
    with running("plaintext") as address:
        with Client(address) as client:
            try:
                client.send(nonsense)
                answer = client.receive_all()
            except ConnectionError:
                answer = b""
            assert answer == b"" or re.match(rb"HTTP/1\.1 4\d\d ", answer)
        with Client(address) as client:
            client.send(REQUEST)
            assert response(client)[0] == "HTTP/1.1 200 OK"


@pytest.mark.parametrize("name", ["plaintext", "reuseport", "two_reactors"])
def test_wrk_sees_no_socket_error(name):
    if "HTTP/1.1" not in (ROOT / "examples" / f"{name}.py").read_text():
        pytest.skip(f"{name} speaks no HTTP")
    wrk = need("wrk")
    with running(name) as (host, port):
        command = [wrk, "-c", "64", "-t", "2", "-d", "1s", f"http://{host}:{port}/plaintext"]
        shown = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True).stdout
    assert "Socket errors" not in shown
    assert "Non-2xx" not in shown
    assert int(re.search(r"(\d+) requests in", shown)[1]) > 100
