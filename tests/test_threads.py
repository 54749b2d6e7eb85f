"""C3: callbacks run on their poller's thread, one at a time, none inside a method call."""

import threading
from contextlib import suppress
from threading import get_ident
from typing import ClassVar

import pytest

import goev
from support import PATIENCE, SMALL_BUFFERS, Echo, held, in_thread, on_poller, settle


def test_everything_of_a_connection_happens_on_one_thread(start, events):
    class Traces(goev.Connection):
        def __init__(self):
            self.threads = [get_ident()]

        def on_open(self):
            self.threads.append(get_ident())
            self.schedule(0.001)
            self.call_soon(lambda: self.threads.append(get_ident()))

        def on_read(self):
            self.threads.append(get_ident())
            self.read()

        def on_timeout(self):
            self.threads.append(get_ident())
            self.write(b"x" * 5_000_000)
            events("written")

        def on_drain(self):
            self.threads.append(get_ident())
            self.close()

        def on_eof(self):
            self.threads.append(get_ident())

        def on_close(self, error):
            events("threads", [*self.threads, get_ident()])

    server = start(Traces, pollers=2, placement="round_robin", **SMALL_BUFFERS)
    for _ in range(10):
        client = server.connect()
        client.send(b"x")
        events.until("written")  # a client that reads meanwhile may leave nothing to drain
        client.receive(5_000_000)
        client.finish()
    events.times("threads", 10)
    seen = [set(event[1]) for event in events.of("threads")]
    assert all(len(threads) == 1 for threads in seen)
    pollers = set.union(*seen)
    assert len(pollers) == 2
    assert get_ident() not in pollers


def test_callbacks_of_a_poller_run_one_at_a_time(start, events):
    class Alone(goev.Connection):
        inside = 0

        def on_read(self):
            Alone.inside += 1
            events("inside", Alone.inside)
            self.write(self.read())
            Alone.inside -= 1

    server = start(Alone)
    clients = [server.connect() for _ in range(20)]
    for _ in range(20):
        for client in clients:
            client.send(b"x")
        for client in clients:
            client.receive(1)
    assert {event[1] for event in events.history} == {1}


class Nests(goev.Connection):
    """Notices a callback that begins while one of its methods runs."""

    def __init__(self, events) -> None:
        self.events = events
        self.inside = False

    def report(self, name: str) -> None:
        self.events(name, self.inside)

    def on_open(self):
        self.events("open", self)

    def on_read(self):
        self.report("read")
        self.read(1)

    def on_drain(self):
        self.report("drain")

    def on_timeout(self):
        self.report("timeout")

    def on_close(self, error):
        self.report("close")


def call_soon_here(connection: Nests) -> None:
    connection.call_soon(connection.report, "soon")


def timer_due_now(connection: Nests) -> None:
    connection.schedule(0.0)


def close(connection: Nests) -> None:
    connection.close()


def abort(connection: Nests) -> None:
    connection.abort()


def write_then_drain(connection: Nests) -> None:
    connection.write(b"x" * 3_000_000)


def pause_and_resume(connection: Nests) -> None:
    connection.pause_reading()
    connection.resume_reading()


def hand_over(connection: Nests) -> None:
    connection.hand_over(Nests(connection.events))


@pytest.mark.parametrize(
    ("method", "callback"),
    [
        (call_soon_here, "soon"),
        (timer_due_now, "timeout"),
        (close, "close"),
        (abort, "close"),
        (write_then_drain, "drain"),
        (hand_over, "close"),
    ],
    ids=lambda value: getattr(value, "__name__", value),
)
def test_no_callback_starts_inside_a_method(start, events, method, callback):
    client = start(lambda: Nests(events), send_buffer_size=8192).connect(receive_buffer=8192)
    connection = events.until("open")[1]

    def act() -> None:
        connection.inside = True
        method(connection)
        connection.inside = False

    connection.call_soon(act)
    receiving = in_thread(drain_quietly, client)
    assert events.until(callback) == (callback, False)
    with suppress(OSError):  # abort() has ended it
        client.finish()
    receiving.result(PATIENCE)


