"""Faults under a service that runs: what dies, leaks or runs out costs no more than it has to."""

import os
import re
import resource
import signal
import socket
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from textwrap import dedent

import pytest

from service_support import PLAIN, SLOW, Service, answer, gone, is_alive, refuses, request
from support import PATIENCE, Child, Client, eventually

ASKING = 8  # clients that ask at the same time


class Asking:
    """Threads that ask again and again over fresh connections. The ends of all requests are counted by their kind."""

    def __init__(self, address: tuple[str, int]) -> None:
        self.ends: Counter[str] = Counter()
        self._address = address
        self._is_over = threading.Event()
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._ask) for _ in range(ASKING)]
        for thread in self._threads:
            thread.start()

    def _ask(self) -> None:
        while not self._is_over.is_set():
            end = self._end_of_a_request()
            with self._lock:
                self.ends[end] += 1

    def _end_of_a_request(self) -> str:
        try:
            with socket.create_connection(self._address, PATIENCE) as client:
                client.sendall(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
                said = b"".join(iter(lambda: client.recv(4096), b""))
        except OSError as error:
            return type(error).__name__
        return "answered" if re.search(rb"\r\n\r\n\d+$", said) else "cut short"

    def more(self, count: int) -> None:
        """Wait until so many more are answered."""
        goal = self.ends["answered"] + count
        eventually(lambda: self.ends["answered"] >= goal, f"{count} more requests are answered", SLOW)

    def stop(self) -> None:
        self._is_over.set()
        for thread in self._threads:
            thread.join()


@contextmanager
def asking(service: Service) -> Iterator[Asking]:
    clients = Asking(service.address)
    try:
        clients.more(50)
        yield clients
    finally:
        clients.stop()


def test_a_worker_that_is_killed_under_load_costs_only_the_connections_it_had(tmp_path):
    with Service(tmp_path, workers=2).serving() as service, ExitStack() as stack:
        kept = [stack.enter_context(Client(service.address)) for _ in range(16)]
        owners = [int(request(client)) for client in kept]
        killed, other = service.workers()
        with asking(service) as clients:
            os.kill(killed, signal.SIGKILL)
            service.logged("was ended by SIGKILL")
            service.logged(r"worker \d \(process \d+\) serves")
            losses = clients.ends.total() - clients.ends["answered"]
            clients.more(200)
        # Each of them had one connection when the worker died.
        assert losses <= ASKING, clients.ends
        assert clients.ends["ConnectionRefusedError"] == 0
        assert clients.ends.total() - clients.ends["answered"] == losses, "lost after the successor had come"
        for client, owner in zip(kept, owners, strict=True):
            if owner == other:
                assert int(request(client)) == other
        assert service.end() == 0


def test_requests_are_answered_although_the_supervisor_is_killed(tmp_path):
    app = """
        import goev

        class Site(goev.http.Connection):
            def on_request(self, request):
                print("waits", flush=True)
                self.schedule(1.0, lambda: request.respond(200, None, b"done"))
    """
    with Service(tmp_path, app, workers=2).serving() as service, Client(service.address) as client:
        workers, address = service.workers(), service.address
        client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        assert service.child.line(SLOW) == "waits"
        service.send(signal.SIGKILL)
        assert answer(client) == b"done"
        gone(*workers)
        assert refuses(address)


LEAKING = """
    import os
    import goev

    leaked = []

    class Site(goev.http.Connection):
        def on_request(self, request):
            leaked.append(os.urandom(100_000))
            request.respond(200, None, b"%d" % os.getpid())
"""


def test_a_worker_that_leaks_is_replaced_and_no_request_is_lost(tmp_path):
    limit = 150_000_000
    with Service(tmp_path, LEAKING, workers=2, max_memory=limit, jitter=0.0).serving() as service:
        before = service.workers()
        with asking(service) as clients:
            for count in (1, 2, 3):
                service.logged(r"has reached max_memory \([\d,]+\)", count, 40.0)
            service.logged(r"worker \d \(process \d+\) serves", 3, 40.0)
        assert set(clients.ends) == {"answered"}, clients.ends
        gone(*before)
        assert "was ended by" not in service.log
        assert service.end() == 0


@pytest.fixture
def crowd() -> Iterator[list[Client]]:
    """Clients that are closed at the end."""
    clients: list[Client] = []
    yield clients
    for client in clients:
        client.close()


def starve(service: Service, worker: int, crowd: list[Client]) -> None:
    """Take the descriptors of a worker away, by a limit and by connections, until it cannot accept."""
    used = max(map(int, os.listdir(f"/proc/{worker}/fd"))) + 1
    resource.prlimit(worker, resource.RLIMIT_NOFILE, (used, resource.prlimit(worker, resource.RLIMIT_NOFILE)[1]))
    for _ in range(100):
        crowd.append(Client(service.address))
        crowd[-1].send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    service.logged("cannot accept on .*: Too many open files")


def test_a_worker_without_descriptors_is_reloaded_and_nobody_is_lost(tmp_path, crowd):
    with Service(tmp_path).serving() as service:
        (old,) = service.workers()
        starve(service, old, crowd)
        service.reload(1)
        answered = Counter(int(answer(client)) for client in crowd)
        assert 0 < answered[old] < len(crowd)
        assert set(answered) <= {old, *service.workers()}
        assert service.end() == 0


def test_a_worker_without_descriptors_that_is_lent_sockets_still_obeys(tmp_path, crowd):
    """The sockets of a dead worker cannot reach it. It still hears the supervisor, so it ends in order at a reload."""
    slow = "import os, time\nif os.path.exists('slow'): time.sleep(1)\n"
    with Service(tmp_path, slow + dedent(PLAIN), workers=2).serving() as service:
        (tmp_path / "slow").touch()  # the successor comes behind the loan
        starved, killed = service.workers()
        starve(service, starved, crowd)
        os.kill(killed, signal.SIGKILL)
        service.logged(r"could not obey:(.*\n)+.*no descriptors for the sockets")
        service.logged(r"worker \d \(process \d+\) serves")
        assert is_alive(starved)
        service.reload(1)
        gone(starved)
        assert "Exception in thread" not in service.log
        assert "did not end within its grace" not in service.log
        assert service.end() == 0


FULL = """
    import os, sys
    os.dup2(os.open("/dev/full", os.O_WRONLY), 2)
    os.execv(sys.executable, [sys.executable, "-m", "goev", "run", *sys.argv[1:]])
"""


@pytest.mark.parametrize("style", ["text", "json"])
def test_full_disks_for_all_logs_end_nothing(tmp_path, monkeypatch, style):
    """``/dev/full`` is the standard error and the access log. The standard error would tell of the start."""
    (tmp_path / "app.py").write_text(dedent(PLAIN))
    monkeypatch.chdir(tmp_path)
    options = ["--listen", "unix:socket", "--access-log", "/dev/full", "--log-format", style]
    with Child.running(FULL, "app:Site", *options) as child:
        old = eventually(asked, "it serves", SLOW)
        child.process.send_signal(signal.SIGUSR1)
        child.process.send_signal(signal.SIGHUP)
        killed = eventually(lambda: (pid := asked()) != old and pid, "the reload puts another worker there", SLOW)
        gone(old)  # until the reload is over, a death of the new worker would leave the old one serving
        os.kill(killed, signal.SIGKILL)
        gone(killed)
        eventually(lambda: asked() not in (old, killed, None), "the killed worker is replaced", SLOW)
        child.process.send_signal(signal.SIGTERM)
        assert child.end(SLOW) == 0


def asked() -> int | None:
    """The process id of the worker that answers at the Unix socket; ``None`` if none does now."""
    try:
        with Client("socket") as client:
            return int(request(client))
    except (ConnectionError, FileNotFoundError):
        return None
