"""Tests of HTTP share requests as bytes, handlers, and a client that takes an answer apart and forgives nothing."""

import random
import re
import select
import socket
import time
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from typing import Any

import pytest

import goev
from support import PATIENCE, Events, Server, settle

STATUS = re.compile(rb"HTTP/1\.1 ([1-5]\d\d) ([\t -~]*)\r\n")  # the space is there even without a reason (9112-4)
FIELD = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([^\r\n\0]*?)[ \t]*\r\n")
CHUNK = re.compile(rb"([0-9A-Fa-f]+)\r\n")
DATA = random.Random(5).randbytes(10_000_000)
ONCE = ("content-length", "transfer-encoding", "date", "connection")


def get(target: str = "/", *fields: str, version: str = "1.1", method: str = "GET") -> bytes:
    """A request without a body."""
    return "\r\n".join([f"{method} {target} HTTP/{version}", "Host: test", *fields, "", ""]).encode("latin-1")


def post(target: str, body: bytes, *fields: str, version: str = "1.1") -> bytes:
    """A request with a body of known length."""
    return get(target, f"Content-Length: {len(body)}", *fields, method="POST", version=version) + body


def chunked(*chunks: bytes) -> bytes:
    """The body of these chunks, with its end. No chunk may be empty."""
    return b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks) + b"0\r\n\r\n"


def post_chunked(target: str, *chunks: bytes) -> bytes:
    return get(target, "Transfer-Encoding: chunked", method="POST") + chunked(*chunks)


class Hello(goev.http.Connection):
    def on_request(self, request):
        request.respond(200, {"content-type": "text/plain"}, b"Hello\n")


class Target(goev.http.Connection):
    """Answers with what was asked for."""

    def on_request(self, request):
        request.respond(200, None, request.target.encode())


class Reflects(goev.http.Connection):
    """Answers with the body of the request."""

    def on_request(self, request):
        request.respond(200, None, request.body)


class Keeps(goev.http.Connection):
    """Reports its requests and leaves the answer to the test."""

    def __init__(self, events: Events) -> None:
        self.events = events

    def on_request(self, request):
        self.events("request", request)

    def on_close(self, error):
        self.events("close", error)


class Pieces(Keeps):
    """Takes bodies in pieces, and answers with the whole at the end."""

    def __init__(self, events: Events) -> None:
        super().__init__(events)
        self.body = b""

    def on_request(self, request):
        self.events("request", request.target, request.body)

    def on_body(self, request, data):
        self.events("body", request.target, data)
        self.body += data
        if not data:
            request.respond(200, None, self.body)
            self.body = b""


def streaming(*steps, status=200, headers=None):
    """A class whose answers are streamed: each step is written, or called with the request."""

    class Streaming(goev.http.Connection):
        def on_request(self, request):
            request.start(status, headers)
            for step in steps:
                step(request) if callable(step) else request.write(step)
            request.end()

    return Streaming


class BrokenError(Exception):
    """Raised by handlers of tests, and by nothing else."""


@dataclass
class Answer:
    status: int
    reason: str
    fields: list[tuple[str, str]]  # names in lower case, in the order sent
    body: bytes = b""
    chunks: list[bytes] = field(default_factory=list)  # of a chunked body, without the last, empty one

    def all(self, name: str) -> list[str]:
        return [value for key, value in self.fields if key == name]

    def __getitem__(self, name: str) -> str | None:
        """The value of a field that must not be present twice, or None."""
        values = self.all(name)
        assert len(values) <= 1, f"{name} is there {len(values)} times: {self.fields}"
        return values[0] if values else None


