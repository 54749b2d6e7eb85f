"""C12: timers fire in order, never early, hardly late; repeating ones keep to their grid; they die with their owner."""

import random
import statistics
import threading
import time
import weakref
from threading import get_ident

import pytest

import goev
import goev.testing
from support import PATIENCE, Echo, Recorder, eventually, on_poller, settle

LATE = 0.002  # seconds: what the contract allows on an idle reactor


class Timed(goev.Connection):
    def __init__(self, events) -> None:
        self.events = events

    def on_open(self):
        self.events("open", self)

    def on_timeout(self):
        self.events("timeout", get_ident())

    def on_close(self, error):
        self.events("close", error)


def timed(start, events, **options):
    client = start(lambda: Timed(events), **options).connect()
    return client, events.until("open")[1]


# --- when ---


def test_timers_fire_in_the_order_of_their_deadlines(reactor, events):
    delays = [number / 1000 for number in range(1, 41)]
    random.Random(1).shuffle(delays)

    def schedule_all() -> None:
        for delay in delays:
            reactor.schedule(delay, lambda delay=delay: events("fired", delay))

    reactor.call_soon(schedule_all)
    events.times("fired", len(delays))
    assert [event[1] for event in events.history] == sorted(delays)


@pytest.mark.parametrize("delay", [0.0, 0.01])
def test_equal_delays_fire_in_the_order_they_were_set(reactor, events, delay):
    def schedule_all() -> None:
        for number in range(500):
            reactor.schedule(delay, lambda number=number: events("fired", number))

    reactor.call_soon(schedule_all)
    events.times("fired", 500)
    assert [event[1] for event in events.history] == list(range(500))


def lateness(reactor, events, delay: float) -> float:
    """How long after its deadline one timer fired on an idle reactor."""

    def set_one() -> None:
        began = time.monotonic()
        reactor.schedule(delay, lambda: events("late", time.monotonic() - began - delay))

    reactor.call_soon(set_one)
    return events.until("late")[1]


def test_a_timer_is_never_early_and_at_most_2_ms_late_when_idle(reactor, events):
    delays = [0.0, 0.0005, 0.001, 0.0015, 0.003, 0.0101, 0.02, 0.0333]
    late = [lateness(reactor, events, delay) for delay in delays * 5]
    assert min(late) >= 0
    assert statistics.median(late) <= LATE


def test_a_long_delay_is_waited_out_without_drift(reactor, events):
    late = lateness(reactor, events, 1.2345)
    assert 0 <= late <= 0.05


def test_a_timer_fires_while_io_goes_on(start, events):
    server = start(Echo)
    client = server.connect()
    began = time.monotonic()
    server.reactor.schedule(0.1, lambda: events("fired", time.monotonic() - began))
    while not events.history:
        client.ask(b"x")
    assert 0.1 <= events.next()[1] <= 0.2


def test_delay_counts_from_the_call_and_not_from_the_batch(reactor, events):
    """A fresh clock reading at schedule: time spent earlier in the callback does not shorten the delay."""

    def busy_then_schedule() -> None:
        time.sleep(0.05)
        began = time.monotonic()
        reactor.schedule(0.03, lambda: events("fired", time.monotonic() - began))

    reactor.call_soon(busy_then_schedule)
    assert events.next()[1] >= 0.03


def test_a_shorter_timer_set_by_another_thread_wakes_the_poller(reactor, events):
    reactor.schedule(60.0, lambda: events("long"))
    settle(reactor)
    began = time.monotonic()
    reactor.schedule(0.01, lambda: events("short"))
    assert events.next() == ("short",)
    assert time.monotonic() - began < 1.0


# --- repeating ---


def test_every_keeps_to_the_grid_of_its_first_deadline(reactor, events):
    def start_ticking() -> None:
        began = time.monotonic()
        reactor.schedule(0.02, lambda: events("tick", time.monotonic() - began), every=0.01)

    reactor.call_soon(start_ticking)
    events.times("tick", 40)
    late = [event[1] - (0.02 + 0.01 * number) for number, event in enumerate(events.history[:40])]
    assert min(late) >= 0
    # A slow machine may miss a tick, which moves all later ones by whole periods: look at the place in the grid.
    assert statistics.median(value % 0.01 for value in late) <= LATE


def test_missed_ticks_are_coalesced_into_one(reactor, events):
    """Blocked for 12 periods: one late call, then the grid again."""

    def start_ticking() -> None:
        began = time.monotonic()

        def tick() -> None:
            events("tick", time.monotonic() - began)
            if len(events.history) == 2:
                time.sleep(0.245)

        reactor.schedule(0.02, tick, every=0.02)

    reactor.call_soon(start_ticking)
    events.times("tick", 6)
    ticks = [event[1] for event in events.history[:6]]
    assert ticks[2] >= 0.285
    assert ticks[4] - ticks[2] >= 0.02  # at most one late call and then whole periods
    assert ticks[5] - ticks[3] >= 0.02


