"""A group over machines: one message for the connections on all of them."""

import logging
from contextlib import suppress
from typing import Any, Literal, Protocol

from goev._core import Connection, Group, OutputOverflow
from goev.cluster import subjects
from goev.cluster.envelope import Kind, opened, sealed_message
from goev.cluster.errors import Closed
from goev.cluster.interface import Outgoing, Place, Subscription
from goev.cluster.members import Members, Membership
from goev.cluster.messages import PLAIN, Message, plain_of
from goev.cluster.wiring import Wiring

LOGGER = logging.getLogger("goev.cluster")


class Frames(Protocol):
    """A framing as ``goev.Group`` takes it."""

    def frame(self, message: Any, /) -> Any: ...


class ClusterGroup:
    """Connections on any machines that get the same messages; made by ``Cluster.group``.

    As in a ``goev.Group``, a connection may be in any number of groups, and leaves them when it ends. All methods may
    be called from any thread.
    """

    def __init__(
        self, wiring: Wiring, name: str, framing: Frames | None, *, when_behind: Literal["skip", "end"]
    ) -> None:
        self.name = name
        self._wiring = wiring
        self._local = Group(framing, when_behind=when_behind)
        self._members = Members(wiring.endings, self._joined, self._left)
        self._subject = subjects.of_group(name)
        self._sender = Sender(wiring, self._subject)
        self._heard: dict[bytes, int] = {}  # the last number of each sender
        self._count = 0  # of members, on the cluster's thread
        # What ``send`` uses, at hand.
        self._send_here = self._local.send
        self._intake = wiring.intake
        self._append = wiring.intake.queue.append
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
            self._send_elsewhere(message)
            raise
        self._append((self._sender, message, 0))  # as `_send_elsewhere`, without its call
        if self._intake.asleep:
            self._intake.wake()

    def _send_elsewhere(self, message: str | bytes) -> None:
        self._append((self._sender, message, 0))
        if self._intake.asleep:
            self._intake.wake()

    # ---- members -----------------------------------------------------------------------------------------------------

    def add(self, connection: Connection) -> None:
        """Make a connection a member; it gets messages sent from now on. Harmless for a member.

        Messages of other machines come as soon as the engine knows that this machine has a member, which takes a
        round trip for the first one.

        Raises: as ``goev.Group.add``.
        """
        self._local.add(connection)
        try:
            self._members.add(connection, None)
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
        self._wiring.post(self._change, 1)

    def _left(self, membership: Membership) -> None:
        with suppress(Closed, RuntimeError):  # nobody counts any more
            self._wiring.post(self._change, -1)

    # ---- on the cluster's thread -------------------------------------------------------------------------------------

    def _change(self, difference: int) -> None:
        """One subscription while there are members."""
        before, self._count = self._count, self._count + difference
        if not before and self._count:
            self._wiring.link.want(Subscription(self._subject), self._received, self._established)
        elif before and not self._count:
            self._wiring.link.unwant(self._subject)
            self._heard.clear()

    def _established(self) -> None:
        """The engine has the subscription."""

    def _received(self, data: bytes, _: Place | None) -> None:
        try:
            kind, sender, number, _body = envelope = opened(data)
            message = envelope.message
            if kind not in (Kind.TEXT, Kind.BYTES):
                raise ValueError(f"a message of kind {kind!r} came to group {self.name!r}")
        except ValueError as error:
            self._wiring.figures.malformed += 1
            LOGGER.debug("%s", error)
            return
        if self._is_new(sender, number):
            self._deliver(message)

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
            figures.missed += number - last - 1
        self._heard[sender] = number
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


class Sender:
    """Numbers the messages of this machine to one group."""

    def __init__(self, wiring: Wiring, subject: str) -> None:
        self._wiring = wiring
        self._subject = subject
        self._number = 0

    def outgoing(self, message: str | bytes, _: int) -> Outgoing:
        """See ``outbox.Source``."""
        self._number += 1
        data = sealed_message(Kind.BYTES, self._wiring.node, self._number, message)
        return Outgoing(self._subject, data, on_refused=self._refused)

    def _refused(self, error: Exception) -> None:
        self._wiring.figures.refused += 1
        LOGGER.warning("%s refused a message on %s: %s", self._wiring.link.backplane.url, self._subject, error)
