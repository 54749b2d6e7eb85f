"""WebSockets (RFC 6455), as server and as client::

    import goev

    class Echo(goev.websocket.Connection):
        def on_message(self, message):
            self.send(message)

    goev.serve(Echo, ":8080")

The handshake is here. The poller reads and writes everything after it.
"""

import http.client
import io
import logging
import re
import time
from base64 import b64decode, b64encode
from collections.abc import Collection, Coroutine, Generator, Iterator, Mapping, Sequence
from errno import ECONNABORTED
from hashlib import sha1
from os import urandom
from typing import Any, TypeAlias, TypeVar
from urllib.parse import SplitResult, unquote, urlsplit

from goev import http as goev_http
from goev._core import (
    ClientContext,
    Connector,
    Headers,
    InputOverflow,
    ProtocolError,
    Reactor,
    Request,
    WebSocketConnection,
)
from goev._core import Connection as _Connection
from goev._core import WebSocketFraming as Framing

__all__ = ["Connection", "Framing", "HandshakeRefused", "ProtocolError", "connect", "upgrade", "upgrade_async"]

_Result = TypeVar("_Result")
_Handshake: TypeAlias = Coroutine[Any, Any, bool | None]
_Steps: TypeAlias = Generator[_Handshake, bool | None, _Result]  # yields an on_handshake that is a coroutine

_GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455 section 1.3
_MOST_ANSWER = 16 * 1024  # bytes of a server's answer to a handshake
_MOST_REFUSAL = 16 * 1024  # bytes of the body of a refusal
_REFUSAL_PATIENCE = 1.0  # seconds for the body of a refusal, behind its head
_NO_TAKEOVER = "permessage-deflate; server_no_context_takeover; client_no_context_takeover"
_LARGEST_WINDOW = 15  # as a power of two
_WINDOWS = {str(bits): bits for bits in range(8, _LARGEST_WINDOW + 1)}
_PORTS = {"ws": 80, "wss": 443}  # RFC 6455 section 3
_INTERIM = re.compile(rb"HTTP/1\.1 1(?!01)[0-9]{2} ")
_REFUSED = re.compile(rb"HTTP/1\.[01] ([2-5][0-9]{2})(?![0-9])[^\r\n]*")
_CHUNK = re.compile(rb"([0-9A-Fa-f]{1,8})[ \t]*(?:;[^\n]*)?\r\n")
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110 section 5.6.2
# RFC 9110 section 5.6.4; a string that does not end reaches to the end of the value.
_QUOTED = re.compile(r'"(?:[^"\\]|\\.)*(?:"|\\?\Z)')


class HandshakeRefused(ProtocolError):
    """The server answered a handshake with a status of HTTP: a client's ``on_connect_fail`` gets this.

    RFC 6455 section 4.1: 401 asks for authentication, 3xx names another place, and so on. goev follows neither.
    """

    def __init__(self, text: str, status: int, headers: Headers) -> None:
        super().__init__(text)
        self.status = status
        """The status of the answer: 200 to 599."""
        self.headers = headers
        """The fields of the answer: a read-only mapping; a name matches in any case."""
        self.body = b""
        """At most the first 16 KiB of the body: what came of it within a second, and within the client's timeout."""


class Connection(WebSocketConnection):
    """One WebSocket: subclass it and define ``on_message``.

    A server does the handshake by itself, a client by ``connect``. ``on_open`` comes when the handshake is done. If it
    fails, a client gets ``on_connect_fail``, and a server gets neither ``on_open`` nor ``on_close``.
    """

    subprotocols: Sequence[str] = ()
    """Sub-protocols in the order of preference; a server takes the first that the client offers, if any."""
    origins: Collection[str | None] | None = None
    """Values of ``Origin`` that a server lets in, ``None`` among them for clients that send none; ``None``: all."""
    max_message_size: int = 1024 * 1024
    """Bytes of a message from the peer, uncompressed; a larger one ends with ``ProtocolError`` and code 1009."""
    compression: bool = True
    """Whether messages may be compressed (RFC 7692): each by itself, so that no connection needs a compressor."""
    ping_interval: float | None = 20.0
    """Seconds of silence until the peer gets a ping; ``None``: never."""
    ping_timeout: float | None = 20.0
    """Seconds of further silence until the connection ends with ``PingTimeout``; ``None``: never."""
    open_timeout: float = 10.0
    """Seconds that a server gives its client for the handshake."""

    request: Request | None = None
    """The request of the handshake, on a server."""
    subprotocol: str | None = None
    """The sub-protocol that both sides agreed on."""
    _more_fields: Sequence[tuple[str, str]] = ()
    """Fields that a server adds to its answer."""

    def on_handshake(self, request: Request) -> bool | Coroutine[Any, Any, bool | None] | None:
        """A server is about to agree: check ``request.path`` and its headers here.

        ``False`` refuses with 403. An answer to the request given here, with 401 say, refuses as well.
        """

    def _prologue(self) -> _Connection:
        return _ServerHandshake(self)


