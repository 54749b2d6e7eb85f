"""Connections to one server, kept open and lent out.

A connection is in one of three places: ``_connecting``, ``_idle`` or ``_taken``. Each is a dict by ``id``, because a
class of the user's may compare its objects by value. A thread that moves a connection holds the lock, and no foreign
code runs under it. Only the keeper, a thread of the pool, begins connections; other threads wake it.
"""

import logging
import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from functools import partial
from time import monotonic
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar, overload

from goev._core import ClientContext, Connection, ConnectionClosed, Connector, Error, Timer, WrongThread
from goev.backoff import LONGEST, Backoff

if TYPE_CHECKING:
    import asyncio

STEADY = 1.0  # seconds; a connection that the server ends sooner counts as a failed attempt
TEN_YEARS = 315_360_000.0  # seconds; longer times are a mistake in the unit

logger = logging.getLogger("goev")


class PoolClosed(Error):
    """The pool was closed, or the reactor of its connector has stopped."""


class PooledConnection(Connection):
    """A ``Connection`` that reports its state to a ``ConnectionPool``; the factory of the pool returns such objects.

    A subclass with an ``on_open``, ``on_connect_fail`` or ``on_close`` of its own has to call the same method of
    ``super()`` in it. ``super().on_open()`` comes last, since another thread may get the connection at once. A protocol
    that begins with a login calls it after the login.

    Go: ``ConnectPoolItem``; there the subclass has to call ``Closed()`` likewise.
    """

    _pool: "ConnectionPool[Any] | None" = None
    _ready_since = 0.0

    def on_open(self) -> bool | None:
        """The connection is ready: from now on the pool lends it out."""
        if self._pool is not None:
            self._pool._ready(self)
        return None

    def on_connect_fail(self, error: Exception) -> None:
        """The connect failed with ``error``: the pool tries again later."""
        if self._pool is not None:
            self._pool._ended(self, error)

    def on_close(self, error: BaseException | None) -> None:
        """The connection has ended, in order or with ``error``: the pool replaces it."""
        if self._pool is not None:
            self._pool._ended(self, error)

    def close(self, error: BaseException | None = None, /) -> None:
        """As ``Connection.close(error)``; the connection leaves the pool at once and must not be released any more."""
        if self._pool is not None:
            self._pool._leave(self)
        super().close(error)

    def abort(self) -> None:
        """As ``Connection.abort``; the connection leaves the pool at once and must not be released any more."""
        if self._pool is not None:
            self._pool._leave(self)
        super().abort()


C = TypeVar("C", bound=PooledConnection)


