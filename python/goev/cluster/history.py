"""Groups with history: members that come late, or come back, get what they have missed, once.

The engine numbers the messages of a group. A machine delivers its own messages at once, and those of others in the
order of the numbers. It reads numbers that are missing from the engine. So a machine has delivered all messages up to a
number, and its own messages up to one of its own: that is the place of each of its members (``places``).

A member that joins is apart at first: it gets the messages that are kept, but for those that it has had, and then the
same messages as the group. It joins the others when nothing can come any more that it has had on another machine.

All this runs on the cluster's thread, and that is why deliveries to one poller keep their order.
"""

import asyncio
import logging
from collections import OrderedDict, deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Literal, NamedTuple

from goev._core import Connection, ConnectionClosed, Group, HttpConnection, OutputOverflow, WebSocketConnection
from goev.cluster.envelope import Envelope, Kind, new_life, opened, sealed_message
from goev.cluster.group import ClusterGroup, Frames, forget_some
from goev.cluster.interface import Outgoing, Place, Replay, Subscription
from goev.cluster.members import Membership
from goev.cluster.messages import Message, plain_of
from goev.cluster.places import MemberPlace, place_of
from goev.cluster.presence import Presences, checked_meta
from goev.cluster.wiring import Wiring

LOGGER = logging.getLogger("goev.cluster")
NEVER = 1 << 64  # more than any number of a message
AGAIN = 1.0  # seconds until the engine is asked again for a history that it could not give

Stamp = Callable[[Any, str], Any]
OnGap = Callable[[Connection], object]
Send = Callable[[Any], object]


class Entry(NamedTuple):
    """A message of the group; ``number`` is the engine's, 0 as long as it has none."""

    number: int
    sender: bytes
    own: int
    message: str | bytes


class Apart:
    """A member that is apart.

    Args:
        send: frames a message and sends it, whatever waits in the connection's output already: a history may well be
            longer than ``high_water``.
        since: it gets the messages of this machine up to this one when the engine has numbered them, and later ones
            when they are sent.
    """

    def __init__(self, connection: Connection, send: Send, place: MemberPlace, since: int) -> None:
        self.connection = connection
        self.send = send
        self.place = place
        self.since = since
        self.is_checked = False  # whether it has missed more than is kept


