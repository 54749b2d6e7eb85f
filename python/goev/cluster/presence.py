"""Presence: the members of a group on all machines, with what they say about themselves.

Each machine keeps the members of the groups that it takes part in, and tells the others what changes: so the cost is
proportional to the changes. The changes of a machine in one group are numbered. A machine that misses a number, or
comes anew, asks for everything. Machines that are gone (``nodes.Nodes``) take their members along.

Words between machines: JSON lists in envelopes of the kind PRESENCE.

    ["change", version, [[number, meta], …], [number, …]]     joined and left; the versions of a machine count from 1
    ["ask"]                                                   to all: tell me your members
    ["ask", [group, …]]                                       to the inbox of a machine
    ["all", group, version, part, parts, [[number, meta], …]] to the inbox of the one that asked
"""

import json
import logging
import threading
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from goev.cluster import subjects
from goev.cluster.envelope import LIFE, Envelope, Kind, content_of, new_life, opened
from goev.cluster.interface import Place, Subscription
from goev.cluster.members import Membership
from goev.cluster.nodes import Nodes
from goev.cluster.thread import guarded
from goev.cluster.wiring import Wiring

LOGGER = logging.getLogger("goev.cluster")
MOST_META = 4096  # bytes of JSON
PART = 128 * 1024  # bytes of JSON in one message, about


class Present(NamedTuple):
    """A member of a group.

    Attributes:
        node: its machine, a ``Cluster.node``.
        number: tells it from other members of that machine in the group.
        meta: the value that was passed to ``ClusterGroup.add``, as JSON gives it back.
    """

    node: str
    number: int
    meta: Any


OnPresence = Callable[[list[Present]], object]


def checked_meta(meta: Any) -> Any:
    """The words of a member about itself, as they arrive elsewhere.

    Raises TypeError: it is no JSON. Raises ValueError: it has more than 4,096 bytes.
    """
    if meta is None:
        return None
    text = json.dumps(meta)
    if len(text) > MOST_META:
        raise ValueError(f"meta has {len(text)} bytes of JSON, more than {MOST_META}")
    return json.loads(text)


class Other:
    """The members of a group on another machine, as this one knows them."""

    def __init__(self) -> None:
        self.version = 0
        self.members: dict[int, Any] = {}
        self.is_asked = False  # all its members are on their way
        self.told = 0  # the last version that it told since it was asked
        self.is_doubtful = False  # they were known before the engine went away
        self.parts: dict[int, list[Any]] = {}  # of an answer that comes in parts
        self.coming = 0  # the version of that answer


