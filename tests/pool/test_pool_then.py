"""``acquire(then=…)`` never waits: a callback gets the connection later, or the error, on its own poller."""

import threading

import pytest

import goev
from pool_support import address_of, filled
from support import PATIENCE, on_poller, settle


@pytest.fixture
def asked(events):
    """A ``then`` that reports what it got, and on which thread."""
    return lambda got: events("then", got, threading.get_ident())


def test_a_callback_gets_an_idle_connection_on_its_own_poller_after_it_returned(make, reactor, events, asked):
    pool = filled(make(), 1)

    def ask():
        assert pool.acquire(then=asked) is None
        events("returned", threading.get_ident())

    on_poller(reactor, ask)
    returned, then = events.next(), events.next()
    assert (returned[0], then[0]) == ("returned", "then")
    assert isinstance(then[1], goev.PooledConnection)
    assert then[2] == returned[1], "on the poller that asked"
    assert (pool.idle, pool.live) == (0, 1)
    pool.release(then[1])
    assert pool.idle == 1


def test_it_waits_for_a_release_and_the_longest_waiting_comes_first(make, reactor, events):
    pool = filled(make(max_live=1), 1)
    connection = pool.acquire()
    for number in range(3):
        on_poller(reactor, lambda number=number: pool.acquire(then=lambda got: events(number, got)))
    settle(reactor)
    assert events.history == []
    for number in range(3):
        pool.release(connection)
        assert events.next() == (number, connection)
    pool.release(connection)
    assert pool.idle == 1


def test_an_empty_pool_grows_for_it(make, reactor, events, asked):
    pool = filled(make(max_live=2, check_interval=60), 1)
    first = pool.acquire()
    pool.acquire(then=asked)
    second = events.next()[1]
    assert second is not first
    assert pool.live == 2


def test_from_another_thread_it_is_called_on_a_poller(make, reactor, events, asked):
    pool = filled(make(), 1)
    pool.acquire(then=asked)
    assert events.next()[2] == on_poller(reactor, threading.get_ident)


@pytest.mark.parametrize("on_a_poller", [True, False])
def test_too_late_is_a_timeout_with_the_reason(make, reactor, nobody, events, asked, on_a_poller, log):
    pool = make(address=address_of(nobody))
    ask = lambda: pool.acquire(timeout=0.05, then=asked)  # noqa: E731
    on_poller(reactor, ask) if on_a_poller else ask()
    error = events.next()[1]
    assert isinstance(error, TimeoutError)
    assert "no connection to" in str(error)
    assert isinstance(error.__cause__, ConnectionRefusedError)


def test_a_connection_that_comes_after_the_timeout_stays_in_the_pool(make, reactor, events, asked):
    pool = filled(make(max_live=1), 1)
    connection = pool.acquire()
    pool.acquire(timeout=0, then=asked)
    assert isinstance(events.next()[1], TimeoutError)
    pool.release(connection)
    assert pool.idle == 1


def test_the_close_of_the_pool_tells_those_that_wait(make, reactor, events, asked):
    pool = filled(make(max_live=1), 1)
    pool.acquire()
    pool.acquire(then=asked)
    pool.close()
    assert isinstance(events.next()[1], goev.PoolClosed)
    with pytest.raises(goev.PoolClosed):
        pool.acquire(then=asked)


def test_an_exception_in_it_closes_the_connection_and_is_logged(make, reactor, log):
    pool = filled(make(max_live=1), 1)
    failed = []

    def fails(got):
        failed.append(got)
        raise ValueError("not this one")

    pool.acquire(then=fails)
    assert "not this one" in log.next()[1]
    connection = pool.acquire(timeout=PATIENCE)
    assert connection is not failed[0], "a new one took its place"
    pool.release(connection)


def test_wrong_arguments_are_refused_at_the_call(make):
    pool = filled(make(), 1)
    with pytest.raises(TypeError, match="then must be callable, not int"):
        pool.acquire(then=3)
    with pytest.raises(ValueError, match="timeout must be from 0"):
        pool.acquire(then=print, timeout=-1)
    assert pool.idle == 1


def test_a_stopped_reactor_loses_no_connection(make, stack):
    other = stack.enter_context(goev.Reactor(pollers=1))
    other.start()
    pool = filled(make(on=other), 1)
    other.stop(0)
    other.join()
    with pytest.raises((RuntimeError, goev.PoolClosed)):
        pool.acquire(then=print)
