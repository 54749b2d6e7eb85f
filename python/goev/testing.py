"""Handlers without sockets: ``open`` connects one to a peer that the test plays, on a clock that stands still.

::

    import goev.testing

    def test_a_silent_peer_gets_a_word_and_the_end():
        clock = goev.testing.Clock()
        peer = goev.testing.open(Lines(), clock=clock)
        assert peer.sent() == b"hello\\n"
        clock.advance(60)
        assert peer.sent() == b"bye\\n"
        assert peer.closed

Everything above the socket is the code that serves: buffers, limits, timers, framings, HTTP, WebSockets. Nothing
waits, so a thousand such tests take less than a second.
"""

import http.client
import io
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from goev._core import Bench, ClientFrames, Connection, Reactor, TestPeer, WebSocketConnection

__all__ = ["Answer", "Clock", "Peer", "open", "request"]


class Clock:
    """The time of handlers under test, in seconds from 0. It stands still until ``advance``.

    Handlers of one clock live on one poller, so that they may write to each other and be members of one ``Group``.
    """

    def __init__(self) -> None:
        self._bench = Bench()

    @property
    def now(self) -> float:
        """Seconds since the clock was made."""
        return self._bench.now

    @property
    def reactor(self) -> Reactor:
        """The reactor of the handlers, as ``connection.reactor`` is."""
        return self._bench.reactor

    def advance(self, seconds: float) -> None:
        """Let so many seconds pass: each timer that is due meanwhile fires, in order and at its own time.

        Raises:
            ValueError: ``seconds`` is negative or not finite.
            RuntimeError: called inside a callback; or handlers keep each other busy for ever.
        """
        self._bench.advance(seconds)

    def settle(self) -> None:
        """Run the callbacks that other threads have asked for by ``call_soon``, ``write`` and the like."""
        self._bench.settle()


