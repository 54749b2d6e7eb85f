"""A cluster: this machine, and the others that the engine reaches."""

import asyncio
import atexit
import logging
import secrets
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import asdict
from functools import partial
from threading import Lock
from types import TracebackType
from typing import Literal, Self
from weakref import WeakSet, WeakValueDictionary

from goev._core import Connection, Intake, Reactor
from goev.cluster import subjects
from goev.cluster.calls import Calls, Holding, Taken, key_of
from goev.cluster.endings import Endings
from goev.cluster.errors import Closed, HistoryUnavailable, Unreachable
from goev.cluster.figures import Figures
from goev.cluster.group import ClusterGroup, Frames
from goev.cluster.history import HistoryGroup, OnGap, Stamp
from goev.cluster.home import Home, pass_on, too_late
from goev.cluster.interface import Backplane
from goev.cluster.link import Link, State, described
from goev.cluster.messages import Message, plain_of
from goev.cluster.nodes import Nodes
from goev.cluster.outbox import MOST_IN_INTAKE, Outbox
from goev.cluster.pace import Pace
from goev.cluster.poller import PollerHome
from goev.cluster.presence import Presences
from goev.cluster.thread import LoopThread, guarded
from goev.cluster.wiring import Wiring

LOGGER = logging.getLogger("goev.cluster")
AT_EXIT = 1.0  # seconds for what waits when the program ends
LAST_WORDS = 0.5  # seconds for what waits when the reactor of the cluster has stopped
FAREWELL = 0.8  # seconds for all of its end; a reactor counts as stuck after one
MOST_HISTORY = 10_000

OnState = Callable[[State, BaseException | None], None]
OnLoss = Callable[[int], None]


