"""Clients that put load on a service while it reloads, and count what they lose."""

import contextlib
import re
import signal
import subprocess
import threading
from collections import deque

import goev
from support import eventually

MEMBERS = 16  # clients of a swarm
WINDOW = 4  # messages of a client that wait for their echoes
PAUSE = 0.005  # seconds between an echo and the next message, so that the swarm leaves time to the others


class Wrk:
    """One run of wrk over connections that it keeps. It counts refused connects, resets and lost answers together as
    socket errors: a stream that ends before its answer is a read error."""

    def __init__(self, program: str, url: str) -> None:
        command = [program, "-c", "4", "-t", "1", "-d", "120s", url]
        self.problems: list[str] = []
        self.answers = 0
        self._run = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def stop(self, patience: float) -> None:
        self._run.send_signal(signal.SIGINT)
        try:
            output, _ = self._run.communicate(timeout=patience)
        finally:
            self._run.kill()
        found = re.search(r"(\d+) requests in", output)
        self.answers = int(found[1]) if found else 0
        if not found or "Socket errors" in output or "Non-2xx" in output:
            self.problems.append(output)


class Runs:
    """A program that sends a number of requests, again and again, each run to its end. ``answered`` finds in its output
    how many were answered in full."""

    def __init__(self, command: list[str], requests: int, answered: str) -> None:
        self.problems: list[str] = []
        self.answers = 0
        self._command, self._requests, self._answered = command, requests, answered
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._repeat)
        self._thread.start()

    def _repeat(self) -> None:
        while not self._is_over.is_set():
            try:
                run = subprocess.run(self._command, capture_output=True, text=True, timeout=60)
            except subprocess.TimeoutExpired as error:
                self.problems.append(str(error))
                return
            found = re.search(self._answered, run.stdout)
            answers = int(found[1]) if found else 0
            self.answers += answers
            if run.returncode or answers != self._requests:
                self.problems.append(run.stdout + run.stderr)

    def stop(self) -> None:
        self._is_over.set()
        self._thread.join()


def fresh(ab: str, url: str) -> Runs:
    """A connection for each request. ab ends at a refused connect or a reset; an answer that is short or missing is a
    failed request."""
    answered = r"Complete requests: +(\d+)\nFailed requests: +0\n"
    return Runs([ab, "-q", "-n", "200", "-c", "4", url], 200, answered)


def kept(h2load: str, url: str) -> Runs:
    """Connections that are kept. h2load counts an answer with ``Connection: close`` as one that succeeded, and connects
    anew for its other requests. A request whose connection is refused, reset or ends early is "errored".

    ``--rps`` is of no use here: h2load 1.52 sends nothing over a connection that replaces another one then.
    """
    command = [h2load, "--h1", "-n", "4000", "-c", "4", url]
    return Runs(command, 4000, r"requests: 4000 total, 4000 started, 4000 done, (\d+) succeeded, 0 failed, 0 errored")


class Swarm:
    """Clients of WebSockets that send numbers and get them back. One that gets 1001 comes back at once."""

    def __init__(self, reactor: goev.Reactor, address: str) -> None:
        self.reactor, self.address = reactor, address
        self.problems: list[str] = []
        self.is_over = threading.Event()
        self.members = [Member(self) for _ in range(MEMBERS)]
        for member in self.members:
            reactor.call_soon(member.connect)

    @property
    def answers(self) -> int:
        return sum(member.answers for member in self.members)

    def stop(self, patience: float) -> None:
        """Wait until each message that was sent is answered."""
        self.is_over.set()
        eventually(lambda: all(member.is_done for member in self.members), "the swarm is done", patience)


class Member:
    """One client, over one connection after another.

    An echo of a worker arrives before its 1001, and nothing is echoed after it. So a client sends the messages without
    an echo again, and gets each number once and in order. A number that is missing, or comes twice, is a loss.
    """

    def __init__(self, swarm: Swarm) -> None:
        self.swarm = swarm
        self.waiting: deque[int] = deque()  # sent, without an echo yet
        self.answers = 0
        self.returns = 0
        self.is_done = False

    def connect(self) -> None:
        goev.websocket.connect(self.swarm.reactor, self.swarm.address, Wire(self))

    def fails(self, text: str) -> None:
        self.swarm.problems.append(text)
        self.is_done = True


class Wire(goev.websocket.Connection):
    """One connection of a client."""

    def __init__(self, member: Member) -> None:
        self.member = member

    def on_open(self) -> None:
        with contextlib.suppress(goev.ConnectionClosed):  # it was told to go away; on_close follows
            for number in self.member.waiting:
                self.send(str(number))
        self.fill()

    def fill(self) -> None:
        member = self.member
        with contextlib.suppress(goev.ConnectionClosed):
            while len(member.waiting) < WINDOW and not member.swarm.is_over.is_set():
                member.waiting.append(member.answers + len(member.waiting))
                self.send(str(member.waiting[-1]))
        if not member.waiting:
            member.is_done = True
            self.close()

    def on_message(self, message: bytes | str) -> bool | None:
        member = self.member
        if not member.waiting or int(message) != member.waiting[0]:
            member.fails(f"echo of {message!r} while {list(member.waiting)} are waited for")
            return False
        member.waiting.popleft()
        member.answers += 1
        self.schedule(PAUSE, self.fill)
        return None

    def on_connect_fail(self, error: Exception) -> None:
        self.member.fails(f"connect: {error!r}")

    def on_close(self, error: BaseException | None) -> None:
        if self.member.is_done:
            return
        if error is not None or self.close_code != 1001:
            self.member.fails(f"close: {error!r}, {self.close_code}")
            return
        self.member.returns += 1
        self.member.connect()
