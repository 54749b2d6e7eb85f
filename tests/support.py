"""Shared by the tests: waiting with a limit, raw clients, and small programs in processes of their own."""

import errno
import gc
import hashlib
import os
import queue
import re
import reprlib
import select
import shutil
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager
from pathlib import Path
from textwrap import dedent
from typing import Any, NoReturn

import pytest

import goev

ROOT = Path(__file__).resolve().parents[1]
STALL = re.compile(
    r"^(?:goev: )?poller \d+ has been in .*\n"
    r"(?:Stack \(most recent call last\):\n(?:  .*\n)*|It has returned meanwhile\.\n)?",
    re.MULTILINE,
)
LOCAL = "127.0.0.1:0"
SMALL_BUFFERS = {"send_buffer_size": 65536, "receive_buffer_size": 65536}
PATIENCE = 10.0  # seconds until an event that must come counts as lost; never waited out by a test that passes


class Events:
    """The reports of callbacks, in order. Reports come from any thread; the test waits for them."""

    def __init__(self) -> None:
        self.history: list[tuple[Any, ...]] = []
        self._taken = 0
        self._changed = threading.Condition()

    def __call__(self, *event: Any) -> None:
        with self._changed:
            self.history.append(event)
            self._changed.notify_all()

    def next(self, timeout: float = PATIENCE) -> tuple[Any, ...]:
        """The oldest event not taken yet."""
        with self._changed:
            if not self._changed.wait_for(lambda: len(self.history) > self._taken, timeout):
                pytest.fail(f"nothing more in {timeout} s; last events: {reprlib.repr(self.history[-6:])}")
            self._taken += 1
            return self.history[self._taken - 1]

    def until(self, name: str, timeout: float = PATIENCE) -> tuple[Any, ...]:
        """The next event of that name; earlier ones are skipped (they stay in ``history``)."""
        end = time.monotonic() + timeout
        while True:
            event = self.next(max(0.0, end - time.monotonic()))
            if event[0] == name:
                return event

    def times(self, name: str, count: int, timeout: float = PATIENCE) -> None:
        """Wait until an event of that name has been reported ``count`` times in all."""
        with self._changed:
            if not self._changed.wait_for(lambda: self.names.count(name) >= count, timeout):
                pytest.fail(f"{self.names.count(name)} of {count} {name!r} after {timeout} s")

    @property
    def names(self) -> list[str]:
        return [event[0] for event in self.history]

    def of(self, name: str) -> list[tuple[Any, ...]]:
        return [event for event in self.history if event[0] == name]


class Recorder(goev.Connection):
    """Reports opening, input and end; the shortest useful handler for tests."""

    def __init__(self, events: Events) -> None:
        self.events = events

    def on_open(self) -> bool | None:
        self.events("open", self)

    def on_read(self) -> bool | None:
        self.events("read", self.read())

    def on_close(self, error: BaseException | None) -> None:
        self.events("close", error)


class Echo(goev.Connection):
    def on_read(self) -> bool | None:
        self.write(self.read())


def text_of(address: Any) -> str:
    """An address of the socket module as goev takes it."""
    if isinstance(address, str):
        return f"unix:{address}"
    return f"[{address[0]}]:{address[1]}" if len(address) == 4 else f"{address[0]}:{address[1]}"