class Cluster:
    """This machine in a cluster; made by ``goev.cluster.connect``. All methods may be called from any thread.

    A cluster has a thread of its own for the engine, or the poller of a reactor. Nothing that a handler calls waits for
    the engine.
    """

    def __init__(
        self,
        backplane: Backplane,
        *,
        outbox: int,
        max_message: int,
        timeout: float,
        ping: float,
        ttl: float,
        on_state: OnState | None,
        on_loss: OnLoss | None,
        reactor: Reactor | None,
        patience: float | None,
    ) -> None:
        node = secrets.token_bytes(8)
        self.node: str = node.hex()
        self._on_state = on_state
        self._on_loss = on_loss
        self._patience = patience
        self._figures = Figures()
        self._loss = Pace()
        self._groups: WeakValueDictionary[str, ClusterGroup] = WeakValueDictionary()
        self._home = self._home_on(reactor)
        self._outbox = Outbox(outbox, self._dropped)
        self._intake = Intake(lambda: self._home.post(self._take_in), MOST_IN_INTAKE)
        self._link = Link(
            backplane, self._outbox, self._figures, timeout=timeout, interval=ping, on_state=self._state_changed
        )
        self._wiring = Wiring(
            node,
            link=self._link,
            intake=self._intake,
            endings=Endings(),
            figures=self._figures,
            home=self._home,
            most=max_message,
        )
        self._nodes = Nodes(node, self._link, self._figures, ttl=ttl)
        self._presences = Presences(self._wiring, self._nodes)
        self._calls = Calls(self._wiring, self._nodes)
        self._closing = Lock()  # taken by the first who closes
        self._closed: Future[None] = Future()
        self._home.post(self._nodes.begin)
        self._running = self._home.submit(self._link.run())
        self._running.add_done_callback(self._ended)
        _open.add(self)

    def _home_on(self, reactor: Reactor | None) -> Home:
        if reactor is None:
            return LoopThread(f"goev-cluster-{self.node[:4]}")
        return PollerHome(reactor, self._farewell)

    # ---- groups ------------------------------------------------------------------------------------------------------

    def group(
        self,
        name: str,
        framing: Frames | None = None,
        *,
        when_behind: Literal["skip", "end"] = "skip",
        presence: bool = True,
        history: int = 0,
        stamp: Stamp | None = None,
        on_gap: OnGap | None = None,
    ) -> ClusterGroup:
        """A group of that name over all machines.

        The same name gives the same group while it is referred to, or has members. The other arguments count for this
        machine, and the first call decides. ``framing`` and ``when_behind`` are those of ``goev.Group``. Without
        ``presence`` no machine is told who joins and leaves.

        Args:
            history: how many messages the engine keeps for members that come late or come back. All machines must give
                the same number.
            stamp: ``stamp(message, place)`` puts a place, which is text, into a message with history; the result is
                framed. A client that comes back passes the last place that it has had to ``add(after=)``.
            on_gap: called with a connection, on its poller, that has missed more messages than are kept.

        Raises HistoryUnavailable: the engine is there, and keeps no messages.
        """
        subjects.check_name("the name of a group", name)
        group = self._groups.get(name)
        if group is None:
            made = self._new_group(name, framing, when_behind, presence, history, stamp, on_gap)
            group = self._groups.setdefault(name, made)
        return group

    def _new_group(
        self,
        name: str,
        framing: Frames | None,
        when_behind: Literal["skip", "end"],
        presence: bool,
        history: int,
        stamp: Stamp | None,
        on_gap: OnGap | None,
    ) -> ClusterGroup:
        shared = (self._wiring, self._presences, name, framing)
        if not history:
            return ClusterGroup(*shared, when_behind=when_behind, presence=presence)
        if not 0 < history <= MOST_HISTORY:
            raise ValueError(f"history must be from 0 to {MOST_HISTORY}, not {history}")
        if self.is_ready and not self._link.backplane.keeps_history:
            raise HistoryUnavailable(f"{self._link.backplane.url} keeps no messages; NATS needs JetStream (-js)")
        return HistoryGroup(
            *shared, when_behind=when_behind, presence=presence, history=history, stamp=stamp, on_gap=on_gap
        )

    # ---- calls -------------------------------------------------------------------------------------------------------

    def register(self, name: str, connection: Connection, *, taken: Taken | None = None) -> "Future[None]":
        """Give a connection a name, by which all machines can call it until it ends.

        A name belongs to one connection, the one that registered last. The one before loses it, on whatever machine it
        is: ``taken()`` is called on its poller.

        The connection's class answers calls by ``on_call(message)``. It returns ``str``, bytes, ``None``, a
        ``concurrent.futures.Future``, or is ``async def``. A told message goes to ``on_tell(message)``; without that it
        is sent to the peer. An exception ends the connection, as in every callback, and the caller gets it.

        Returns: a future that is done when the engine knows the name. It is cancelled if the name is lost, or the
            cluster closed, before.

        Raises ConnectionClosed: the connection has ended.
        """
        subjects.check_name("the name of a connection", name)
        holding = Holding(connection, taken, Future())
        self._wiring.endings.add(connection, key_of(name), lambda: self._post_quietly(name, connection))
        self._home.post(self._calls.hold, name, holding)
        return holding.registered

    def unregister(self, name: str, connection: Connection) -> None:
        """Take a name from a connection; harmless if it does not have it."""
        self._wiring.endings.discard(connection, key_of(name))
        self._home.post(self._calls.drop, name, connection)

    def _post_quietly(self, name: str, connection: Connection) -> None:
        with suppress(Closed, RuntimeError):  # the names are gone
            self._home.post(self._calls.drop, name, connection)

    async def call(self, name: str, message: Message, *, timeout: float = 5.0) -> str | bytes:
        """Send a message to the connection with that name, on any machine, and return its answer.

        Any event loop may run this.

        Raises:
            NoSuchName: no connection is registered under the name.
            CallFailed: the connection raised, ended, or has no ``on_call``. The text says which.
            TimeoutError: there is no answer after ``timeout`` seconds. The connection may have got the message.
            Unreachable: the engine is away, so only connections of this machine can be called.
            MessageTooLong: the message or the answer has more than ``max_message`` bytes.
        """
        subjects.check_name("the name of a connection", name)
        plain = plain_of(message, self._wiring.most, f"a call to {name!r}")
        return await asyncio.wrap_future(self._home.submit(self._calls.call(name, plain, timeout)))

    def tell(self, name: str, message: Message, *, timeout: float = 5.0) -> "Future[None]":
        """Send a message to the connection with that name, on any machine.

        Returns: a future that is done when the connection has it. It gets the exceptions of ``call``. Those who do not
            care need not look at it. A coroutine may ``await asyncio.wrap_future(cluster.tell(…))``.
        """
        subjects.check_name("the name of a connection", name)
        plain = plain_of(message, self._wiring.most, f"a message to {name!r}")
        return self._home.submit(self._calls.tell(name, plain, timeout))

    # ---- operation ---------------------------------------------------------------------------------------------------

    @property
    def state(self) -> State:
        """``"connecting"``, ``"up"``, ``"down"`` or ``"closed"``."""
        return self._link.state

    @property
    def is_ready(self) -> bool:
        """Whether the engine is there, for health checks."""
        return self._link.state == "up"

    @property
    def engine(self) -> str:
        """Names the engine, without passwords."""
        return self._link.backplane.url

    @property
    def error(self) -> BaseException | None:
        """The reason of the state ``"down"``."""
        return self._link.error

    def machines(self) -> list[str]:
        """The machines that are there, this one first: each is a ``Cluster.node``."""
        return [self.node, *(node.hex() for node in self._nodes.others)]

    def stats(self) -> dict[str, int]:
        """Counters since the start, and what waits now; see docs/cluster.md."""
        waiting = {"waiting": len(self._outbox) + len(self._intake), "waiting_bytes": self._outbox.bytes}
        return {**asdict(self._figures), **waiting, "subscriptions": self._link.subscriptions}

    @property
    def can_wait(self) -> bool:
        """Whether the caller may use ``wait_until_up``: the cluster's thread runs, and is not this one."""
        return self._home.can_wait

    def wait_until_up(self, timeout: float) -> None:
        """Wait until the engine is there.

        Raises Unreachable: it is not after ``timeout`` seconds. ``__cause__`` has the last failure. Raises AccessDenied
        at once, and Closed if the cluster is closed meanwhile. Raises RuntimeError on the thread of the cluster, which
        would wait for itself.
        """
        if not self._home.can_wait:
            raise RuntimeError("wait_until_up() cannot wait on the cluster's own thread; use `await cluster.up()`")
        waiting = self._home.submit(self._link.wait_until_up(timeout))
        try:
            waiting.result(timeout)
        except TimeoutError:
            waiting.cancel()  # a callback may hold the poller
            raise self._unreachable(timeout) from self._link.error

    async def up(self, timeout: float = 10.0) -> None:
        """As ``wait_until_up``, for coroutines on any event loop."""
        try:
            async with asyncio.timeout(timeout):  # also if a callback holds the poller
                await asyncio.wrap_future(self._home.submit(self._link.wait_until_up(timeout)))
        except TimeoutError:
            raise self._unreachable(timeout) from self._link.error

    def _unreachable(self, timeout: float) -> Unreachable:
        error = self._link.error
        text = f"cannot reach {self._link.backplane.url} within {timeout} s"
        return Unreachable(f"{text}: {described(error)}" if error else text)

    def close(self, timeout: float = 5.0) -> None:
        """Leave the cluster: send what waits, within ``timeout`` seconds, and end the thread. Harmless if repeated.

        On the cluster's own thread it returns at once, and the rest follows.
        """
        self._begin_close(timeout)
        if self._home.can_wait:
            with suppress(TimeoutError):
                self._closed.result(longest(timeout))
            self._home.stop(timeout)

    async def aclose(self, timeout: float = 5.0) -> None:
        """As ``close``, for coroutines on any event loop. If it is cancelled, the rest follows nevertheless."""
        self._begin_close(timeout)
        closed: Future[None] = Future()  # of this caller alone, because `wrap_future` cancels it
        self._closed.add_done_callback(partial(pass_on, closed))
        with suppress(TimeoutError):
            async with asyncio.timeout(longest(timeout)):
                await asyncio.wrap_future(closed)
        if self._home.is_current:
            self._home.stop(timeout)
        else:
            await asyncio.to_thread(self._home.stop, timeout)

    def _begin_close(self, timeout: float) -> None:
        """Begin to close, unless that has begun before."""
        if not self._closing.acquire(blocking=False):
            return
        try:
            if self._home.is_idle:
                raise Closed
            closing = self._home.submit(self._close(timeout))
        except (Closed, RuntimeError):  # there is no loop to do it
            self._home.stop(timeout)
            self._closed.set_result(None)
        else:
            closing.add_done_callback(partial(self._end, timeout))

    def _end(self, timeout: float, closing: "Future[None]") -> None:
        self._home.stop(timeout)
        if closing.cancelled() or isinstance(closing.exception(), Closed):  # it has ended with the loop
            self._closed.set_result(None)
        else:
            pass_on(self._closed, closing)

    async def _farewell(self) -> None:
        """The reactor of the cluster has stopped, and waits a second for what is left."""
        with suppress(TimeoutError):
            async with asyncio.timeout(FAREWELL):
                await self.aclose(LAST_WORDS)
        self._home.stop(0)

    async def _close(self, timeout: float) -> None:
        end = asyncio.get_running_loop().time() + timeout + AT_EXIT
        self._intake.close(too_late)
        self._take_in()
        self._nodes.leave()
        await self._link.close(timeout)
        self._calls.close()
        with suppress(Closed, TimeoutError):
            async with asyncio.timeout_at(end):
                await asyncio.wrap_future(self._running)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        """Wait for the engine as ``connect`` does."""
        if self._patience is not None:
            try:
                await self.up(self._patience)
            except BaseException:
                await self.aclose(0)
                raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    def __repr__(self) -> str:
        return f"<Cluster {self.node} at {self._link.backplane.url}: {self.state}>"

    # ---- on the thread -----------------------------------------------------------------------------------------------

    def _take_in(self) -> None:
        """Move the messages of senders to the outbox."""
        entries, dropped = self._intake.take()
        for source, message in entries:
            self._outbox.put(source.outgoing(message))
        if dropped:
            self._dropped(dropped)
        self._link.send_waiting()

    def _ended(self, _: "Future[None]") -> None:
        """The link has ended: the cluster is closed, or its reactor has stopped."""
        _open.discard(self)
        self._link.ended()
        self._intake.close(too_late)
        entries, dropped = self._intake.take()
        if left := len(self._outbox) + len(entries) + dropped:
            self._dropped(left)

    def _dropped(self, count: int) -> None:
        self._figures.dropped += count
        if lost := self._loss.due(count):
            text = "%d messages to other machines were dropped: %s does not take them"
            LOGGER.warning(text, lost, self._link.backplane.url)
        if self._on_loss is not None:
            guarded(self._on_loss, count)

    def _state_changed(self, state: State, error: BaseException | None) -> None:
        if state == "up":
            self._nodes.session_began()
        elif state == "down":
            self._nodes.session_ended()
            self._calls.session_ended()
        if self._on_state is not None:
            guarded(self._on_state, state, error)


def longest(timeout: float) -> float:
    """The seconds for which a caller waits for the end of a cluster."""
    return 2 * timeout + 2 * AT_EXIT


_open: "WeakSet[Cluster]" = WeakSet()


@atexit.register
def _close_all() -> None:
    for cluster in list(_open):
        cluster.close(AT_EXIT)
