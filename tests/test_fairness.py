"""C8: no connection, timer or queue of calls starves the others."""

import socket
import statistics
import sys
import threading
import time

import goev
from support import PATIENCE, Echo, eventually, held, in_thread, on_poller, settle


def waits(client, rounds: int) -> list[float]:
    """Seconds that each of some echoes took."""
    taken = []
    for _ in range(rounds):
        began = time.perf_counter()
        assert client.ask(b"ping") == b"ping"
        taken.append(time.perf_counter() - began)
    return taken


def spin(seconds: float) -> None:
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        pass


class EchoOrSink(Echo):
    """Connections that begin with "!" are read and thrown away, the others echoed."""

    sink = False

    def on_read(self):
        self.sink = self.sink or self.peek(1) == b"!"
        if self.sink:
            self.read()
        else:
            super().on_read()


def test_a_firehose_does_not_starve_the_others(start):
    server = start(EchoOrSink)
    other, stop = server.connect(), threading.Event()

    def pour(client) -> None:
        while not stop.is_set():
            client.send(b"!" * 1_000_000)

    pouring = [in_thread(pour, server.connect()) for _ in range(2)]
    taken = waits(other, 100)
    stop.set()
    for future in pouring:
        future.result(PATIENCE)
    assert statistics.median(taken) < 0.05
    assert max(taken) < 1.0


def test_a_slow_reader_of_single_bytes_does_not_starve_the_others(start, events):
    class Sips(EchoOrSink):
        def on_read(self):
            if self.sink or self.peek(1) == b"!":
                self.sink = True
                self.skip(1)
                spin(0.0001)
                if self.pending_input == 0:
                    events("done")
            else:
                super().on_read()

    server = start(Sips)
    slow, other = server.connect(), server.connect()
    slow.send(b"!" * 10_000)  # a second of callbacks
    taken = waits(other, 20)
    assert not events.history, "the slow one was finished first"
    assert statistics.median(taken) < 0.02
    events.next()


def test_a_busy_poller_lets_other_python_threads_run(start, events):
    """A poller that detaches and attaches at once after each batch would keep the GIL from everybody else."""

    class Sips(goev.Connection):
        def on_read(self):
            self.skip(1)
            spin(0.0002)
            events("sip")

    server = start(Sips)
    server.connect().send(b"x" * 5_000)  # a second of callbacks
    events.next()
    taken = []
    for _ in range(20):
        began = time.perf_counter()
        time.sleep(0.001)  # gives the GIL up, and wants it back
        taken.append(time.perf_counter() - began)
    assert len(events.history) < 5_000, "the poller was finished first"
    assert statistics.median(taken) < 0.03


def test_waiting_for_the_gil_does_not_use_up_the_time_of_a_batch(start):
    """A thread that computes keeps each batch waiting for a switch interval, longer than a batch may last."""
    server, stop = start(Echo, pollers=2), threading.Event()

    def compute() -> None:
        while not stop.is_set():
            sum(range(1_000))

    computing = in_thread(compute)
    try:
        clients = [server.connect() for _ in range(4)]
        taken = [wait for client in clients for wait in waits(client, 10)]
    finally:
        stop.set()
    computing.result(PATIENCE)
    assert statistics.median(taken) < 10 * sys.getswitchinterval()


def test_slow_callbacks_of_many_connections_are_batched_by_time(start):
    """200 connections with 2 ms of work each: a batch that takes them all would keep a timer waiting 400 ms."""
    late = []

    class Works(goev.Connection):
        def on_read(self):
            self.read()
            spin(0.002)

    server = start(Works)
    clients = [server.connect() for _ in range(200)]
    due = time.monotonic() + 0.2

    def tick() -> None:
        late.append(time.monotonic())

    server.reactor.schedule(due - time.monotonic(), tick, every=0.02)
    while time.monotonic() < due:
        for client in clients:
            client.send(b"x")
    eventually(lambda: len(late) > 5, "the timer goes on")
    assert late[0] - due < 0.1


def test_more_ready_connections_than_fit_into_a_batch_are_all_served(start):
    server = start(Echo)
    clients = [server.connect() for _ in range(700)]
    for _ in range(3):
        for client in clients:
            client.send(b"all of them")
        for client in clients:
            assert client.receive(11) == b"all of them"


def test_input_beyond_the_budget_of_a_turn_is_taken_up_again_without_new_events(start):
    """The peer sends once, far more than one turn reads, and then waits: nothing new arrives to wake the poller."""
    server = start(Echo)
    client = server.connect()
    for size in (65_536, 262_144, 266_240, 266_241, 1_000_000, 3_000_000):
        receiving = in_thread(client.receive, size)
        client.send(b"x" * size)
        assert receiving.result(PATIENCE) == b"x" * size


def test_call_soon_that_posts_itself_again_starves_nobody(start):
    server = start(Echo)
    calls = []
    running = True

    def again() -> None:
        calls.append(None)
        if running:
            server.reactor.call_soon(again)

    again()
    taken = waits(server.connect(), 50)
    running = False
    settle(server.reactor)
    assert statistics.median(taken) < 0.05
    assert len(calls) > 50


def test_more_calls_that_post_themselves_than_fit_into_a_batch_starve_nobody(start):
    server = start(Echo)
    client = server.connect()
    assert client.ask(b"before") == b"before"
    running = True

    def again() -> None:
        if running:
            server.reactor.call_soon(again)

    server.reactor.call_soon(lambda: [again() for _ in range(300)])
    try:
        taken = waits(client, 20)
        assert server.connect().ask(b"let in") == b"let in"
    finally:
        running = False
    assert statistics.median(taken) < 0.05


def test_more_descriptors_always_ready_than_fit_into_a_batch_starve_nobody(stack, start):
    class Ready(goev.EventHandler):
        def on_write(self):
            return running

    running = True
    sockets = [stack.enter_context(socket.socket(type=socket.SOCK_DGRAM)) for _ in range(300)]
    server = start(Echo)
    client = server.connect()
    assert client.ask(b"before") == b"before"
    on_poller(server.reactor, lambda: [server.reactor.add(Ready(), one, goev.EV_OUT) for one in sockets])
    try:
        taken = waits(client, 20)
        assert server.connect().ask(b"let in") == b"let in"
    finally:
        running = False
    assert statistics.median(taken) < 0.05


def test_a_connection_that_is_always_ready_does_not_keep_new_ones_out(start):
    server = start(EchoOrSink)
    stop = threading.Event()

    def pour(client) -> None:
        while not stop.is_set():
            client.send(b"!" * 500_000)

    pouring = in_thread(pour, server.connect())
    for _ in range(20):
        with server.connect() as client:
            assert client.ask(b"let in") == b"let in"
    stop.set()
    pouring.result(PATIENCE)


def test_a_batch_is_flushed_before_the_next_is_served(start, events):
    """With a second of work waiting the first answer does not wait for the last."""

    class Slow(goev.Connection):
        def on_read(self):
            self.write(self.read())
            spin(0.01)
            events("worked")

    server = start(Slow)
    clients = [server.connect() for _ in range(100)]

    def receive(client) -> None:
        client.receive(1)
        events("answered")

    receiving = [in_thread(receive, client) for client in clients]
    with held(server.reactor):
        for client in clients:
            client.send(b"x")
    for future in receiving:
        future.result(PATIENCE)
    assert events.names.index("answered") < 90
    assert events.names.count("worked") == 100