def upgrade(request: Request, handler: Connection) -> bool:
    """Answer a request that asks for a WebSocket, and hand its connection over to ``handler``: in ``on_request``.

    Returns whether the connection was handed over. Otherwise the request was answered: with 400, 403, 405 or 426 and
    the error, or by ``on_handshake``.

    Raises:
        TypeError, ValueError: ``handler`` has been used, or an attribute of it is wrong.
        goev.WrongThread: this is not the poller's thread.

    RFC 6455 section 4.2.
    """
    _check(handler)
    upgraded = _upgrade(request, handler, closes=False)
    if isinstance(upgraded, bool):
        return upgraded
    upgraded.close()
    text = f"{type(handler).__name__}.on_handshake is async def: await goev.websocket.upgrade_async()"
    raise TypeError(f"{text} [GOEV605]")


async def upgrade_async(request: Request, handler: Connection) -> bool:
    """As ``upgrade(request, handler)``, also for an ``async def on_handshake``: in an ``async def on_request``."""
    _check(handler)
    upgraded = _upgrade(request, handler, closes=False)
    return upgraded if isinstance(upgraded, bool) else await upgraded


def _upgrade(request: Request, handler: Connection, *, closes: bool) -> bool | Coroutine[Any, Any, bool]:
    """``closes``: whether any other answer also closes the connection, because it serves nothing but a WebSocket."""
    steps = _upgrading(request, handler, closes=closes)
    try:
        return _upgrade_later(steps, next(steps))
    except StopIteration as end:
        return bool(end.value)


async def _upgrade_later(steps: "_Steps[bool]", handshake: "_Handshake") -> bool:
    """Goes on when an ``async def on_handshake`` has ended."""
    try:
        _ = steps.send(await handshake)
    except StopIteration as end:
        return bool(end.value)
    finally:
        steps.close()
    return False


def _upgrading(request: Request, handler: Connection, *, closes: bool) -> "_Steps[bool]":
    """Answers, and hands over if the answer is 101; returns whether it is. Yields an ``async def on_handshake``."""
    is_alone, agreed = request._is_alone(), False
    handler._claim()
    try:
        agreed = yield from _answer(request, handler, is_alone=is_alone, closes=closes)
    finally:
        if not agreed:
            handler._release()
    if agreed:
        request.hand_over(handler)
    return agreed


def _answer(request: Request, handler: Connection, *, is_alone: bool, closes: bool) -> "_Steps[bool]":
    """Answers with 101, or with the error; returns whether it was 101."""
    wrong = _wrong_with(request, handler, is_alone=is_alone)
    if wrong is None:
        wanted = handler.on_handshake(request)
        wrong = _refused_by(handler, (yield wanted) if isinstance(wanted, Coroutine) else wanted)
    if request.answered:
        return False
    if wrong is not None:
        status, text, headers = wrong
        fields = {"content-type": "text/plain; charset=utf-8", **headers}
        if closes:
            fields["connection"] = "upgrade, close" if "connection" in fields else "close"
        request.respond(status, fields, f"{text}\n".encode())
        return False
    offered = list(_tokens(request.headers, "sec-websocket-protocol"))
    handler.request = request
    handler.subprotocol = next((name for name in handler.subprotocols if name in offered), None)
    answer = {
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Accept": _accept_of(request.headers["sec-websocket-key"]),
    }
    if handler.subprotocol is not None:
        answer["Sec-WebSocket-Protocol"] = handler.subprotocol
    window_bits, accepted = (_offer_met(request.headers) if handler.compression else None) or (None, None)
    if accepted is not None:
        answer["Sec-WebSocket-Extensions"] = accepted
    request.respond(101, [*answer.items(), *handler._more_fields])
    handler._agree(client=False, window_bits=window_bits)
    return True


