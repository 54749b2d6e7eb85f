"""A group over machines: one message for the connections on all of them."""

import logging
from contextlib import suppress
from typing import Any, Literal, Protocol

from goev._core import Connection, Group, OutputOverflow
from goev.cluster import subjects
from goev.cluster.envelope import Envelope, Kind, missed_between, new_life, opened, sealed_message
from goev.cluster.errors import Closed
from goev.cluster.interface import Outgoing, Place, Subscription
from goev.cluster.members import Members, Membership
from goev.cluster.messages import PLAIN, Message, plain_of
from goev.cluster.pace import Pace
from goev.cluster.presence import OnPresence, Presence, Presences, Present, checked_meta
from goev.cluster.wiring import Wiring

LOGGER = logging.getLogger("goev.cluster")
MOST_HEARD = 4096  # machines whose last number a group remembers


class Frames(Protocol):
    """A framing as ``goev.Group`` takes it."""

    def frame(self, message: Any, /) -> Any: ...


class ClusterGroup:
    """Connections on any machines that get the same messages; made by ``Cluster.group``.

    As in a ``goev.Group``, a connection may be in any number of groups, and leaves them when it ends. All methods may
    be called from any thread.
    """

    def __init__(
        self,
        wiring: Wiring,
        presences: Presences,
        name: str,
        framing: Frames | None,
        *,
        when_behind: Literal["skip", "end"],
        presence: bool,
    ) -> None:
        self.name = name
        self._wiring = wiring
        self._local = Group(framing, when_behind=when_behind)
        self._members = Members(wiring.endings, self._joined, self._left)
        self._subscription = Subscription(subjects.of_group(name))
        self._sender = Sender(wiring, self._subscription.subject)
        self._heard: dict[bytes, int] = {}  # the last number of each sender
        self._count = 0  # of members, on the cluster's thread
        self._presence = presences.of(name) if presence else None
        self._presences = presences
        self._is_watched = False  # for callers
        self._is_watching = False  # on the cluster's thread
        # At hand for ``send``.
        self._send_here = self._local.send
        self._send_elsewhere = wiring.intake.put
        self._surely_fits = wiring.most // 4  # a character is four bytes at most

    def send(self, message: Message) -> None:
        """Send a message to the members on all machines.

        When this returns, members here have it as ``goev.Group.send`` says, and a message for the other machines waits
        for the engine. Neither the engine nor another machine can hold the caller.

        Args:
            message: ``str`` or bytes, as the framing takes it.

        Raises:
            MessageTooLong: it has more than the ``max_message`` bytes of ``goev.cluster.connect``; nobody gets it.
            OutputOverflow: as in ``goev.Group.send``; other machines get it.
            Closed: the cluster is closed. Members here get it.
        """
        if message.__class__ not in PLAIN or len(message) > self._surely_fits:
            message = plain_of(message, self._wiring.most, f"a message to group {self.name!r}")
        try:
            self._send_here(message)
        except OutputOverflow:
            self._send_elsewhere(self._sender, message)
            raise
        self._send_elsewhere(self._sender, message)

    # ---- members -----------------------------------------------------------------------------------------------------

    def add(self, connection: Connection, *, meta: Any = None, after: str | None = None) -> None:
        """Make a connection a member; it gets messages sent from now on. Harmless for a member.

        Messages of other machines come as soon as the engine knows that this machine has a member, which takes a
        round trip for the first one.

        Args:
            meta: what ``presence`` tells about the member: a value that JSON knows, 4,096 bytes at most.
            after: for groups with history.

        Raises: as ``goev.Group.add``. TypeError, ValueError: ``meta`` is no JSON, or too long. ValueError: ``after`` is
        given, and the group has no history.
        """
        if after is not None:
            raise ValueError(f"group {self.name!r} has no history, so nothing comes after a place")
        meta = checked_meta(meta)
        self._local.add(connection)
        try:
            self._members.add(connection, meta)
        except BaseException:
            self._local.discard(connection)
            raise

    def discard(self, connection: Connection) -> None:
        """Remove a connection; harmless for one that is no member."""
        self._local.discard(connection)
        self._members.discard(connection)

    def __len__(self) -> int:
        """The number of members on this machine."""
        return len(self._local)

    def __bool__(self) -> bool:
        return True

    def __contains__(self, connection: object) -> bool:
        return connection in self._local

    def _joined(self, membership: Membership) -> None:
        self._wiring.post(self._change, 1, membership)

    def _left(self, membership: Membership) -> None:
        with suppress(Closed, RuntimeError):  # nobody counts any more
            self._wiring.post(self._change, -1, membership)

    # ---- presence ----------------------------------------------------------------------------------------------------

    def presence(self) -> list[Present]:
        """The members on all machines, those of this one first, as this machine knows them.

        A machine knows the members of others a moment after its own first member has joined, or after ``watch``.

        Raises RuntimeError: this machine has no member and does not watch, or the group was made without presence.
        """
        others = self._presence_here().others()
        return [Present(self._wiring.node.hex(), each.number, each.meta) for each in self._members.all()] + others

    def count(self) -> int:
        """The number of members on all machines; see ``presence``."""
        return len(self._members) + self._presence_here().count_others()

    def _presence_here(self) -> Presence:
        if self._presence is None:
            raise RuntimeError(f"group {self.name!r} was made with presence=False")
        if not self._members and not self._is_watched:
            text = "has no member on this machine, so it does not hear of others; call watch() first"
            raise RuntimeError(f"group {self.name!r} {text}")
        return self._presence

    def watch(self, *, on_join: OnPresence | None = None, on_leave: OnPresence | None = None) -> None:
        """Hear of the members on all machines, also without a member on this one.

        Args:
            on_join, on_leave: called on the cluster's thread with a list of members that have joined or left, on any
                machine. The members that are there join once for this machine, when it hears of them.
        """
        if self._presence is None:
            raise RuntimeError(f"group {self.name!r} was made with presence=False")
        self._is_watched = True
        self._wiring.post(self._watch, on_join, on_leave)

    def unwatch(self) -> None:
        """End all watching."""
        self._is_watched = False
        self._wiring.post(self._unwatch)

    # ---- on the cluster's thread -------------------------------------------------------------------------------------

    def _change(self, difference: int, membership: Membership) -> None:
        """One subscription while there are members."""
        before, self._count = self._count, self._count + difference
        if not before:
            self._wiring.link.want(self._subscription, self._received, self._established)
        if self._presence is not None:
            if not before and not self._is_watching:
                self._presences.begin(self._presence)
            (self._presence.joined if difference > 0 else self._presence.left)(membership)
            if not self._count and not self._is_watching:
                self._presences.end(self._presence)
        if not self._count:
            self._wiring.link.unwant(self._subscription.subject)
            self._heard.clear()

    def _watch(self, on_join: OnPresence | None, on_leave: OnPresence | None) -> None:
        assert self._presence is not None
        self._presence.on_join += [on_join] if on_join else []
        self._presence.on_leave += [on_leave] if on_leave else []
        if not self._is_watching and not self._count:
            self._presences.begin(self._presence)
        self._is_watching = True
        self._presence.owner = self

    def _unwatch(self) -> None:
        if self._presence is None or not self._is_watching:
            return
        self._is_watching = False
        self._presence.on_join.clear()
        self._presence.on_leave.clear()
        self._presence.owner = None
        if not self._count:
            self._presences.end(self._presence)

    def _established(self) -> None:
        """The engine has the subscription."""

    def _received(self, data: bytes, _: Place | None) -> None:
        try:
            envelope = self._checked(opened(data))
        except ValueError as error:
            self._wiring.figures.malformed += 1
            LOGGER.debug("%s", error)
            return
        if self._is_new(envelope.sender, envelope.number):
            self._deliver(envelope.message)

    def _checked(self, envelope: Envelope) -> Envelope:
        """Raise ValueError unless it is a message for members."""
        if envelope.kind not in (Kind.TEXT, Kind.BYTES):
            raise ValueError(f"a message of kind {envelope.kind!r} came to group {self.name!r}")
        _ = envelope.message  # which must be text if it says so
        return envelope

    def _is_new(self, sender: bytes, number: int) -> bool:
        figures = self._wiring.figures
        if sender == self._wiring.node:
            figures.own += 1
            return False
        last = self._heard.get(sender)
        if last is not None and number <= last:
            figures.repeated += 1
            return False
        if last is not None:
            figures.missed += missed_between(last, number)
        self._heard[sender] = number
        forget_some(self._heard)
        return True

    def _deliver(self, message: str | bytes) -> None:
        figures = self._wiring.figures
        try:
            self._local.send(message)
            figures.delivered += 1
        except OutputOverflow:
            figures.undelivered += 1
        except Exception:
            figures.malformed += 1
            LOGGER.exception("a message from another machine to group %r cannot be framed", self.name)


def forget_some(heard: dict[bytes, int]) -> None:
    """Machines come and go, and hostile bytes may name any."""
    if len(heard) > MOST_HEARD:
        del heard[next(iter(heard))]


class Sender:
    """Numbers the messages of this machine to one group."""

    def __init__(self, wiring: Wiring, subject: str) -> None:
        self._wiring = wiring
        self._subject = subject
        self._number = new_life()
        self._refusals = Pace()

    def outgoing(self, message: str | bytes) -> Outgoing:
        """See ``outbox.Source``."""
        self._number += 1
        data = sealed_message(Kind.BYTES, self._wiring.node, self._number, message)
        return Outgoing(self._subject, data, on_refused=self.refused)

    def refused(self, error: Exception) -> None:
        """The engine does not take a message."""
        self._wiring.figures.refused += 1
        if count := self._refusals.due():
            url = self._wiring.link.backplane.url
            LOGGER.warning("%s refused %d message(s) on %s: %s", url, count, self._subject, error)