def drain_quietly(client) -> None:
    with suppress(ConnectionResetError):
        client.receive_all()


def test_resume_starts_no_on_read_inside(start, events):
    class Waits(Nests):
        def on_read(self):
            super().on_read()
            self.pause_reading()

    client = start(lambda: Waits(events)).connect()
    connection = events.until("open")[1]
    client.send(b"ab")
    events.until("read")

    def resume() -> None:
        connection.inside = True
        pause_and_resume(connection)
        connection.inside = False

    connection.call_soon(resume)
    assert events.until("read") == ("read", False)


# --- within a batch ---


def two_with_input(start, events, act):
    """Two connections whose input waits when the poller looks; the first called does ``act(other)``."""

    class Pair(goev.Connection):
        both: ClassVar[list[goev.Connection]] = []

        def on_open(self):
            self.both.append(self)
            events("open", self)

        def on_read(self):
            events("read", self, self.read())
            if len(events.of("read")) == 1:
                act(next(other for other in self.both if other is not self))

        def on_close(self, error):
            events("close", self)

    server = start(Pair)
    clients = [server.connect() for _ in range(2)]
    events.times("open", 2)
    with held(server.reactor):
        for client in clients:
            client.send(b"x")
    events.until("read")
    settle(server.reactor)
    return server, clients


def test_a_connection_aborted_by_an_earlier_callback_is_not_called(start, events):
    two_with_input(start, events, lambda other: other.abort())
    assert [name for name in events.names if name != "open"] == ["read", "close"]


def test_a_connection_closed_by_an_earlier_callback_is_not_called(start, events):
    two_with_input(start, events, lambda other: other.close())
    assert [name for name in events.names if name != "open"] == ["read", "close"]


def test_a_connection_paused_by_an_earlier_callback_is_not_called_until_resumed(start, events):
    paused = []

    def pause(other: goev.Connection) -> None:
        other.pause_reading()
        paused.append(other)

    server, _ = two_with_input(start, events, pause)
    assert len(events.of("read")) == 1
    on_poller(server.reactor, paused[0].resume_reading)
    assert events.until("read") == ("read", paused[0], b"x")


def test_a_connection_emptied_by_an_earlier_callback_is_not_called(start, events):
    two_with_input(start, events, lambda other: events("taken", other.read()))
    read = [event[-1] for event in events.of("read")]
    taken = events.of("taken")[0][1]
    assert b"" not in read
    assert b"".join([*read, taken]) == b"xx"


# --- from other threads ---


def send_this_file(connection: goev.Connection) -> None:
    with open(__file__, "rb") as file:
        connection.sendfile(file)


WRONG_THREAD = {
    "read": lambda c: c.read(),
    "peek": lambda c: c.peek(),
    "skip": lambda c: c.skip(1),
    "read_exactly": lambda c: c.read_exactly(1),
    "read_until": lambda c: c.read_until(b"\n"),
    "read_into": lambda c: c.read_into(bytearray(4)),
    "sendfile": send_this_file,
    "shutdown_write": lambda c: c.shutdown_write(),
    "pause_reading": lambda c: c.pause_reading(),
    "resume_reading": lambda c: c.resume_reading(),
    "schedule": lambda c: c.schedule(1.0),
    "hand_over": lambda c: c.hand_over(Echo()),
    "set_nodelay": lambda c: c.set_nodelay(),
    "set_keepalive": lambda c: c.set_keepalive(10.0),
    "set_receive_buffer_size": lambda c: c.set_receive_buffer_size(8192),
    "set_send_buffer_size": lambda c: c.set_send_buffer_size(8192),
    "pending_input": lambda c: c.pending_input,
    "pending_output": lambda c: c.pending_output,
    "cache": lambda c: c.cache,
}