def test_false_ends_a_repeating_timer(reactor, events):
    def tick() -> bool:
        events("tick")
        return len(events.history) < 3

    reactor.schedule(0.0, tick, every=0.001)
    events.times("tick", 3)
    reactor.schedule(0.02, lambda: events("after"))
    events.until("after")
    assert events.names == ["tick"] * 3 + ["after"]


@pytest.mark.parametrize("value", [None, True])
def test_none_and_true_go_on(reactor, events, value):
    def tick():
        events("tick")
        return value

    timer = reactor.schedule(0.0, tick, every=0.001)
    events.times("tick", 5)
    timer.cancel()


def test_once_is_once(reactor, events):
    reactor.schedule(0.001, lambda: events("fired"))
    events.next()
    reactor.schedule(0.02, lambda: events("after"))
    assert events.next() == ("after",)


# --- cancelling ---


def test_a_cancelled_timer_does_not_fire(reactor, events):
    timer = reactor.schedule(0.02, lambda: events("wrong"))
    timer.cancel()
    reactor.schedule(0.05, lambda: events("after"))
    assert events.next() == ("after",)


def test_cancelling_again_or_after_firing_is_harmless(reactor, events):
    timer = reactor.schedule(0.0, lambda: events("fired"))
    events.next()
    for _ in range(3):
        timer.cancel()
    other = reactor.schedule(10.0, lambda: None)
    for _ in range(3):
        other.cancel()


def test_a_timer_may_cancel_itself_inside_its_callback(reactor, events):
    timers = []

    def tick() -> None:
        events("tick")
        timers[0].cancel()
        timers[0].cancel()

    reactor.call_soon(lambda: timers.append(reactor.schedule(0.001, tick, every=0.001)))
    events.next()
    reactor.schedule(0.02, lambda: events("after"))
    assert events.next() == ("after",)


def test_a_timer_due_in_the_same_batch_can_still_be_cancelled(reactor, events):
    def set_three() -> None:
        timers = []

        def first() -> None:
            events("first")
            timers[1].cancel()

        reactor.schedule(0.001, first)
        timers.append(reactor.schedule(0.001, lambda: events("second")))
        timers.append(reactor.schedule(0.001, lambda: events("wrong")))
        reactor.schedule(0.001, lambda: events("fourth"))
        time.sleep(0.02)  # all four are due at once

    reactor.call_soon(set_three)
    assert [events.next(), events.next(), events.next()] == [("first",), ("second",), ("fourth",)]


def test_a_timer_may_be_cancelled_from_any_thread(start, events):
    _, connection = timed(start, events)
    timer = on_poller(connection, lambda: connection.schedule(0.001, every=0.001))
    events.times("timeout", 2)
    timer.cancel()
    settle(connection)
    count = len(events.of("timeout"))
    on_poller(connection, lambda: connection.reactor.schedule(0.02, lambda: events("after")))
    events.until("after")
    assert len(events.of("timeout")) == count


@pytest.mark.parametrize("delay", [0.0, 0.005])
@pytest.mark.parametrize("every", [None, 0.001])
def test_a_timer_cancelled_before_the_start_never_fires(events, delay, every):
    for _ in range(6):  # it must not depend on what a batch begins with
        reactor = goev.Reactor(pollers=1)
        reactor.schedule(delay, lambda: events("wrong"), every=every).cancel()
        time.sleep(2 * delay)  # it is due before the start
        reactor.schedule(0.005, reactor.stop)
        reactor.run()
    assert not events.history


@pytest.mark.parametrize("when", ["before it is due", "when it is due"])
def test_a_timer_cancelled_by_another_thread_before_it_was_called_is_neither_called_nor_kept(reactor, events, when):
    """The poller is held until the timer is due and the cancel has returned."""
    callbacks = []
    for turns in (1, 2, 3, 4) * 3:  # whichever of timers and messages the batch begins with
        entered, release, timers = threading.Event(), threading.Event(), []

        def set_and_hold(entered=entered, release=release, timers=timers) -> None:
            timers.append(reactor.schedule(0.001, callback := lambda: events("wrong")))
            callbacks.append(weakref.ref(callback))
            entered.set()
            release.wait(PATIENCE)

        reactor.call_soon(set_and_hold)
        assert entered.wait(PATIENCE)
        if when == "when it is due":
            time.sleep(0.003)
        timers[0].cancel()
        time.sleep(0.003)
        release.set()
        settle(reactor, turns)
    assert not events.history
    eventually(lambda: not any(callback() for callback in callbacks), "the callbacks are released")


