"""The machines of a cluster: which are there, told by a heartbeat from each.

A heartbeat costs one message for each machine in a third of ``ttl``, whatever the number of groups and members. A
machine that was not heard for ``ttl`` is gone; one that closes its cluster says so. Everything runs on the cluster's
thread.
"""

import asyncio
import json
import logging
from collections.abc import Callable
from functools import partial
from typing import Any

from goev.cluster import subjects
from goev.cluster.envelope import Envelope, Kind, content_of, opened, sealed
from goev.cluster.figures import Figures
from goev.cluster.interface import Outgoing, Place, Subscription
from goev.cluster.link import Link
from goev.cluster.pace import Pace
from goev.cluster.thread import guarded

LOGGER = logging.getLogger("goev.cluster")
LOOKS = 10  # in ``ttl``, for machines that say nothing
GATHERING = 2.0  # seconds that messages wait for the other machines after the engine has come back
REMEMBERED = 1024  # machines that are gone, and may come back after a partition

Receive = Callable[[Envelope], None]


class Nodes:
    """The machines that this one hears.

    Args:
        node: this machine.
        ttl: seconds without a word after which a machine is gone.

    Attributes:
        on_gone: called with a machine that is gone.
        on_returned: called with a machine that was gone, and was only cut off.
    """

    def __init__(self, node: bytes, link: Link, figures: Figures, *, ttl: float) -> None:
        self.node = node
        self.on_gone: list[Callable[[bytes], None]] = []
        self.on_returned: list[Callable[[bytes], None]] = []
        self.ticks: list[Callable[[], None]] = []
        self._link = link
        self.figures = figures
        self._ttl = ttl
        self._heard: dict[bytes, float] = {}  # when each machine was heard last
        self._gone: dict[bytes, None] = {}  # in the order in which they went
        self._missing: set[bytes] = set()  # machines that were there before the engine went away
        self._gathering: asyncio.TimerHandle | None = None  # the end of the time for them to come back
        self._beat: asyncio.TimerHandle | None = None
        self._next_look: asyncio.TimerHandle | None = None
        self._refusals = Pace()
        self._receivers: dict[Kind, Receive] = {Kind.NODE: self._heard_from}

    def begin(self) -> None:
        """Subscribe, and begin to beat."""
        self._link.want(Subscription(subjects.of_node(self.node.hex())), self._received, lambda: None)
        self._link.want(Subscription(subjects.NODES), self._received, self._established)
        self._beat = asyncio.get_running_loop().call_later(self._ttl / 3, self._tick)
        self._next_look = asyncio.get_running_loop().call_later(self._ttl / LOOKS, self._look)

    def on_inbox(self, kind: Kind, receive: Receive) -> None:
        """Have messages of a kind that come to this machine's inbox handled."""
        self._receivers[kind] = receive

    @property
    def others(self) -> list[bytes]:
        """The other machines that are there."""
        return list(self._heard)

    def post(self, subject: str, kind: Kind, content: Any) -> bool:
        """Send JSON, unless the engine is away."""
        data = sealed(kind, self.node, 0, json.dumps(content).encode())
        return self._link.post(Outgoing(subject, data, on_refused=partial(self.refused, subject)))

    def refused(self, subject: str, error: Exception) -> None:
        """The engine does not take a message between machines."""
        self.figures.refused += 1
        if count := self._refusals.due():
            text = "%s refused %d message(s) between machines on %s: %s"
            LOGGER.warning(text, self._link.backplane.url, count, subject, error)

    def leave(self) -> None:
        """Tell the others that this machine goes, and beat no more."""
        self.post(subjects.NODES, Kind.NODE, "bye")
        for timer in (self._beat, self._next_look, self._gathering):
            if timer is not None:
                timer.cancel()

    # ---- sessions ----------------------------------------------------------------------------------------------------

    def session_ended(self) -> None:
        """The engine is away: remember the machines that were there."""
        self._missing |= set(self._heard)
        if self._gathering is not None:
            self._gathering.cancel()

    def session_began(self) -> None:
        """The engine is there. Messages that waited go out when the other machines are back as well, or after a while.

        Else the first machine that is back would send them to nobody.
        """
        now = asyncio.get_running_loop().time()
        self._heard = dict.fromkeys(self._heard, now)
        if self._missing:
            self._link.hold()
            self._gathering = asyncio.get_running_loop().call_later(GATHERING, self._release)

    def _release(self) -> None:
        self._missing.clear()
        self._link.release()

    # ---- heartbeats --------------------------------------------------------------------------------------------------

    def _established(self) -> None:
        self.post(subjects.NODES, Kind.NODE, "hello")

    def _tick(self) -> None:
        self._beat = asyncio.get_running_loop().call_later(self._ttl / 3, self._tick)
        self.post(subjects.NODES, Kind.NODE, "beat")
        for tick in self.ticks:
            guarded(tick)

    def _look(self) -> None:
        """Lose the machines whose ``ttl`` would be over before the next look."""
        loop = asyncio.get_running_loop()
        self._next_look = loop.call_later(self._ttl / LOOKS, self._look)
        longest = self._ttl * (1 - 1 / LOOKS)
        for node in [node for node, heard in self._heard.items() if loop.time() - heard > longest]:
            self._lose(node)

    def _received(self, data: bytes, _: Place | None) -> None:
        try:
            envelope = opened(data)
            receive = self._receivers[envelope.kind]
        except (ValueError, KeyError) as error:
            self.figures.malformed += 1
            LOGGER.debug("not for this version of goev: %r", error)
            return
        if envelope.sender != self.node:
            receive(envelope)

    def _heard_from(self, envelope: Envelope) -> None:
        try:
            word = content_of(envelope.body)
        except ValueError:
            word = None
        match word:
            case "bye":
                self._lose(envelope.sender)
            case "beat" | "hello":
                self.note(envelope.sender)
                if word == "hello":
                    self.post(subjects.of_node(envelope.sender.hex()), Kind.NODE, "beat")
            case _:
                self.figures.malformed += 1

    def note(self, node: bytes) -> None:
        """A machine has said something."""
        self._heard[node] = asyncio.get_running_loop().time()
        if node in self._missing:
            self._missing.discard(node)
            if not self._missing:
                self._link.release()
        if node in self._gone:
            del self._gone[node]
            for returned in self.on_returned:
                guarded(returned, node)

    def _lose(self, node: bytes) -> None:
        if self._heard.pop(node, None) is not None:
            self._gone[node] = None
            if len(self._gone) > REMEMBERED:
                del self._gone[next(iter(self._gone))]
            for gone in self.on_gone:
                guarded(gone, node)
