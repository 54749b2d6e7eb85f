"""WebSockets of an application: the messages of both sides."""

from asyncio import Future, get_running_loop, sleep
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Literal

from goev import websocket
from goev._core import AsgiConnection, AsgiExchange, ConnectionClosed, Request
from goev.asgi.messages import unexpected, without_type
from goev.asgi.waiting import Waiters, disconnected, is_of_disconnect

HIGH = 64 * 1024  # bytes of messages that wait for the application before reading pauses
LOW = 16 * 1024  # bytes at which it goes on
OVERHEAD = 1024  # bytes that a message counts beside its payload
MOST_UNBROKEN = 256 * 1024  # bytes that an application sends without a turn of the loop
ABNORMAL = 1006  # the end of a connection without a close frame (RFC 6455 section 7.4.1)


class WebSocket(websocket.Connection):
    """One WebSocket of an application. The attributes of a subclass set limits: ``goev.asgi.Connection.websocket``."""

    max_message_size = 16 * 1024 * 1024
    _session: "Session"

    def on_open(self) -> None:
        self._session.opened()

    def on_message(self, message: str | bytes) -> None:
        self._session.feed(message)

    def on_close(self, error: BaseException | None) -> None:
        self._session.ended(self.close_code or ABNORMAL, self.close_reason)


class Session:
    """One WebSocket as the application sees it: ``receive`` and ``send``."""

    def __init__(self, connection: AsgiConnection, request: Request, socket: WebSocket) -> None:
        self.request, self.socket = request, socket
        self.stage: Literal["new", "asked", "open", "denying", "closed"] = "new"
        self.exchange = AsgiExchange(request)  # for an answer of HTTP, and for the end before the handshake
        self.offered = list(websocket._tokens(request.headers, "sec-websocket-protocol"))
        self.messages = deque[str | bytes]()
        self.held = 0  # bytes of them
        self.is_paused = False
        self.unbroken = 0  # bytes that were sent since the application has waited
        self.end: tuple[int, str] | None = None  # the close code and the reason, once the WebSocket has ended
        self.waiters = Waiters(self.exchange)
        self.opening: Future[None] | None = None
        connection._watch(self.exchange)

    # ---- events of the wire

    def opened(self) -> None:
        if self.opening is not None and not self.opening.done():
            self.opening.set_result(None)

    def feed(self, message: str | bytes) -> None:
        self.messages.append(message)
        self.held += len(message) + OVERHEAD
        if self.held > HIGH and not self.is_paused:
            self.is_paused = True
            self.socket.pause_reading()
        self.waiters.wake()

    def ended(self, code: int, reason: str) -> None:
        self.end = self.end or (code, reason)
        self.opened()
        self.waiters.wake()

    # ---- receive

    async def receive(self) -> dict[str, Any]:
        """The next message for the application."""
        if self.stage == "new":
            self.stage = "asked"
            return {"type": "websocket.connect"}
        while not self.messages:
            if self.end is None and self.stage in ("asked", "denying"):
                self.look_at_request()
            if self.end is not None:
                code, reason = self.end
                return {"type": "websocket.disconnect", "code": code, "reason": reason}
            await self.wait()
        message = self.messages.popleft()
        self.held -= len(message) + OVERHEAD
        if self.is_paused and self.held <= LOW and self.end is None:
            self.is_paused = False
            self.socket.resume_reading()
        return {"type": "websocket.receive", "text" if isinstance(message, str) else "bytes": message}

    def look_at_request(self) -> None:
        """Notes that the client went away before the handshake."""
        while (message := self.exchange._next()) is not None:
            if message["type"] == "http.disconnect":
                self.end = (ABNORMAL, "")
                return

    async def wait(self) -> None:
        if self.stage in ("asked", "denying"):
            self.waiters.watch()
        await self.waiters.wait()

    # ---- send

    async def send(self, message: dict[str, Any]) -> None:
        """Takes a message of the application."""
        try:
            kind = message["type"]
        except (KeyError, TypeError):
            raise without_type(message) from None
        if self.stage in ("new", "asked"):
            match kind:
                case "websocket.accept":
                    return await self.accept(message)
                case "websocket.close":
                    return self.refuse()
                case "websocket.http.response.start":
                    await self.exchange.send({**message, "type": "http.response.start", "headers": _closing(message)})
                    self.stage = "denying"
                    return None
            raise unexpected(kind, "'websocket.accept', 'websocket.close' or 'websocket.http.response.start'")
        if self.stage == "denying":
            if kind != "websocket.http.response.body":
                raise unexpected(kind, "'websocket.http.response.body'")
            await self.exchange.send({**message, "type": "http.response.body"})
            return None
        if self.end is not None and self.stage == "open":
            raise disconnected()
        if self.stage == "closed":
            raise unexpected(kind, "nothing, behind 'websocket.close'")
        match kind:
            case "websocket.send":
                return await self.send_message(message)
            case "websocket.close":
                self.close(message.get("code") or 1000, message.get("reason") or "")
                return None
        raise unexpected(kind, "'websocket.send' or 'websocket.close'")

    async def accept(self, message: dict[str, Any]) -> None:
        subprotocol = message.get("subprotocol")
        if subprotocol is not None and subprotocol not in self.offered:
            raise ValueError(f"subprotocol must be one that the client offers, {self.offered}, not {subprotocol!r}")
        self.socket.subprotocols = () if subprotocol is None else (subprotocol,)
        self.socket._more_fields = list(_fields(message))
        self.opening = get_running_loop().create_future()
        try:
            is_open = await websocket.upgrade_async(self.request, self.socket)
        except ConnectionClosed:
            is_open = False
        if not is_open:
            self.stage = "closed"
            raise disconnected()
        self.stage = "open"
        await self.opening
        self.waiters.wake()

    async def send_message(self, message: dict[str, Any]) -> None:
        data: Any = message.get("bytes")
        text: Any = message.get("text")
        if (data is None) == (text is None):
            raise ValueError("'websocket.send' must have either 'bytes' or 'text'")
        if data is None and not isinstance(text, str):
            raise TypeError(f"'text' must be a str, not {type(text).__name__}")
        try:
            self.socket.send(text if data is None else data)
            self.unbroken += len(text if data is None else data) + OVERHEAD
            if self.socket.over_high_water:
                self.unbroken = 0
                await self.socket.drained()
            elif self.unbroken > MOST_UNBROKEN:  # others have their turn, and the end of the connection is noticed
                self.unbroken = 0
                await sleep(0)
        except ConnectionClosed:
            raise disconnected() from None

    def close(self, code: int, reason: str) -> None:
        self.socket.close(code, reason)
        self.stage = "closed"

    def refuse(self) -> None:
        self.stage = "closed"
        self.end = (ABNORMAL, "")
        if not self.request.answered:
            self.request.respond(403, {"connection": "close"})
        self.waiters.wake()

    def done(self, error: BaseException | None) -> BaseException | None:
        """The application has ended. Returns the error to report."""
        is_gone = self.end is not None and self.stage != "closed"
        if error is not None and is_of_disconnect(error):
            error = None
        if error is None and self.stage in ("new", "asked", "denying") and not self.request.answered and not is_gone:
            error = RuntimeError("the application returned without an answer to the WebSocket's handshake")
        if self.stage == "open" and self.end is None:
            self.close(1000, "") if error is None else self.close(1011, "")
        elif self.stage in ("new", "asked", "denying"):
            self.fail()
        return error

    def fail(self) -> None:
        if not self.request.answered:
            with suppress(ConnectionClosed):  # no client waits for the answer
                self.request.respond(500, {"connection": "close"})


