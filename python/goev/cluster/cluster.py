"""A cluster: this machine, and the others that the engine reaches."""

import asyncio
import atexit
import logging
import secrets
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from types import TracebackType
from typing import Literal, Self
from weakref import WeakSet, WeakValueDictionary

from goev.cluster import subjects
from goev.cluster.endings import Endings
from goev.cluster.errors import Closed, Unreachable
from goev.cluster.figures import Figures
from goev.cluster.group import ClusterGroup, Frames, Wiring
from goev.cluster.interface import Backplane
from goev.cluster.link import Link, State, described
from goev.cluster.nodes import Nodes
from goev.cluster.outbox import Intake, Outbox
from goev.cluster.thread import LoopThread, guarded

LOGGER = logging.getLogger("goev.cluster")
AT_EXIT = 1.0  # seconds for what waits when the program ends
PACE = 60.0  # seconds between two log lines about dropped messages

OnState = Callable[[State, BaseException | None], None]
OnLoss = Callable[[int], None]


class Cluster:
    """This machine in a cluster; made by ``goev.cluster.connect``. All methods may be called from any thread.

    A cluster has a thread of its own for the engine. Nothing that a handler calls waits for it.
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
    ) -> None:
        node = secrets.token_bytes(8)
        self.node: str = node.hex()
        self._on_state = on_state
        self._on_loss = on_loss
        self._figures = Figures()
        self._told_loss = float("-inf")
        self._loss = 0  # messages dropped since the last log line
        self._groups: WeakValueDictionary[str, ClusterGroup] = WeakValueDictionary()
        self._thread = LoopThread(f"goev-cluster-{self.node[:4]}")
        self._outbox = Outbox(outbox, self._dropped)
        self._intake = Intake(lambda: self._thread.post(self._take_in))
        self._link = Link(
            backplane, self._outbox, self._figures, timeout=timeout, interval=ping, on_state=self._state_changed
        )
        self._wiring = Wiring(
            node,
            link=self._link,
            intake=self._intake,
            endings=Endings(),
            figures=self._figures,
            post=self._thread.post,
            most=max_message,
        )
        self._nodes = Nodes(node, self._link, self._figures, ttl=ttl)
        self._is_closed = False
        self._thread.post(self._nodes.begin)
        self._running = self._thread.submit(self._link.run())
        _open.add(self)

    # ---- groups ------------------------------------------------------------------------------------------------------

    def group(
        self, name: str, framing: Frames | None = None, *, when_behind: Literal["skip", "end"] = "skip"
    ) -> ClusterGroup:
        """A group of that name over all machines.

        The same name gives the same group while it is referred to, or has members. ``framing`` and ``when_behind`` are
        those of ``goev.Group``; they count for this machine, and the first call decides.
        """
        subjects.check_name("the name of a group", name)
        group = self._groups.get(name)
        if group is None:
            group = ClusterGroup(self._wiring, name, framing, when_behind=when_behind)
            group = self._groups.setdefault(name, group)
        return group

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
    def error(self) -> BaseException | None:
        """The reason of the state ``"down"``."""
        return self._link.error

    def machines(self) -> list[str]:
        """The machines that are there, this one first: each is a ``Cluster.node``."""
        return [self.node, *(node.hex() for node in self._nodes.others)]

    def stats(self) -> dict[str, int]:
        """Counters since the start, and what waits now; see docs/cluster.md."""
        waiting = {"waiting": len(self._outbox) + len(self._intake.queue), "waiting_bytes": self._outbox.bytes}
        return {**asdict(self._figures), **waiting, "subscriptions": self._link.subscriptions}

    def wait_until_up(self, timeout: float) -> None:
        """Wait until the engine is there.

        Raises Unreachable: it is not after ``timeout`` seconds. ``__cause__`` has the last failure. Raises AccessDenied
        at once.
        """
        try:
            self._thread.submit(self._link.wait_until_up(timeout)).result()
        except TimeoutError:
            error = self._link.error
            text = f"cannot reach {self._link.backplane.url} within {timeout} s"
            raise Unreachable(f"{text}: {described(error)}" if error else text) from error

    def close(self, timeout: float = 5.0) -> None:
        """Leave the cluster: send what waits, within ``timeout`` seconds, and end the thread. Harmless if repeated."""
        if self._is_closed:
            return
        self._is_closed = True
        _open.discard(self)
        with suppress(Closed, RuntimeError):
            closing = self._thread.submit(self._close(timeout))
            if not self._thread.is_current:
                with suppress(TimeoutError):
                    closing.result(timeout + 1)
        self._thread.stop(timeout)

    async def _close(self, timeout: float) -> None:
        self._take_in()
        self._nodes.leave()
        await self._link.close(timeout)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Cluster {self.node} at {self._link.backplane.url}: {self.state}>"

    # ---- on the thread -----------------------------------------------------------------------------------------------

    def _take_in(self) -> None:
        """Move the messages of senders to the outbox."""
        entries, was_full = self._intake.take()
        for source, message, number in entries:
            self._outbox.put(source.outgoing(message, number))
        if was_full:
            self._dropped(1)  # at least
        self._link.send_waiting()

    def _dropped(self, count: int) -> None:
        self._figures.dropped += count
        self._loss += count
        now = asyncio.get_running_loop().time()
        if now - self._told_loss > PACE:
            text = "%d messages to other machines were dropped: %s does not take them"
            LOGGER.warning(text, self._loss, self._link.backplane.url)
            self._told_loss, self._loss = now, 0
        if self._on_loss is not None:
            guarded(self._on_loss, count)

    def _state_changed(self, state: State, error: BaseException | None) -> None:
        if state == "up":
            self._nodes.session_began()
        elif state == "down":
            self._nodes.session_ended()
        if self._on_state is not None:
            guarded(self._on_state, state, error)


_open: "WeakSet[Cluster]" = WeakSet()


@atexit.register
def _close_all() -> None:
    for cluster in list(_open):
        cluster.close(AT_EXIT)
