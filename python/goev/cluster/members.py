"""The members of a group on this machine: who joined, and who has left or ended."""

import threading
from collections.abc import Callable
from typing import Any

from goev._core import Connection
from goev.cluster.endings import Endings


class Membership:
    """A connection in a group; ``number`` names it on this machine."""

    __slots__ = ("connection", "meta", "number")

    def __init__(self, connection: Connection, number: int, meta: Any) -> None:
        self.connection = connection
        self.number = number
        self.meta = meta


class Members:
    """The memberships of a group on this machine. All methods may be called from any thread.

    Args:
        endings: the ends of connections.
        joined, left: called with each membership that begins or ends, in order for each.
    """

    def __init__(
        self, endings: Endings, joined: Callable[[Membership], None], left: Callable[[Membership], None]
    ) -> None:
        self._endings = endings
        self._joined = joined
        self._left = left
        self._lock = threading.RLock()
        self._numbers = 0
        self._by_connection: dict[int, Membership] = {}  # by id, because a handler may have an ``__eq__`` of its own

    def __len__(self) -> int:
        return len(self._by_connection)

    def all(self) -> list[Membership]:
        """Those that are there."""
        return list(self._by_connection.values())

    def __contains__(self, connection: object) -> bool:
        return id(connection) in self._by_connection

    def has(self, membership: Membership) -> bool:
        """Whether a membership goes on."""
        return self._by_connection.get(id(membership.connection)) is membership

    def add(self, connection: Connection, meta: Any) -> Membership | None:
        """Begin a membership; returns ``None`` for a member.

        Raises ConnectionClosed: the connection has ended.
        """
        with self._lock:
            if connection in self:
                return None
            self._numbers += 1
            membership = Membership(connection, self._numbers, meta)
            self._joined(membership)
            self._by_connection[id(connection)] = membership
        try:
            self._endings.add(connection, self, lambda: self.remove(membership))
        except BaseException:
            self.remove(membership)
            raise
        return membership

    def discard(self, connection: Connection) -> None:
        """End the membership of a connection; harmless for one that is no member."""
        if membership := self._by_connection.get(id(connection)):
            self._endings.discard(connection, self)
            self.remove(membership)

    def remove(self, membership: Membership) -> None:
        """End a membership; harmless for one that has ended."""
        with self._lock:
            if self.has(membership):
                del self._by_connection[id(membership.connection)]
                self._left(membership)