class HttpClient:
    """A raw client of a server, with a buffer. It ends with a reset: no half-open connection outlives its test."""

    def __init__(self, stack: ExitStack, server: Server, **options: Any) -> None:
        self.server = server
        self.raw = server.connect(**options)
        if not isinstance(server.address, str):
            self.raw.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._buffer = b""
        stack.callback(self.reset)

    def send(self, data: bytes) -> None:
        self.raw.send(data)

    def send_bytewise(self, data: bytes) -> None:
        """Send each byte in a segment of its own, with a turn of the poller before the next."""
        for position in range(len(data)):
            self.raw.send(data[position : position + 1])
            settle(self.server.reactor, 1)

    def finish(self) -> None:
        self.raw.finish()

    def reset(self) -> None:
        with suppress(OSError):
            self.raw.reset()

    def ask(self, request: bytes) -> Answer:
        """Send a request, return its answer."""
        self.send(request)
        return self.answer(request.split(b" ", 1)[0].decode())

    def answer(self, method: str = "GET") -> Answer:
        """The next answer, whole; an interim answer (1xx) counts as one."""
        answer = self.head()
        if method == "HEAD" or answer.status < 200 or answer.status in (204, 304):
            return answer
        if answer["transfer-encoding"] is not None:
            assert answer["transfer-encoding"] == "chunked"
            answer.chunks = self._chunks()
            answer.body = b"".join(answer.chunks)
        elif answer["content-length"] is not None:
            answer.body = self.take(int(answer["content-length"]))
        else:
            answer.body = self.rest()
        return answer

    def head(self) -> Answer:
        """The head of the next answer, which must be valid; the bytes after it stay unread."""
        head = self.take_until(b"\r\n\r\n")
        status = STATUS.match(head)
        assert status, head
        fields, position = [], status.end()
        while position < len(head) - 2:
            line = FIELD.match(head, position)
            assert line, head
            fields.append((line[1].decode().lower(), line[2].decode("latin-1")))
            position = line.end()
        answer = Answer(int(status[1]), status[2].decode(), fields)
        for name in ONCE:
            assert len(answer.all(name)) <= 1, head
        framed = [answer["content-length"], answer["transfer-encoding"]]
        assert None in framed, f"9112-6.2: both lengths in {head!r}"
        if answer.status < 200 or answer.status == 204:
            assert framed == [None, None], f"9110-8.6, 9112-6.1: a length in {head!r}"
        return answer

    def answer_behind_chunks(self) -> Answer:
        """Take the chunks of the answer that ``head`` returned; return the next answer."""
        self._chunks()
        return self.answer()

    def _chunks(self) -> list[bytes]:
        chunks = []
        while True:
            size = CHUNK.fullmatch(self.take_until(b"\r\n"))
            assert size, "no chunk size"
            data = self.take(int(size[1], 16) + 2)
            assert data.endswith(b"\r\n"), data[-10:]
            if len(data) == 2:
                return chunks
            chunks.append(data[:-2])

    def take(self, count: int) -> bytes:
        """Exactly ``count`` bytes."""
        parts, missing = [self._buffer], count - len(self._buffer)
        while missing > 0:
            parts.append(self._received())
            missing -= len(parts[-1])
        data = b"".join(parts)
        self._buffer = data[count:]
        return data[:count]

    def take_until(self, end: bytes) -> bytes:
        while end not in self._buffer:
            self._buffer += self._received()
        data, _, self._buffer = self._buffer.partition(end)
        return data + end

    def _received(self) -> bytes:
        data = self.raw.socket.recv(1 << 18)
        if not data:
            pytest.fail(f"the connection ended early; unread: {self._buffer[:200]!r}")
        return data

    def rest(self) -> bytes:
        """Everything up to the end of the stream."""
        data, self._buffer = self._buffer + self.raw.receive_all(), b""
        return data

    def is_silent(self, wait: float = 0.0) -> bool:
        """Whether neither a byte nor the end comes within ``wait`` seconds."""
        return not self._buffer and not select.select([self.raw.socket], [], [], wait)[0]

    def survives_until_end(self) -> bytes:
        """The bytes up to the end, whether the stream ends with FIN or RST."""
        data, end = self._buffer, time.monotonic() + PATIENCE
        with suppress(ConnectionResetError):
            while part := self.raw.socket.recv(1 << 18):
                data += part
                assert time.monotonic() < end
        return data