class Presence:
    """The members of one group. Everything but ``others`` and ``count_others`` runs on the cluster's thread.

    Args:
        unsettled: the groups that wait for answers; those are asked again.
    """

    def __init__(self, room: str, wiring: Wiring, nodes: Nodes, unsettled: "set[Presence]") -> None:
        self.room = room
        self.on_join: list[OnPresence] = []
        self.on_leave: list[OnPresence] = []
        self._subject = subjects.of_presence(room)
        self._wiring = wiring
        self._nodes = nodes
        self._lock = threading.Lock()  # for readers on other threads
        self._own: dict[int, Any] = {}
        self._others: dict[bytes, Other] = {}
        self._version = new_life()
        self._unsettled = unsettled
        self._joined: dict[int, Any] = {}  # changes that were not told yet
        self._left: list[int] = []
        self._is_telling = False
        self._is_on = False
        self.owner: object = None  # kept alive while this takes part: the group, if it is watched

    # ---- for any thread ----------------------------------------------------------------------------------------------

    def others(self) -> list[Present]:
        """The members of other machines."""
        with self._lock:
            return [
                Present(node.hex(), number, meta)
                for node, other in self._others.items()
                for number, meta in other.members.items()
            ]

    def count_others(self) -> int:
        """Their number."""
        with self._lock:
            return sum(len(other.members) for other in self._others.values())

    # ---- this machine takes part -------------------------------------------------------------------------------------

    def begin(self) -> None:
        """Take part: ask for the members of others, and answer such questions."""
        if not self._is_on:
            self._is_on = True
            self._wiring.link.want(Subscription(self._subject), self._received, self._established)

    def end(self) -> None:
        """Take part no more; what is known of others is forgotten."""
        self._tell()
        self._is_on = False
        self._wiring.link.unwant(self._subject)
        with self._lock:
            self._others.clear()

    def joined(self, membership: Membership) -> None:
        """A member of this machine."""
        self._own[membership.number] = membership.meta
        self._joined[membership.number] = membership.meta
        self._tell_soon()
        self._call(self.on_join, self._wiring.node, {membership.number: membership.meta})

    def left(self, membership: Membership) -> None:
        """It is no member any more."""
        self._own.pop(membership.number, None)
        if membership.number in self._joined:  # nobody has heard of it
            del self._joined[membership.number]
        else:
            self._left.append(membership.number)
            self._tell_soon()
        self._call(self.on_leave, self._wiring.node, {membership.number: membership.meta})

    def _tell_soon(self) -> None:
        """Tell the changes of this turn of the loop in one message."""
        if not self._is_telling:
            self._is_telling = True
            self._wiring.post(self._tell)

    def _tell(self) -> None:
        self._is_telling = False
        joined, left = self._joined, self._left
        self._joined, self._left = {}, []
        if not (joined or left):
            return
        for part in parts_of(joined.items()) or [[]]:
            self._version += 1
            # While the engine is away nobody hears it: in the next session all ask.
            self._nodes.post(self._subject, Kind.PRESENCE, ["change", self._version, part, left])
            left = []

    # ---- the others --------------------------------------------------------------------------------------------------

    def _established(self) -> None:
        """The engine has the subscription: ask for everything, since anything may have been missed."""
        for other in self._others.values():
            other.is_doubtful = True
            self._unsettled.add(self)
        self._nodes.post(self._subject, Kind.PRESENCE, ["ask"])

    def ask_again(self) -> None:
        """A third of ``ttl`` is over: ask again, and forget those that did not answer since the last time."""
        for node in [node for node, other in self._others.items() if other.is_doubtful and other.is_asked]:
            self.lose(node)
        for node in [node for node, other in self._others.items() if other.is_doubtful or other.is_asked]:
            self.ask(node)

    def ask(self, node: bytes) -> None:
        """Ask one machine for its members."""
        with self._lock:
            other = self._others.setdefault(node, Other())
        other.is_asked, other.told = True, 0
        self._unsettled.add(self)
        self._nodes.post(subjects.of_node(node.hex()), Kind.PRESENCE, ["ask", [self.room]])

    def lose(self, node: bytes) -> None:
        """A machine is gone, and its members with it."""
        with self._lock:
            other = self._others.pop(node, None)
        if other is not None:
            self._call(self.on_leave, node, other.members)

    def tell_all(self, node: bytes) -> None:
        """Answer a machine that asked."""
        parts = parts_of(self._own.items()) or [[]]
        self._tell()  # so that the version counts all of them
        for number, part in enumerate(parts):
            content = ["all", self.room, self._version, number, len(parts), part]
            self._nodes.post(subjects.of_node(node.hex()), Kind.PRESENCE, content)

    def _received(self, data: bytes, _: Place | None) -> None:
        try:
            envelope = opened(data)
            if envelope.sender == self._wiring.node:
                return
            word, *content = words_of(envelope)
            self._nodes.note(envelope.sender)
            if word == "ask":
                self._asked(envelope.sender)
            elif word == "change":
                version, joined, left = content
                self._changed(envelope.sender, version, dict(joined), left)
            else:
                raise ValueError("unknown words")
        except (ValueError, TypeError):
            self._wiring.figures.malformed += 1

    def _asked(self, node: bytes) -> None:
        """A machine takes part anew. So it may have missed a question of this one, and what it told before was lost."""
        self.tell_all(node)
        other = self._others.get(node)
        if other is None or other.is_doubtful:
            self.ask(node)

    def _changed(self, node: bytes, version: int, joined: dict[int, Any], left: Iterable[int]) -> None:
        with self._lock:
            other = self._others.setdefault(node, Other())
        if other.is_asked:
            other.told = max(version, other.told)
        if other.is_asked or version <= other.version:
            return  # it is in the answer, or was in one
        is_first = version % LIFE == 1 and not other.members
        if version != other.version + 1 and not is_first:
            self.ask(node)
            return
        gone = {number: other.members[number] for number in left if number in other.members}
        with self._lock:
            other.version = version
            other.members.update(joined)
            for number in gone:
                del other.members[number]
        self._call(self.on_join, node, joined)
        self._call(self.on_leave, node, gone)

    def told_all(self, node: bytes, version: int, part: int, parts: int, members: list[Any]) -> None:
        """A machine has answered, with all its members or a part of them."""
        if not self._is_on:
            return
        with self._lock:
            other = self._others.setdefault(node, Other())
        if other.coming != version:
            other.parts, other.coming = {}, version
        other.parts[part] = members
        if len(other.parts) < parts or version < other.version:  # that is an answer to an earlier question
            return
        now = {number: meta for each in other.parts.values() for number, meta in each}
        before = other.members
        with self._lock:
            other.members, other.version, other.parts = now, version, {}
            other.is_asked = other.is_doubtful = False
        self._call(self.on_join, node, {number: meta for number, meta in now.items() if number not in before})
        self._call(self.on_leave, node, {number: meta for number, meta in before.items() if number not in now})
        if other.told > version:  # a change has overtaken the answer
            self.ask(node)

    def _call(self, callbacks: "list[OnPresence]", node: bytes, members: dict[int, Any]) -> None:
        if members and callbacks:
            present = [Present(node.hex(), number, meta) for number, meta in members.items()]
            for callback in callbacks:
                guarded(callback, present)


