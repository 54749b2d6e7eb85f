"""Messages between the supervisor and a worker: JSON behind a length, with descriptors beside them.

A message is a dict. The descriptors that come with one are in its ``"fds"``. If a receiver at its limit of descriptors
could not take them all, the list is empty. Nothing that a worker sends is unpickled, so no code of the application gets
into the supervisor.
"""

import array
import json
import os
import socket
import struct
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from threading import Lock
from typing import Any

from goev.service.settings import MOST

Message = dict[str, Any]

LENGTH = struct.Struct("!I")
CHUNK = 65536  # bytes that one call reads


class Assembly:
    """Makes messages of the bytes and the descriptors as they come."""

    def __init__(self) -> None:
        self._bytes = bytearray()
        self._fds: deque[list[int]] = deque()

    def feed(self, data: bytes, fds: list[int] | None = None) -> Iterator[Message]:
        """The messages that ``data`` completes. ``fds`` are the descriptors of one message, all or a part of them."""
        self._bytes += data
        if fds is not None:
            self._fds.append(fds)
        while len(self._bytes) >= LENGTH.size:
            end = LENGTH.size + LENGTH.unpack_from(self._bytes)[0]
            if len(self._bytes) < end:
                return
            message = json.loads(self._bytes[LENGTH.size : end])
            del self._bytes[:end]
            if "fds" in message:
                message["fds"] = _all_or_none(self._fds.popleft(), message["fds"])
            yield message


def _all_or_none(fds: list[int], count: int) -> list[int]:
    """Close the descriptors of a message if some are missing."""
    if len(fds) == count:
        return fds
    for fd in fds:
        os.close(fd)
    return []


def packed(message: Message, fds: Sequence[int] = ()) -> bytes:
    body = json.dumps({**message, "fds": len(fds)} if fds else message).encode()
    return LENGTH.pack(len(body)) + body


def _receive(end: socket.socket) -> tuple[bytes, list[int] | None]:
    """Bytes, and the descriptors of the message that came with some, at most one (unix(7)).

    A process at its limit gets a part of the descriptors or none, and ``MSG_CTRUNC``.
    """
    fds = array.array("i")
    data, beside, flags, _ = end.recvmsg(CHUNK, socket.CMSG_SPACE(MOST * fds.itemsize), socket.MSG_CMSG_CLOEXEC)
    for level, kind, part in beside:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            fds.frombytes(part[: len(part) - len(part) % fds.itemsize])
    return data, list(fds) if fds or flags & socket.MSG_CTRUNC else None


class WorkerEnd:
    """The worker's end: ``receive`` blocks; ``send`` may be called from any thread."""

    def __init__(self, end: socket.socket) -> None:
        self._end = end
        self._assembly = Assembly()
        self._waiting: deque[Message] = deque()
        self._lock = Lock()

    def receive(self, timeout: float | None = None) -> Message | None:
        """The next message; ``None`` at the end of the stream. ``TimeoutError`` when time is up."""
        while not self._waiting:
            self._end.settimeout(timeout)
            try:
                data, fds = _receive(self._end)
            except ConnectionError:
                return None
            if not data:
                return None
            self._waiting.extend(self._assembly.feed(data, fds))
        return self._waiting.popleft()

    def send(self, message: Message) -> None:
        """Send; without effect if the supervisor is gone, which ``receive`` reports."""
        try:
            with self._lock:
                self._end.sendall(packed(message))
        except OSError:
            pass


class SupervisorEnd:
    """The supervisor's end, on its event loop. A worker that reads nothing does not hold it up."""

    def __init__(self, end: socket.socket, take: Callable[[Message], None]) -> None:
        from asyncio import get_running_loop  # here, because workers of plain handlers need no asyncio

        end.setblocking(False)
        self.end = end
        self._take = take
        self._assembly = Assembly()
        self._output: deque[tuple[bytes, list[int]]] = deque()
        self._loop = get_running_loop()
        self._loop.add_reader(end, self.read)

    def send(self, message: Message, fds: Sequence[int] = ()) -> None:
        copies = [os.dup(fd) for fd in fds]  # the caller may close its own before they are sent
        self._output.append((packed(message, copies), copies))
        self._write()

    def _write(self) -> None:
        while self._output:
            data, fds = self._output.popleft()
            try:
                sent = socket.send_fds(self.end, [data], fds) if fds else self.end.send(data)
            except BlockingIOError:
                self._output.appendleft((data, fds))
                self._loop.add_writer(self.end, self._write)
                return
            except OSError:
                sent = len(data)  # the worker is gone
            for fd in fds:
                os.close(fd)
            if sent < len(data):
                self._output.appendleft((data[sent:], []))
        self._loop.remove_writer(self.end)

    def read(self) -> None:
        """Read the messages that have arrived, and hand them on."""
        while self.end.fileno() >= 0:
            try:
                data = self.end.recv(CHUNK)
            except BlockingIOError:
                return
            except OSError:
                data = b""
            if not data:
                self._loop.remove_reader(self.end)  # its exit status follows
                return
            for message in self._assembly.feed(data):
                self._take(message)

    def close(self) -> None:
        if self.end.fileno() >= 0:
            self._loop.remove_reader(self.end)
            self._loop.remove_writer(self.end)
            self.end.close()
        for _, fds in self._output:
            for fd in fds:
                os.close(fd)
        self._output.clear()
