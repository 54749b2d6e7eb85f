"""A backplane within the process: for programs on one machine, and for tests in which clusters play machines."""

import asyncio
import secrets
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from itertools import count

from goev.cluster.interface import Backplane, Kept, Lost, Outgoing, Place, Receive, Replay, Subscription

MOST_WAITING = 64 * 1024 * 1024  # bytes for one subscriber; more end its session, as with every engine

_hubs: dict[str, "Hub"] = {}
_lock = threading.Lock()


def hub(name: str = "") -> "Hub":
    """The engine of all clusters of this process with the URL ``memory:name``."""
    with _lock:
        return _hubs.setdefault(name, Hub())


class Hub:
    """An engine in memory. ``stop`` and ``start`` play an engine that goes away and comes back.

    All methods may be called from any thread.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._sessions: dict[str, set[MemoryBackplane]] = {}  # by subject
        self._open: set[MemoryBackplane] = set()
        self._logs: OrderedDict[str, Log] = OrderedDict()  # the one that was used last at the end
        self._is_running = True

    def stop(self, *, forget: bool = False) -> None:
        """End all sessions, and refuse new ones. With ``forget`` the histories are gone as well."""
        with self._lock:
            self._is_running = False
            ending, self._open = self._open, set()
            self._sessions.clear()
            if forget:
                self._logs.clear()
        for session in ending:
            session.end(ConnectionResetError("the hub was stopped"))

    def start(self) -> None:
        """Take sessions again."""
        with self._lock:
            self._is_running = True

    def join(self, session: "MemoryBackplane") -> None:
        with self._lock:
            if not self._is_running:
                raise ConnectionRefusedError("the hub is stopped")
            self._open.add(session)

    def leave(self, session: "MemoryBackplane") -> None:
        with self._lock:
            self._open.discard(session)
            for subject in [subject for subject, sessions in self._sessions.items() if session in sessions]:
                self._remove(subject, session)

    def subscribe(self, session: "MemoryBackplane", subjects: Iterable[str]) -> None:
        with self._lock:
            self._check(session)
            for subject in subjects:
                self._sessions.setdefault(subject, set()).add(session)

    def unsubscribe(self, session: "MemoryBackplane", subjects: Iterable[str]) -> None:
        with self._lock:
            for subject in subjects:
                self._remove(subject, session)

    def subjects(self) -> dict[str, int]:
        """The numbers of subscribers by subject."""
        with self._lock:
            return {subject: len(sessions) for subject, sessions in self._sessions.items()}

    def publish(self, session: "MemoryBackplane", messages: Iterable[Outgoing]) -> None:
        with self._lock:
            self._check(session)
            for message in messages:
                place = None
                if message.keep:
                    place = self._log(message.subject, message.keep, session.history_age).append(message.data)
                receivers = self._sessions.get(message.subject, ())
                for receiver in receivers:
                    receiver.put(message.subject, message.data, place)
                if not receivers and message.on_absent:
                    message.on_absent()

    def read(self, session: "MemoryBackplane", subscription: Subscription, after: Place | None) -> Replay:
        with self._lock:
            return self._log(subscription.subject, subscription.keep, session.history_age).after(after)

    def _log(self, subject: str, keep: int, age: float) -> "Log":
        """The history of a subject; those that were not used for ``age`` are forgotten."""
        log = self._logs.setdefault(subject, Log(keep))
        self._logs.move_to_end(subject)
        log.used = time.monotonic()
        while next(iter(self._logs.values())).used < log.used - age:
            self._logs.popitem(last=False)
        return log

    def _remove(self, subject: str, session: "MemoryBackplane") -> None:
        sessions = self._sessions.get(subject, set())
        sessions.discard(session)
        if not sessions:
            self._sessions.pop(subject, None)

    def _check(self, session: "MemoryBackplane") -> None:
        if session not in self._open:
            raise ConnectionResetError("the session has ended")


class Log:
    """The last messages of a subject."""

    def __init__(self, keep: int) -> None:
        self.epoch = secrets.token_hex(4)
        self.used = 0.0
        self._numbers = count(1)
        self._last = 0
        self._kept: deque[Kept] = deque(maxlen=keep)

    def append(self, data: bytes) -> Place:
        before, self._last = self._last, next(self._numbers)
        self._kept.append(Kept(self._last, data))
        return Place(self.epoch, self._last, before)

    def after(self, place: Place | None) -> Replay:
        first = self._kept[0].number if self._kept else self._last + 1
        if place is None:
            return Replay(self.epoch, list(self._kept), True)
        if place.epoch != self.epoch:
            return Replay(self.epoch, list(self._kept), False)
        later = [kept for kept in self._kept if kept.number > place.number]
        return Replay(self.epoch, later, first <= place.number + 1)


class MemoryBackplane(Backplane):
    """A backplane over a ``Hub``.

    Args:
        name: of the hub. Clusters with the same name reach each other.
        history_age: seconds that a history is kept after it was used last.
    """

    keeps_history = True

    def __init__(self, name: str = "", *, history_age: float = 86_400.0) -> None:
        self.history_age = history_age
        self.url = f"memory:{name}"
        self.hub = hub(name)
        self._inbox: deque[tuple[str, bytes, Place | None]] = deque()
        self._inbox_lock = threading.Lock()
        self._waiting = 0  # bytes in the inbox
        self._is_woken = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._receive: Receive | None = None
        self._lost: Lost | None = None

    async def open(self, receive: Receive, lost: Lost) -> None:
        self._loop, self._receive, self._lost = asyncio.get_running_loop(), receive, lost
        self.hub.join(self)

    async def close(self) -> None:
        self.hub.leave(self)
        self._receive = self._lost = None
        with self._inbox_lock:
            self._inbox.clear()
            self._waiting = 0

    async def ping(self) -> None:
        pass

    async def subscribe(self, subscriptions: Sequence[Subscription]) -> None:
        self.hub.subscribe(self, [subscription.subject for subscription in subscriptions])

    async def unsubscribe(self, subscriptions: Sequence[Subscription]) -> None:
        self.hub.unsubscribe(self, [subscription.subject for subscription in subscriptions])

    async def publish(self, messages: Sequence[Outgoing]) -> None:
        self.hub.publish(self, messages)

    async def read(self, subscription: Subscription, after: Place | None) -> Replay:
        return self.hub.read(self, subscription, after)

    def put(self, subject: str, data: bytes, place: Place | None) -> None:
        """Take a message from any thread; the hub calls it."""
        with self._inbox_lock:
            self._inbox.append((subject, data, place))
            self._waiting += len(data)
            is_woken, self._is_woken = self._is_woken, True
            is_full = self._waiting > MOST_WAITING
        if is_full:
            self.end(BufferError(f"more than {MOST_WAITING} bytes wait for this subscriber"))
        if not is_woken:
            self._call(self._deliver)

    def end(self, error: BaseException) -> None:
        """End the session from any thread."""
        self._call(self._report_lost, error)

    def _call(self, function: Callable[..., object], *args: object) -> None:
        loop = self._loop
        if loop is not None and not loop.is_closed():
            with suppress(RuntimeError):  # it was closed meanwhile, so nobody waits for the message
                loop.call_soon_threadsafe(function, *args)

    def _report_lost(self, error: BaseException) -> None:
        if self._lost is not None:
            self._lost(error)

    def _deliver(self) -> None:
        with self._inbox_lock:
            messages, self._inbox = self._inbox, deque()
            self._waiting, self._is_woken = 0, False
        for message in messages:
            if self._receive is not None:
                self._receive(*message)