def connect(
    reactor: Reactor,
    url: str,
    handler: Connection,
    *,
    timeout: float = 10.0,
    headers: Mapping[str, str] | None = None,
    tls: bool | ClientContext | None = None,
    proxy_for: Any = None,
    **options: Any,
) -> None:
    """Connect ``handler`` to a WebSocket server. ``on_open`` or ``on_connect_fail(error)`` follows, once.

    If the server refuses, ``error`` is a ``HandshakeRefused`` with its status, headers and the beginning of its body.

    Args:
        reactor: as for ``goev.connect``.
        url: ``ws://host:port/path?query``, or ``wss://…`` over TLS; the port is 80 or 443 by default.
            ``ws://[fe80::1%25eth0]/`` names the interface of a link-local address (RFC 6874), which the server does
            not see.
        handler: its ``subprotocols`` and ``compression`` are offered to the server.
        timeout: seconds for host name, connection and handshake together, > 0.
        headers: further fields of the request, ``Origin`` or ``Cookie`` say; ``Host`` replaces the host of the URL.
        tls: for ``wss://``: a ``goev.tls.ClientContext``; by default the system's CAs decide.
        proxy_for: as for ``goev.connect``: with ``proxy_protocol``, the connection whose addresses are passed on.
        **options: the keyword arguments of ``Connector``.

    Raises:
        TypeError, ValueError: an argument is wrong, or an attribute of ``handler``, or it has been used.
        RuntimeError: the reactor has stopped.
    """
    _check(handler)
    parts, address = _parts_of(url)
    is_secure = parts.scheme == "wss"
    if tls is not None and bool(tls) != is_secure:
        raise ValueError(f"tls={tls!r} does not fit {url!r}: wss:// is over TLS, and ws:// is not")
    connector = Connector(reactor, **options)
    most = min(_MOST_ANSWER, options.get("max_input", _MOST_ANSWER))
    first = _ClientHandshake(handler, _request_for(handler, parts, headers or {}), timeout, most)
    handler._claim()
    try:
        connector.connect(address, first, timeout=timeout, tls=tls or is_secure, proxy_for=proxy_for)
    except BaseException:
        handler._release()
        raise


class _ServerHandshake(goev_http.Connection):
    """Speaks HTTP until its only request is answered."""

    limits = goev_http.Limits(max_body=0, max_pending=1, head_timeout=None)  # open_timeout includes the head

    def __init__(self, handler: Connection) -> None:
        self.handler = handler

    def on_open(self) -> None:
        _check(self.handler)
        self.schedule(self.handler.open_timeout, self.abort)

    def on_request(self, request: Request) -> bool | Coroutine[Any, Any, bool]:
        return _upgrade(request, self.handler, closes=True)


class _ClientHandshake(_Connection):
    """Asks for a WebSocket, and hands over when the server agrees."""

    def __init__(self, handler: Connection, request: tuple[str, bytes], timeout: float, most: int) -> None:
        self.handler = handler
        self.key, self.request = request
        self.deadline = time.monotonic() + timeout
        self.most = most
        self.failure: Exception | None = None
        self.refused = b""  # of the body of a refusal, as it was sent
        self.agreed = False

    def on_open(self) -> None:
        self.schedule(max(0.0, self.deadline - time.monotonic()), self.give_up)
        self.write(self.request)

    def on_read(self) -> bool | None:
        if isinstance(self.failure, HandshakeRefused):
            return self.read_refusal(self.failure)
        try:
            # RFC 9110 section 15.2: interim answers may come first.
            while (head := self.read_until(b"\r\n\r\n", self.most)) is not None and _INTERIM.match(head):
                pass
            if head is None:
                return None
            if refused := _REFUSED.match(head):
                self.failure = _refusal(refused, head)
                self.schedule(min(_REFUSAL_PATIENCE, max(0.0, self.deadline - time.monotonic())), self.close)
                return self.read_refusal(self.failure)
            window_bits = _agreement(head, self.handler, self.key)
        except (InputOverflow, ProtocolError) as error:
            self.failure = error
            return False
        self.handler._agree(client=True, window_bits=window_bits)
        self.hand_over(self.handler)
        self.agreed = True
        return None

    def read_refusal(self, refusal: HandshakeRefused) -> bool:
        """Takes more of the body of a refusal; returns whether more is wanted."""
        self.refused += self.read()
        body, is_whole = _body_so_far(refusal, self.refused)
        refusal.body = body[:_MOST_REFUSAL]
        # The framing of chunks may take more than the body itself.
        return not is_whole and len(body) < _MOST_REFUSAL and len(self.refused) < 4 * _MOST_REFUSAL

    def on_stopping(self) -> bool:
        self.failure = self.failure or ConnectionAbortedError(ECONNABORTED, "the reactor stops")
        return False

    def give_up(self) -> None:
        self.failure = self.failure or TimeoutError("the server did not answer the handshake in time")
        self.abort()

    def on_close(self, error: BaseException | None) -> None:
        if not self.agreed:
            if not isinstance(error, Exception):
                error = ProtocolError("the server closed during the handshake [GOEV606]")
            self.on_connect_fail(self.failure or error)

    def on_connect_fail(self, error: Exception) -> None:
        self.handler._release()
        if type(self.handler).on_connect_fail is _Connection.on_connect_fail:
            name = type(self.handler).__name__
            extra = {"peer": None, "callback": "on_connect_fail"}
            logging.getLogger("goev").error("%s without on_connect_fail", name, exc_info=error, extra=extra)
        else:
            self.handler.on_connect_fail(error)


