"""C6: a late event never reaches the wrong object, however fast descriptors are used again."""

import random
import select
import socket
import struct
from contextlib import suppress

import goev
from support import Client, Echo, held, settle

NAME = struct.Struct("<I")


class Named(goev.Connection):
    """Greets with its number and takes only bytes that carry that number; now and then it ends itself or another."""

    alive: "dict[int, Named]"
    seen: "dict[str, int]"
    fds: "list[int]"
    random: random.Random

    def on_open(self):
        self.number = self.seen["opened"] = self.seen["opened"] + 1
        self.fds.append(self.fileno())
        self.alive[self.number] = self
        self.write(NAME.pack(self.number))

    def on_read(self):
        while (name := self.read_exactly(NAME.size)) is not None:
            self.seen["right" if NAME.unpack(name)[0] == self.number else "wrong"] += 1
        if self.random.random() < 0.3:
            self.random.choice(list(self.alive.values())).abort()
        elif self.random.random() < 0.1:
            self.random.choice(list(self.alive.values())).close()

    def on_close(self, error):
        del self.alive[self.number]


def named() -> type[Named]:
    fresh = {"alive": {}, "seen": {"opened": 0, "right": 0, "wrong": 0}, "fds": [], "random": random.Random(5)}
    return type("Fresh", (Named,), fresh)


def test_no_byte_reaches_another_connection_while_descriptors_are_reused(start):
    kind = named()
    server = start(kind)
    names: dict[Client, bytes] = {}
    for _ in range(60):
        with held(server.reactor):
            while len(names) < 24:
                names[Client(server.address)] = b""
            for client, name in names.items():
                with suppress(OSError):
                    client.send(name * 20)
        for client in list(names):
            try:
                names[client] = names[client] or client.receive(NAME.size)
                client.send(names[client])
            except OSError:
                client.close()
                del names[client]
        settle(server.reactor, 2)
        for client in [client for client in names if gone(client)]:
            client.close()
            del names[client]
    for client in names:
        client.close()
    assert kind.seen["wrong"] == 0
    assert kind.seen["right"] > 1000
    assert len(set(kind.fds)) < len(kind.fds) / 3, "no descriptor was used again: this tests nothing"


def gone(client: Client) -> bool:
    """The server has ended it."""
    if not select.select([client.socket], [], [], 0)[0]:
        return False
    try:
        return client.socket.recv(1, socket.MSG_PEEK) == b""
    except OSError:
        return True


def test_a_connection_accepted_in_the_batch_that_freed_its_descriptor_gets_only_its_own_events(start, events):
    """One connection ends another whose input is already waiting; a third takes the descriptor at once."""

    class Pairs(goev.Connection):
        def on_open(self):
            events("open", self)

        def on_read(self):
            data = self.read()
            events("read", self, data)
            if data == b"end the other":
                events.history[1][1].abort()

    server = start(Pairs)
    for _ in range(20):
        events.history.clear()
        events._taken = 0
        first, second = server.connect(), None
        events.times("open", 1)
        second = server.connect()
        events.times("open", 2)
        with held(server.reactor):
            second.send(b"of the second")
            first.send(b"end the other")
            third = server.connect()
        third.send(b"of the third")
        while events.until("read")[2] != b"of the third":
            pass
        newcomer = events.of("open")[2][1]
        assert [event[2] for event in events.of("read") if event[1] is newcomer] == [b"of the third"]
        for client in (first, second, third):
            client.close()
        settle(server.reactor)


def test_late_calls_and_timers_of_an_ended_connection_do_not_reach_its_successor(start, events):
    class Visitor(goev.Connection):
        def on_open(self):
            events("open", self, self.fileno())
            self.schedule(0.05, lambda: events("timer", self))

        def on_close(self, error):
            events("close", self)

    server = start(Visitor)
    client = server.connect()
    _, old, fd = events.until("open")
    client.close()
    events.until("close")
    successor = server.connect()
    _, new, new_fd = events.until("open")
    assert new_fd == fd
    for late in (lambda: old.write(b"stray"), lambda: old.abort(), lambda: old.call_soon(events, "stray"), old.close):
        with suppress(goev.ConnectionClosed):
            late()
    new.write(b"mine")
    assert successor.receive(4) == b"mine"
    assert events.until("timer") == ("timer", new)
    assert not events.of("stray")


def test_descriptors_of_other_code_are_left_alone(start):
    """goev closes each of its descriptors once: one that other code got meanwhile stays open."""
    server = start(Echo)
    for _ in range(30):
        client = server.connect()
        assert client.ask(b"x") == b"x"
        client.close()
        settle(server.reactor, 2)
        left, right = socket.socketpair()
        with left, right:
            settle(server.reactor, 2)
            left.sendall(b"mine")
            assert right.recv(10) == b"mine"
