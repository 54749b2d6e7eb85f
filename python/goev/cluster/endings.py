"""The ends of connections: whatever a connection has in a cluster ends with it.

The poller of a connection holds an object of ours as one of the futures that wait for the connection's end. So an end
costs one call, and a connection that lives costs nothing.
"""

import threading
from collections.abc import Callable

from goev._core import Connection, ConnectionClosed


class Ending:
    """The callbacks for the end of one connection. ``done`` and ``set_result`` make it a future for the poller."""

    def __init__(self, endings: "Endings", connection: Connection) -> None:
        self.connection = connection
        self.callbacks: dict[object, Callable[[], None]] = {}
        self._endings = endings

    def done(self) -> bool:
        return False

    def set_result(self, _: BaseException | None) -> None:
        self._endings.end(self)


class Beginning:
    """Has the poller of a connection hold its ``Ending``. If this is dropped before, the connection ended first."""

    def __init__(self, endings: "Endings", ending: Ending) -> None:
        self._endings = endings
        self._ending = ending
        self._is_held = False

    def __call__(self) -> None:
        self._is_held = True
        self._ending.connection._when_closed(self._ending)  # type: ignore[arg-type]

    def __del__(self) -> None:
        if not self._is_held:
            self._endings.end(self._ending)


class Endings:
    """The connections of a cluster. All methods may be called from any thread."""

    def __init__(self) -> None:
        self._lock = threading.RLock()  # the collector may drop a ``Beginning`` anywhere
        self._by_connection: dict[int, Ending] = {}  # by id, because a handler may have an ``__eq__`` of its own

    def add(self, connection: Connection, key: object, callback: Callable[[], None]) -> None:
        """Call ``callback`` when the connection has ended, on whatever thread that is noticed.

        Raises ConnectionClosed: it has ended.
        """
        with self._lock:
            ending = self._by_connection.get(id(connection))
            is_new = ending is None
            if ending is None:
                ending = self._by_connection[id(connection)] = Ending(self, connection)
            ending.callbacks[key] = callback
        if is_new:
            self._begin(ending)

    def _begin(self, ending: Ending) -> None:
        begin = Beginning(self, ending)
        try:
            if ending.connection._is_here():
                begin()
            else:
                ending.connection.call_soon(begin)
        except ConnectionClosed:
            with self._lock:  # the caller hears it, so nobody is called back
                ending.callbacks.clear()
            raise

    def has(self, connection: Connection, key: object) -> bool:
        """Whether the connection lives, and a callback waits under the key."""
        with self._lock:
            ending = self._by_connection.get(id(connection))
            return ending is not None and ending.connection is connection and key in ending.callbacks

    def discard(self, connection: Connection, key: object) -> None:
        """Forget a callback; harmless if there is none."""
        with self._lock:
            if ending := self._by_connection.get(id(connection)):
                ending.callbacks.pop(key, None)

    def end(self, ending: Ending) -> None:
        """The connection has ended."""
        with self._lock:
            if self._by_connection.get(id(ending.connection)) is ending:
                del self._by_connection[id(ending.connection)]
            callbacks = list(ending.callbacks.values())
            ending.callbacks.clear()
        for callback in callbacks:
            callback()