def begin(connection: AsgiConnection, request: Request) -> bool:
    """Begin the application for a request of a WebSocket; False if it is none."""
    if request.method != "GET" or "websocket" not in map(str.lower, websocket._tokens(request.headers, "upgrade")):
        return False
    kind: Any = type(connection)
    socket: WebSocket = kind.websocket()
    websocket._check(socket)
    wrong = websocket._wrong_with(request, socket, is_alone=request._is_alone())
    if wrong is not None:
        status, text, fields = wrong
        request.respond(status, {"content-type": "text/plain; charset=utf-8", **fields}, f"{text}\n".encode())
        return True
    session = Session(connection, request, socket)
    socket._session = session
    scope = connection._scope(request)
    scope["type"] = "websocket"
    scope["scheme"] = {"http": "ws", "https": "wss"}.get(scope["scheme"], scope["scheme"])
    del scope["method"]
    scope["subprotocols"] = session.offered
    tls = scope["extensions"].get("tls")
    scope["extensions"] = {"websocket.http.response": {}} | ({} if tls is None else {"tls": tls})
    connection._run(kind.app(scope, session.receive, session.send), session.done)
    return True


def _fields(message: dict[str, Any]) -> list[tuple[str, str]]:
    """The fields of a message, as goev takes them."""
    fields = [
        (bytes(name).decode("latin-1"), bytes(value).decode("latin-1")) for name, value in message.get("headers", ())
    ]
    for name, _ in fields:
        if name.lower() == "sec-websocket-protocol":
            raise ValueError("headers: sec-websocket-protocol is made of 'subprotocol'")
    return fields


def _closing(message: dict[str, Any]) -> Sequence[tuple[bytes, bytes]]:
    """The fields of a denial; the connection ends after it."""
    fields = [(bytes(name), bytes(value)) for name, value in message.get("headers", ())]
    return [*(field for field in fields if field[0].lower() != b"connection"), (b"connection", b"close")]
