"""The rooms of ``chat.py --cluster URL``: each is on all nodes, and the engine keeps its last messages.

Each room is a group with a history; its messages have places instead of numbers. One more group tells all nodes who is
in which room, by its presence. A page has a secret, ``who``, so that it gets its name back after its node died.

    page:   {"type": "join", "room": "lobby", "name": "Ada", "who": "4f…", "after": the last place that it has had}
    server: {"type": "message", …, "place": …}    {"type": "gap", …}: some messages before these are no longer kept
"""

import json
import time
from collections.abc import MutableMapping
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

import goev
from goev.cluster import Cluster, Present

if TYPE_CHECKING:
    from chat import Chatter

People = list[Present]
FRAMING = goev.websocket.Framing()


def encoded(event: dict[str, Any]) -> str:
    return json.dumps(event, ensure_ascii=False)


def stamp(message: str, place: str) -> str:
    return encoded({**json.loads(message), "place": place})


class Town:
    """All rooms on all nodes, and the people in them."""

    def __init__(
        self,
        cluster: Cluster,
        rooms: MutableMapping[str, Any],
        lock: AbstractContextManager[Any],
        *,
        history: int,
    ) -> None:
        self.cluster, self.rooms, self.lock, self.history = cluster, rooms, lock, history
        self.people: dict[str, dict[tuple[str, int], Any]] = {}  # of each room; by node and number
        self.residents = cluster.group("chat", FRAMING)  # for presence; nobody sends to it
        self.residents.watch(on_join=self.came, on_leave=self.went)

    def room(self, name: str) -> "ClusterRoom":
        return ClusterRoom(name, self)

    def count_people(self) -> dict[str, int]:
        return {room: len(people) for room, people in self.people.items()}

    def came(self, members: People) -> None:
        """Called on the cluster's thread."""
        with self.lock:
            for node, number, meta in members:
                self.people.setdefault(meta["room"], {})[node, number] = meta
                if room := self.rooms.get(meta["room"]):
                    room.tell("people", names=room.names(), joined=meta["name"])

    def went(self, members: People) -> None:
        """Called on the cluster's thread."""
        with self.lock:
            for node, number, meta in members:
                people = self.people[meta["room"]]
                del people[node, number]
                if not people:
                    del self.people[meta["room"]]
                room = self.rooms.get(meta["room"])
                if room and meta["name"] not in room.names():  # else it came back before its old node was given up
                    room.tell("people", names=room.names(), left=meta["name"])


class ClusterRoom:
    """A room, with its people on this node; ``chat.py`` keeps it while there are any."""

    def __init__(self, name: str, town: Town) -> None:
        self.name, self.town = name, town
        self.people: dict[str, Chatter] = {}  # by name, in small letters
        self.here = goev.Group(FRAMING, when_behind="end")
        self.talk = town.cluster.group(
            f"chat:{name}",
            FRAMING,
            history=town.history,
            stamp=stamp,
            on_gap=self.tell_gap,
            presence=False,
            when_behind="end",
        )

    def tell_gap(self, chatter: goev.Connection) -> None:
        chatter.send(encoded({"type": "gap", "room": self.name}))

    def tell(self, kind: str, **content: Any) -> None:
        """Send an event to the people on this node."""
        self.here.send(encoded({"type": kind, "room": self.name, **content}))

    def names(self) -> list[str]:
        """The names on all nodes; those on this one are known a moment earlier."""
        elsewhere = {meta["name"] for meta in self.town.people.get(self.name, {}).values()}
        return sorted(elsewhere | {chatter.name for chatter in self.people.values()})

    def is_free(self, name: str, who: str) -> bool:
        people = self.town.people.get(self.name, {}).values()
        taken = {meta["name"].lower() for meta in people if meta["who"] != who}
        return name.lower() not in taken | self.people.keys()

    def enter(self, chatter: "Chatter", after: str | None) -> None:
        stays = chatter in self.talk
        if not stays:
            self.talk.add(chatter, after=after)
        self.people[chatter.name.lower()] = chatter
        self.here.add(chatter)
        self.town.residents.add(chatter, meta={"room": self.name, "name": chatter.name, "who": chatter.who})
        welcome = {"room": self.name, "name": chatter.name, "names": self.names(), "history": []}
        # The messages of the history come behind this.
        chatter.send(encoded({"type": "welcome", **welcome, "continues": stays or after is not None}))

    def say(self, name: str, text: str) -> None:
        event = {"type": "message", "room": self.name, "time": time.time_ns() // 1_000_000, "name": name, "text": text}
        self.talk.send(encoded(event))

    def leave(self, chatter: "Chatter", stays: bool) -> None:
        """``stays``: it comes back at once, under another name."""
        if not stays:
            self.talk.discard(chatter)
        self.here.discard(chatter)
        self.town.residents.discard(chatter)
        del self.people[chatter.name.lower()]