@pytest.mark.parametrize("name", WRONG_THREAD)
def test_from_another_thread_it_raises_wrong_thread_and_does_nothing(start, events, name):
    client = start(lambda: Nests(events)).connect()
    connection = events.until("open")[1]
    with pytest.raises(goev.WrongThread, match=name):
        WRONG_THREAD[name](connection)
    client.send(b"x")
    assert events.until("read") == ("read", False)


def test_another_poller_is_another_thread_too(start, events):
    server = start(lambda: Nests(events), pollers=2)
    for _ in range(2):
        server.connect()
    first, second = events.until("open")[1], events.until("open")[1]
    with pytest.raises(goev.WrongThread):
        on_poller(first, second.read)


def test_write_close_and_call_soon_work_from_the_thread_of_another_poller(start, events):
    server = start(lambda: Nests(events), pollers=2)
    one = server.connect()
    first = events.until("open")[1]
    server.connect()
    second = events.until("open")[1]
    idents = [on_poller(connection, get_ident) for connection in (first, second)]
    assert idents[0] != idents[1]

    def reach_over() -> None:
        first.write(b"from poller 1")
        first.call_soon(lambda: events("ran", get_ident()))
        first.close()

    second.call_soon(reach_over)
    assert one.receive_all() == b"from poller 1"
    assert events.of("ran") == [("ran", idents[0])]


def test_call_soon_passes_arguments_and_keeps_the_order_of_each_thread(start, events):
    start(lambda: Nests(events)).connect()
    connection = events.until("open")[1]

    def post(who: int) -> None:
        for number in range(1000):
            connection.call_soon(events, "called", who, number)

    for future in [in_thread(post, who) for who in range(4)]:
        future.result(PATIENCE)
    events.times("called", 4000)
    for who in range(4):
        assert [event[2] for event in events.of("called") if event[1] == who] == list(range(1000))


def test_call_soon_of_a_connection_runs_on_its_own_poller(start, events):
    class Says(goev.Connection):
        def on_open(self):
            events("open", self, get_ident())

    server = start(Says, pollers=2)
    for _ in range(6):
        server.connect()
    events.times("open", 6)
    for _, connection, thread in events.history:
        assert on_poller(connection, get_ident) == thread


def test_reactor_call_soon_runs_on_poller_0(start):
    server = start(Echo, pollers=3)
    threads = {on_poller(server.reactor, get_ident) for _ in range(20)}
    assert len(threads) == 1


def test_call_soon_before_the_start_runs_after_it(events):
    with goev.Reactor(pollers=1) as reactor:
        reactor.call_soon(events, "early", 1)
        reactor.call_soon(events, "early", 2)
        assert not events.history
        reactor.start()
        assert [events.next(), events.next()] == [("early", 1), ("early", 2)]


def test_no_wake_up_is_lost(start):
    """Threads play ping-pong with the poller: one lost wake-up would leave one of them waiting."""
    server = start(Echo, pollers=2)

    def ping(rounds: int) -> int:
        answered = threading.Semaphore(0)
        for number in range(rounds):
            server.reactor.call_soon(answered.release)
            if not answered.acquire(timeout=5):
                return number
        return rounds

    players = [in_thread(ping, 2000) for _ in range(4)]
    assert [player.result(25) for player in players] == [2000] * 4


def test_no_write_of_another_thread_is_left_lying(start, events):
    """As above through write(): the poller is idle each time."""
    client = start(lambda: Nests(events)).connect()
    connection = events.until("open")[1]
    for _ in range(2000):
        connection.write(b"x")
        assert client.receive(1) == b"x"


def test_a_callback_may_call_into_threads_that_write(start):
    class Delegates(goev.Connection):
        def on_read(self):
            data = self.read()
            in_thread(self.write, data).result(PATIENCE)

    client = start(Delegates).connect()
    for _ in range(50):
        assert client.ask(b"ask a thread") == b"ask a thread"