@dataclass(frozen=True)
class Answer:
    """An HTTP answer as a client reads it.

    Attributes:
        status: 200 to 599, or 101.
        headers: the fields by their names in lower case; of several with a name the values joined by ``", "``.
        body: the bytes of the body, without chunks.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes


class Peer:
    """The other end of a connection under test, made by ``open``. Each method returns when all callbacks are done."""

    def __init__(self, clock: Clock, peer: TestPeer) -> None:
        self.clock = clock
        self._peer = peer
        self._unread = b""
        self._frames: ClientFrames | None = None

    # ---- bytes --------------------------------------------------------------------------------------------------

    def receive(self, data: bytes) -> None:
        """The handler receives ``data``, which this peer sends."""
        self._peer.receive(data)

    def eof(self) -> None:
        """This peer finishes sending: half-close."""
        self._peer.eof()

    def reset(self) -> None:
        """This peer resets the connection."""
        self._peer.reset()

    def sent(self) -> bytes:
        """Take all bytes that the handler has sent since the last call."""
        taken, self._unread = self._unread + self._peer.sent(), b""
        return taken

    def take_only(self, count: int | None) -> None:
        """This peer takes ``count`` bytes more, and then none: a slow reader. ``None``: as many as come."""
        self._peer.take_only(count)

    # ---- the end ------------------------------------------------------------------------------------------------

    @property
    def closed(self) -> bool:
        """Whether the connection has ended and ``on_close`` was called."""
        return self._peer.closed

    @property
    def close_error(self) -> BaseException | None:
        """The error that ``on_close`` got; ``None`` after an orderly end.

        Raises ``RuntimeError`` while the connection is open.
        """
        return self._peer.close_error

    @property
    def end(self) -> str | None:
        """The end of the stream to this peer: ``"finished"`` in order, ``"reset"``, or ``None`` so far."""
        return self._peer.end

    # ---- HTTP ---------------------------------------------------------------------------------------------------

    def ask(self, method: str, target: str = "/", headers: "_Fields" = (), body: bytes = b"") -> Answer:
        """Send the request that ``request(method, target, headers, body)`` makes, and take the answer.

        Raises ``AssertionError`` when the answer is not there, or not whole.
        """
        self.receive(request(method, target, headers, body))
        return self.answer(method)

    def answer(self, method: str = "GET") -> Answer:
        """Take the next whole answer; ``method`` is the one of its request.

        Raises ``AssertionError`` when the answer is not there, or not whole.
        """
        data = self.sent()
        stream = _Sent(data)
        parsed = http.client.HTTPResponse(stream, method=method)  # type: ignore[arg-type]
        try:
            parsed.begin()
            if parsed.length is None and not parsed.chunked and self.end is None:
                raise http.client.IncompleteRead(data)
            body = parsed.read()
        except (http.client.HTTPException, ValueError) as error:
            self._unread = data
            raise AssertionError(f"no whole answer yet: {data[:200]!r}") from error
        self._unread = data[stream.tell() :]
        headers: dict[str, str] = {}
        for name, value in parsed.getheaders():
            name = name.lower()
            headers[name] = f"{headers[name]}, {value}" if name in headers else value
        return Answer(parsed.status, headers, body)

    # ---- WebSockets ---------------------------------------------------------------------------------------------

    def send(self, message: str | bytes) -> None:
        """Send ``message`` to a WebSocket: ``str`` as text, ``bytes`` as such."""
        self.receive(self._websocket().frame("text" if isinstance(message, str) else "binary", message))

    def ping(self, data: bytes = b"") -> None:
        """Send a ping with ``data``, at most 125 bytes, to a WebSocket."""
        self.receive(self._websocket().frame("ping", data))

    def close(self, code: int = 1000, reason: str = "") -> None:
        """Send a close frame with ``code`` and ``reason``: the last word of this peer to a WebSocket."""
        self.receive(self._websocket().frame("close", code.to_bytes(2, "big") + reason.encode()))

    def messages(self) -> list[str | bytes]:
        """Take all messages that a WebSocket has sent."""
        return [payload for kind, payload in self.items() if kind in ("text", "binary")]

    def items(self) -> list[tuple[str, Any]]:
        """Take everything that a WebSocket has sent, as pairs.

        ``("text", str)``, ``("binary", bytes)``, ``("ping", bytes)``, ``("pong", bytes)``, and
        ``("close", (code, reason))``.
        """
        return self._websocket().feed(self.sent())

    def _websocket(self) -> ClientFrames:
        if self._frames is None:
            raise TypeError("the handler under test is no WebSocket")
        return self._frames

    def _shake_hands(self, target: str, headers: "_Fields") -> None:
        fields = {
            "upgrade": "websocket",
            "connection": "Upgrade",
            "sec-websocket-version": "13",
            "sec-websocket-key": "dGhlIHNhbXBsZSBub25jZQ==",  # the example of RFC 6455 section 1.3
        }
        self.receive(request("GET", target, [*fields.items(), *_pairs(headers)]))
        answer = self.answer()
        if answer.status != 101:
            raise AssertionError(f"the handshake was refused: {answer}")
        self._frames = ClientFrames()


_Fields = Mapping[str, str] | Iterable[tuple[str, str]]


def open(
    handler: Connection,
    *,
    clock: Clock | None = None,
    remote_address: str = "192.0.2.1:50000",
    target: str = "/",
    headers: _Fields = (),
    **limits: Any,
) -> Peer:
    """Connect ``handler`` to a peer that the test plays; ``on_open`` has been called when this returns.

    Args:
        handler: an unused ``Connection``; for a WebSocket the handshake of a client is done as well.
        clock: the time of the handler; a new one by default.
        remote_address: the peer's, as ``"host:port"``.
        target, headers: of the handshake of a WebSocket.
        **limits: the keyword arguments of ``Acceptor`` that concern connections (``max_input``, ``idle_timeout``, …).

    Returns: Peer.

    Raises:
        ValueError, TypeError: an argument is wrong; the handler was used before.
        AssertionError: the handler refused the handshake.
    """
    clock = Clock() if clock is None else clock
    peer = Peer(clock, clock._bench.open(handler, remote_address, **limits))
    if isinstance(handler, WebSocketConnection):
        peer._shake_hands(target, headers)
    return peer


def request(method: str, target: str = "/", headers: _Fields = (), body: bytes = b"") -> bytes:
    """The bytes of an HTTP/1.1 request. ``Host`` and ``Content-Length`` are added where they are missing.

    ``method``, ``target``, ``headers`` (a mapping or pairs) and ``body`` are taken as they are, so that malformed
    requests can be made, too.
    """
    pairs = _pairs(headers)
    names = {name.lower() for name, _ in pairs}
    if "host" not in names:
        pairs.insert(0, ("Host", "test"))
    if body and not names & {"content-length", "transfer-encoding"}:
        pairs.append(("Content-Length", str(len(body))))
    head = "".join(f"{name}: {value}\r\n" for name, value in pairs)
    return f"{method} {target} HTTP/1.1\r\n{head}\r\n".encode("latin-1") + body


def _pairs(headers: _Fields) -> list[tuple[str, str]]:
    return list(headers.items() if isinstance(headers, Mapping) else headers)


class _Sent(io.BytesIO):
    """Bytes that http.client reads as from a socket; the rest can be read when it has closed its end."""

    def makefile(self, mode: str) -> "_Sent":
        return self

    def close(self) -> None:
        pass