def _check(handler: Connection) -> None:
    """Raises ``TypeError`` or ``ValueError`` if ``handler`` is no handler or an attribute of it makes no sense."""
    if not isinstance(handler, Connection):
        raise TypeError(f"handler must be a goev.websocket.Connection, not {type(handler).__name__}")
    handler._check_limits()
    names, origins = handler.subprotocols, handler.origins
    if isinstance(names, str) or not all(isinstance(name, str) for name in names):
        raise TypeError(f"subprotocols must be a sequence of str, not {names!r}")
    for name in names:
        if not _TOKEN.fullmatch(name):
            raise ValueError(f"subprotocols: {name!r} is no token")
    if isinstance(origins, str):
        raise TypeError(f"origins must be a collection of str or None, not {origins!r}")


def _wrong_with(request: Request, handler: Connection, *, is_alone: bool) -> tuple[int, str, dict[str, str]] | None:
    """The answer to a request that is no proper handshake: status, text, headers. Else ``None``."""
    headers = request.headers
    if request.method != "GET":
        return 405, "a WebSocket is asked for by GET", {"allow": "GET"}
    # In HTTP/1.0 nothing can be upgraded (RFC 9110 section 7.8).
    asks = request.version == "1.1" and "websocket" in map(str.lower, _tokens(headers, "upgrade"))
    if not asks or "upgrade" not in map(str.lower, _tokens(headers, "connection")):
        return 426, "this is a WebSocket", {"upgrade": "websocket", "connection": "upgrade"}
    if headers.get("sec-websocket-version") != "13":
        return 426, "only version 13 of the protocol is spoken", {"sec-websocket-version": "13"}
    if not _is_key(headers.get_all("sec-websocket-key")):
        return 400, "a malformed Sec-WebSocket-Key", {}
    if not is_alone:
        return 400, "a WebSocket cannot follow a body, nor requests that are not answered yet", {}
    if handler.origins is not None and headers.get("origin") not in handler.origins:
        return 403, "not from this origin", {}
    return None


def _refused_by(handler: Connection, wanted: object) -> tuple[int, str, dict[str, str]] | None:
    """As ``_wrong_with``, by the answer of ``on_handshake``."""
    if wanted is not None and not isinstance(wanted, bool):
        raise TypeError(f"on_handshake must return None, True or False, not {type(wanted).__name__} {wanted!r}")
    handler._check_limits()  # on_handshake may have set others
    return None if wanted is not False else (403, "not here", {})


def _is_key(keys: list[str]) -> bool:
    """Whether ``keys`` is one value of 16 bytes in Base64."""
    try:
        return len(keys) == 1 and len(b64decode(keys[0], validate=True)) == 16
    except ValueError:
        return False


def _accept_of(key: str) -> str:
    return b64encode(sha1((key + _GUID).encode(), usedforsecurity=False).digest()).decode()


def _values(headers: http.client.HTTPMessage, name: str) -> list[str]:
    """All fields of that name, without the white space around them."""
    return [value.strip(" \t") for value in headers.get_all(name) or []]


def _tokens(headers: Headers | http.client.HTTPMessage, name: str) -> Iterator[str]:
    """The members of all fields of that name (RFC 9110 section 5.6.1)."""
    values = headers.get_all(name) or []
    return (token for value in values for token in _split(value, ",") if token)


