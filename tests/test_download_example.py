"""``examples/download.py``: whole files at the rate in the poller cache, changed meanwhile, and memory stays flat."""

import hashlib
import random
import re
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from support import ROOT, Child, Client, in_thread, need

EXAMPLE = ROOT / "examples" / "download.py"
GIGABYTE = 1_000_000_000
UNLIMITED = "1000000000000"
HEAD_END = b"\r\n\r\n"


class Server:
    def __init__(self, stack: ExitStack, *options: str) -> None:
        self.stack = stack
        self.child = stack.enter_context(Child(str(EXAMPLE), "--port", "0", *options))
        found = re.search(r":(\d+)", self.child.line())
        assert found
        self.address = ("127.0.0.1", int(found[1]))
        self.url = f"http://127.0.0.1:{found[1]}"

    def begin(self, *, receive_buffer: int | None = None) -> tuple[Client, int]:
        """A client that has asked and read the head; and how many bytes follow."""
        client = self.stack.enter_context(Client(self.address, receive_buffer=receive_buffer))
        client.send(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        head = b""
        while not head.endswith(HEAD_END):
            head += client.receive(1)
        length = re.search(rb"\r\nContent-Length: (\d+)\r\n", head)
        assert length
        assert head.startswith(b"HTTP/1.1 200 OK\r\n")
        return client, int(length[1])

    def set_rate(self, rate: int) -> None:
        with Client(self.address) as client:
            client.send(b"PUT /rate/%d HTTP/1.1\r\nHost: localhost\r\n\r\n" % rate)
            assert client.receive_all().startswith(b"HTTP/1.1 204 ")

    def peak_memory(self) -> int:
        """The most bytes of memory the server ever used."""
        found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{self.child.pid}/status").read_text())
        assert found
        return int(found[1]) * 1024


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


@pytest.fixture(scope="module")
def gigabyte(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """A file of 1 GB of which no two blocks are alike, and its SHA-256."""
    path, digest = tmp_path_factory.mktemp("download") / "gigabyte", hashlib.sha256()
    block, count = random.Random(1).randbytes(1_000_000 - 8), GIGABYTE // 1_000_000
    with path.open("wb") as file:
        for number in range(count):
            numbered = number.to_bytes(8) + block
            digest.update(numbered)
            file.write(numbered)
    assert path.stat().st_size == GIGABYTE
    yield str(path), digest.hexdigest()
    path.unlink()  # pytest keeps the directories of the last three runs


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, bytes]:
    """A file of 4 MB and what is in it."""
    path, data = tmp_path_factory.mktemp("download") / "small", random.Random(2).randbytes(4_000_000)
    path.write_bytes(data)
    return str(path), data


both_modes = pytest.mark.parametrize("mode", [[], ["--sendfile"]], ids=["write", "sendfile"])


def test_it_is_short() -> None:
    assert len(EXAMPLE.read_text().splitlines()) < 80


@both_modes
def test_a_gigabyte_arrives_whole_and_memory_stays_flat(gigabyte: tuple[str, str], mode: list[str]) -> None:
    curl = need("curl")
    path, expected = gigabyte
    with running("--file", path, "--rate", UNLIMITED, *mode) as server:
        server.begin()[0].receive(10_000_000)
        before = server.peak_memory()
        command = [curl, "-sS", "--max-time", "25", server.url]
        digest = hashlib.sha256()
        with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
            assert process.stdout
            for part in iter(lambda: process.stdout.read(1 << 20), b""):  # type: ignore[union-attr]
                digest.update(part)
        assert process.returncode == 0
        assert digest.hexdigest() == expected
        assert server.peak_memory() - before < 8_000_000


@both_modes
def test_several_clients_at_once_each_get_all_of_it(small: tuple[str, bytes], mode: list[str]) -> None:
    path, data = small
    with running("--file", path, "--rate", "8000000", "--pollers", "2", *mode) as server:
        clients = [server.begin()[0] for _ in range(20)]
        for client in clients:
            assert client.receive_all() == data


@both_modes
@pytest.mark.parametrize("rate", [1_000_000, 20_000_000])
def test_the_rate_is_kept(small: tuple[str, bytes], mode: list[str], rate: int) -> None:
    """Never faster; and slower only as far as a busy machine makes it."""
    path, data = small
    with running("--file", path, "--rate", str(rate), *mode) as server:
        asked = time.monotonic()
        client, size = server.begin()
        began = time.monotonic()
        wanted = min(size, rate * 4 // 5)
        assert client.receive(wanted) == data[:wanted]
        ended, ideal = time.monotonic(), wanted / rate
        assert 0.9 * ideal - 0.05 < ended - asked
        assert ended - began < 2 * ideal + 0.5


@both_modes
def test_the_rate_changes_while_downloads_run(small: tuple[str, bytes], mode: list[str]) -> None:
    """Two downloads, each on a poller of its own: slow, slower, then as fast as it goes."""
    path, data = small
    with running("--file", path, "--rate", "500000", "--pollers", "2", *mode) as server:
        downloads = [server.begin()[0] for _ in range(2)]
        barrier = threading.Barrier(3, timeout=10)

        def take(client: Client) -> tuple[list[float], bytes]:
            durations, received = [], []
            for count in (200_000, 30_000, len(data) - 230_000):
                barrier.wait()
                began = time.monotonic()
                received.append(client.receive(count))
                durations.append(time.monotonic() - began)
                barrier.wait()
            assert client.receive_all() == b""
            return durations, b"".join(received)

        taking = [in_thread(take, client) for client in downloads]
        for rate in (500_000, 20_000, 100_000_000):
            server.set_rate(rate)
            barrier.wait()
            barrier.wait()
        for future in taking:
            (slow, slower, fast), received = future.result(10)
            assert received == data
            assert 0.3 < slow < 2
            # At the first rate it would be 0.06 s; up to two pieces of 10 kB were on their way already.
            assert 0.4 < slower < 4
            assert fast < 2, "at the first rate it would be 7.5 s"


def test_a_client_that_was_too_slow_gets_no_burst_later(gigabyte: tuple[str, str]) -> None:
    """It reads nothing for a second and then 24 MB: 5 MB or less from buffers, the rest at 20 MB/s like anyone else."""
    with running("--file", gigabyte[0], "--rate", "20000000") as server:
        slow, _ = server.begin(receive_buffer=65536)
        other, _ = server.begin()
        other.discard(20_000_000)
        began = time.monotonic()
        slow.discard(24_000_000)
        assert time.monotonic() - began > 0.7, "with a burst it would be 0.2 s"


@both_modes
def test_a_client_that_stops_reading_costs_no_memory(gigabyte: tuple[str, str], mode: list[str]) -> None:
    path, _ = gigabyte
    with running("--file", path, "--rate", UNLIMITED, *mode) as server:
        server.begin()[0].receive(10_000_000)
        before = server.peak_memory()
        stopped = [server.begin()[0] for _ in range(10)]
        server.begin()[0].discard(200_000_000)
        assert server.peak_memory() - before < 20_000_000
        for client in stopped:
            client.reset()


def test_a_half_close_after_the_request_cuts_nothing(small: tuple[str, bytes]) -> None:
    path, data = small
    with running("--file", path, "--rate", "10000000") as server:
        client, _ = server.begin()
        client.finish()
        assert client.receive_all() == data


@both_modes
def test_an_empty_file(tmp_path: Path, mode: list[str]) -> None:
    empty = tmp_path / "empty"
    empty.touch()
    with running("--file", str(empty), *mode) as server:
        client, size = server.begin()
        assert (size, client.receive_all()) == (0, b"")


@pytest.mark.parametrize(
    "nonsense",
    [
        b"nonsense\r\n\r\n",
        b"PUT /rate/0 HTTP/1.1\r\n\r\n",
        b"PUT /rate/-5 HTTP/1.1\r\n\r\n",
        b"PUT /rate/fast HTTP/1.1\r\n\r\n",
        b"PUT /rate/" + b"9" * 5000 + b" HTTP/1.1\r\n\r\n",
        b"DELETE / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nX: " + b"x" * 100_000,
    ],
    ids=["words", "zero", "negative", "word", "huge", "method", "endless"],
)
def test_what_is_no_request_is_refused_and_the_rate_stays(small: tuple[str, bytes], nonsense: bytes) -> None:
    path, data = small
    with running("--file", path, "--rate", "50000000") as server:
        with Client(server.address) as client:
            client.fill(nonsense)
            assert client.receive_all().startswith(b"HTTP/1.1 400 ")
        client, _ = server.begin()
        assert client.receive_all() == data


def test_clients_that_leave_in_the_middle_do_no_harm(small: tuple[str, bytes]) -> None:
    path, data = small
    with running("--file", path, "--rate", "3000000") as server:
        for number in range(20):
            client, _ = server.begin()
            client.receive(1 + number * 1000)
            client.reset() if number % 2 else client.close()
        server.set_rate(100_000_000)
        assert server.begin()[0].receive_all() == data
