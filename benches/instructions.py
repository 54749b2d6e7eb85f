#!/usr/bin/env python3
"""Counts the instructions of a goev server per request, by callgrind, and its memory per idle connection.

Each count is the difference between two runs of the server with different numbers of rounds, so the start and the end
of the process cancel out. In a round each of 64 connections asks once: the client writes, reads the whole answer, and
goes on to the next connection. The server thus sees one connection per batch, always in the same order.

Several trees may be counted in one run, and are compared with the first one. Each is a Python that has goev installed,
built in release mode; the handlers and the client are those of this tree.
"""

import argparse
import os
import re
import select
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO

from harness import BENCHES, REPO, Unavailable, process
from harness.http import END_OF_HEAD, TEXT
from harness.server import REQUEST
from harness.websocket import ACCEPT, HANDSHAKE, HEAD_LIMIT, MASK

PEER = BENCHES / "peers" / "counted_peer.py"
CONNECTIONS = 64
POLLERS = (1, 2)
ROUNDS = (20, 80)
PAYLOAD = bytes(range(64))

IDLE = "idle"
IDLE_CONNECTIONS = 5_000
IDLE_TRIES = 3
WARM_UP_ROUNDS = 10  # before the memory is read for the first time
SETTLE_TIME = 0.5
SPARE_FILES = 200

TRIES = 3  # of a count, if the server wrote a warning
START_TIMEOUT = 120.0
ANSWER_TIMEOUT = 60.0
STOP_TIMEOUT = 120.0
VALGRIND_LINE = r"==\d+=="
MISSING = "–"

MESSAGE = struct.pack(">I", len(PAYLOAD)) + PAYLOAD
FINAL_BINARY, MASKED = 0x82, 0x80
FRAME = (
    bytes([FINAL_BINARY, MASKED | len(PAYLOAD)]) + MASK + bytes(a ^ b for a, b in zip(PAYLOAD, MASK * 16, strict=True))
)
ECHO = bytes([FINAL_BINARY, len(PAYLOAD)]) + PAYLOAD


@dataclass(frozen=True)
class Case:
    title: str
    handler: str  # a name in counted_peer.py
    request: bytes
    end: bytes  # the last bytes of an answer, which holds them once
    depth: int = 1  # requests per write
    handshake: bytes = b""


CASES = {
    "plaintext": Case("plaintext", "plaintext", REQUEST, TEXT.body),
    "http": Case("HTTP", "http", REQUEST, TEXT.body),
    "http-pipelined": Case("HTTP, 16 pipelined", "http", REQUEST, TEXT.body, depth=16),
    "message": Case("`on_message`, 16 per write", "message", MESSAGE, MESSAGE, depth=16),
    "messages": Case("`on_messages`, 64 per write", "messages", MESSAGE, MESSAGE, depth=64),
    "websocket": Case("WebSocket echo, 64 bytes", "websocket", FRAME, ECHO, handshake=HANDSHAKE),
}


@dataclass(frozen=True)
class Tree:
    name: str
    python: Path


@dataclass(frozen=True)
class Row:
    """One line of the table: a figure of each tree; None for a tree that could not be measured."""

    title: str
    pollers: int
    figures: list[float | None]


@dataclass(frozen=True)
class Server:
    port: int
    session: int

    def connect(self) -> socket.socket:
        connection = socket.create_connection(("127.0.0.1", self.port), timeout=ANSWER_TIMEOUT)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # no TIME_WAIT
        return connection


