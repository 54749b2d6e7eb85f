"""Machines for the tests of clusters: each has a reactor, a cluster and clients of its own, in one process."""

import itertools
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import goev
from support import LOCAL, PATIENCE, Client, Events, eventually, on_poller

HOMES = ["thread", "poller"]  # of clusters
NAMES = (f"test{number}" for number in itertools.count())


class Peer(goev.Connection):
    """A connection of a machine; its messages have a length, and it sends what it gets to its group."""

    framing = goev.LengthPrefixed()

    def __init__(self, events: Events, opened: Callable[["Peer"], None]) -> None:
        self.events = events
        self.opened = opened

    def on_open(self) -> None:
        self.opened(self)
        self.events("open", self)

    def on_close(self, error: BaseException | None) -> None:
        self.events("close", self)


class Member(Client):
    """The client of a connection."""

    handler: Peer

    def next(self) -> bytes:
        """The next message."""
        (size,) = struct.unpack(">I", self.receive(4))
        return self.receive(size)

    def take(self, count: int) -> list[bytes]:
        return [self.next() for _ in range(count)]

    def nothing(self, wait: float = 0.05) -> bool:
        return not self.gets(b"", wait)


class Machine:
    """A reactor with an acceptor, and a cluster, whose home is a thread of its own or the poller."""

    def __init__(
        self,
        stack: ExitStack,
        url: Any,
        *,
        pollers: int = 1,
        asyncio: bool = False,
        home: str = "thread",
        **options: Any,
    ) -> None:
        self._stack = stack
        self.events = Events()
        self.reactor = stack.enter_context(goev.Reactor(pollers=pollers, asyncio=asyncio or home == "poller"))
        self.kind: type[Peer] = Peer
        self._opened: Callable[[Peer], None] = lambda peer: None
        self.acceptor = goev.Acceptor(self.reactor, LOCAL, self._make, placement="round_robin")
        self.reactor.start()
        self.states: Events = Events()
        if home == "poller":
            options["reactor"] = self.reactor
        self.cluster = goev.cluster.connect(url, on_state=lambda state, error: self.states(state, error), **options)
        stack.callback(self.cluster.close)

    def _make(self) -> Peer:
        return self.kind(self.events, self._opened)

    def peer(self, opened: Callable[[Peer], None] = lambda peer: None) -> Member:
        """A connection of this machine. ``opened`` is its ``on_open``."""
        self._opened = opened
        client = self._stack.enter_context(Member(self.acceptor.address))
        client.handler = self.events.until("open")[1]
        return client

    def member(self, group: Any, **options: Any) -> Member:
        """A connection that is a member of the group from ``on_open`` on; other machines know that when it returns."""
        member = self.peer(lambda peer: group.add(peer, **options))
        self.settle()
        return member

    def settle(self) -> None:
        """Wait until the engine has all that this machine wants of it."""
        posted = threading.Event()
        self.cluster._home.post(posted.set)  # behind everything that was posted before
        assert posted.wait(PATIENCE)
        self.cluster._home.submit(self.cluster._link.settled()).result(PATIENCE)

    def has(self, **figures: int) -> None:
        """Wait until the counters have these values."""
        eventually(lambda: figures.items() <= self.cluster.stats().items(), f"{figures}, not {self.cluster.stats()}")


@contextmanager
def machines(count: int, url: Any, **options: Any) -> Iterator[list[Machine]]:
    """Machines with the same engine."""
    with ExitStack() as stack:
        made = [Machine(stack, url() if callable(url) else url, **options) for _ in range(count)]
        for machine in made:
            eventually(lambda machine=machine: len(machine.cluster.machines()) == count, "the machines see each other")
        yield made


def end(member: Member, machine: Machine) -> None:
    """End a connection, and wait until its machine has noticed."""
    member.close()
    machine.events.until("close")
    on_poller(machine.reactor, lambda: None)
    machine.settle()
