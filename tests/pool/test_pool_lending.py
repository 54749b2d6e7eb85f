"""A pool lends a connection to one at a time, in turn, and takes back only its own."""

import time

import pytest

import goev
from pool_support import filled
from support import PATIENCE, eventually, held, in_thread, on_poller, settle


def test_the_first_connections_are_made_unasked(make, peers):
    pool = filled(make(min_idle=3), 3)
    assert (pool.idle, pool.live) == (3, 3)
    eventually(lambda: len(peers) == 3, "the server sees them")


def test_what_is_acquired_works_and_belongs_to_the_factorys_class(make, events):
    class Asks(goev.PooledConnection):
        def on_read(self):
            events("read", self.read())

    connection = make(Asks).acquire(timeout=PATIENCE)
    assert type(connection) is Asks
    connection.write(b"hello")
    assert events.next() == ("read", b"hello")


def test_acquired_connections_are_live_but_not_idle(make):
    pool = filled(make(min_idle=2, max_live=2), 2)
    connection = pool.acquire()
    assert (pool.idle, pool.live) == (1, 2)
    pool.release(connection)
    assert (pool.idle, pool.live) == (2, 2)


def test_the_last_one_released_is_the_first_one_acquired(make):
    pool = filled(make(min_idle=3, max_live=3), 3)
    taken = [pool.acquire() for _ in range(3)]
    for connection in taken:
        pool.release(connection)
    assert [pool.acquire() for _ in range(3)] == taken[::-1]


def test_acquire_from_an_empty_pool_is_none_and_makes_it_grow(make):
    pool = filled(make(grow_by=3, max_live=6, check_interval=60), 1)
    assert pool.acquire() is not None
    assert pool.acquire() is None
    filled(pool, 3)
    assert pool.live == 4


def test_min_idle_is_looked_after_without_being_asked(make):
    pool = filled(make(min_idle=2, check_interval=0.01), 2)
    pool.acquire()
    filled(pool, 2)
    assert pool.live == 3


def test_a_pool_never_exceeds_max_live(make, server, peers):
    pool = filled(make(min_idle=2, grow_by=4, max_live=4, check_interval=0.01), 2)
    taken = [pool.acquire(timeout=PATIENCE) for _ in range(4)]
    assert len(set(taken)) == 4
    with pytest.raises(TimeoutError):
        pool.acquire(timeout=0.1)  # ten checks
    settle(server.reactor)
    assert (pool.live, len(peers)) == (4, 4)


def test_acquire_with_a_timeout_waits_for_a_release(make):
    pool = make(max_live=1)
    connection = pool.acquire(timeout=PATIENCE)
    waiting = in_thread(lambda: pool.acquire(timeout=PATIENCE))
    eventually(lambda: pool._waiting, "the other thread waits")
    assert not waiting.done()
    pool.release(connection)
    assert waiting.result(PATIENCE) is connection
    assert (pool.idle, pool.live) == (0, 1)


def test_who_waits_longest_is_served_first(make):
    pool = make(max_live=1)
    connection, served, threads = pool.acquire(timeout=PATIENCE), [], []

    def take_turn(number):
        with pool.connection(timeout=PATIENCE):
            served.append(number)

    for number in range(5):
        threads.append(in_thread(take_turn, number))
        eventually(lambda number=number: len(pool._waiting) == number + 1, "the thread waits")
    pool.release(connection)
    for thread in threads:
        thread.result(PATIENCE)
    assert served == list(range(5))


def test_a_waiter_makes_the_pool_grow(make):
    pool = make(max_live=2, check_interval=60)
    assert pool.acquire(timeout=PATIENCE) is not pool.acquire(timeout=PATIENCE)


@pytest.mark.parametrize("timeout", [0, 0.05])
def test_acquire_gives_up_on_time_and_leaves_nothing_behind(make, timeout):
    pool = make(max_live=1)
    connection = pool.acquire(timeout=PATIENCE)
    began = time.monotonic()
    with pytest.raises(TimeoutError, match=rf"^no connection to .* in {timeout} s \(1 live, 1 at most\)$"):
        pool.acquire(timeout=timeout)
    assert timeout <= time.monotonic() - began < timeout + 1
    pool.release(connection)
    assert pool.acquire() is connection


def test_acquire_with_a_timeout_is_refused_on_a_poller(make, reactor):
    pool = filled(make(check_interval=60), 1)
    with pytest.raises(goev.WrongThread, match=r"use acquire\(then=…\) in callbacks"):
        on_poller(reactor, lambda: pool.acquire(timeout=1))
    with pytest.raises(goev.WrongThread):
        on_poller(reactor, lambda: pool.connection().__enter__())
    pool.release(on_poller(reactor, pool.acquire))


def test_with_connection_releases_at_the_end(make):
    pool = filled(make(max_live=1), 1)
    with pool.connection() as connection:
        assert (pool.idle, pool.live) == (0, 1)
    assert pool.acquire() is connection


def test_with_connection_closes_one_whose_block_raised(make, server):
    pool = filled(make(check_interval=60), 1)
    with pytest.raises(ZeroDivisionError), pool.connection() as connection:
        _ = 1 / 0
    assert pool.acquire(timeout=PATIENCE) is not connection
    eventually(lambda: server.reactor.stats()[0]["closed"] == 1, "it is closed")


@pytest.mark.parametrize("end", [goev.PooledConnection.close, goev.PooledConnection.abort])
def test_a_connection_closed_in_the_block_is_not_released(make, reactor, end):
    pool = filled(make(max_live=1), 1)
    with pool.connection() as connection, held(reactor):  # held: else it may be replaced already
        end(connection)
        assert pool.live == 0
    assert pool.acquire(timeout=PATIENCE) is not connection


# ---- wrong releases ----


def test_releasing_a_foreign_object_is_an_error(make):
    pool, other = filled(make(), 1), filled(make(), 1)
    for foreign in (other.acquire(), goev.PooledConnection(), goev.Connection(), None, [], "connection"):
        with pytest.raises(ValueError, match="connection must be one that was acquired from this pool, not "):
            pool.release(foreign)
    assert pool.idle == 1


def test_releasing_twice_is_an_error(make):
    pool = filled(make(max_live=1), 1)
    connection = pool.acquire()
    pool.release(connection)
    with pytest.raises(ValueError, match="connection was released already"):
        pool.release(connection)
    assert pool.idle == 1


@pytest.mark.parametrize("end", [goev.PooledConnection.close, goev.PooledConnection.abort])
def test_releasing_a_closed_connection_is_an_error(make, end):
    pool = filled(make(), 1)
    connection = pool.acquire()
    end(connection)
    with pytest.raises(ValueError, match="connection has ended"):
        pool.release(connection)


def test_releasing_a_connection_that_the_server_ended_is_an_error(make, peers):
    pool = filled(make(max_live=1), 1)  # at most one, so that the peer is its peer, and an idle one its replacement
    connection = pool.acquire()
    eventually(lambda: peers, "the server sees it")
    peers[0].abort()
    eventually(lambda: pool.idle, "it is replaced")
    with pytest.raises(ValueError, match="connection has ended"):
        pool.release(connection)