class Client:
    """A raw blocking client: every operation has a time limit, and none of its code is goev's."""

    def __init__(self, address: Any, *, receive_buffer: int | None = None) -> None:
        family = (
            socket.AF_UNIX if isinstance(address, str) else socket.AF_INET6 if len(address) == 4 else socket.AF_INET
        )
        self.socket = socket.socket(family, socket.SOCK_STREAM)
        try:
            if receive_buffer is not None:  # before connecting, or the kernel negotiates a larger window
                self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
            self.socket.settimeout(PATIENCE)
            self.socket.connect(address)
        except BaseException:
            self.socket.close()
            raise

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def receive(self, count: int) -> bytes:
        """Exactly ``count`` bytes."""
        parts, missing = [], count
        while missing:
            part = self.socket.recv(min(missing, 1 << 20))
            if not part:
                pytest.fail(f"the connection ended {missing} bytes short of {count}")
            parts.append(part)
            missing -= len(part)
        return b"".join(parts)

    def discard(self, count: int) -> None:
        """Receive and forget ``count`` bytes."""
        buffer = bytearray(1 << 20)
        while count:
            received = self.socket.recv_into(buffer, min(count, len(buffer)))
            if not received:
                pytest.fail(f"the connection ended {count} bytes early")
            count -= received

    def receive_all(self) -> bytes:
        """Everything up to the end of the stream."""
        return b"".join(iter(lambda: self.socket.recv(1 << 20), b""))

    def hash_all(self) -> tuple[int, str]:
        """Length and SHA-256 of everything up to the end of the stream."""
        count, digest = 0, hashlib.sha256()
        for part in iter(lambda: self.socket.recv(1 << 20), b""):
            count += len(part)
            digest.update(part)
        return count, digest.hexdigest()

    def gets(self, byte: bytes, wait: float) -> bool:
        """Whether ``byte`` comes next, within ``wait`` seconds."""
        self.socket.settimeout(wait)
        try:
            return self.socket.recv(1) == byte
        except TimeoutError:
            return False
        finally:
            self.socket.settimeout(PATIENCE)

    def ask(self, data: bytes) -> bytes:
        """Send, then receive as many bytes, as from an echo server."""
        self.send(data)
        return self.receive(len(data))

    def finish(self) -> None:
        """Half-close: the client sends no more."""
        self.socket.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        """End with RST instead of FIN."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    def close(self) -> None:
        self.socket.close()

    def fill(self, data: bytes) -> int:
        """Send until the peer takes no more (nothing moves for 0.3 s) or ``data`` is out; return the count."""
        sent, view = 0, memoryview(data)
        while sent < len(data) and select.select([], [self.socket], [], 0.3)[1]:
            try:
                sent += self.socket.send(view[sent : sent + 65536], socket.MSG_DONTWAIT)
            except BlockingIOError:
                continue
        return sent

    @property
    def name(self) -> str:
        """This end as goev prints a peer."""
        return text_of(self.socket.getsockname())


class Server:
    """A reactor in the background with one acceptor, and the clients a test opened to it."""

    def __init__(
        self,
        stack: ExitStack,
        factory: Callable[[], goev.Connection],
        *,
        address: str = "127.0.0.1:0",
        pollers: int = 1,
        asyncio: bool = False,
        client: Callable[..., Client] = Client,
        **options: Any,
    ) -> None:
        self._stack = stack
        self._client = client
        self.reactor = stack.enter_context(goev.Reactor(pollers=pollers, asyncio=asyncio))
        # In turn, so that a test knows which poller gets which connection.
        self.acceptor = goev.Acceptor(self.reactor, address, factory, **{"placement": "round_robin", **options})
        self.reactor.start()

    @property
    def address(self) -> Any:
        return self.acceptor.address

    def connect(self, **options: Any) -> Client:
        """A client that is closed before the reactor is stopped."""
        return self._stack.enter_context(self._client(self.address, **options))


def in_thread(fn: Callable[..., Any], *args: Any) -> "Future[Any]":
    """Run ``fn`` in a thread of its own; ``.result(timeout)`` returns or raises its outcome."""
    future: Future[Any] = Future()

    def run() -> None:
        try:
            future.set_result(fn(*args))
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return future


def on_poller(target: Any, fn: Callable[..., Any], *args: Any) -> Any:
    """Call ``fn`` on the poller of ``target`` (a connection or a reactor); return or raise its outcome."""
    future: Future[Any] = Future()

    def run() -> None:
        try:
            future.set_result(fn(*args))
        except BaseException as error:
            future.set_exception(error)

    target.call_soon(run)
    return future.result(PATIENCE)


def settle(target: Any, turns: int = 5) -> None:
    """Let the poller of ``target`` run a few turns, so that an event that must not come would have come."""
    for _ in range(turns):
        on_poller(target, lambda: None)


@contextmanager
def held(target: Any) -> Iterator[None]:
    """Hold the poller of ``target`` in a callback, so that it gets all events of this time at once."""
    entered, release = threading.Event(), threading.Event()

    def hold() -> None:
        entered.set()
        release.wait(PATIENCE)

    target.call_soon(hold)
    assert entered.wait(PATIENCE)
    try:
        yield
    finally:
        release.set()


def half_closes(first: Any, second: Any, data: bytes) -> None:
    """The ends of a relay: a half-close of ``first`` goes through, and the other direction stays open."""
    first.send(b"that was all")
    first.finish()
    assert second.receive_all() == b"that was all"
    for _ in range(3):
        second.send(data)
        assert first.receive(len(data)) == data
    second.finish()
    assert first.receive_all() == b""


def eventually(condition: Callable[[], Any], what: str, timeout: float = PATIENCE) -> Any:
    """Poll ``condition`` until it is true; for states that no event reports."""
    end = time.monotonic() + timeout
    while not (value := condition()):
        if time.monotonic() > end:
            pytest.fail(f"{what}: not within {timeout} s")
        time.sleep(0.002)
    return value


def wait_until_all_run(reactor: goev.Reactor) -> None:
    """Return when each poller has begun."""
    begun: list[int] = []
    reactor._call_on_each(begun.append)
    eventually(lambda: len(begun) == reactor.pollers, "each poller runs")


def open_fds() -> int:
    return len(os.listdir("/proc/self/fd"))


def settled_fds() -> int:
    """Descriptors of this process, without those of reactors that earlier tests left to the collector."""
    gc.collect()
    return open_fds()


def resident(pid: int | str = "self") -> int:
    """Bytes of memory in use by a process."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def page_faults(pid: int) -> int:
    """How often a process has touched a page of memory that was not mapped."""
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[7])


