"""The messages that wait for the engine: bounded, and the oldest is dropped first.

``goev._core.Intake`` brings them from the senders, which are any threads, to the cluster's thread. ``Outbox`` is the
side of the cluster's thread.
"""

from collections import deque
from collections.abc import Callable
from typing import Protocol

from goev.cluster.interface import Outgoing

MOST_IN_INTAKE = 65_536  # messages; more wait only while the cluster's thread cannot run


class Source(Protocol):
    """A sender of messages: a group."""

    def outgoing(self, message: str | bytes) -> Outgoing:
        """The message as the engine gets it. The cluster's thread calls it, in the order of the senders."""


class Outbox:
    """Messages for the engine, within ``limit`` bytes: the oldest are dropped first.

    Args:
        limit: bytes of messages.
        dropped: called with the number of messages that were dropped.
    """

    def __init__(self, limit: int, dropped: Callable[[int], None]) -> None:
        self.limit = limit
        self.bytes = 0
        self._dropped = dropped
        self._waiting: deque[Outgoing] = deque()

    def __len__(self) -> int:
        return len(self._waiting)

    def put(self, message: Outgoing) -> None:
        """Append a message, and drop the oldest ones if there is no room."""
        self._waiting.append(message)
        self.bytes += len(message.data)
        if self.bytes > self.limit:
            self._make_room()

    def put_back(self, messages: list[Outgoing]) -> None:
        """Put messages back that the engine did not take, before all others."""
        self._waiting.extendleft(reversed(messages))
        self.bytes += sum(len(message.data) for message in messages)
        if self.bytes > self.limit:
            self._make_room()

    def take(self, most: int, size: int) -> list[Outgoing]:
        """The oldest messages: at most ``most``, and about ``size`` bytes."""
        taken: list[Outgoing] = []
        while self._waiting and len(taken) < most and size > 0:
            message = self._waiting.popleft()
            size -= len(message.data)
            self.bytes -= len(message.data)
            taken.append(message)
        return taken

    def _make_room(self) -> None:
        dropped = 0
        while self.bytes > self.limit and self._waiting:
            self.bytes -= len(self._waiting.popleft().data)
            dropped += 1
        self._dropped(dropped)
