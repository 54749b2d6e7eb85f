"""A pool that is closed refuses, wakes all that wait, and leaves no connection and no thread."""

import threading

import pytest

import goev
from pool_support import filled
from support import PATIENCE, eventually, held, in_thread


def test_a_closed_pool_refuses(make, server):
    pool = filled(make(min_idle=2), 2)
    with pool:
        pass
    pool.close()
    for acquire in (pool.acquire, lambda: pool.acquire(timeout=1), pool.connection().__enter__):
        with pytest.raises(goev.PoolClosed, match=r"the connection pool for 127\.0\.0\.1:\d+ is closed"):
            acquire()
    assert issubclass(goev.PoolClosed, goev.Error)
    assert (pool.idle, pool.live) == (0, 0)
    eventually(lambda: server.reactor.stats()[0]["open"] == 0, "the connections are closed")


def test_closing_wakes_who_waits(make):
    pool = make(max_live=1)
    pool.acquire(timeout=PATIENCE)
    waiting = [in_thread(lambda: pool.acquire(timeout=PATIENCE)) for _ in range(3)]
    eventually(lambda: len(pool._waiting) == 3, "they wait")
    pool.close()
    for waiter in waiting:
        with pytest.raises(goev.PoolClosed):
            waiter.result(PATIENCE)


def test_what_is_lent_out_is_closed_when_released(make, server):
    pool = filled(make(), 1)
    connection = pool.acquire()
    pool.close()
    assert pool.live == 1
    connection.write(b"still good")
    pool.release(connection)
    assert pool.live == 0
    with pytest.raises(goev.ConnectionClosed):
        connection.write(b"")
    eventually(lambda: server.reactor.stats()[0]["open"] == 0, "it is closed")


def test_connections_being_made_when_the_pool_closes_are_closed(make, reactor, peers, server):
    with held(reactor):
        pool = make(min_idle=5)
        pool.close()
    eventually(lambda: len(peers) == 5 and server.reactor.stats()[0]["open"] == 0, "they are closed")
    assert (pool.idle, pool.live) == (0, 0)


def test_a_pool_ends_with_its_reactor(make):
    with goev.Reactor() as reactor:
        reactor.start()
        pool = filled(make(on=reactor), 1)
    eventually(lambda: pool._closed, "the keeper notices")
    with pytest.raises(goev.PoolClosed):
        pool.acquire()


def test_the_keeper_ends_with_the_pool(make):
    def keepers():
        return sum(thread.name == "goev-pool" for thread in threading.enumerate())

    eventually(lambda: keepers() == 0, "those of other tests are gone")
    pools = [make() for _ in range(3)]
    assert keepers() == 3
    for pool in pools:
        pool.close()
    eventually(lambda: keepers() == 0, "no thread is left")
