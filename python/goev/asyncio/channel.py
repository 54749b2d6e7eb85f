"""A connection as coroutines use it: they wait for input, and for room for output."""

from collections.abc import Iterable
from threading import get_ident
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from goev._core import Connection, ConnectionClosed, InputOverflow, Request
from goev.asyncio.ended import ChannelClosed
from goev.asyncio.feeds import BytesFeed, Feed, WebSocketFeed
from goev.proxy import Proxy
from goev.tls import Session

if TYPE_CHECKING:
    from typing_extensions import Buffer  # collections.abc has it since CPython 3.12

ORDERLY = {1000, 1001, 1005}  # close codes of a WebSocket that has done its work (RFC 6455 section 7.4.1)
HERE = "the channel was closed"


class Channel:
    """A connection for coroutines: ``goev.asyncio.connect`` opens one, and ``goev.asyncio.serve`` passes one on.

    With a framing it carries messages: ``send``, ``receive``, ``async for``. Without one it carries bytes: ``write``,
    ``drain``, ``read``, ``read_exactly``, ``read_until``, and ``async for`` yields pieces as they come. One coroutine
    may read while others write.

    Input that nobody takes is kept up to ``max_input`` bytes and 1024 messages, and beyond that by what one read of the
    socket brings. Then reading pauses, so that the peer has to wait. Output waits above ``high_water`` bytes.

    All methods are for coroutines and callbacks of the event loop that the channel was opened on; elsewhere they raise
    ``WrongThread``. ``async with channel`` closes it at the end.
    """

    def __init__(self, feed: Feed) -> None:
        self._feed = feed
        self._is_closing = False

    # ---- messages -------------------------------------------------------------------------------------------------

    async def receive(self) -> Any:
        """Wait for the next message.

        Raises:
            ChannelClosed: the stream has ended, and all messages before its end were received.
            TypeError: the channel has no framing.
            RuntimeError: another coroutine waits for input of this channel.
        """
        feed = self._feed
        if feed.messages and feed.reader is None and get_ident() == feed.thread:
            return feed.messages.popleft()
        feed.check_reading("receive()")
        if isinstance(feed, BytesFeed):
            raise TypeError("receive() needs a framing; read() takes bytes as they come")
        while not feed.messages:
            if feed.end is not None:
                raise self._end() from feed.error
            try:
                await feed.arrival()
            finally:
                feed.reader = None
        return feed.messages.popleft()

    async def send(self, message: Any) -> None:
        """Send a message, when at most ``high_water`` bytes of output wait.

        If it is cancelled, the message was not sent.

        Raises:
            ChannelClosed: the stream has ended, or was closed.
            TypeError: the channel has no framing, or cannot send such a message.
            MessageTooLong, ValueError: as ``Connection.send``.
        """
        connection: Connection = self._feed
        if connection.over_high_water:
            await self.drain()
        try:
            connection.send(message)
        except ConnectionClosed:
            raise self._end() from self._feed.error

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Any:
        """The next message, or the next piece of bytes. An orderly end of the stream ends the iteration."""
        feed = self._feed
        if feed.messages and feed.reader is None and get_ident() == feed.thread:
            return feed.messages.popleft()
        try:
            return await (self._piece(feed, -1) if isinstance(feed, BytesFeed) else self.receive())
        except ChannelClosed:
            if self._is_orderly():
                raise StopAsyncIteration from None
            raise

    # ---- bytes ----------------------------------------------------------------------------------------------------

    async def read(self, n: int = -1) -> bytes:
        """Wait for input, and take up to ``n`` bytes of it, by default all that has come.

        Returns ``b""`` at the orderly end of the stream (asyncio's ``read()`` without a number waits for that end).

        Raises:
            ChannelClosed: the stream has ended with an error.
            ValueError: ``n`` is less than -1.
            TypeError: the channel has messages.
            RuntimeError: another coroutine waits for input of this channel.
        """
        if n < -1:
            raise ValueError(f"n must be -1 (everything that has come) or more, not {n}")
        feed = self._bytes("read()")
        try:
            return await self._piece(feed, n) if n else b""
        except ChannelClosed:
            if self._is_orderly():
                return b""
            raise

    async def read_exactly(self, n: int) -> bytes:
        """Wait for ``n`` bytes, and take them.

        Raises:
            ChannelClosed: the stream has ended before; ``partial`` has the bytes that came.
            ValueError: ``n`` is negative, or more than ``max_input``, because the input never holds more.
            TypeError, RuntimeError: as ``read``.
        """
        feed = self._bytes("read_exactly()")
        feed.check_room("n", n)
        while len(feed.input) < n:
            await self._more(feed)
        return feed.take(n)

    async def read_until(self, separator: bytes = b"\n", *, limit: int | None = None) -> bytes:
        """Wait for ``separator``, and take everything up to its end.

        Args:
            separator: one byte or more.
            limit: the most bytes to take, separator included, at most ``max_input``, which is the default.

        Raises:
            ChannelClosed: the stream has ended before; ``partial`` has the bytes that came.
            InputOverflow: no separator within ``limit`` bytes. They stay, and ``read`` takes them.
            ValueError: ``separator`` is empty, or ``limit`` leaves no room for it or is too large.
            TypeError, RuntimeError: as ``read``.
        """
        feed = self._bytes("read_until()")
        if not separator:
            raise ValueError("separator must not be empty")
        limit = feed.most if limit is None else limit
        feed.check_room("limit", limit)
        if limit < len(separator):
            raise ValueError(f"limit must leave room for the separator's {len(separator)} bytes, not {limit}")
        searched = 0
        while (at := feed.input.find(separator, searched, limit)) < 0:
            if len(feed.input) >= limit:
                raise InputOverflow(f"no separator {separator!r} within limit={limit} bytes [GOEV401]")
            searched = max(0, len(feed.input) - len(separator) + 1)
            await self._more(feed)
        return feed.take(at + len(separator))

    def write(self, data: "Buffer") -> None:
        """Queue any bytes-like ``data`` for sending; ``drain`` waits when much is queued.

        Raises:
            ChannelClosed: the stream has ended, or was closed.
            RuntimeError: the channel is a WebSocket.
        """
        self._feed.check_thread("write()")
        try:
            self._feed.write(data)
        except ConnectionClosed:
            raise self._end() from self._feed.error

    def writelines(self, lines: "Iterable[Buffer]") -> None:
        """Queue each of ``lines``, bytes-like objects, as ``write`` does one."""
        self._feed.check_thread("writelines()")
        try:
            self._feed.writelines(lines)
        except ConnectionClosed:
            raise self._end() from self._feed.error

    async def drain(self) -> None:
        """Wait while more than ``high_water`` bytes of output are queued, until they are ``low_water`` at most.

        Raises ChannelClosed: the stream has ended, or was closed, so that queued output may be lost.
        """
        feed = self._feed
        feed.check_thread("drain()")
        try:
            while feed.over_high_water:
                await feed.drained()
        except ConnectionClosed:
            raise self._end() from feed.error
        if feed.is_closed:
            raise self._end() from feed.error

    def shutdown_write(self) -> None:
        """End our side of the stream behind the queued output; the peer may go on sending. Not for WebSockets."""
        self._feed.shutdown_write()

    def _bytes(self, method: str) -> BytesFeed:
        feed = self._feed
        if not isinstance(feed, BytesFeed):
            raise TypeError(f"{method}: this channel has messages; use receive()")
        feed.check_reading(method)
        return feed

    async def _piece(self, feed: BytesFeed, n: int) -> bytes:
        feed.check_reading("read()")
        while not feed.input:
            await self._more(feed)
        return feed.take(len(feed.input) if n < 0 else n)

    async def _more(self, feed: BytesFeed) -> None:
        if feed.end is not None:
            ended = self._end()
            ended.partial = feed.take(len(feed.input))
            raise ended from feed.error
        try:
            await feed.arrival()
        finally:
            feed.reader = None

    # ---- ends -----------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Send the queued output, then end the stream. May be called any number of times; ``closed`` waits."""
        self._feed.check_thread("close()")
        if not self._feed.is_closed:
            self._is_closing = True
            self._feed.end_input(HERE)
            self._feed.close()

    def abort(self) -> None:
        """End the connection at once, with a reset. Output that is queued is lost."""
        self._feed.check_thread("abort()")
        if not self._feed.is_closed:
            self._is_closing = True
            self._feed.end_input(HERE)
            self._feed.abort()

    def _leave(self, error: BaseException | None = None) -> None:
        """Close, because the coroutine that used the channel has ended, perhaps with an error."""
        self.close()

    async def closed(self) -> BaseException | None:
        """Wait until the connection has ended; return the exception that ended it, or ``None`` after an orderly end."""
        self._feed.check_thread("closed()")
        if not self._feed.is_closed:
            await self._feed.closed()
        return self._feed.error

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close. Without an exception it also waits until the queued output is sent."""
        self._leave(error)
        if error is None:
            await self.closed()

    def _is_orderly(self) -> bool:
        """Whether a stream that has ended did so in order."""
        return self._feed.error is None

    def _end(self) -> ChannelClosed:
        """The exception for the end of the stream; its cause is ``error`` of the feed."""
        return ChannelClosed(HERE if self._is_closing else self._feed.end or "the connection has ended")

    # ---- the connection -------------------------------------------------------------------------------------------

    @property
    def ended(self) -> bool:
        """Whether no further input comes. Input that has come before can be taken still."""
        return self._feed.end is not None

    @property
    def connection(self) -> Connection:
        """The connection, for limits, options of its socket, timers, and ``write`` from other threads.

        Its input belongs to the channel, and so do its callbacks.
        """
        return self._feed

    @property
    def remote_address(self) -> Any:
        """As ``Connection.remote_address``."""
        return self._feed.remote_address

    @property
    def local_address(self) -> Any:
        """As ``Connection.local_address``."""
        return self._feed.local_address

    @property
    def tls(self) -> Session | None:
        """As ``Connection.tls``: a ``goev.tls.Session``, or ``None`` for plain bytes."""
        return self._feed.tls

    @property
    def proxy(self) -> Proxy | None:
        """As ``Connection.proxy``."""
        return self._feed.proxy

    def __repr__(self) -> str:
        state = "closed" if self._feed.is_closed else "closing" if self._is_closing else "open"
        return f"<goev.asyncio.{type(self).__name__} {state}>"


class WebSocketChannel(Channel):
    """A WebSocket for coroutines; its messages are ``str`` for text and ``bytes`` for binary.

    ``async for`` ends when the peer closes with code 1000, 1001, or none. Another code, and a connection that ends
    without a close frame, raise ``ChannelClosed``.
    """

    _feed: WebSocketFeed

    def close(self, code: int = 1000, reason: str = "") -> None:
        """Send the queued output and a close frame with ``code`` and ``reason``, then end the connection."""
        self._feed.check_thread("close()")
        if not self._feed.is_closed:
            self._feed.close(code, reason)
            self._feed.end_input(HERE)
            self._is_closing = True

    def _leave(self, error: BaseException | None = None) -> None:
        """As that of the base class, with the close code that tells the peer why."""
        self.close(1011 if error is not None else 1001 if self._feed.is_stopping else 1000)

    @property
    def request(self) -> Request | None:
        """The request of the handshake, on a server."""
        return self._feed.request

    @property
    def subprotocol(self) -> str | None:
        """The sub-protocol that both sides agreed on."""
        return self._feed.subprotocol

    @property
    def close_code(self) -> int | None:
        """As ``goev.websocket.Connection.close_code``: ``None`` while the WebSocket is open."""
        return self._feed.close_code

    @property
    def close_reason(self) -> str:
        """The reason that came with ``close_code``."""
        return self._feed.close_reason

    def _is_orderly(self) -> bool:
        return self._is_closing or (self._feed.error is None and self._feed.close_code in {None, *ORDERLY})

    def _end(self) -> ChannelClosed:
        code, reason = self._feed.close_code, self._feed.close_reason
        if self._is_closing or self._feed.error is not None or code is None:
            return super()._end()
        return ChannelClosed(f"the WebSocket was closed with code {code}" + (f": {reason}" if reason else ""))
