"""The coroutines of ``receive`` and ``send`` that have to wait."""

from asyncio import Future, get_running_loop, sleep
from collections.abc import Iterator
from typing import Any

from goev._core import AsgiExchange, ConnectionClosed
from goev.asgi.ended import ClientDisconnected

MOST_CHAINED = 32  # exceptions of a chain that are looked at


class Waiters:
    """The tasks that wait for one event. A wait that is cancelled leaves nothing behind.

    An exchange holds this one object, and wakes all tasks by ``told``.
    """

    def __init__(self, exchange: AsgiExchange) -> None:
        self._exchange = exchange
        self._futures = dict[Future[None], None]()
        self._is_watching = False

    async def wait(self) -> None:
        """Wait until the next ``wake``."""
        future = get_running_loop().create_future()
        self._futures[future] = None
        try:
            await future
        finally:
            self._futures.pop(future, None)

    def watch(self) -> None:
        """Have the exchange wake them when there may be a message, once."""
        if not self._is_watching:
            self._is_watching = True
            self._exchange._tell(self)

    def wake(self) -> None:
        futures, self._futures = self._futures, {}
        for future in futures:
            if not future.done():
                future.set_result(None)

    def told(self) -> None:
        """There may be a message."""
        self._is_watching = False
        _waiting.pop(self._exchange, None)
        self.wake()


# The waiters of each exchange, until it wakes them: at the latest when its application has ended.
_waiting: dict[AsgiExchange, Waiters] = {}


async def received(exchange: AsgiExchange) -> dict[str, Any]:
    """Wait for the next message."""
    while (message := exchange._next()) is None:
        if (waiters := _waiting.get(exchange)) is None:
            waiters = _waiting[exchange] = Waiters(exchange)
        waiters.watch()
        await waiters.wait()
    return message


async def yielded(exchange: AsgiExchange) -> None:
    """Wait for a turn of the loop: others have theirs, and the end of the connection is noticed."""
    await sleep(0)


async def drained(exchange: AsgiExchange) -> None:
    """Wait until the peer has taken most of the answer."""
    connection = exchange._connection()
    if connection is None:
        raise disconnected()
    try:
        await connection.drained()
    except ConnectionClosed:
        raise disconnected() from None


def disconnected() -> ClientDisconnected:
    """The exception that ``send`` raises when the peer is gone."""
    return ClientDisconnected("the client has gone away")


def is_of_disconnect(error: BaseException | None) -> bool:
    """Whether an exception is ``ClientDisconnected`` or comes from one. A group is one if all of its members are."""
    return any(map(_is_disconnect, _chain(error)))


def _is_disconnect(error: BaseException) -> bool:
    if isinstance(error, BaseExceptionGroup):
        return all(is_of_disconnect(each) for each in error.exceptions)
    return isinstance(error, ClientDisconnected)


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    for _ in range(MOST_CHAINED):
        if error is None:
            return
        yield error
        error = error.__cause__ or error.__context__
