"""Tests of WebSockets share frames as bytes, handlers, and a peer of either side that forgives nothing."""

import random
import re
import select
import socket
import struct
import zlib
from base64 import b64encode
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from hashlib import sha1
from itertools import cycle
from typing import Any

import pytest

import goev
from support import PATIENCE, Events, Server, settle

KEY = b64encode(bytes(range(16))).decode()
MASK = b"\x12\x9a\xf0\x07"
CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
DEFLATE = "Sec-WebSocket-Extensions: permessage-deflate"
NO_TAKEOVER = "permessage-deflate; server_no_context_takeover; client_no_context_takeover"
TAIL = b"\0\0\xff\xff"  # a sender removes this (RFC 7692 section 7.2.1)

MEGABYTE = 1 << 20
NOISE = random.Random(7).randbytes(MEGABYTE)
WORDS = " ".join(f"user{number * number % 97} is at {number}" for number in range(2000))
ORDERLY = ("close", None, 1000, "")

STATUS = re.compile(r"HTTP/1\.1 ([1-5]\d\d) [\t -~]*")
FIELD = re.compile(r"([!#$%&'*+.^_`|~0-9A-Za-z-]+): ?(.*)")


def accept_of(key: str) -> str:
    """The server's answer to that key (RFC 6455 section 4.2.2)."""
    return b64encode(sha1(f"{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11".encode()).digest()).decode()


def handshake(*fields: str, target: str = "/chat", method: str = "GET", version: str = "1.1", **instead: Any) -> bytes:
    """A client's request. ``upgrade=None`` leaves that field out, ``key="x"`` gives it another value."""
    values = {
        "host": "test",
        "upgrade": "websocket",
        "connection": "Upgrade",
        "sec-websocket-key": KEY,
        "sec-websocket-version": "13",
    }
    for name, value in instead.items():
        values[name if name in values else f"sec-websocket-{name}"] = value
    lines = [f"{name}: {value}" for name, value in values.items() if value is not None]
    return "\r\n".join([f"{method} {target} HTTP/{version}", *lines, *fields, "", ""]).encode("latin-1")


def agreement(key: str, *fields: str) -> bytes:
    """A server's answer to the handshake with that key."""
    lines = ["Upgrade: websocket", "Connection: Upgrade", f"Sec-WebSocket-Accept: {accept_of(key)}"]
    return "\r\n".join(["HTTP/1.1 101 Switching Protocols", *lines, *fields, "", ""]).encode()