def test_a_callback_may_set_a_new_timer(reactor, events):
    def count_down(left: int) -> None:
        events("left", left)
        if left:
            reactor.schedule(0.0, lambda: count_down(left - 1))

    reactor.schedule(0.0, lambda: count_down(100))
    events.times("left", 101)
    assert [event[1] for event in events.history] == list(range(100, -1, -1))


def test_a_zero_delay_chain_starves_neither_io_nor_other_timers(start, events):
    server = start(Echo)
    chain = []

    def again() -> None:
        chain.append(None)
        server.reactor.schedule(0.0, again)

    server.reactor.schedule(0.0, again)
    client = server.connect()
    for _ in range(20):
        assert client.ask(b"alive") == b"alive"
    server.reactor.schedule(0.01, lambda: events("other"))
    assert events.next(2.0) == ("other",)
    assert len(chain) > 20


# --- of connections ---


def test_no_callback_means_on_timeout_on_the_pollers_thread(start, events):
    _, connection = timed(start, events)
    thread = on_poller(connection, get_ident)
    on_poller(connection, lambda: connection.schedule(0.001))
    assert events.next() == ("timeout", thread)


def test_a_connection_may_have_any_number_of_timers(start, events):
    _, connection = timed(start, events)

    def set_many() -> None:
        for number in range(300):
            connection.schedule(number / 10_000, lambda number=number: events("fired", number))
        connection.schedule(0.0)

    connection.call_soon(set_many)
    events.times("fired", 300)
    events.times("timeout", 1)
    assert [event[1] for event in events.of("fired")] == list(range(300))


def test_false_from_on_timeout_ends_the_timer_and_not_the_connection(start, events):
    class Once(Timed):
        def on_timeout(self):
            self.events("timeout")
            return False

    client = start(lambda: Once(events)).connect()
    connection = events.until("open")[1]
    on_poller(connection, lambda: connection.schedule(0.001, every=0.001))
    events.until("timeout")
    on_poller(connection, lambda: connection.reactor.schedule(0.02, lambda: events("after")))
    events.until("after")
    assert events.names == ["open", "timeout", "after"]
    connection.write(b"open")
    assert client.receive(4) == b"open"


def test_timers_die_with_their_connection(start, events):
    client, connection = timed(start, events)
    timers = on_poller(
        connection,
        lambda: [connection.schedule(0.01), connection.schedule(0.01, every=0.01), connection.schedule(60.0)],
    )
    reactor = on_poller(connection, lambda: connection.reactor)
    client.close()
    events.until("close")
    count = len(events.of("timeout"))
    reactor.schedule(0.05, lambda: events("after"))
    events.until("after")
    assert len(events.of("timeout")) == count
    for timer in timers:
        timer.cancel()  # harmless


def test_schedule_on_a_closed_connection_raises(start, events):
    server = start(lambda: Timed(events))
    server.connect()
    connection = events.until("open")[1]
    connection.close()
    events.until("close")
    with pytest.raises(goev.ConnectionClosed):
        on_poller(server.reactor, connection.schedule, 1.0)


def test_many_timeouts_of_many_connections_reach_the_right_one(start):
    class Named(goev.Connection):
        def on_open(self):
            self.name = self.remote_address[1]
            self.schedule(random.Random(self.name).random() / 20, self.fire)

        def fire(self):
            self.write(b"%d" % self.name)
            self.close()

    server = start(Named, pollers=2)
    clients = [server.connect() for _ in range(100)]
    for client in clients:
        assert int(client.receive_all()) == client.socket.getsockname()[1]


# --- of reactors ---


def test_a_reactor_timer_may_be_set_before_the_start(events):
    with goev.Reactor(pollers=2) as reactor:
        reactor.schedule(0.001, lambda: events("fired", get_ident()))
        reactor.start()
        assert events.next()[1] == on_poller(reactor, get_ident)


def test_a_reactor_timer_set_in_a_callback_runs_on_that_poller(start, events):
    class Schedules(goev.Connection):
        def on_open(self):
            mine = get_ident()
            self.reactor.schedule(0.001, lambda: events("threads", mine, get_ident()))

    server = start(Schedules, pollers=2)
    for _ in range(4):
        server.connect()
    events.times("threads", 4)
    assert len({event[1] for event in events.history}) == 2
    assert all(event[1] == event[2] for event in events.history)


def test_a_reactor_timer_set_by_another_thread_runs_on_poller_0(start, events):
    server = start(Echo, pollers=2)
    for _ in range(5):
        server.reactor.schedule(0.0, lambda: events("thread", get_ident()))
    events.times("thread", 5)
    assert {event[1] for event in events.history} == {on_poller(server.reactor, get_ident)}