def _split(value: str, separator: str) -> list[str]:
    """The parts of ``value``, without the white space around them. A separator in a quoted string separates nothing."""
    hidden = _QUOTED.sub(lambda quoted: quoted[0].replace(separator, "\0"), value)  # no field has a NUL
    return [part.strip().replace("\0", separator) for part in hidden.split(separator)]


def _offer_met(headers: Headers) -> tuple[int, str] | None:
    """The first offer of permessage-deflate that can be met: the window of our messages, and the answer."""
    for offer in _tokens(headers, "sec-websocket-extensions"):
        name, *parameters = _split(offer, ";")
        bits = _window_within(parameters, is_offer=True) if name == "permessage-deflate" else None
        if bits is not None:
            # An offer with a limit needs an answer with a limit (RFC 7692 section 7.1.2.1).
            is_limited = any(parameter.startswith("server_max_window_bits") for parameter in parameters)
            return bits, _NO_TAKEOVER + (f"; server_max_window_bits={bits}" if is_limited else "")
    return None


def _window_within(parameters: list[str], *, is_offer: bool) -> int | None:
    """The window that parameters of permessage-deflate allow our side; ``None`` if malformed or impossible to meet.

    RFC 7692 section 7.1. The window of the peer does not matter, since our side reads any.
    """
    bits, seen = _LARGEST_WINDOW, set[str]()
    for parameter in parameters:
        name, _, value = map(str.strip, parameter.partition("="))
        size = _WINDOWS.get(_unquoted(value))
        if name in seen:
            return None
        seen.add(name)
        match name:
            case "server_no_context_takeover" | "client_no_context_takeover" if "=" not in parameter:
                continue
            case "client_max_window_bits" if is_offer and "=" not in parameter:
                continue
            case "server_max_window_bits" | "client_max_window_bits" if size:
                # Our side is the server if this is an offer, and the client if this is an answer.
                if name.startswith("server") == is_offer:
                    bits = size
            case _:
                return None
    return bits if bits > 8 else None  # zlib cannot write the smallest window


def _unquoted(value: str) -> str:
    """The text of a quoted string; anything else stays as it is."""
    is_quoted = len(value) > 1 and value.endswith('"') and _QUOTED.fullmatch(value)
    return re.sub(r"\\(.)", r"\1", value[1:-1]) if is_quoted else value


def _parts_of(url: str) -> tuple[SplitResult, str]:
    """A URL taken apart, and the address to connect to."""
    if not isinstance(url, str):
        raise TypeError(f"url must be a str, not {type(url).__name__}")
    wrong = ValueError(f"url must be ws://host:port/path?query or wss://…, not {url!r}")
    # urlsplit() would silently drop some of these characters.
    if not (url.isascii() and url.isprintable()) or " " in url or "#" in url:
        raise wrong
    try:
        parts = urlsplit(url)
        port = _PORTS.get(parts.scheme, 0) if parts.port is None else parts.port
    except ValueError:
        raise wrong from None
    if parts.scheme not in _PORTS or not parts.hostname or "@" in parts.netloc or port == 0:
        raise wrong
    host, _, zone = parts.hostname.partition("%")
    if not zone:
        return parts, f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    # RFC 6874 section 4: the zone has no meaning for the server.
    served = f"[{host}]" if parts.port is None else f"[{host}]:{port}"
    return parts._replace(netloc=served), f"[{host}%{unquote(zone.removeprefix('25'))}]:{port}"


