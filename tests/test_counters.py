"""What `reactor.stats()` says is exact, at every moment, and looking does not disturb the pollers."""

import contextlib
import ctypes
import re
import threading
import time
from pathlib import Path

import pytest

import goev
from support import PATIENCE, Client, Echo, Recorder, eventually, held, in_thread, on_poller, settle

# A C function that is called without letting go of the interpreter lock.
sleep_with_the_lock = ctypes.PyDLL(None).usleep


def only(reactor: goev.Reactor) -> dict:
    (stats,) = reactor.stats()
    return stats


@pytest.fixture
def quiet(stack):
    """A reactor that nobody watches: a stall here would be the test's own doing."""
    reactor = stack.enter_context(goev.Reactor(pollers=1, stall_warning=None))
    reactor.start()
    on_poller(reactor, lambda: None)
    return reactor


def test_at_every_moment_accepted_is_open_and_closed_and_closed_the_sum_of_its_reasons(start):
    """Read by other threads while connections come and go in all ways."""

    class Ends(Echo):
        def on_read(self):
            how = self.peek(1)
            if how == b"a":
                self.abort()
                return None
            super().on_read()
            return how != b"c"

    server = start(Ends, pollers=2)
    over = threading.Event()
    looks, wrong = [0], []

    def look() -> None:
        before = [0, 0]
        while not over.is_set():
            for poller in server.reactor.stats():
                balanced = poller["accepted"] == poller["open"] + poller["closed"]
                if not balanced or sum(poller["closed_by"].values()) != poller["closed"]:
                    wrong.append(poller)
            now = [poller["accepted"] for poller in server.reactor.stats()]
            if any(number < earlier for number, earlier in zip(now, before, strict=True)):
                wrong.append(now)
            before, looks[0] = now, looks[0] + 1

    looking = in_thread(look)
    for number in range(600):
        with Client(server.address) as client, contextlib.suppress(ConnectionResetError):
            client.send(b"ace"[number % 3 : number % 3 + 1])
            if number % 4:
                client.socket.recv(1)
    over.set()
    looking.result(PATIENCE)
    assert wrong == []
    assert looks[0] > 50
    eventually(lambda: sum(poller["open"] for poller in server.reactor.stats()) == 0, "all have ended")
    stats = server.reactor.stats()
    assert sum(poller["accepted"] for poller in stats) == sum(poller["closed"] for poller in stats) == 600


def test_open_is_the_number_of_handlers_between_their_two_callbacks(start, events):
    server = start(lambda: Recorder(events), pollers=2)
    clients = [server.connect() for _ in range(50)]
    events.times("open", 50)
    assert sum(poller["open"] for poller in server.reactor.stats()) == 50
    for client in clients[:30]:
        client.close()
    events.times("close", 30)
    # Counted before the callback is made.
    assert sum(poller["open"] for poller in server.reactor.stats()) == 20


def test_looking_takes_nothing_of_the_pollers(quiet):
    """No message, no callback, no wake-up: a poller's thread sleeps through ten thousand looks."""

    def switches() -> int:
        return sum(
            int(re.search(r"^voluntary_ctxt_switches:\s+(\d+)", (task / "status").read_text(), re.MULTILINE)[1])
            for task in Path("/proc/self/task").iterdir()
            if (task / "comm").read_text().startswith("goev-poller")
        )

    settle(quiet)
    before, woken = only(quiet), switches()
    for _ in range(10_000):
        quiet.stats()
    assert switches() - woken < 10, "it may still be about to fall asleep"
    assert only(quiet) == before


def test_looking_does_not_wait_for_a_poller_that_is_blocked(start):
    server = start(Echo)
    with held(server.reactor):
        server.reactor.call_soon(int)
        server.reactor.call_soon(int)
        began = time.monotonic()
        assert only(server.reactor)["mailbox"] == 2
        assert time.monotonic() - began < 1.0
    settle(server.reactor)
    assert only(server.reactor)["mailbox"] == 0


def test_bytes_are_those_of_the_sockets(start, events):
    class Twice(Recorder):
        def on_read(self):
            self.write(self.read() * 2)

    server = start(lambda: Twice(events))
    client = server.connect()
    for size in (1, 1000, 50_000, 300_000):
        client.send(bytes(size))
        client.discard(2 * size)
    client.close()
    events.until("close")
    assert (only(server.reactor)["bytes_in"], only(server.reactor)["bytes_out"]) == (351_001, 702_002)


def test_each_callback_is_counted_once_and_each_batch_by_its_size(quiet):
    before = only(quiet)
    with held(quiet):
        for _ in range(40):
            quiet.call_soon(int)
    settle(quiet, 1)
    now = only(quiet)
    assert now["callbacks"] - before["callbacks"] == 1 + 40 + 1
    grown = {size: count - before["batch_sizes"][size] for size, count in now["batch_sizes"].items()}
    assert grown[32] >= 1, "the forty came in one batch"
    assert sum(grown.values()) == now["batches"] - before["batches"]
    assert set(now["batch_sizes"]) == {0, 1, 2, 4, 8, 16, 32, 64, 128, 256}


def test_time_in_callbacks_and_time_of_waiting_for_the_lock_are_told_apart(quiet):
    before, began = only(quiet), time.monotonic()
    on_poller(quiet, time.sleep, 0.1)
    settle(quiet, 1)
    called = only(quiet)
    assert 0.1 <= called["python_time"] - before["python_time"] <= time.monotonic() - began
    began = time.monotonic()
    quiet.call_soon(int)
    sleep_with_the_lock(300_000)
    settle(quiet, 1)
    waited = only(quiet)
    assert 0.15 <= waited["attach_wait"] - called["attach_wait"] <= time.monotonic() - began
    assert waited["python_time"] - called["python_time"] < 0.1


def test_stalls_are_the_callbacks_above_the_limit(stack):
    reactor = stack.enter_context(goev.Reactor(pollers=1, stall_warning=0.2))
    reactor.start()
    for pause in (0.3, 0.0, 0.3, 0.01):
        on_poller(reactor, time.sleep, pause)
    settle(reactor, 1)
    assert only(reactor)["stalls"] == 2


def test_limits_in_time_are_looked_at_without_a_callback_and_with_one_timer(start, events):
    class Pauses(Recorder):
        def on_open(self):
            self.pause_reading()
            super().on_open()

    # The windows of the rate go by, each with a look, and blame nobody while reading is paused.
    server = start(lambda: Pauses(events), min_rate=(1000, 0.02), idle_timeout=0.03, lifetime=60)
    for _ in range(20):
        server.connect().send(b"x")
    events.times("open", 20)
    settle(server.reactor)
    before = only(server.reactor)
    assert before["timers"] == 20
    time.sleep(0.3)  # the time in which there would be more than three hundred looks
    now = only(server.reactor)
    assert [now[key] - before[key] for key in ("callbacks", "batches", "timers", "closed")] == [0, 0, 0, 0]
    assert now["attach_wait"] == before["attach_wait"], "the interpreter was not needed"
