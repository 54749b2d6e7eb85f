"""The handlers below channels: they keep what comes, and wake the coroutines that wait for it.

All callbacks are plain functions. A batch of messages costs one call of Python, and no task runs for a message that
nobody waits for. Each holds at most a set amount of input; then it pauses reading, so that the peer feels it.
"""

from asyncio import AbstractEventLoop, Future
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from threading import get_ident
from typing import Any, TypeAlias

from goev import websocket
from goev._core import Connection, ConnectionClosed, WrongThread

MOST_MESSAGES = 1024


class Feed(Connection):
    """The callbacks that all these handlers share.

    Args:
        loop: the event loop whose coroutines read.
        most: bytes of input at which reading pauses.
        settled: called once with this feed, and with ``None`` when it is open, or with the reason why it is not.
    """

    def __init__(self, loop: AbstractEventLoop, most: int, settled: "Settled") -> None:
        super().__init__()
        self.messages: deque[Any] = deque()  # a feed of bytes leaves it empty
        self.reader: Future[None] | None = None  # of the coroutine that waits for input, until it runs again
        self.end: str | None = None  # the reason why no further input comes
        self.is_stopping = False
        self.is_closed = False  # ``on_close`` was called
        self.error: BaseException | None = None
        self.thread = get_ident()
        self.most = most
        self._loop = loop
        self._settled = settled
        self._sleeper: Future[None] | None = None  # the same, until it is woken
        self._is_full = False

    def on_open(self) -> None:
        self._settled(self, None)

    def on_connect_fail(self, error: Exception) -> None:
        self._settled(self, error)

    def on_eof(self) -> bool | None:
        self.end_input("the peer has ended the stream")
        return None

    def on_stopping(self) -> None:
        """No further input is given out, so that a coroutine which reads comes to its end."""
        self.is_stopping = True
        self.end_input("the server stops")
        self.pause_reading()

    def on_close(self, error: BaseException | None) -> None:
        self.error, self.is_closed = error, True
        self.end_input("the stream has ended" if error is None else f"the connection has ended: {error}")

    def end_input(self, why: str) -> None:
        """Coroutines get the input that is kept, and then the end of the stream."""
        self.end = self.end or why
        self.wake_reader()

    def wake_reader(self) -> None:
        sleeper, self._sleeper = self._sleeper, None
        if sleeper is not None and not sleeper.done():
            sleeper.set_result(None)

    def keep(self, held: int) -> None:
        """Tells that input was kept, ``held`` bytes in all, and pauses reading if that is enough."""
        if held >= self.most or len(self.messages) >= MOST_MESSAGES:
            self._is_full = True
            self.pause_reading()
        if self._sleeper is not None:
            self.wake_reader()

    def arrival(self) -> Future[None]:
        """The future that more input sets, or the end of it. The coroutine that awaits it clears ``reader``."""
        if self._is_full:
            self._is_full = False
            with suppress(ConnectionClosed):  # then ``on_close`` follows
                self.resume_reading()
        self.reader = self._sleeper = self._loop.create_future()
        return self.reader

    def check_reading(self, method: str) -> None:
        """Raises unless a coroutine may read here and now."""
        self.check_thread(method)
        if self.reader is not None:
            raise RuntimeError(f"{method}: another coroutine waits for input of this channel; only one may read")

    def check_thread(self, method: str) -> None:
        if get_ident() != self.thread:
            raise WrongThread(f"{method}: a channel belongs to the event loop that it was opened on [GOEV101]")


Settled: TypeAlias = Callable[[Feed, Exception | None], object]


class BytesFeed(Feed):
    """Keeps bytes."""

    def __init__(self, loop: AbstractEventLoop, most: int, settled: Settled) -> None:
        super().__init__(loop, most, settled)
        self.input = bytearray()

    def on_read(self) -> None:
        # Taken at once, because a reset may come at any time, and unread input of the connection ends with it.
        data = self.read()
        self.input += data
        self.keep(len(self.input))

    def take(self, n: int) -> bytes:
        """The first ``n`` bytes, or all if they are fewer."""
        with memoryview(self.input) as view:
            data = bytes(view[:n])
        del self.input[:n]
        return data

    def check_room(self, name: str, n: int) -> None:
        if not 0 <= n <= self.most:
            raise ValueError(f"{name} must be 0 to max_input={self.most}, not {n}")


class MessagesFeed(Feed):
    """Keeps the messages of a framing."""

    def __init__(self, loop: AbstractEventLoop, most: int, settled: Settled) -> None:
        super().__init__(loop, most, settled)
        self._held = 0  # bytes that came since there was no message; counting those that leave would cost more

    def on_messages(self, messages: list[Any]) -> None:
        kept = self.messages
        self._held = (self._held if kept else 0) + _size_of(messages)
        kept += messages
        self.keep(self._held)


class WebSocketFeed(Feed, websocket.Connection):
    """Keeps the messages of a WebSocket."""

    def __init__(self, loop: AbstractEventLoop, most: int, settled: Settled) -> None:
        super().__init__(loop, most, settled)
        self._held = 0  # as that of ``MessagesFeed``

    def on_message(self, message: str | bytes) -> None:
        kept = self.messages
        self._held = held = (self._held if kept else 0) + len(message)
        kept.append(message)
        # Asked here as well, because this is called for each message.
        if self._sleeper is not None or held >= self.most or len(kept) >= MOST_MESSAGES:
            self.keep(held)

    def on_eof(self) -> bool | None:
        """A WebSocket ends as a whole."""
        return False


def _size_of(messages: list[Any]) -> int:
    """The bytes of messages; 0 if they have no length, as those of a framing in Python may."""
    try:
        return sum(map(len, messages))
    except TypeError:
        return 0
