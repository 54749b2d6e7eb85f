"""The messages that wait for the engine: bounded, and the oldest is dropped first.

``Intake`` is the side of the senders, which are any threads: one append, and a wake-up if the cluster's thread sleeps.
``Outbox`` is the side of the cluster's thread.
"""

import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from itertools import count
from typing import Any, NamedTuple, Protocol

from goev._core import Connection, Error
from goev.cluster.interface import Outgoing

LONGEST = 0.001  # seconds that a callback which goes on sending may put the other machines off
MOST_IN_INTAKE = 65_536  # messages; more wait only while the cluster's thread cannot run


class Source(Protocol):
    """A sender of messages: a group."""

    def outgoing(self, message: str | bytes) -> Outgoing:
        """The message as the engine gets it. The cluster's thread calls it, in the order of the senders."""


class Entry(NamedTuple):
    """A message that waits in the intake; by ``number`` those that found no room are counted."""

    source: Source
    message: str | bytes
    number: int


class Intake:
    """The messages of all threads on their way to the cluster's thread.

    Senders are a hot path: they use ``queue``, ``number`` and ``asleep`` as ``ClusterGroup.send`` does.
    """

    def __init__(self, wake: Callable[[], None]) -> None:
        self._here = threading.local()  # ``reactor``: the one of this poller
        self.queue: deque[tuple[Source, str | bytes, int]] = deque(maxlen=MOST_IN_INTAKE)
        self.number = count(1).__next__
        self._seen = 0  # messages that were taken, or counted as dropped
        self.asleep = True  # whether the next sender has to wake the thread
        self.is_put_off = False  # a poller will wake it soon
        self.put_off_since = 0.0
        self._wake = wake

    def meet(self, connection: Connection) -> None:
        """Learn of a poller, if this is its thread."""
        if connection._is_here():
            self._here.reactor = connection.reactor

    def wake(self) -> None:
        """Wake the cluster's thread; on a poller when the callbacks of its batch have run and their output is sent.

        A thread that is woken competes with the one that wakes it, for the interpreter lock and often for the CPU. So
        the callback, and the members here, would wait for it. A callback that sends many messages does not put the
        other machines off.
        """
        reactor = getattr(self._here, "reactor", None)
        if self.is_put_off:
            if time.monotonic() - self.put_off_since < LONGEST:
                return
        elif reactor is not None:
            try:
                reactor.call_soon(PutOff(self))
                return
            except (Error, RuntimeError):  # that reactor has stopped
                del self._here.reactor
        self.wake_now()

    def wake_now(self) -> None:
        """Wake it, whatever thread this is."""
        self.asleep = False
        try:
            self._wake()
        except BaseException:
            self.asleep = True  # so that the next sender hears it too: the cluster is closed
            raise

    def take(self) -> tuple[list[tuple[Source, str | bytes, int]], int]:
        """All that waits, and how many older messages found no room."""
        # First this, then the look: a sender that appends behind the look finds the thread asleep.
        self.asleep = True
        taken: list[Any] = []
        while self.queue:
            taken.append(self.queue.popleft())
        self._seen += len(taken)
        dropped = max(0, taken[-1][2] - self._seen) if len(taken) >= MOST_IN_INTAKE else 0
        self._seen += dropped
        return taken, dropped


class PutOff:
    """Wakes the cluster's thread when a poller calls this, or drops it because it has ended."""

    def __init__(self, intake: Intake) -> None:
        self._intake: Intake | None = intake
        intake.is_put_off = True
        intake.put_off_since = time.monotonic()

    def __call__(self) -> None:
        intake, self._intake = self._intake, None
        if intake is not None:
            intake.is_put_off = False
            if intake.asleep and intake.queue:
                intake.wake_now()

    def __del__(self) -> None:
        with suppress(Error, RuntimeError):  # the cluster is closed as well
            self()


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
