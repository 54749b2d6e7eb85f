"""The supervisor as process 1, as in a container: orphans come to it, and no signal has a default action."""

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent

import pytest

from service_support import SLOW, children, gone, is_alive, request
from support import Child, Client, eventually, need, skip_outside_ci

ORPHANS = 5  # that have ended before their parent
APP = f"""
    import os
    import subprocess
    import goev

    class Site(goev.http.Connection):
        def on_request(self, request):
            if request.path == "/orphans":
                for _ in range({ORPHANS}):
                    subprocess.run(["sh", "-c", "(exit 7) & sleep 0.05"])
                subprocess.run(["sh", "-c", "cat fifo >/dev/null 2>&1 &"])
            request.respond(200, None, b"%d" % os.getpid())
"""
# The program is executed by unshare, because a Child is a Python program.
CONTAINER = """
    import os, sys
    command = ["-m", "goev", "run", "app:Site", "--listen", "unix:socket", "--workers", "2", "--grace", "5"]
    os.execv(sys.argv[1], [*sys.argv[1:], sys.executable, "-X", "faulthandler", "-W", "error", *command])
"""


class Container:
    """A service in a PID namespace of its own. Process ids are those that the test sees, outside."""

    def __init__(self, child: Child) -> None:
        self.child = child
        self.logged("serving on ")
        (self.supervisor,) = children(child.pid)
        self.workers = children(self.supervisor)

    def logged(self, text: str, count: int = 1) -> None:
        eventually(lambda: self.child.errors.count(text) >= count, f"{text!r} is in the log", SLOW)

    def send(self, number: signal.Signals) -> None:
        os.kill(self.supervisor, number)

    def ask(self, path: str = "/") -> int:
        """The process id of the worker that answers, as the worker sees it."""
        with Client("socket") as client:
            return int(request(client, path))


@pytest.fixture
def container(tmp_path, monkeypatch) -> Iterator[Container]:
    (tmp_path / "app.py").write_text(dedent(APP))
    monkeypatch.chdir(tmp_path)
    with Child.running(CONTAINER, *namespace()) as child:
        yield Container(child)


def namespace() -> list[str]:
    """The command that makes a PID namespace with its own /proc; the namespace ends with it."""
    command = [need("unshare", "util-linux"), "--pid", "--fork", "--mount-proc", "--kill-child"]
    if os.geteuid() != 0:
        command += ["--user", "--map-root-user"]
    tried = subprocess.run([*command, "true"], capture_output=True, text=True)
    if tried.returncode:
        skip_outside_ci(f"PID namespaces are not permitted here: {tried.stderr}")
    return command


def test_it_is_process_1(container):
    """Without this the other tests would prove nothing."""
    (numbers,) = [
        line for line in Path(f"/proc/{container.supervisor}/status").read_text().splitlines() if "NSpid" in line
    ]
    assert numbers.split()[-1] == "1"
    assert container.ask() < 20  # its worker is among the first processes, too


def test_orphans_are_reaped(container):
    """One of them is seen as a child of process 1 before it ends."""
    os.mkfifo("fifo")
    container.ask("/orphans")
    workers = set(container.workers)
    eventually(lambda: len(set(children(container.supervisor)) - workers) == 1, "one orphan is left", SLOW)
    with open("fifo", "w"):
        pass
    eventually(lambda: set(children(container.supervisor)) == workers, "it is reaped", SLOW)
    assert all(map(is_alive, workers))
    container.send(signal.SIGTERM)
    assert container.child.end(SLOW) == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT])
def test_signals_end_it_although_process_1_has_no_default_actions(container, number):
    with Client("socket") as client:
        request(client)
        container.send(number)
        assert client.receive_all() == b""
    assert container.child.end(SLOW) == 0
    gone(*container.workers)
    assert not os.path.exists("socket")


def test_a_killed_worker_is_replaced_in_it(container):
    killed, other = container.workers
    os.kill(killed, signal.SIGKILL)
    container.logged("was ended by SIGKILL")
    container.logged(" serves")
    successors = set(children(container.supervisor))
    assert len(successors) == 2
    assert other in successors
    assert killed not in successors
    container.ask()
    container.send(signal.SIGTERM)
    assert container.child.end(SLOW) == 0


def test_a_reload_and_an_upgrade_leave_no_process(container):
    """The trial run of an upgrade is a child of process 1 as orphans are, and its status is needed."""
    container.send(signal.SIGHUP)
    container.logged("reloaded: ")
    gone(*container.workers)
    container.send(signal.SIGUSR2)
    container.logged("serving on ", 2)
    eventually(lambda: len(children(container.supervisor)) == 2, "only the workers are left", SLOW)
    container.ask()
    container.send(signal.SIGTERM)
    assert container.child.end(SLOW) == 0