def cpu_seconds(pid: int) -> float:
    """User and system time of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def names(message: object, *words: str) -> bool:
    """All words occur in the message."""
    return all(re.search(re.escape(word), str(message)) for word in words)


def need(program: str, package: str | None = None, *folders: Path) -> str:
    """The path of a program that plays the peer. Without it the test is skipped, except in CI, where it fails.

    The folders are searched behind those of the PATH.
    """
    path = shutil.which(program, path=os.pathsep.join([os.environ.get("PATH", os.defpath), *map(str, folders)]))
    if path is None:
        skip_outside_ci(f"{program} is not installed (Debian and Ubuntu: apt-get install {package or program})")
    return path


def skip_outside_ci(reason: str) -> NoReturn:
    if os.environ.get("CI", "").lower() in ("1", "true"):
        pytest.fail(reason)
    pytest.skip(reason)


def has_lock() -> bool:
    """Whether this Python has an interpreter lock, and uses it."""
    return getattr(sys, "_is_gil_enabled", lambda: True)()


needs_the_lock = pytest.mark.skipif(not has_lock(), reason="no thread can hold an interpreter lock that there is not")


def need_ipv6() -> None:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError as error:
        if error.errno not in (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL):
            raise
        pytest.skip("this machine has no IPv6 loopback")


class Child:
    """A Python program in a process of its own. The tests wait for its lines of output with a limit."""

    def __init__(self, *argv: str, prefix: Sequence[str] = ()) -> None:
        command = [*prefix, sys.executable, "-X", "faulthandler", "-W", "error", *argv]
        pipe = subprocess.PIPE
        environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
        self.process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True, env=environment)
        self._lines: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._errors: list[str] = []
        self._readers = [
            threading.Thread(target=self._read_lines, daemon=True),
            threading.Thread(target=lambda: self._errors.extend(self.process.stderr or []), daemon=True),
        ]
        for reader in self._readers:
            reader.start()

    def _read_lines(self) -> None:
        for line in self.process.stdout or []:
            self._lines.put(line.rstrip("\n"))

    @classmethod
    def running(cls, source: str, *args: str) -> "Child":
        return cls("-c", dedent(source), *args)

    def __enter__(self) -> "Child":
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        for reader in self._readers:
            reader.join(PATIENCE)
        for pipe in (self.process.stdin, self.process.stdout, self.process.stderr):
            if pipe is not None:
                pipe.close()

    @property
    def pid(self) -> int:
        return self.process.pid

    def line(self, timeout: float = 20.0) -> str:
        """The next line it printed."""
        try:
            return self._lines.get(timeout=timeout)
        except queue.Empty:
            pytest.fail(f"the program printed nothing in {timeout} s; its errors:\n{self.errors}")

    def interrupt(self) -> None:
        self.process.send_signal(signal.SIGINT)

    def say(self, line: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def end(self, timeout: float = 20.0) -> int:
        """Wait for the end of the program; return its exit status."""
        try:
            status = self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.process.send_signal(signal.SIGABRT)  # faulthandler then prints where the program hangs
            self.process.wait(PATIENCE)
            self._readers[1].join(PATIENCE)
            pytest.fail(f"the program did not end in {timeout} s:\n{self.errors}")
        for reader in self._readers:
            reader.join(PATIENCE)
        return status

    @property
    def errors(self) -> str:
        return "".join(self._errors)

    @property
    def complaints(self) -> str:
        """The errors without the warnings of stalled callbacks, since any machine may be slow."""
        return STALL.sub("", self.errors)


def run_script(source: str, *args: str, timeout: float = 20.0) -> str:
    """Run a program that must end by itself with status 0 and print nothing on stderr; return its output."""
    with Child.running(source, *args) as child:
        status = child.end(timeout)
        assert (status, child.complaints) == (0, ""), f"status {status}\n{child.errors}"
        lines = []
        while not child._lines.empty():
            lines.append(child._lines.get())
        return "\n".join(lines)