def test_a_hundred_thousand_timers_are_set_and_cancelled_quickly(reactor):
    def set_and_cancel() -> float:
        began = time.perf_counter()
        timers = [reactor.schedule(10 + random.random() * 50, print) for _ in range(100_000)]
        random.shuffle(timers)
        for timer in timers:
            timer.cancel()
        return time.perf_counter() - began

    assert on_poller(reactor, set_and_cancel) < 3.0


def test_the_longest_delays_neither_overflow_nor_fire(reactor, events):
    for delay in (1e9, 1e18, 1e300):
        try:
            reactor.schedule(delay, lambda: events("wrong"), every=delay)
        except ValueError as error:
            assert "delay" in str(error)  # noqa: PT017
    reactor.schedule(0.01, lambda: events("right"))
    assert events.next(PATIENCE) == ("right",)


def test_a_timer_set_while_those_of_an_ended_connection_are_dropped_fires(start, events):
    """The callbacks set new timers when they are freed: these must not get the places still being cleared."""

    class Replaced:
        def __init__(self, reactor) -> None:
            self.reactor = reactor

        def __call__(self) -> None:
            events("wrong")

        def __del__(self) -> None:
            self.reactor.schedule(0.0, lambda: events("replacement"))

    class Sets(goev.Connection):
        def on_open(self):
            for _ in range(5):
                self.schedule(60.0, Replaced(self.reactor))

    server = start(Sets)
    server.connect().close()
    events.times("replacement", 5)
    settle(server.reactor)
    assert events.names == ["replacement"] * 5


# --- answers and resets ---


@pytest.mark.parametrize("answer", [0, "", 1, "text", [], object()])
def test_only_false_means_something(start, events, answer):
    """A lambda returns what it likes."""

    def tick(name: str):
        events(name)
        return answer

    server = start(lambda: Recorder(events))
    server.connect()
    connection = events.until("open")[1]
    timer = on_poller(connection, lambda: connection.schedule(0.0, lambda: tick("own"), every=0.001))
    connection.call_soon(tick, "call_soon")
    server.reactor.call_soon(tick, "call_soon")
    connection.run_in_executor(None, list, then=lambda future: tick("then"))
    server.reactor.schedule(0.0, lambda: tick("other"))
    for name, count in (("own", 5), ("call_soon", 2), ("then", 1), ("other", 1)):
        events.times(name, count)
    timer.cancel()
    assert "close" not in events.names


def test_a_reset_timer_counts_from_the_reset():
    clock = goev.testing.Clock()
    fired = []

    class Resets(goev.Connection):
        def on_open(self):
            self.silence = self.schedule(10, lambda: fired.append(clock.now))

        def on_read(self):
            self.read()
            assert self.silence.reset()

    peer = goev.testing.open(Resets(), clock=clock)
    for _ in range(3):
        clock.advance(6)
        peer.receive(b"x")
    clock.advance(9.9)
    assert fired == []
    clock.advance(1)
    assert fired == [pytest.approx(28)]


def test_a_repeating_timer_that_is_reset_counts_its_later_calls_from_there():
    clock = goev.testing.Clock()
    fired = []

    class Resets(goev.Connection):
        def on_open(self):
            self.timer = self.schedule(10, self.tick, every=3)

        def tick(self):
            fired.append(clock.now)
            if len(fired) == 2:
                assert self.timer.reset()

    goev.testing.open(Resets(), clock=clock)
    clock.advance(30)
    assert fired == [pytest.approx(when) for when in (10, 13, 23, 26, 29)]


def test_a_timer_that_has_fired_was_cancelled_or_ended_with_its_connection_is_not_reset(start, events):
    server = start(lambda: Recorder(events))
    client = server.connect()
    connection = events.until("open")[1]

    def resets() -> list[bool]:
        cancelled = connection.schedule(60, list)
        cancelled.cancel()
        return [cancelled.reset(), once[0].reset()]

    once = []
    on_poller(connection, lambda: once.append(connection.schedule(0.0, lambda: events("fired", once[0].reset()))))
    assert events.until("fired") == ("fired", False)
    assert on_poller(connection, resets) == [False, False]
    living = on_poller(connection, connection.schedule, 60, list)
    with pytest.raises(goev.WrongThread, match=r"reset\(\)"):
        living.reset()
    client.close()
    events.until("close")
    assert on_poller(server.reactor, living.reset) is False


def test_a_timer_of_another_thread_is_reset_on_its_poller(reactor, events):
    timer = reactor.schedule(0.05, lambda: events("fired"))
    assert on_poller(reactor, timer.reset) is True
    events.until("fired")
    assert on_poller(reactor, timer.reset) is False