class Client:
    """One connection, which has had one answer when it is made."""

    def __init__(self, connection: socket.socket, case: Case) -> None:
        self._connection = connection
        self._case = case
        if case.handshake:
            self._shake_hands()
        connection.sendall(case.request)
        size = len(self._receive(lambda received: received.endswith(case.end)))
        self._size = size * case.depth
        self._write = case.request * case.depth

    def ask(self) -> None:
        """Writes the requests at once and takes the whole answer."""
        self._connection.sendall(self._write)
        answer = self._receive(lambda received: len(received) >= self._size)
        if len(answer) != self._size or answer.count(self._case.end) != self._case.depth:
            raise Unavailable("its answer is not the one that was due", repr(answer))

    def _shake_hands(self) -> None:
        self._connection.sendall(self._case.handshake)
        head = self._receive(lambda received: received.endswith(END_OF_HEAD) or len(received) > HEAD_LIMIT)
        if not head.startswith(b"HTTP/1.1 101 ") or ACCEPT.encode() not in head:
            raise Unavailable("it does not accept a WebSocket", repr(head))

    def _receive(self, is_whole: Callable[[bytes], bool]) -> bytes:
        received = b""
        while not is_whole(received):
            data = self._connection.recv(65536)
            if not data:
                raise Unavailable("it closed the connection without a whole answer", repr(received))
            received += data
        return received


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--python",
        dest="trees",
        action="append",
        type=_tree_of_python,
        metavar="PATH",
        help="a Python to count, named after the directory that holds its virtual environment; may be given several "
        "times (.venv/bin/python of this tree)",
    )
    parser.add_argument(
        "--tree",
        dest="trees",
        action="append",
        type=_named_tree,
        metavar="NAME=PATH",
        help="the same with a name; the first one given is the one that others are compared with",
    )
    parser.add_argument(
        "--case", action="append", choices=[*CASES, IDLE], help="only this case; may be given several times"
    )
    parser.add_argument(
        "--rounds",
        nargs=2,
        type=int,
        default=ROUNDS,
        metavar=("FEW", "MANY"),
        help="rounds of the two runs of a count ({} {})".format(*ROUNDS),
    )
    parser.add_argument(
        "--idle-connections", type=int, default=IDLE_CONNECTIONS, help="how many stay open (%(default)s)"
    )
    arguments = parser.parse_args()
    few, many = arguments.rounds
    if not 0 < few < many:
        parser.error("--rounds takes two numbers, at least 1, the greater one last")
    if arguments.idle_connections < 1:
        parser.error("--idle-connections is at least 1")
    arguments.trees = arguments.trees or [Tree("this tree", REPO / ".venv" / "bin" / "python")]
    return arguments


def measure(arguments: argparse.Namespace) -> list[Row]:
    """All rows that are asked for; the trees take turns in each."""
    trees, names = arguments.trees, arguments.case or [*CASES, IDLE]
    counted = [name for name in CASES if name in names]
    counter = callgrind() if counted else []
    for tree in trees:
        check(tree)
    rows = []
    for name in counted:
        for pollers in POLLERS:
            count = partial(instructions, counter, case=CASES[name], pollers=pollers, rounds=arguments.rounds)
            rows.append(_measured(trees, CASES[name].title, pollers, count))
    if IDLE in names:
        title = f"resident bytes per idle connection, of {arguments.idle_connections:,}"
        rows.append(_measured(trees, title, 1, partial(idle_bytes, count=arguments.idle_connections)))
    return rows


def callgrind() -> list[str]:
    """The command that counts, without randomised addresses where the system allows it."""
    valgrind = shutil.which("valgrind")
    if valgrind is None:
        raise Unavailable("valgrind is not installed", "On Debian: apt-get install valgrind")
    fixed = ["setarch", "-R"]
    allowed = (
        shutil.which("setarch") and subprocess.run([*fixed, "true"], check=False, capture_output=True).returncode == 0
    )
    return [*(fixed if allowed else []), valgrind, "--tool=callgrind", "--quiet"]


def check(tree: Tree) -> None:
    """Runs the peer with --help, which imports goev.

    Python compiles the modules here, and not in one of the runs that are counted. If it may not keep them
    (PYTHONDONTWRITEBYTECODE), every run compiles them alike.
    """
    try:
        result = subprocess.run([tree.python, PEER, "--help"], check=False, capture_output=True, text=True)
    except OSError as error:
        raise Unavailable(f"{tree.name}: {error}") from error
    if result.returncode != 0:
        raise Unavailable(f"{tree.python} cannot run {PEER.name}", result.stderr)