def masked(payload: bytes, mask: bytes) -> bytes:
    if len(payload) > 10_000:
        whole = (mask * (len(payload) // 4 + 1))[: len(payload)]
        return (int.from_bytes(payload) ^ int.from_bytes(whole)).to_bytes(len(payload))
    return bytes(byte ^ key for byte, key in zip(payload, cycle(mask), strict=False))


def head(opcode: int, length: int, *, fin: bool = True, rsv: int = 0, mask: bytes | None = MASK) -> bytes:
    """The head of a frame with a payload of that length. ``rsv`` is 4 for RSV1, 2 for RSV2, 1 for RSV3."""
    bit = 0x80 if mask is not None else 0
    if length < 126:
        size = struct.pack(">B", bit | length)
    elif length < 1 << 16:
        size = struct.pack(">BH", bit | 126, length)
    else:
        size = struct.pack(">BQ", bit | 127, length)
    return bytes([fin << 7 | rsv << 4 | opcode]) + size + (mask or b"")


def frame(opcode: int, payload: bytes = b"", *, mask: bytes | None = MASK, **flags: Any) -> bytes:
    """One frame; a client's, unless ``mask`` is None."""
    body = payload if mask is None else masked(payload, mask)
    return head(opcode, len(payload), mask=mask, **flags) + body


def text(message: str, **flags: Any) -> bytes:
    return frame(TEXT, message.encode(), **flags)


def close(code: int | None = 1000, reason: str = "", **flags: Any) -> bytes:
    return frame(CLOSE, b"" if code is None else struct.pack(">H", code) + reason.encode(), **flags)


def fragments(opcode: int, *parts: bytes, between: bytes = b"", rsv: int = 0, mask: bytes | None = MASK) -> bytes:
    """One message, one frame for each part, with ``between`` between each two frames."""
    last = len(parts) - 1
    frames = (
        frame(opcode if at == 0 else CONTINUATION, part, fin=at == last, rsv=0 if at else rsv, mask=mask)
        for at, part in enumerate(parts)
    )
    return between.join(frames)


def deflated(message: bytes, bits: int = 15, level: int = 6) -> bytes:
    """The payload of a compressed message, which depends on no other message."""
    compressor = zlib.compressobj(level, zlib.DEFLATED, -bits)
    return (compressor.compress(message) + compressor.flush(zlib.Z_SYNC_FLUSH)).removesuffix(TAIL)


def inflated(payload: bytes, bits: int = 15) -> bytes:
    """The message in a payload, from a fresh decompressor with a window of exactly ``bits``."""
    decompressor = zlib.decompressobj(-bits)
    message = decompressor.decompress(payload + TAIL) + decompressor.flush()
    assert not decompressor.unused_data
    return message


@dataclass
class Frame:
    opcode: int
    payload: bytes
    fin: bool = True
    rsv: int = 0
    mask: bytes | None = None


SIGN_OF_LIFE = Frame(PING, b"goev: there?")  # asks for one


class Told(goev.websocket.Connection):
    """Reports everything."""

    def __init__(self, events: Events) -> None:
        self.events = events

    def on_open(self):
        self.events("open", self)

    def on_message(self, message):
        self.events("message", message)

    def on_pong(self, data):
        self.events("pong", data)

    def on_connect_fail(self, error):
        self.events("failed", error)

    def on_close(self, error):
        self.events("close", error, self.close_code, self.close_reason)


class Echo(Told):
    def on_message(self, message):
        super().on_message(message)
        self.send(message)


class Site(goev.http.Connection):
    """Serves pages, and a WebSocket at /chat."""

    make = Echo

    def __init__(self, events: Events) -> None:
        self.events = events

    def on_request(self, request):
        if request.path == "/chat":
            self.events("upgraded", goev.websocket.upgrade(request, self.make(self.events)))
        elif request.path == "/later":
            self.events("request", request)
        else:
            request.respond(200, None, request.path.encode())

    def on_close(self, error):
        self.events("http close", error)


class Peer:
    """The other end of a goev WebSocket, client or server. It ends with a reset, so nothing outlives its test."""

    is_server = False

    def __init__(self, stack: ExitStack, connected: socket.socket) -> None:
        self.socket = connected
        self.socket.settimeout(PATIENCE)
        if self.socket.family != socket.AF_UNIX:
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.bits: int | None = None  # the window of incoming messages, if they may be compressed
        self.masks: list[bytes] = []
        self.messages_deflated = 0
        self._buffer = b""
        stack.callback(self.reset)

    def send(self, *data: bytes) -> None:
        self.socket.sendall(b"".join(data))

    def take(self, count: int) -> bytes:
        """Exactly ``count`` bytes."""
        parts, missing = [self._buffer], count - len(self._buffer)
        while missing > 0:
            parts.append(self._received())
            missing -= len(parts[-1])
        data = b"".join(parts)
        self._buffer = data[count:]
        return data[:count]

    def _received(self) -> bytes:
        data = self.socket.recv(1 << 18)
        if not data:
            pytest.fail(f"the connection ended early; unread: {self._buffer[:200]!r}")
        return data

    def rest(self) -> bytes:
        """Everything up to the end of the stream."""
        data, self._buffer = self._buffer + b"".join(iter(lambda: self.socket.recv(1 << 18), b"")), b""
        return data

    def fill(self, data: bytes) -> int:
        """Send until the other side takes no more (nothing moves for 0.3 s) or ``data`` is out; return the count."""
        sent, view = 0, memoryview(data)
        while sent < len(data) and select.select([], [self.socket], [], 0.3)[1]:
            with suppress(BlockingIOError):
                sent += self.socket.send(view[sent : sent + 65536], socket.MSG_DONTWAIT)
        return sent

    def is_silent(self, wait: float = 0.0) -> bool:
        """Whether neither a byte nor the end comes within ``wait`` seconds."""
        return not self._buffer and not select.select([self.socket], [], [], wait)[0]

    def finish(self) -> None:
        self.socket.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        with suppress(OSError):
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    def http_head(self) -> tuple[str, dict[str, str]]:
        """The first line and the fields of the next head; no field may be present twice."""
        while b"\r\n\r\n" not in self._buffer:
            self._buffer += self._received()
        data, _, self._buffer = self._buffer.partition(b"\r\n\r\n")
        first, *lines = data.decode("latin-1").split("\r\n")
        fields: dict[str, str] = {}
        for line in lines:
            found = FIELD.fullmatch(line)
            assert found, line
            assert found[1].lower() not in fields, line
            fields[found[1].lower()] = found[2]
        return first, fields

    def next(self) -> Frame:
        """The next frame, which must be one that this side may be sent."""
        first, second = self.take(2)
        fin, rsv, opcode, length = bool(first & 0x80), first >> 4 & 7, first & 15, second & 0x7F
        assert opcode in (CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG)
        assert bool(second & 0x80) == self.is_server, "5.1: a client masks, a server does not"
        if opcode >= CLOSE:
            assert (fin, rsv) == (True, 0)
            assert length <= 125
        if length >= 126:
            length, least = (
                (*struct.unpack(">H", self.take(2)), 126)
                if length == 126
                else (
                    *struct.unpack(">Q", self.take(8)),
                    1 << 16,
                )
            )
            assert least <= length < 1 << 63, "5.2: the minimal number of bytes"
        assert rsv == 0 or (rsv == 4 and opcode in (TEXT, BINARY) and self.bits is not None), rsv
        mask = self.take(4) if self.is_server else None
        payload = self.take(length)
        if mask is not None:
            self.masks.append(mask)
            payload = masked(payload, mask)
        return Frame(opcode, payload, fin, rsv, mask)

    def message(self) -> str | bytes:
        """The next message, whole. Nothing else may come before it."""
        first = piece = self.next()
        assert first.opcode in (TEXT, BINARY), first
        payload = piece.payload
        while not piece.fin:
            piece = self.next()
            assert piece.opcode == CONTINUATION, piece
            payload += piece.payload
        if first.rsv:
            assert self.bits is not None
            self.messages_deflated += 1
            payload = inflated(payload, self.bits)
        return payload.decode() if first.opcode == TEXT else payload

    def farewell(self) -> tuple[int | None, str]:
        """The code and reason of the close frame, which must come next and be followed by the end of the stream."""
        last = self.next()
        assert last.opcode == CLOSE, last
        assert self.rest() == b"", "5.5.1: nothing more may be sent"
        if not last.payload:
            return None, ""
        return struct.unpack(">H", last.payload[:2])[0], last.payload[2:].decode()


class ClientPeer(Peer):
    """A client of a goev server."""

    def __init__(self, stack: ExitStack, server: Server, **options: Any) -> None:
        super().__init__(stack, server.connect(**options).socket)
        self.server = server

    def send_bytewise(self, data: bytes) -> None:
        """Send each byte in a segment of its own, with a turn of the poller before the next."""
        for position in range(len(data)):
            self.send(data[position : position + 1])
            settle(self.server.reactor, 1)

    def answer(self) -> tuple[int, dict[str, str]]:
        """Status and fields of the answer to a handshake, with its body as the field ``body``."""
        first, fields = self.http_head()
        found = STATUS.fullmatch(first)
        assert found, first
        if found[1] != "101":
            fields["body"] = self.take(int(fields["content-length"])).decode()
        return int(found[1]), fields

    def open(self, *fields: str, behind: bytes = b"", **instead: Any) -> dict[str, str]:
        """Do the handshake, which must succeed, and send ``behind`` in the same segment; return the answer's fields."""
        self.send(handshake(*fields, **instead) + behind)
        status, answer = self.answer()
        assert status == 101, answer
        assert answer["upgrade"].lower() == "websocket"
        assert answer["connection"].lower() == "upgrade"
        assert answer["sec-websocket-accept"] == accept_of(KEY)
        assert "content-length" not in answer
        if extensions := answer.get("sec-websocket-extensions"):
            name, *parameters = extensions.split("; ")
            assert name == "permessage-deflate"
            assert {"server_no_context_takeover", "client_no_context_takeover"} <= set(parameters)
            limits = [int(value) for key, _, value in (p.partition("=") for p in parameters) if "server_max" in key]
            self.bits = limits[0] if limits else 15
        return answer


def closed(events: Events) -> tuple[type, int, str]:
    """The end as the handler saw it: type of the error, code, reason."""
    _, error, code, reason = events.until("close")
    return type(error), code, reason


def ended(client: ClientPeer, events: Events) -> None:
    """Nothing but the end of the stream comes, and the handler was told nothing."""
    assert client.rest() == b""
    settle(client.server.reactor)
    assert events.history == []


class ServerPeer(Peer):
    """A server of a goev client, on the next connection that a listening socket accepts."""

    is_server = True

    def __init__(self, stack: ExitStack, listener: socket.socket) -> None:
        super().__init__(stack, listener.accept()[0])
        self.request, self.fields = self.http_head()
        self.key = self.fields["sec-websocket-key"]

    def agree(self, *fields: str, behind: bytes = b"") -> None:
        self.send(agreement(self.key, *fields) + behind)