class HistoryGroup(ClusterGroup):
    """A group over machines with history; made by ``Cluster.group(history=n)``."""

    def __init__(
        self,
        wiring: Wiring,
        presences: Presences,
        name: str,
        framing: Frames | None,
        *,
        when_behind: Literal["skip", "end"],
        presence: bool,
        history: int,
        stamp: Stamp | None,
        on_gap: OnGap | None,
    ) -> None:
        super().__init__(wiring, presences, name, framing, when_behind=when_behind, presence=presence)
        self._framing = framing
        self._when_behind = when_behind
        self._subscription = Subscription(self._subscription.subject, history)
        self._keep = history
        self._stamp = stamp
        self._on_gap = on_gap
        self._own = new_life()  # the number of the last message of this machine
        self._unnumbered: OrderedDict[int, str | bytes] = OrderedDict()  # own ones, by their numbers
        self._apart: list[Apart] = []
        self._reading: asyncio.Task[None] | None = None
        self._forget()

    def _forget(self) -> None:
        """This machine has no member, and knows nothing of the history."""
        if self._reading is not None:
            self._reading.cancel()
            self._reading = None
        self._epoch, self._last = "", 0
        self._floor = 0  # all messages behind this number are in `_kept`
        self._kept: deque[Entry] = deque()
        self._had: OrderedDict[tuple[bytes, int], None] = OrderedDict()  # messages that were delivered
        self._heard: dict[bytes, int] = {}
        self._coming: list[tuple[Place, Envelope]] = []  # messages that came while the history was read
        self._unnumbered.clear()
        self._is_current = False

    # ---- for any thread ----------------------------------------------------------------------------------------------

    def send(self, message: Message) -> None:
        """Send a message to the members on all machines, and keep it.

        Members here get it from the cluster's thread, in a moment, whether the engine is there or not. So a message
        that the framing refuses is logged, and raises nothing here.

        Raises:
            MessageTooLong: it has more than the ``max_message`` bytes of ``goev.cluster.connect``; nobody gets it.
            Closed: the cluster is closed. Nobody gets it.
        """
        plain = plain_of(message, self._wiring.most, f"a message to group {self.name!r}")
        self._send_elsewhere(self, plain)

    def add(self, connection: Connection, *, meta: Any = None, after: str | None = None) -> None:
        """Make a connection a member. It gets the messages that are kept, and those sent from now on.

        Args:
            meta: as in ``ClusterGroup.add``.
            after: the last place that the client of this connection has had (``stamp``), on whatever machine. It gets
                the messages behind that, each once.

        Raises: as ``ClusterGroup.add``. ValueError: ``after`` is no place.
        """
        meta = checked_meta(meta)
        place = MemberPlace() if after is None else place_of(after)
        alone = Group(self._framing, when_behind=self._when_behind)
        alone.add(connection)  # which raises for what cannot be a member
        if membership := self._members.add(connection, meta):
            self._wiring.post(self._join, membership, sender_to(connection, self._framing, alone), place)

    def discard(self, connection: Connection) -> None:
        self._members.discard(connection)
        self._wiring.post(self._leave, connection)

    def __len__(self) -> int:
        return len(self._members)

    def __contains__(self, connection: object) -> bool:
        return connection in self._members

    # ---- members -----------------------------------------------------------------------------------------------------

    def _change(self, difference: int, membership: Membership) -> None:
        super()._change(difference, membership)
        if difference < 0:
            self._apart = [apart for apart in self._apart if apart.connection is not membership.connection]
        if not self._count:
            self._forget()

    def _join(self, membership: Membership, send: Send, place: MemberPlace) -> None:
        connection = membership.connection
        if not self._members.has(membership):  # it has left already
            return
        self._local.discard(connection)  # which is there if it has left and joined at once
        apart = Apart(connection, send, place, NEVER)
        for entry in self._kept:
            if not place.has(self._epoch, entry.number, entry.sender, entry.own):
                self._deliver_to(send, entry, place.later(self._epoch, entry.number, {}))
        # It may have had some of those without a number: elsewhere, by numbers that this machine does not know yet.
        if not self._unnumbered or not self._is_ahead(place):
            self._catch_up_with_own(apart)
        self._apart.append(apart)
        if self._is_current:
            self._check_gap(apart)
            self._admit()

    def _is_ahead(self, place: MemberPlace) -> bool:
        """Whether a member has had messages whose numbers this machine does not know."""
        if not self._epoch:
            return bool(place.epoch) and not self._is_current
        return place.epoch == self._epoch and place.number > self._last

    def _catch_up_with_own(self, apart: Apart) -> None:
        """Give a member the messages of this machine that have no number. It gets later ones when they are sent."""
        apart.since = next(iter(self._unnumbered), self._own + 1) - 1
        for own, message in self._unnumbered.items():
            entry = Entry(0, self._wiring.node, own, message)
            if not apart.place.has(self._epoch, 0, entry.sender, own):
                later = apart.place.later(self._epoch, self._last, {entry.sender: own})
                self._deliver_to(apart.send, entry, later)

    def _leave(self, connection: Connection) -> None:
        if connection in self._members:  # it has joined again
            return
        self._local.discard(connection)

    def _admit(self) -> None:
        """Let members join the others if nothing can come any more that they have had."""
        for apart in list(self._apart):
            if apart.since == NEVER and not self._is_ahead(apart.place):
                self._catch_up_with_own(apart)
            if self._is_level(apart.place):
                self._apart.remove(apart)
                with suppress(ConnectionClosed):
                    self._local.add(apart.connection)

    def _is_level(self, place: MemberPlace) -> bool:
        is_behind = place.epoch == self._epoch and place.number > self._last
        waits = (self._heard.get(node, 0) < own for node, own in place.sent.items() if node != self._wiring.node)
        return self._is_current and not is_behind and not any(waits)

    def _check_gap(self, apart: Apart) -> None:
        """Tell a member that has missed more than is kept."""
        place = apart.place
        if apart.is_checked:
            return
        apart.is_checked = True
        if not place.epoch or (place.epoch == self._epoch and place.number >= self._floor):
            return
        if place.epoch != self._epoch:
            self._tell_gap(apart.connection)
        else:
            task = self._wiring.spawn(self._ask_for_gap(apart))
            task.add_done_callback(lambda done: done.cancelled() or done.exception())

    async def _ask_for_gap(self, apart: Apart) -> None:
        """The numbers of some engines are not dense, so the engine must say whether something lies between."""
        replay = await self._read(Place(apart.place.epoch, apart.place.number, 0))
        if not replay.is_complete:
            self._tell_gap(apart.connection)

    def _tell_gap(self, connection: Connection) -> None:
        if self._on_gap is not None:
            with suppress(ConnectionClosed):
                connection.call_soon(self._on_gap, connection)

    # ---- messages of this machine ------------------------------------------------------------------------------------

    def outgoing(self, message: str | bytes) -> Outgoing:
        """See ``outbox.Source``; the members here get the message now."""
        self._own += 1
        own = self._own
        if self._count:
            self._unnumbered[own] = message
            if len(self._unnumbered) > self._keep:
                self._unnumbered.popitem(last=False)
        self._deliver_to_all(Entry(0, self._wiring.node, own, message))
        data = sealed_message(Kind.BYTES, self._wiring.node, own, message)
        name = f"{self._wiring.node.hex()}-{own}-{self.name}"
        return Outgoing(self._subscription.subject, data, self._keep, name, on_refused=self._sender.refused)

    # ---- messages of the engine --------------------------------------------------------------------------------------

    def _established(self) -> None:
        """The engine has the subscription: read what was missed."""
        self._is_current = False
        self._coming.clear()
        self._read_soon()

    def _received(self, data: bytes, place: Place | None) -> None:
        try:
            envelope = self._checked(opened(data))
        except ValueError:
            self._wiring.figures.malformed += 1
            return
        if place is None:
            self._wiring.figures.malformed += 1
        elif not self._is_current:
            self._coming.append((place, envelope))
        elif place.epoch == self._epoch and place.before == self._last:
            self._take(place.number, envelope)
            self._admit()
        elif place.epoch != self._epoch or place.number > self._last:
            self._is_current = False
            self._coming.append((place, envelope))
            self._read_soon()

    def _take(self, number: int, envelope: Envelope) -> None:
        """Deliver the next message of the history, unless it is one that came before."""
        entry = Entry(number, envelope.sender, envelope.number, envelope.message)
        self._last = number
        key = (entry.sender, entry.own)
        if key in self._had:
            self._wiring.figures.repeated += 1
            return
        self._had[key] = None
        if len(self._had) > 4 * self._keep + 1024:
            self._had.popitem(last=False)
        self._heard[entry.sender] = max(entry.own, self._heard.get(entry.sender, 0))
        forget_some(self._heard)
        self._kept.append(entry)
        if len(self._kept) > self._keep:
            self._floor = self._kept.popleft().number
        if entry.sender == self._wiring.node:
            while self._unnumbered and next(iter(self._unnumbered)) <= entry.own:
                self._unnumbered.popitem(last=False)
            self._wiring.figures.own += 1
        else:
            self._wiring.figures.delivered += 1
        self._deliver_to_all(entry)

    # ---- reading -----------------------------------------------------------------------------------------------------

    def _read_soon(self) -> None:
        if self._reading is not None:
            self._reading.cancel()
        self._reading = self._wiring.spawn(self._catch_up())

    async def _catch_up(self) -> None:
        """Read until nothing is missing between the history and the messages that come."""
        failures = 0
        while not self._is_current:
            try:
                after = Place(self._epoch, self._last, 0) if self._epoch else None
                known = len(self._coming)
                self._apply(after, await self._read(after), known)
            except Exception as error:
                failures += 1
                if failures > 1:  # the first one may be the end of a session: the next one begins with a new task
                    text = "the history of group %r cannot be read: %s: %s"
                    LOGGER.warning(text, self.name, type(error).__name__, error)
                await asyncio.sleep(AGAIN)
        for apart in list(self._apart):
            self._check_gap(apart)
        self._admit()

    async def _read(self, after: Place | None) -> Replay:
        return await self._wiring.link.backplane.read(self._subscription, after)

    def _apply(self, after: Place | None, replay: Replay, known: int) -> None:
        """Take what was read, and then what has come; the first ``known`` of those came before the reading."""
        if after is not None and not replay.is_complete:
            self._wiring.figures.missed += 1  # at least
            for membership in self._members.all():
                self._tell_gap(membership.connection)
        if replay.epoch != self._epoch:
            self._epoch, self._last = replay.epoch, 0
            self._kept.clear()
        if not self._kept and replay.messages:
            self._floor = replay.messages[0].number - 1
        for number, data in replay.messages:
            self._take_kept(number, data)
        coming, self._coming = self._coming, []
        for index, (place, envelope) in enumerate(coming):
            if place.epoch == self._epoch and place.number <= self._last:
                continue
            is_next = place.before == self._last and (place.epoch == self._epoch or not self._epoch)
            if not is_next and index < known:  # the engine has it no more, or never had, or in a new epoch
                self._wiring.figures.missed += (envelope.sender, envelope.number) not in self._had
                continue
            if not is_next:
                self._coming = coming[index:]
                return
            self._epoch = place.epoch
            self._take(place.number, envelope)
        self._is_current = True

    def _take_kept(self, number: int, data: bytes) -> None:
        if number <= self._last:
            return
        try:
            self._take(number, self._checked(opened(data)))
        except ValueError:
            self._wiring.figures.malformed += 1
            self._last = number

    # ---- delivery ----------------------------------------------------------------------------------------------------

    def _deliver_to_all(self, entry: Entry) -> None:
        is_own = entry.sender == self._wiring.node
        own = {self._wiring.node: self._own} if self._unnumbered else {}
        if len(self._local) and not (is_own and entry.number):  # they had it when it was sent
            self._deliver_to(self._local.send, entry, MemberPlace(self._epoch, self._last, own))
        for apart in self._apart:
            is_other_way = is_own and (entry.own > apart.since) is bool(entry.number)
            if not is_other_way and not apart.place.has(self._epoch, entry.number, entry.sender, entry.own):
                self._deliver_to(apart.send, entry, apart.place.later(self._epoch, self._last, own))

    def _deliver_to(self, send: Send, entry: Entry, place: MemberPlace) -> None:
        try:
            send(entry.message if self._stamp is None else self._stamp(entry.message, str(place)))
        except ConnectionClosed:
            pass  # its end is on its way
        except OutputOverflow:
            self._wiring.figures.undelivered += 1
        except Exception:
            LOGGER.exception("a message to group %r cannot be stamped or framed", self.name)


def sender_to(connection: Connection, framing: Frames | None, alone: Group) -> Send:
    """A function that sends one message to one connection, with the frame of a group.

    ``alone`` is a group with that connection only. It serves HTTP, whose connections take raw bytes from groups alone.
    """
    if isinstance(connection, WebSocketConnection):
        return connection.send
    if isinstance(connection, HttpConnection):
        return alone.send
    return lambda message: connection.write(message if framing is None else framing.frame(message))