class ConnectionPool(Generic[C]):
    """Connections to one server, kept open and lent out. All methods may be called from any thread.

    The constructor begins connections and does not wait for them. The pool replaces connections that end. While the
    server cannot be reached, it makes one attempt at a time, after pauses that double up to 5 seconds. The pool closes
    itself when the reactor stops. It closes no connection in order to shrink.

    Args:
        connector: makes the connections.
        address: the server's, as for ``Connector.connect``.
        factory: a ``PooledConnection`` subclass, or a callable that returns a new object of one for each connection.
            The first objects are made in this call, later ones on a thread of the pool.
        min_idle: how many connections should wait to be acquired, 1 to ``max_live``. The pool checks this every
            ``check_interval``, and as soon as ``acquire`` finds none or a connection has ended.
        grow_by: how many connections to begin at once when some are missing, 1 to ``max_live``.
        max_live: the most connections at a time, including those that are being made, 1 to 65,536.
        connect_timeout: seconds until a connection must be ready, login included, > 0.
        check_interval: seconds, > 0.
        tls: as for ``Connector.connect``.

    Raises:
        TypeError: an argument is of the wrong type; the factory does not return a ``PooledConnection``.
        ValueError: an argument is out of range, or the address malformed.
        RuntimeError: the reactor has stopped.

    Go: ``NewConnectPool``; unlike it, ``acquire`` can wait, dead connections are not lent out, a server that is down
    does not get attempts without a pause, and the pool can be closed.
    """

    def __init__(
        self,
        connector: Connector,
        address: str | list[str],
        factory: Callable[[], C],
        *,
        min_idle: int = 1,
        grow_by: int = 1,
        max_live: int = 64,
        connect_timeout: float = 5.0,
        check_interval: float = 1.0,
        tls: bool | ClientContext | None = None,
    ) -> None:
        if not isinstance(connector, Connector):
            raise TypeError(f"connector must be a goev.Connector, not {type(connector).__name__}")
        if not callable(factory):
            raise TypeError(f"factory must be callable, not {type(factory).__name__}")
        self._connector = connector
        self._address = address
        self._tls = tls
        self._factory = factory
        self._max_live = _whole("max_live", max_live, 65536)
        self._min_idle = _whole("min_idle", min_idle, self._max_live, " (max_live)")
        self._grow_by = _whole("grow_by", grow_by, self._max_live, " (max_live)")
        self._connect_timeout = _seconds("connect_timeout", connect_timeout)
        self._check_interval = _seconds("check_interval", check_interval)

        # Reentrant, since a signal handler or a finalizer may acquire a connection while this thread holds the lock.
        self._lock = threading.RLock()
        self._changed = threading.Condition(self._lock)
        self._connecting: dict[int, tuple[C, float]] = {}  # with the time when it must be ready
        self._idle: dict[int, C] = {}  # last in, first out: the connection used last is warm
        self._taken: dict[int, C] = {}
        self._waiting: deque[Future[C]] = deque()  # calls of acquire, the longest first; empty while one is idle
        self._pollers: set[int] = set()  # threads that must not wait
        self._backoff = Backoff(memory=self._connect_timeout + 2 * LONGEST)
        self._last_failure: BaseException | None = None
        self._closed = False
        try:
            for _ in range(self._min_idle):
                self._begin(self._make())
        except BaseException:
            self.close()
            raise
        threading.Thread(target=self._keep, name="goev-pool", daemon=True).start()

    # ---- lending ------------------------------------------------------------------------------------------------

    @overload
    def acquire(self, *, timeout: None = None, then: None = None) -> C | None: ...
    @overload
    def acquire(self, *, timeout: float, then: None = None) -> C: ...
    @overload
    def acquire(self, *, timeout: float | None = None, then: Callable[[C | Exception], object]) -> None: ...
    def acquire(
        self, *, timeout: float | None = None, then: Callable[[C | Exception], object] | None = None
    ) -> C | None:
        """Take a connection; no other thread gets it until it is released.

        Args:
            timeout: seconds to wait for one, >= 0; the longest waiting call comes first. ``None`` means not to wait,
                and with ``then`` it means ``connect_timeout``.
            then: for callbacks, which must not wait: the call returns at once, and ``then(connection)`` follows, or
                ``then(error)`` with one of the exceptions below. It is called once, never inside this call: on the same
                poller inside a callback of the connector's reactor, otherwise on poller 0 of that reactor. If it
                raises, the connection is closed and the exception is logged.

        Returns: the connection released last; ``None`` when there is none and ``timeout`` is ``None``, and with
        ``then``. The pool then grows, so a later call may succeed.

        The server may end a connection at any moment: be prepared for ``ConnectionClosed`` from ``write`` and for
        ``on_close``.

        Raises:
            PoolClosed: the pool is closed, or was closed while this call waited.
            TimeoutError: no connection was free in time; ``__cause__`` is the error of the last failed attempt.
            WrongThread: with a timeout, on a poller that serves this pool: the poller would wait for itself.
            ValueError, TypeError: timeout is negative or no finite number; then cannot be called.

        Go: ``Acquire``.
        """
        if then is not None:
            self._acquire_then(then, self._connect_timeout if timeout is None else timeout)
            return None
        if timeout is not None:
            return self._acquire_within(timeout)
        with self._lock:
            if self._idle:
                key, connection = self._idle.popitem()
                self._taken[key] = connection
                return connection
            self._check_open()
            self._changed.notify()
            return None

    async def acquire_async(self, *, timeout: float | None = None) -> C:
        """Take a connection, and wait for one if none is free: for coroutines on an event loop of ``goev.asyncio``.

        ``timeout``, in seconds, and the exceptions are those of ``acquire(then=)``. A coroutine that is cancelled gets
        no connection.

        Raises ``WrongThread``: the event loop does not drive a poller of the connector's reactor.
        """
        from goev.asyncio.awaiting import check_loop  # asyncio takes most of the time of an import

        loop = check_loop(self._connector.reactor, "acquire_async()")
        if (connection := self.acquire()) is not None:
            return connection
        acquired: asyncio.Future[C] = loop.create_future()
        self.acquire(timeout=timeout, then=partial(self._bring, acquired))
        try:
            return await acquired
        except BaseException:  # cancelled, perhaps at the very moment when a connection came
            if acquired.done() and not acquired.cancelled() and acquired.exception() is None:
                self.release(acquired.result())
            raise

    def _bring(self, acquired: "asyncio.Future[C]", brought: C | Exception) -> None:
        if isinstance(brought, Exception):
            if not acquired.done():
                acquired.set_exception(brought)
        elif acquired.done():  # its coroutine was cancelled
            self.release(brought)
        else:
            acquired.set_result(brought)

    def release(self, connection: C) -> None:
        """Give back a connection. After ``ConnectionPool.close()`` the connection is closed.

        Raises ``ValueError`` for a connection that was not acquired here, was released already, or has ended.

        Go: ``Release``.
        """
        with self._lock:
            if self._taken.pop(id(connection), None) is None:
                raise ValueError(self._why_not_taken(connection))
            kept = self._lend_or_keep(connection)
        if not kept:
            connection.close()

    @contextmanager
    def connection(self, *, timeout: float | None = None) -> Iterator[C]:
        """``with pool.connection() as c:`` acquires a connection, and releases it at the end of the block.

        If the block raises, the connection is closed instead, since the state of its protocol is unknown. A connection
        that ends or is closed inside the block is not released.

        Args:
            timeout: as for ``acquire``; ``None`` means ``connect_timeout``.

        Raises: the exceptions of ``acquire``.
        """
        connection = self.acquire(timeout=self._connect_timeout if timeout is None else timeout)
        try:
            yield connection
        except BaseException:
            connection.close()
            raise
        self._give_back(connection)

    @property
    def idle(self) -> int:
        """How many connections wait to be acquired.

        Go: ``IdleNum``.
        """
        return len(self._idle)

    @property
    def live(self) -> int:
        """How many connections are open and ready, lent out or not.

        Go: ``LiveNum``.
        """
        with self._lock:
            return len(self._idle) + len(self._taken)

    def close(self) -> None:
        """Close the idle connections now, and lent ones when they are released. May be called any number of times."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, {}
            waiting, self._waiting = self._waiting, deque()
            self._changed.notify_all()
        for waiter in waiting:
            waiter.set_exception(self._closed_error())
        for connection in idle.values():
            connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _acquire_within(self, timeout: float) -> C:
        timeout = _seconds("timeout", timeout, zero=True)
        with self._lock:
            self._check_open()
            if threading.get_ident() in self._pollers:
                text = "acquire(timeout=…) would make a poller wait for itself; use acquire(then=…) in callbacks"
                raise WrongThread(f"{text} [GOEV101]")
            if (connection := self.acquire()) is not None:
                return connection
            waiter: Future[C] = Future()
            self._waiting.append(waiter)
            self._changed.notify()
        try:
            return waiter.result(timeout)
        except TimeoutError:
            if self._came_too_late(waiter):
                return waiter.result()
            raise self._timed_out(timeout) from self._last_failure
        except BaseException:  # KeyboardInterrupt, say
            self._withdraw(waiter)
            raise

    def _acquire_then(self, then: Callable[[C | Exception], object], timeout: float) -> None:
        if not callable(then):
            raise TypeError(f"then must be callable, not {type(then).__name__}")
        timeout = _seconds("timeout", timeout, zero=True)
        waiter: Future[C] = Future()
        with self._lock:
            self._check_open()
            if (connection := self.acquire()) is not None:
                waiter.set_result(connection)
            else:
                self._waiting.append(waiter)
        reactor = self._connector.reactor
        try:
            timer = None if waiter.done() else reactor.schedule(timeout, partial(self._expire, waiter, timeout))
            reactor._when_done(waiter, partial(_tell, then, timer))
        except BaseException:  # the reactor has stopped
            self._withdraw(waiter)
            raise

    def _expire(self, waiter: "Future[C]", timeout: float) -> None:
        if not self._came_too_late(waiter):
            error = self._timed_out(timeout)
            error.__cause__ = self._last_failure
            waiter.set_exception(error)

    def _timed_out(self, timeout: float) -> TimeoutError:
        state = f"{self.live} live, {self._max_live} at most"
        return TimeoutError(f"no connection to {self._address} in {timeout} s ({state})")

    def _withdraw(self, waiter: "Future[C]") -> None:
        """End the wait of ``waiter``, and give back a connection that came at the last moment."""
        if self._came_too_late(waiter) and waiter.exception() is None:
            self._give_back(waiter.result())

    def _came_too_late(self, waiter: "Future[C]") -> bool:
        """End the wait of ``waiter``; return whether it was served after all, at the last moment."""
        with self._lock:
            if waiter not in self._waiting:
                return True
            self._waiting.remove(waiter)
            return False

    def _give_back(self, connection: C) -> None:
        """Release a connection unless it has ended."""
        with suppress(ValueError):
            self.release(connection)

    def _lend_or_keep(self, connection: C) -> bool:
        """Under the lock: give a connection to the longest waiting call or keep it; ``False`` if the pool is closed."""
        if self._closed:
            return False
        if self._waiting:
            self._taken[id(connection)] = connection
            self._waiting.popleft().set_result(connection)
        else:
            self._idle[id(connection)] = connection
        return True

    def _check_open(self) -> None:
        if self._closed:
            raise self._closed_error()

    def _closed_error(self) -> PoolClosed:
        return PoolClosed(f"the connection pool for {self._address} is closed")

    def _why_not_taken(self, connection: object) -> str:
        if not isinstance(connection, PooledConnection) or connection._pool is not self:
            return f"connection must be one that was acquired from this pool, not {connection!r}"
        if id(connection) in self._idle:
            return f"connection was released already: {connection!r}"
        return f"connection has ended, and the pool has forgotten it: {connection!r}"

    # ---- reports of connections, on their pollers ---------------------------------------------------------------

    def _ready(self, connection: C) -> None:
        with self._lock:
            self._pollers.add(threading.get_ident())
            if self._connecting.pop(id(connection), None) is None:
                return  # it was ready before
            connection._ready_since = monotonic()
            self._backoff.succeeded()
            self._changed.notify()  # more than one at a time may be begun again
            kept = self._lend_or_keep(connection)
        if not kept:
            connection.close()

    def _ended(self, connection: C, error: BaseException | None) -> None:
        now = monotonic()
        with self._lock:
            self._pollers.add(threading.get_ident())
            was_connecting = self._connecting.pop(id(connection), None) is not None
            if not self._leave(connection) and not was_connecting:
                return
            self._changed.notify()
            if self._closed or not (was_connecting or now - connection._ready_since < STEADY):
                return
            self._last_failure = error
            self._backoff.failed(now)

    def _leave(self, connection: C) -> bool:
        """Forget a connection that was ready; return whether it was known."""
        with self._lock:
            taken, idle = self._taken.pop(id(connection), None), self._idle.pop(id(connection), None)
            self._changed.notify()
            return taken is not None or idle is not None

    # ---- the keeper ---------------------------------------------------------------------------------------------

    def _keep(self) -> None:
        """Begin connections whenever some are missing, until the pool is closed and no connection is being made."""
        try:
            while not self._is_done():
                for connection in self._overdue():
                    self._give_up(connection)
                for _ in range(self._wait_until_missing()):
                    self._begin_or_back_off()
        finally:
            self.close()  # a pool without its keeper is useless: after a SystemExit of the factory, say

    def _wait_until_missing(self) -> int:
        """Return how many connections to begin; 0 after ``check_interval``."""
        with self._lock:
            if (count := self._missing()) == 0 and not self._is_done():
                self._changed.wait(self._check_interval)
                count = self._missing()
            pause = self._backoff.until - monotonic()
            if count and pause > 0:
                self._changed.wait(min(pause, self._check_interval))
                return 0
            return count

    def _is_done(self) -> bool:
        return self._closed and not self._connecting

    def _missing(self) -> int:
        if self._closed:
            return 0
        missing = max(self._min_idle, len(self._waiting)) - len(self._idle) - len(self._connecting)
        room = self._max_live - self.live - len(self._connecting)
        if missing <= 0 or (self._backoff.failing and self._connecting):
            return 0
        return min(1 if self._backoff.failing else max(missing, self._grow_by), room)

    def _begin_or_back_off(self) -> None:
        backoff = self._backoff
        reason = "the server closes" if self._last_failure is None else self._last_failure
        # Once per outage, and not for a single mishap. The attempt may fail, and count, before `_begin` returns.
        is_outage = backoff.failing and backoff.failures == 2
        try:
            self._begin(self._make())
            if is_outage:
                logger.warning("connections to %s fail, trying again: %s", self._address, reason, extra=self._about())
        except Exception as error:
            if self._closed:
                return
            extra = self._about("factory")
            logger.exception("the factory of the connection pool for %s", self._address, extra=extra)
            with self._lock:
                self._last_failure = error
                self._backoff.failed(monotonic())

    def _make(self) -> C:
        connection = self._factory()
        if not isinstance(connection, PooledConnection):
            raise TypeError(f"factory must return a goev.PooledConnection, not {type(connection).__name__}")
        if connection._pool is not None:
            raise ValueError(f"factory must return a new connection each time, not {connection!r} again")
        connection._pool = self
        return connection

    def _begin(self, connection: C) -> None:
        with self._lock:
            self._connecting[id(connection)] = connection, monotonic() + self._connect_timeout
        try:
            self._connector.connect(self._address, connection, timeout=self._connect_timeout, tls=self._tls)
        except BaseException as error:
            with self._lock:
                self._connecting.pop(id(connection), None)
            if isinstance(error, RuntimeError):  # the reactor has stopped
                self.close()
            raise

    def _overdue(self) -> list[C]:
        """Return the connections that should be ready; each one again after another ``connect_timeout``."""
        now = monotonic()
        with self._lock:
            overdue = [connection for connection, end in self._connecting.values() if now > end]
            again = now + self._connect_timeout
            self._connecting.update({id(connection): (connection, again) for connection in overdue})
        return overdue

    def _give_up(self, connection: C) -> None:
        """Abort a connection that is open but did not become ready. The connector ends one that is not open."""
        with suppress(ConnectionClosed):
            connection.abort()
            logger.warning(
                "%s was not ready in connect_timeout=%s s: on_open, or what comes after a login, has to call"
                " super().on_open()",
                type(connection).__name__,
                self._connect_timeout,
                extra=self._about("on_open"),
            )

    def _about(self, callback: str | None = None) -> dict[str, str | None]:
        """The attributes that every record of the logger ``goev`` has."""
        return {"peer": str(self._address), "callback": callback}


def _tell(then: Callable[[Any], object], timer: Timer | None, waiter: "Future[Any]") -> None:
    """Call ``then`` with the outcome of its ``acquire``."""
    if timer is not None:
        timer.cancel()
    error = waiter.exception()
    if error is None:
        connection = waiter.result()
        try:
            then(connection)
        except BaseException:
            connection.close()
            raise
    elif isinstance(error, Exception):
        then(error)


def _whole(name: str, value: int, most: int, meaning: str = "") -> int:
    if not isinstance(value, int):
        raise TypeError(f"{name} must be an int, not {type(value).__name__}")
    if not 1 <= value <= most:
        raise ValueError(f"{name} must be from 1 to {most}{meaning}, not {value}")
    return value


def _seconds(name: str, value: float, *, zero: bool = False) -> float:
    if not isinstance(value, int | float):
        raise TypeError(f"{name} must be a number of seconds, not {type(value).__name__}")
    if not 0 <= value <= TEN_YEARS or (value == 0 and not zero):
        least = "from 0" if zero else "more than 0, up"
        raise ValueError(f"{name} must be {least} to {TEN_YEARS} seconds, not {value}")
    return value
