"""C11: a reactor and its timers refuse wrong arguments, and calls at the wrong time or place."""

import os

import pytest

import goev
from support import LOCAL, PATIENCE, Echo, in_thread, names, on_poller


@pytest.mark.parametrize("pollers", [0, -1, 1025, 10**6, -(10**30), 10**30])
def test_a_number_of_pollers_out_of_range_is_a_value_error(pollers):
    with pytest.raises((ValueError, OverflowError), match="pollers") as raised:
        goev.Reactor(pollers=pollers)
    assert type(raised.value) is ValueError
    assert names(raised.value, str(pollers) if abs(pollers) < 1 << 62 else "not ", "1", "1024")


@pytest.mark.parametrize("pollers", ["2", 1.0, b"2", [2]])
def test_a_number_of_pollers_of_another_type_is_a_type_error(pollers):
    with pytest.raises(TypeError, match="pollers"):
        goev.Reactor(pollers=pollers)


def test_running_twice_is_a_runtime_error(idle):
    idle.start()
    for again in (idle.run, idle.start):
        with pytest.raises(RuntimeError):
            again()
    idle.stop()
    idle.join(5)
    for again in (idle.run, idle.start):
        with pytest.raises(RuntimeError):
            again()


def test_run_inside_a_callback_is_a_runtime_error(reactor, idle):
    with pytest.raises(RuntimeError):
        on_poller(reactor, reactor.run)
    with pytest.raises(RuntimeError):
        on_poller(reactor, idle.run)


def test_join_inside_a_callback_is_a_runtime_error(reactor):
    with pytest.raises(RuntimeError):
        on_poller(reactor, reactor.join)


def test_leaving_the_with_block_inside_a_callback_does_not_hang(reactor):
    with pytest.raises(RuntimeError):
        on_poller(reactor, reactor.__exit__, None, None, None)


def test_adding_to_a_stopped_reactor_is_a_runtime_error():
    reactor = goev.Reactor(pollers=1)
    reactor.start()
    reactor.stop()
    reactor.join(5)
    for call in (
        lambda: goev.Acceptor(reactor, LOCAL, Echo),
        lambda: reactor.schedule(1.0, print),
        lambda: reactor.call_soon(print),
    ):
        with pytest.raises(RuntimeError, match="stopped"):
            call()
    reading, writing = os.pipe()
    try:
        with pytest.raises(RuntimeError, match="stopped"):
            reactor.add(goev.EventHandler(), reading, goev.EV_IN)
    finally:
        os.close(reading)
        os.close(writing)


@pytest.mark.parametrize("grace", [-1, -0.001, float("nan"), float("inf"), float("-inf")])
def test_a_wrong_grace_is_a_value_error_and_stops_nothing(reactor, grace):
    with pytest.raises(ValueError, match="grace"):
        reactor.stop(grace=grace)
    assert on_poller(reactor, lambda: "alive") == "alive"


def test_a_grace_of_another_type_is_a_type_error(reactor):
    with pytest.raises(TypeError, match="grace"):
        reactor.stop(grace="1")
    assert reactor.running


def test_what_is_called_soon_must_be_callable(reactor, connection):
    for target in (reactor, connection):
        with pytest.raises(TypeError, match="callable"):
            target.call_soon("not callable")
        with pytest.raises(TypeError):
            target.call_soon()


def test_an_unhashable_cache_key_is_a_type_error(reactor):
    with pytest.raises(TypeError, match="unhashable"):
        reactor.cache_set([], 1)


def test_two_threads_starting_the_same_reactor_start_it_once(idle):
    outcomes = []

    def start_it() -> None:
        try:
            idle.start()
            outcomes.append("started")
        except RuntimeError:
            outcomes.append("refused")

    for future in [in_thread(start_it) for _ in range(4)]:
        future.result(PATIENCE)
    assert sorted(outcomes) == ["refused"] * 3 + ["started"]


# --- timers ---


@pytest.mark.parametrize("delay", [-1, -0.5, float("nan"), float("inf"), float("-inf")])
def test_a_wrong_delay_is_a_value_error(idle, connection, delay):
    with pytest.raises(ValueError, match="delay") as raised:
        idle.schedule(delay, print)
    assert names(str(raised.value).lower(), f"{delay:g}"[:2])
    with pytest.raises(ValueError, match="delay"):
        on_poller(connection, connection.schedule, delay)


@pytest.mark.parametrize("every", [0, 0.0, -1, float("nan"), float("inf")])
def test_a_wrong_period_is_a_value_error(idle, connection, every):
    with pytest.raises(ValueError, match="every"):
        idle.schedule(1.0, print, every=every)
    with pytest.raises(ValueError, match="every"):
        on_poller(connection, lambda: connection.schedule(1.0, every=every))


@pytest.mark.parametrize("delay", ["1", None, b"1", []])
def test_a_delay_of_another_type_is_a_type_error(idle, delay):
    with pytest.raises(TypeError, match="delay"):
        idle.schedule(delay, print)
    with pytest.raises(TypeError, match="every"):
        idle.schedule(1.0, print, every=delay if delay is not None else "1")


@pytest.mark.parametrize("callback", [1, "on_timeout", b""])
def test_a_timer_callback_that_is_not_callable_is_a_type_error(idle, connection, callback):
    with pytest.raises(TypeError, match="callback"):
        idle.schedule(1.0, callback)
    with pytest.raises(TypeError, match="callback"):
        on_poller(connection, connection.schedule, 1.0, callback)


def test_a_reactor_timer_needs_a_callback(idle):
    with pytest.raises(TypeError):
        idle.schedule(1.0)
    with pytest.raises(TypeError, match="callback"):
        idle.schedule(1.0, None)


def test_the_period_is_keyword_only(idle):
    with pytest.raises(TypeError):
        idle.schedule(1.0, print, 1.0)


def test_a_timer_is_made_by_schedule_only():
    with pytest.raises(TypeError):
        goev.Timer()