def _request_for(handler: Connection, url: SplitResult, headers: Mapping[str, str]) -> tuple[str, bytes]:
    """The key and the request of a client (RFC 6455 section 4.1)."""
    key = b64encode(urandom(16)).decode()
    fields = {
        "Host": url.netloc,
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Key": key,
        "Sec-WebSocket-Version": "13",
    }
    if handler.subprotocols:
        fields["Sec-WebSocket-Protocol"] = ", ".join(handler.subprotocols)
    if handler.compression:
        fields["Sec-WebSocket-Extensions"] = f"{_NO_TAKEOVER}; client_max_window_bits"
    made = {*map(str.lower, fields), "sec-websocket-protocol", "sec-websocket-extensions"} - {"host"}
    for name, value in headers.items():
        if not isinstance(name, str) or not isinstance(value, str):
            raise TypeError(f"headers must be of str, not {name!r}: {value!r}")
        if name.lower() in made:
            raise ValueError(f"headers: {name} is made by the handshake")
        if not _TOKEN.fullmatch(name) or not value.isprintable() or max(value, default="") > "\xff":
            raise ValueError(f"headers: {name!r}: {value!r} cannot be sent")
        # Our own Host stands first; that of the caller takes its place (RFC 9110 section 7.2).
        fields["Host" if name.lower() == "host" else name] = value
    target = (url.path or "/") + (f"?{url.query}" if url.query else "")
    lines = [f"GET {target} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items())]
    return key, "\r\n".join([*lines, "", ""]).encode("latin-1")


def _refusal(status_line: re.Match[bytes], head: bytes) -> HandshakeRefused:
    text = f"the server refused the handshake: {status_line[0][:200].decode('latin-1')} [GOEV606]"
    return HandshakeRefused(text, int(status_line[1]), Headers._of(head))


def _body_so_far(refusal: HandshakeRefused, data: bytes) -> tuple[bytes, bool]:
    """The part of a body that has come, and whether that is all of it (RFC 9112 section 6.3)."""
    if refusal.status in (204, 304):
        return b"", True
    codings = list(_tokens(refusal.headers, "transfer-encoding"))
    if codings:
        return _unchunked(data) if codings[-1].lower() == "chunked" else (data, False)
    length = refusal.headers.get("content-length", "")
    if length.isdecimal() and len(length) < 20:
        return data[: int(length)], len(data) >= int(length)
    return data, False  # it ends with the connection


def _unchunked(data: bytes) -> tuple[bytes, bool]:
    """The content of the chunks that have come, and whether no more follow, or they are malformed."""
    parts, at = list[bytes](), 0
    while size := _CHUNK.match(data, at):
        count, begin = int(size[1], 16), size.end()
        parts.append(data[begin : begin + count])
        at = begin + count + 2
        if count == 0:
            return b"".join(parts), True
        if at > len(data):
            return b"".join(parts), False
    is_malformed = b"\n" in data[at:] or len(data) - at > 1000
    return b"".join(parts), is_malformed


def _agreement(head: bytes, handler: Connection, key: str) -> int | None:
    """Sets the sub-protocol that a server agreed to, and returns the window of our messages if they may be compressed.

    Raises ``ProtocolError`` for an answer that is no agreement (RFC 6455 section 4.1).
    """
    status, _, rest = head.partition(b"\r\n")
    if status.split(b" ")[:2] != [b"HTTP/1.1", b"101"]:
        raise ProtocolError(f"the server refused the handshake: {status[:200].decode('latin-1')} [GOEV606]")
    try:
        headers = http.client.parse_headers(io.BytesIO(rest))
    except http.client.HTTPException as error:
        raise ProtocolError(f"the server's answer to the handshake is malformed: {error} [GOEV606]") from None
    if headers.defects:
        raise ProtocolError("the server's answer to the handshake is malformed: a line that is no field [GOEV606]")
    upgrades = "websocket" in map(str.lower, _tokens(headers, "upgrade"))
    if not upgrades or "upgrade" not in map(str.lower, _tokens(headers, "connection")):
        raise ProtocolError("the server's answer to the handshake is no upgrade to a WebSocket [GOEV606]")
    if _values(headers, "sec-websocket-accept") != [_accept_of(key)]:
        raise ProtocolError("the server's answer to the handshake is not one to this request [GOEV606]")
    chosen = _values(headers, "sec-websocket-protocol")
    subprotocol = ", ".join(chosen) if chosen else None
    if subprotocol is not None and subprotocol not in handler.subprotocols:
        raise ProtocolError(f"the server chose the sub-protocol {subprotocol!r}, which was not offered [GOEV606]")
    handler.subprotocol = subprotocol
    extensions = list(_tokens(headers, "sec-websocket-extensions"))
    if not extensions:
        return None
    name, *parameters = _split(extensions[0], ";")
    window_bits = _window_within(parameters, is_offer=False)
    agrees = handler.compression and name == "permessage-deflate" and len(extensions) == 1
    if not agrees or window_bits is None or "server_no_context_takeover" not in parameters:
        text = f"the server chose extensions that were not offered or cannot be: {', '.join(extensions)}"
        raise ProtocolError(f"{text} [GOEV606]")
    return window_bits