def instructions(counter: list[str], tree: Tree, case: Case, pollers: int, rounds: tuple[int, int]) -> float:
    """Instructions per request, of all threads of the server."""
    few, many = rounds
    more = _count(counter, tree, case, pollers, many) - _count(counter, tree, case, pollers, few)
    return more / ((many - few) * CONNECTIONS * case.depth)


def idle_bytes(tree: Tree, count: int) -> float:
    """Resident bytes by which the server grows for each connection that stays open after one answer."""
    if process.raise_file_limit() < count + SPARE_FILES:
        raise Unavailable(f"a process may not open {count + SPARE_FILES:,} files here")
    return min(_grown(tree, count) for _ in range(IDLE_TRIES)) / count


def table(trees: list[Tree], rows: list[Row]) -> str:
    """Markdown."""
    first, *others = trees
    heading = ["case", "pollers", first.name]
    for tree in others:
        heading += [tree.name, f"{tree.name} / {first.name}"]
    lines = [heading, ["---", *("---:" for _ in heading[1:])], *map(_cells, rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _tree_of_python(text: str) -> Tree:
    # Not resolved: the Python of a virtual environment is a link.
    python = Path(os.path.abspath(text))
    return Tree(python.parents[min(2, len(python.parents) - 1)].name or text, python)


def _named_tree(text: str) -> Tree:
    name, equals, path = text.partition("=")
    if not (name and equals and path):
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=PATH")
    return Tree(name, Path(os.path.abspath(path)))


def _count(counter: list[str], tree: Tree, case: Case, pollers: int, rounds: int) -> int:
    """Instructions of the server's process from its start to its end.

    A server that reports a stall, because other processes had its CPU, does work that must not be counted.
    """
    warning = ""
    for _ in range(TRIES):
        with tempfile.TemporaryDirectory() as folder:
            out = Path(folder) / "callgrind.out"
            warning = _converse([*counter, f"--callgrind-out-file={out}", *_peer(tree, case, pollers)], case, rounds)
            if not warning:
                return _total(out)
        print(f"{tree.name}: counted again, because the server wrote: {warning}", file=sys.stderr)
    raise Unavailable(f"the server wrote a warning in each of {TRIES} counts", warning)


def _converse(command: list[str], case: Case, rounds: int) -> str:
    """Runs a server for so many rounds, and returns its warnings.

    The connections stay open until the server has ended, because it would see their ends in batches of any size.
    """
    with ExitStack() as stack, tempfile.TemporaryFile("w+") as messages:
        with _start(command, messages) as server:
            _ask(_open(server, case, CONNECTIONS, stack), rounds)
        return _written(messages, but=VALGRIND_LINE)


def _grown(tree: Tree, count: int) -> int:
    """Bytes by which a new server grows; the connections that warmed it up stay open too."""
    case = CASES["plaintext"]
    with tempfile.TemporaryFile("w+") as messages, ExitStack() as stack:
        server = stack.enter_context(_start(_peer(tree, case, pollers=1), messages))
        _ask(_open(server, case, CONNECTIONS, stack), WARM_UP_ROUNDS)
        before = process.resident_bytes(server.session)
        _open(server, case, count, stack)
        time.sleep(SETTLE_TIME)
        return process.resident_bytes(server.session) - before


def _open(server: Server, case: Case, count: int, stack: ExitStack) -> list[Client]:
    """Connections that have one answer each; each is opened when the one before has its answer."""
    return [Client(stack.enter_context(server.connect()), case) for _ in range(count)]


def _ask(clients: list[Client], rounds: int) -> None:
    for _ in range(rounds):
        for client in clients:
            client.ask()


def _peer(tree: Tree, case: Case, pollers: int) -> list[str]:
    return [str(tree.python), str(PEER), "--case", case.handler, "--pollers", str(pollers)]


@contextmanager
def _start(command: list[str], messages: IO[str]) -> Iterator[Server]:
    """Runs a server, which prints its port, in a session of its own, until its standard input is closed."""
    running = subprocess.Popen(
        command,
        env=os.environ | {"PYTHONHASHSEED": "0"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=messages,
        start_new_session=True,
    )
    with running as child:
        try:
            yield Server(_port(child), child.pid)
            _stop(child)
        except (OSError, Unavailable) as error:
            raise Unavailable(str(error), f"{getattr(error, 'detail', '')}\n{_written(messages)}".strip()) from error
        finally:
            if child.poll() is None:
                child.kill()


def _port(child: subprocess.Popen[bytes]) -> int:
    assert child.stdout is not None
    if not select.select([child.stdout], [], [], START_TIMEOUT)[0]:
        raise Unavailable(f"it did not listen after {START_TIMEOUT:.0f} s")
    line = child.stdout.readline()
    if not line:
        raise Unavailable("it ended at the start")
    return int(line)


def _stop(child: subprocess.Popen[bytes]) -> None:
    assert child.stdin is not None
    child.stdin.close()
    try:
        status = child.wait(STOP_TIMEOUT)
    except subprocess.TimeoutExpired as error:
        raise Unavailable(f"it did not end in {STOP_TIMEOUT:.0f} s") from error
    if status != 0:
        raise Unavailable(f"it ended with status {status}")


def _written(messages: IO[str], but: str = "") -> str:
    """The lines of a file, without those that begin with this pattern."""
    messages.seek(0)
    return "".join(line for line in messages if not (but and re.match(but, line))).strip()


def _total(out: Path) -> int:
    """The total that callgrind wrote; none if the program has started another one in its place."""
    found = re.search(r"^summary: (\d+)$", out.read_text(), re.MULTILINE) if out.exists() else None
    if found is None:
        raise Unavailable(
            "callgrind wrote no total", "Is the Python a script? The program that it starts is not counted."
        )
    return int(found[1])


def _cells(row: Row) -> list[str]:
    first, *others = row.figures
    cells = [row.title, str(row.pollers), _show(first)]
    for figure in others:
        cells += [_show(figure), f"{figure / first:.3f}" if figure and first else MISSING]
    return cells


def _show(figure: float | None) -> str:
    return MISSING if figure is None else f"{figure:,.0f}"


def _measured(trees: list[Tree], title: str, pollers: int, measure: Callable[[Tree], float]) -> Row:
    """A row, with each figure printed as soon as it is there."""
    figures: list[float | None] = []
    for tree in trees:
        begin = time.monotonic()
        try:
            figure = measure(tree)
        except Unavailable as unavailable:
            print(f"{title}, {tree.name}: {unavailable.reason}\n{unavailable.detail}".rstrip(), file=sys.stderr)
            figures.append(None)
        else:
            seconds = time.monotonic() - begin
            print(f"{title}, pollers {pollers}, {tree.name}: {figure:,.0f} ({seconds:.0f} s)", flush=True)
            figures.append(figure)
    return Row(title, pollers, figures)


def main() -> int:
    arguments = parse_arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # an exception, so that servers are ended too
    begin = time.monotonic()
    try:
        rows = measure(arguments)
    except Unavailable as unavailable:
        print(f"{unavailable.reason}\n{unavailable.detail}".rstrip(), file=sys.stderr)
        return 1
    few, many = arguments.rounds
    print(f"\nInstructions per request, {many} less {few} rounds, in {(time.monotonic() - begin) / 60:.1f} min:\n")
    print(table(arguments.trees, rows))
    return 0 if all(figure is not None for row in rows for figure in row.figures) else 1


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
