"""Memory and descriptors stay flat over 100,000 connections, and within the configured limits whatever peers do."""

import contextlib
import gc
import logging
import os
import resource
import weakref

import pytest

import goev
from support import Child, Echo, Recorder, eventually, open_fds, resident, settle

MEGABYTE = 1 << 20
SOAK = int(os.environ.get("GOEV_SOAK", "1"))

VISITS = """
    import socket, struct, sys
    port, count = int(sys.argv[1]), int(sys.argv[2])
    reset = struct.pack("ii", 1, 0)
    for line in sys.stdin:
        for number in range(count):
            client = socket.socket()
            # A reset leaves no port in TIME_WAIT.
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, reset)
            client.connect(("127.0.0.1", port))
            if number % 4 == 0:
                client.sendall(b"x")
                client.recv(1)
            client.close()
        print("done", flush=True)
"""


@pytest.mark.timeout(120 * SOAK)
def test_a_hundred_thousand_connections_leave_everything_flat(stack, start):
    class Cyclic(Echo):
        """A handler in a cycle with its timer, its bound methods and itself."""

        def on_open(self):
            self.me = self
            self.call = self.on_timeout
            self.timer = self.schedule(60, lambda: self.call)

    server = start(Cyclic, pollers=2, backlog=4096)
    children = [stack.enter_context(Child.running(VISITS, str(server.address[1]), "5000")) for _ in range(2)]

    def visit() -> None:
        for child in children:
            child.say("go")
        for child in children:
            assert child.line(60) == "done"
        eventually(lambda: sum(poller["open"] for poller in server.reactor.stats()) == 0, "all have ended", 20)
        settle(server.reactor)
        gc.collect()

    def measure() -> tuple[int, int, int]:
        return open_fds(), len(gc.get_objects()), resident()

    visit()
    descriptors, objects, memory = measure()
    for _ in range(10 * SOAK - 1):
        visit()
    after = measure()
    assert after[0] <= descriptors + 2
    assert abs(after[1] - objects) < 500
    assert after[2] - memory < 6 * MEGABYTE
    stats = server.reactor.stats()
    assert sum(poller["accepted"] for poller in stats) == sum(poller["closed"] for poller in stats) == 100_000 * SOAK
    assert sum(poller["timers"] for poller in stats) == 0


@pytest.mark.parametrize("end", ["peer", "close", "abort", "raise"])
def test_a_handler_in_cycles_with_everything_around_it_is_collected(start, log, monkeypatch, end):
    class Knot(goev.Connection):
        def on_open(self):
            self.parts = [self, self.reactor, self.cache, self.on_read, lambda: self]
            self.parts.append(self.parts)
            self.schedule(60, self.on_read)
            self.call_soon(self.on_open_later, self)
            alive.append(weakref.ref(self))

        def on_open_later(self, other):
            self.other = other

        def on_read(self):
            if end == "raise":
                raise ValueError(self)
            getattr(self, end)()

    # Records hold tracebacks, and tracebacks hold handlers; pytest keeps the records that reach the root logger.
    monkeypatch.setattr(logging.getLogger("goev"), "propagate", False)
    alive: list[weakref.ref[Knot]] = []
    server = start(Knot)
    for _ in range(50):
        client = server.connect()
        if end != "peer":
            client.send(b"x")
            client.socket.settimeout(5)
            with contextlib.suppress(ConnectionResetError):
                client.receive_all()
        client.close()
    eventually(lambda: server.reactor.stats()[0]["open"] == 0, "all have ended")
    settle(server.reactor)
    log.events.history.clear()
    eventually(lambda: gc.collect() is not None and not any(ref() for ref in alive), "they are collected")
    assert len(alive) == 50


def test_a_firehose_at_a_handler_that_takes_nothing_costs_max_input(start, events):
    class Pauses(Recorder):
        def on_read(self):
            self.pause_reading()
            self.events("paused", self.pending_input)

    server = start(lambda: Pauses(events), max_input=4 * MEGABYTE, receive_buffer_size=65_536)
    before = resident()
    data = bytes(8 * MEGABYTE)
    for _ in range(8):
        server.connect().fill(data)
    assert len(events.of("paused")) == 8
    assert all(event[1] <= 4 * MEGABYTE for event in events.of("paused"))
    assert resident() - before < 8 * 4 * MEGABYTE


def test_ten_thousand_half_open_peers_cost_a_few_hundred_bytes_each(stack, start):
    """The peers have sent one byte, which stays unread, and the end; the handlers wait for more."""

    class Waits(goev.Connection):
        def on_read(self):
            assert self.read_exactly(2) is None

        def on_eof(self):
            pass

    half = """
        import resource, socket, sys
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        clients = []
        for _ in range(5000):
            client = socket.create_connection(("127.0.0.1", int(sys.argv[1])), 20, (sys.argv[2], 0))
            client.sendall(b"x")
            client.shutdown(socket.SHUT_WR)
            clients.append(client)
        print("there", flush=True)
        sys.stdin.readline()
        for client in clients:
            client.close()
    """

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < 10_500:
        pytest.skip(f"needs RLIMIT_NOFILE above 10,500 (ulimit -Hn), which is {hard}")
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    stack.callback(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
    server = start(Waits, backlog=4096)
    before = resident()
    port = str(server.address[1])
    children = [stack.enter_context(Child.running(half, port, f"127.0.2.{n}")) for n in range(2)]
    for child in children:
        assert child.line(30) == "there"
    eventually(lambda: server.reactor.stats()[0]["open"] == 10_000, "all are open")
    settle(server.reactor)
    assert (resident() - before) / 10_000 < 1000
    for child in children:
        child.say("end")
        assert child.end() == 0
