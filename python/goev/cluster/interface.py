"""The interface between clusters and engines: a backplane carries messages between machines.

Subclass ``Backplane`` for an engine of your own, and pass an instance to ``goev.cluster.connect``. The tests in
``tests/cluster/test_conformance.py`` run over every backplane, and over one that is written outside of goev.

A backplane is one session after another. It opens a session, uses it, and reports its loss. It neither reconnects nor
retries: the cluster does, with the same rules for every engine. All its methods are called on the thread of the
cluster, by one event loop of asyncio, and none while another one of ``open``, ``publish``, ``subscribe``,
``unsubscribe`` or ``close`` runs. Only ``ping`` and ``read`` run beside others.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple


class Place(NamedTuple):
    """The place of a message in the history of its subject.

    Attributes:
        epoch: names this history. It changes when the engine has lost its data, since numbers may then come again.
        number: grows with each message of the subject; more than zero.
        before: the number of the message before it on its subject, 0 for the first one.
    """

    epoch: str
    number: int
    before: int


class Kept(NamedTuple):
    """A message in a history."""

    number: int
    data: bytes


class Replay(NamedTuple):
    """An answer of ``Backplane.read``.

    Attributes:
        epoch: as in ``Place``.
        messages: those that were asked for, oldest first.
        is_complete: false if messages before the first one were asked for and are not kept any more.
    """

    epoch: str
    messages: list[Kept]
    is_complete: bool


class Subscription(NamedTuple):
    """A subject that this machine wants, and how many messages of it the engine keeps."""

    subject: str
    keep: int = 0


@dataclass(slots=True)
class Outgoing:
    """A message for the engine.

    Attributes:
        subject: 1 to 512 characters, any Unicode.
        data: what the subscribers get.
        keep: how many messages of this subject the engine keeps; 0 for none.
        id: the same if the message comes again, and of no other message; for engines that know such numbers.
        on_absent: to be called if the engine knows that nobody is subscribed to the subject. Engines that do not know
            never call it.
        on_refused: to be called with an exception if the engine does not take this message, and would not if it came
            again: it is too large, say.
    """

    subject: str
    data: bytes
    keep: int = 0
    id: str = ""
    on_absent: Callable[[], None] | None = None
    on_refused: Callable[[Exception], None] | None = None

    def refuse(self, error: Exception) -> None:
        """Tell the sender that the engine does not take the message."""
        if self.on_refused is not None:
            self.on_refused(error)


Receive = Callable[[str, bytes, Place | None], None]
Lost = Callable[[BaseException | None], None]


class Backplane(ABC):
    """An engine that carries messages between machines.

    Guarantees that a cluster needs:

    - Subscribers get the messages of one publisher on one subject in the order of ``publish``, or a part of them in
      that order.
    - Messages published after ``subscribe`` has returned reach the subscriber while the session lasts. If some were
      lost, because this subscriber is slow for example, the session ends: ``lost`` is called.
    - Own messages may come back or not; the cluster ignores them. With ``keep`` they do come back.

    Attributes:
        keeps_history: whether ``keep`` and ``read`` work. It may change in ``open``.
        url: names the engine in log lines, without passwords.
    """

    keeps_history: bool = False
    url: str = ""

    @abstractmethod
    async def open(self, receive: Receive, lost: Lost) -> None:
        """Begin a session: connect, and make sure that the engine answers.

        Args:
            receive: to be called with subject, data and place (``None`` without history) for each message, on this
                thread.
            lost: to be called when the session has ended by itself, with the reason. Calls after the first are ignored.

        Raises any exception if that fails; ``close`` is called then as well.
        """

    @abstractmethod
    async def close(self) -> None:
        """End the session, in whatever state it is, and release everything. ``open`` may follow. It raises nothing."""

    @abstractmethod
    async def ping(self) -> None:
        """Return when the engine has answered, on each connection of the session; raise if it cannot."""

    @abstractmethod
    async def subscribe(self, subscriptions: Sequence[Subscription]) -> None:
        """Return when the engine has all these subscriptions; some may be there already.

        An exception ends the session.
        """

    @abstractmethod
    async def unsubscribe(self, subscriptions: Sequence[Subscription]) -> None:
        """The opposite; some may not be there. Messages that are on their way may still come."""

    @abstractmethod
    async def publish(self, messages: Sequence[Outgoing]) -> None:
        """Hand messages to the engine, in order.

        With ``keep`` it returns when the engine has kept them. An exception ends the session, and all the messages come
        again in the next one: receivers know messages that they have had by a number. A message that the engine refuses
        is no exception: ``Outgoing.refuse``.
        """

    async def read(self, subscription: Subscription, after: Place | None) -> Replay:
        """The messages of a subject that are kept: all, or those after a place."""
        raise NotImplementedError(f"{type(self).__name__} keeps no history")
