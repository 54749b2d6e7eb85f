"""Services in processes of their own: an application, a program that runs it, and helpers that look at its workers."""

import contextlib
import os
import re
import signal
import socket
import time
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from support import Child, Client, eventually

SLOW = 12.0  # seconds for steps that start processes
PLAIN = """
    import os
    import goev

    class Site(goev.http.Connection):
        def on_request(self, request):
            request.respond(200, None, b"%d" % os.getpid())
"""
PROGRAM = """
    import importlib, os, sys
    from goev.service import Settings, run

    class Target:
        \"\"\"Finds the application in the worker, as a target that is text does.\"\"\"
        def __reduce__(self):
            return (getattr, (Module(), "Site"))

        def __call__(self):
            raise AssertionError("the supervisor runs no code of the application")

    class Module:
        def __reduce__(self):
            return (importlib.import_module, ("app",))

    if __name__ == "__main__":
        usual = {"target": Target(), "interface": "goev", "listen": ("127.0.0.1:0",), "grace": 5.0}
        sys.exit(run(Settings(**{**usual, **eval(sys.argv[1])})))
"""


class Service:
    """A service that runs ``Site`` of ``app.py``. ``options`` are those of its ``Settings``."""

    def __init__(self, folder: Path, app: str = PLAIN, *, program: str = PROGRAM, **options: Any) -> None:
        self.folder = folder
        self.write(app)
        (folder / "main.py").write_text(dedent(program))
        before = os.getcwd()
        os.chdir(folder)
        try:
            self.child = Child("main.py", repr(options))
        finally:
            os.chdir(before)

    def write(self, app: str) -> None:
        (self.folder / "app.py").write_text(dedent(app))

    def __enter__(self) -> "Service":
        return self

    def __exit__(self, *_: object) -> None:
        workers = self.workers() if self.child.process.poll() is None else []
        self.child.__exit__()
        for pid in workers:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    @property
    def log(self) -> str:
        return self.child.errors

    def logged(self, pattern: str, count: int = 1, timeout: float = SLOW) -> re.Match[str]:
        """Wait until the log has so many places of that pattern; return the last."""
        end = time.monotonic() + timeout
        while len(found := list(re.finditer(pattern, self.log))) < count:
            if time.monotonic() > end or (self.child.process.poll() is not None and count > len(found)):
                time.sleep(0.1)
                found = list(re.finditer(pattern, self.log))
                if len(found) >= count:
                    break
                pytest.fail(f"{len(found)} of {count} times {pattern!r} in the log:\n{self.log}")
            time.sleep(0.005)
        return found[count - 1]

    def serving(self) -> "Service":
        self.logged("serving on ")
        return self

    @property
    def port(self) -> int:
        return int(self.logged(r"serving on \S+:(\d+)")[1])

    @property
    def address(self) -> tuple[str, int]:
        return ("127.0.0.1", self.port)

    def workers(self) -> list[int]:
        """The process ids of the children of the supervisor."""
        return children(self.child.pid)

    def send(self, number: signal.Signals) -> None:
        self.child.process.send_signal(number)

    def reload(self, count: int) -> None:
        self.send(signal.SIGHUP)
        self.logged("reloaded: ", count)

    def ask(self, path: str = "/") -> bytes:
        """The body of an answer, over a fresh connection."""
        with Client(self.address) as client:
            return request(client, path)

    def worker(self) -> int:
        """The process id of a worker that answers."""
        return int(self.ask())

    def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        self.send(number)
        return self.child.end(SLOW)


def request(client: Client, path: str = "/") -> bytes:
    client.send(f"GET {path} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
    return answer(client)


def answer(client: Client) -> bytes:
    """The body of one answer."""
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        head += client.receive(1)
    (length,) = re.findall(rb"(?i)content-length: (\d+)", head)
    return client.receive(int(length))


def children(pid: int) -> list[int]:
    try:
        return [int(text) for text in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except FileNotFoundError:
        return []


def is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


def gone(*pids: int) -> None:
    eventually(lambda: not any(map(is_alive, pids)), f"{pids} have ended", SLOW)


def refuses(address: tuple[str, int]) -> bool:
    try:
        socket.create_connection(address, 1).close()
    except ConnectionRefusedError:
        return True
    return False
