"""The connection to the engine: sessions of a backplane, one after another.

The link opens a session, subscribes to all that the cluster wants, and pumps messages until the session is lost. Then
it waits, longer after each failure, and begins again. No call of a backplane may take longer than ``timeout``. So an
engine that accepts connections and never answers counts as lost.
"""

import asyncio
import logging
import sys
from collections.abc import Callable, Coroutine
from contextlib import suppress
from functools import partial
from typing import Any, NamedTuple

from goev.backoff import Backoff
from goev.cluster.errors import AccessDenied, Unreachable
from goev.cluster.figures import Figures
from goev.cluster.interface import Backplane, Outgoing, Place, Subscription
from goev.cluster.outbox import Outbox
from goev.cluster.thread import guarded

LOGGER = logging.getLogger("goev.cluster")
BATCH_COUNT, BATCH_BYTES = 512, 1 << 20  # messages and bytes for one call of `publish`
SUBJECTS = 1024  # for one call of `subscribe`
MEMORY = 60.0  # seconds after which a failure is forgotten

State = str  # "connecting", "up", "down" or "closed"


class Wanted(NamedTuple):
    """A subject that the cluster wants, its handler, and a callback for each time that the engine has subscribed."""

    subscription: Subscription
    receive: Callable[[bytes, Place | None], None]
    established: Callable[[], None]