class Presences:
    """The groups of this machine that tell who is there."""

    def __init__(self, wiring: Wiring, nodes: Nodes) -> None:
        self._wiring = wiring
        self._rooms: dict[str, Presence] = {}
        self._nodes = nodes
        self._figures = nodes.figures
        self.unsettled: set[Presence] = set()
        nodes.on_inbox(Kind.PRESENCE, self._received)
        nodes.on_gone.append(self._gone)
        nodes.on_returned.append(self._returned)
        nodes.ticks.append(self._tick)

    def of(self, room: str) -> Presence:
        """The presence of a group, which does not take part yet."""
        return Presence(room, self._wiring, self._nodes, self.unsettled)

    def begin(self, presence: Presence) -> None:
        """A group takes part."""
        self._rooms[presence.room] = presence
        presence.begin()

    def end(self, presence: Presence) -> None:
        """It does no more."""
        if self._rooms.get(presence.room) is presence:
            del self._rooms[presence.room]
        presence.end()

    def _gone(self, node: bytes) -> None:
        for room in self._rooms.values():
            room.lose(node)

    def _returned(self, node: bytes) -> None:
        """A machine was only cut off: hear who is there."""
        if self._rooms:
            self._nodes.post(subjects.of_node(node.hex()), Kind.PRESENCE, ["ask", list(self._rooms)])

    def _tick(self) -> None:
        waiting = list(self.unsettled)
        self.unsettled.clear()
        for room in waiting:
            room.ask_again()

    def _received(self, envelope: Envelope) -> None:
        try:
            match words_of(envelope):
                case ["ask", list(names)]:
                    self._nodes.note(envelope.sender)
                    for name in names:
                        if room := self._rooms.get(name):
                            room.tell_all(envelope.sender)
                case ["all", str(name), int(version), int(part), int(parts), list(members)]:
                    self._nodes.note(envelope.sender)
                    if room := self._rooms.get(name):
                        room.told_all(envelope.sender, version, part, parts, members)
                case _:
                    raise ValueError("unknown words")
        except (ValueError, TypeError):
            self._figures.malformed += 1


def words_of(envelope: Envelope) -> list[Any]:
    """The content of an envelope of the kind PRESENCE. Raises ValueError for any other."""
    words = content_of(envelope.body) if envelope.kind is Kind.PRESENCE else None
    if not isinstance(words, list) or not words:
        raise ValueError("no words of presence")
    return words


def parts_of(members: Iterable[tuple[int, Any]]) -> list[list[tuple[int, Any]]]:
    """Members in lists that fit into messages."""
    parts: list[list[tuple[int, Any]]] = []
    room = 0
    for number, meta in members:
        size = 24 + len(json.dumps(meta))
        if size > room:
            parts.append([])
            room = PART
        room -= size
        parts[-1].append((number, meta))
    return parts