class Patience:
    """Notices a call that takes too long. One timer serves many calls, since a timer for each costs more than most.

    Args:
        timeout: seconds for a call.
        over: called when one has taken longer.
    """

    def __init__(self, timeout: float, over: Callable[[], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._timeout = timeout
        self._over = over
        self._end: float | None = None
        self._timer: asyncio.TimerHandle | None = None

    def begin(self) -> None:
        self._end = self._loop.time() + self._timeout
        if self._timer is None:
            self._timer = self._loop.call_at(self._end, self._look)

    def end(self) -> None:
        self._end = None

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _look(self) -> None:
        self._timer = None
        if self._end is not None:
            if self._end <= self._loop.time():
                self._over()
            else:
                self._timer = self._loop.call_at(self._end, self._look)


class Link:
    """The way of one cluster to its engine. Everything runs on the cluster's thread.

    Args:
        backplane: the engine.
        outbox: the messages of groups, which wait while the engine is away.
        figures: counters.
        timeout: seconds for each call of the backplane.
        interval: seconds between pings.
        on_state: called with each new state, and the exception that led to it.
    """

    def __init__(
        self,
        backplane: Backplane,
        outbox: Outbox,
        figures: Figures,
        *,
        timeout: float,
        interval: float,
        on_state: Callable[[State, BaseException | None], None],
    ) -> None:
        self.backplane = backplane
        self.state: State = "connecting"
        self.error: BaseException | None = None
        self._outbox = outbox
        self._figures = figures
        self._timeout = timeout
        self._interval = interval
        self._on_state = on_state
        self._wanted: dict[str, Wanted] = {}
        self._changed: dict[str, Wanted] = {}  # subjects that are to be subscribed or unsubscribed, with what they were
        self._control = Outbox(outbox.limit, lambda count: None)
        self._is_busy = False
        self._is_held = False  # messages of groups wait for other machines
        self._work = asyncio.Event()
        self._closing = asyncio.Event()
        self._answered = asyncio.Event()  # it is there, or has refused this program

    # ---- for the cluster ---------------------------------------------------------------------------------------------

    def want(
        self,
        subscription: Subscription,
        receive: Callable[[bytes, Place | None], None],
        established: Callable[[], None],
    ) -> None:
        """Subscribe, now and in each later session."""
        wanted = Wanted(subscription, receive, established)
        self._wanted[subscription.subject] = wanted
        self._changed[subscription.subject] = wanted
        self._work.set()

    def unwant(self, subject: str) -> None:
        """The opposite."""
        if wanted := self._wanted.pop(subject, None):
            self._changed[subject] = wanted
            self._work.set()

    def post(self, message: Outgoing) -> bool:
        """Send a message before those of groups; false if the engine is away, or so slow that there is no room."""
        if self.state != "up" or self._control.bytes + len(message.data) > self._control.limit:
            return False
        self._control.put(message)
        self._work.set()
        return True

    @property
    def subscriptions(self) -> int:
        """The number of subjects that this machine wants."""
        return len(self._wanted)

    async def wait_until_up(self, timeout: float) -> None:
        """Return when a session is there. Raises TimeoutError, or AccessDenied as soon as the engine says so."""
        async with asyncio.timeout(timeout):
            await self._answered.wait()
        if isinstance(self.error, AccessDenied):
            raise self.error

    async def settled(self) -> None:
        """Return when the engine has all that was wanted of it so far."""
        while self.state not in ("up", "closed") or self._has_work or self._is_busy:
            await asyncio.sleep(0.001)

    def send_waiting(self) -> None:
        """Send what is in the outbox, as soon as the engine takes it."""
        self._work.set()

    def hold(self) -> None:
        """Keep messages of groups back until ``release``."""
        self._is_held = True

    def release(self) -> None:
        self._is_held = False
        self._work.set()

    async def close(self, timeout: float) -> None:
        """Send what waits, if the engine takes it within ``timeout``, and end."""
        end = asyncio.get_running_loop().time() + timeout
        while self.state == "up" and (self._control or self._changed or self._outbox or self._is_busy):
            if asyncio.get_running_loop().time() > end:
                break
            await asyncio.sleep(0.001)
        self._closing.set()

    # ---- sessions ----------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Hold sessions until ``close``."""
        backoff = Backoff(MEMORY)
        loop = asyncio.get_running_loop()
        while not self._closing.is_set():
            error = await self._session()
            if self._closing.is_set():
                break
            backoff.failed(loop.time())
            self._control.take(len(self._control), sys.maxsize)
            self._change_state("down", error)
            self._figures.failures += 1
            with suppress(TimeoutError):
                async with asyncio.timeout_at(backoff.until):
                    await self._closing.wait()

    def ended(self) -> None:
        """``run`` has ended, or was cancelled, maybe before it began."""
        self._change_state("closed", None)

    async def _session(self) -> BaseException | None:
        """One session, from its beginning to its end; returns the reason of the end."""
        lost: asyncio.Future[BaseException | None] = asyncio.get_running_loop().create_future()
        try:
            subscribed = await self._unless_closing(self._begin(lost))
            if subscribed is None:
                return None
            self._figures.sessions += 1
            self._change_state("up", None)
            self._tell_established(subscribed)
            return await self._until_lost(lost)
        except TimeoutError:
            return self._silence()
        except Exception as error:
            return error
        finally:
            await self._close_session()

    async def _begin(self, lost: "asyncio.Future[BaseException | None]") -> list[Wanted]:
        """Open a session, and subscribe to all that is wanted."""
        async with asyncio.timeout(self._timeout):
            await self.backplane.open(self._received, partial(self._report_lost, lost))
        self._changed.clear()
        subscribed = list(self._wanted.values())
        await self._subscribe(subscribed)
        return subscribed

    async def _unless_closing(self, coroutine: Coroutine[Any, Any, list[Wanted]]) -> list[Wanted] | None:
        """Run a coroutine; ``close`` ends it, and then there is no result."""
        tasks: list[asyncio.Task[Any]] = [asyncio.ensure_future(coroutine), asyncio.ensure_future(self._closing.wait())]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            return tasks[0].result() if tasks[0].done() else None
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _subscribe(self, wanted: list[Wanted]) -> None:
        """Subscribe in parts, so that the time for each is enough whatever the number of subjects."""
        for start in range(0, len(wanted), SUBJECTS):
            async with asyncio.timeout(self._timeout):
                await self.backplane.subscribe([each.subscription for each in wanted[start : start + SUBJECTS]])

    async def _until_lost(self, lost: "asyncio.Future[BaseException | None]") -> BaseException | None:
        closing = asyncio.ensure_future(self._closing.wait())
        patience = Patience(self._timeout, partial(self._report_lost, lost, self._silence()))
        tasks = [asyncio.ensure_future(self._pump(patience)), asyncio.ensure_future(self._ping())]
        waited: list[asyncio.Future[Any]] = [lost, closing, *tasks]
        try:
            await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
            for task in tasks:
                if task.done():
                    task.result()
            return lost.result() if lost.done() else None
        finally:
            patience.stop()
            for each in waited[1:]:
                each.cancel()
            await asyncio.gather(*waited[1:], return_exceptions=True)

    async def _close_session(self) -> None:
        try:
            async with asyncio.timeout(self._timeout):
                await self.backplane.close()
        except Exception as error:
            LOGGER.warning("closing %s failed: %r", self.backplane.url, error)

    def _silence(self) -> Unreachable:
        return Unreachable(f"{self.backplane.url} did not answer within {self._timeout} s")

    def _report_lost(self, lost: "asyncio.Future[BaseException | None]", error: BaseException | None) -> None:
        """A backplane may say this more than once, and late: so each session has a future of its own."""
        if not lost.done():
            lost.set_result(error or Unreachable(f"{self.backplane.url} ended the connection"))

    async def _ping(self) -> None:
        while True:
            await asyncio.sleep(self._interval)
            async with asyncio.timeout(self._timeout):
                await self.backplane.ping()

    # ---- messages ----------------------------------------------------------------------------------------------------

    def _received(self, subject: str, data: bytes, place: Place | None) -> None:
        if wanted := self._wanted.get(subject):
            self._figures.received += 1
            try:
                wanted.receive(data, place)
            except Exception:
                self._figures.malformed += 1
                LOGGER.exception("a message on %r cannot be handled", subject)

    @property
    def _has_work(self) -> bool:
        return bool(self._changed or self._control or (self._outbox and not self._is_held))

    async def _pump(self, patience: Patience) -> None:
        while True:
            await self._work.wait()
            self._work.clear()
            while self._has_work:
                self._is_busy = True
                try:
                    if self._changed:
                        await self._apply_changes()
                    patience.begin()
                    await self._send_some()
                finally:
                    patience.end()
                    self._is_busy = False

    async def _apply_changes(self) -> None:
        changed, self._changed = self._changed, {}
        gone = [wanted.subscription for subject, wanted in changed.items() if subject not in self._wanted]
        new = [self._wanted[subject] for subject in changed if subject in self._wanted]
        for start in range(0, len(gone), SUBJECTS):
            async with asyncio.timeout(self._timeout):
                await self.backplane.unsubscribe(gone[start : start + SUBJECTS])
        await self._subscribe(new)
        self._tell_established(new)

    def _tell_established(self, subscribed: list[Wanted]) -> None:
        for wanted in subscribed:
            if self._wanted.get(wanted.subscription.subject) is wanted:
                guarded(wanted.established)

    async def _send_some(self) -> None:
        if control := self._control.take(BATCH_COUNT, BATCH_BYTES):
            await self.backplane.publish(control)
        if self._is_held or self._control:
            return
        if batch := self._outbox.take(BATCH_COUNT, BATCH_BYTES):
            try:
                await self.backplane.publish(batch)
            except BaseException:
                self._outbox.put_back(batch)
                raise
            self._figures.sent += len(batch)

    def _change_state(self, state: State, error: BaseException | None) -> None:
        if (state, str(error)) == (self.state, str(self.error)):
            return
        before, self.state, self.error = self.state, state, error
        (self._answered.set if state == "up" or isinstance(error, AccessDenied) else self._answered.clear)()
        if state == "down" and before != "down":
            text = "%s is away, so messages to other machines wait (%d bytes at most): %s"
            LOGGER.warning(text, self.backplane.url, self._outbox.limit, described(error))
        elif state == "up" and before == "down":
            LOGGER.warning("%s is back", self.backplane.url)
        self._on_state(state, error)


def described(error: BaseException | None) -> str:
    """An exception in a log line: some of asyncio have no text."""
    return f"{type(error).__name__}: {error}" if str(error) else repr(error)
