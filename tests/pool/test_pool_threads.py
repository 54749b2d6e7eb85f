"""A pool that many threads use never lends a connection to two of them, and keeps no dead one."""

import gc
import threading
from contextlib import suppress

import goev
from pool_support import filled
from support import PATIENCE, eventually, in_thread


def test_a_connection_is_never_lent_to_two_at_once(make, peers, log):
    class Exclusive(goev.PooledConnection):
        holder = None

    pool = make(Exclusive, min_idle=2, grow_by=2, max_live=4, check_interval=0.01)
    stop = threading.Event()

    def use(number):
        uses = 0
        while uses < 3000:
            connection = pool.acquire(timeout=PATIENCE) if uses % 2 else pool.acquire()
            if connection is None:
                connection = pool.acquire(timeout=PATIENCE)
            assert connection.holder is None
            connection.holder = number
            uses += 1
            assert connection.holder == number
            connection.holder = None
            with suppress(ValueError):  # the server ended it meanwhile
                pool.release(connection)

    def end_some():
        while not stop.wait(0.02):
            for peer in peers[-1:]:
                with suppress(goev.ConnectionClosed):
                    peer.abort()

    killer = in_thread(end_some)
    users = [in_thread(use, number) for number in range(8)]
    try:
        for user in users:
            user.result(2 * PATIENCE)
    finally:
        stop.set()
        killer.result(PATIENCE)
    eventually(lambda: pool.idle == pool.live >= 1, "all came back")
    assert pool.live <= 4


def test_dead_connections_are_not_kept_alive(make, peers, log):
    class Tracked(goev.PooledConnection):
        alive = 0

        def __init__(self):
            Tracked.alive += 1

        def __del__(self):
            Tracked.alive -= 1

    pool = filled(make(Tracked, min_idle=2, max_live=2), 2)
    for count in range(2, 8, 2):
        eventually(lambda count=count: len(peers) == count, "the server sees them")
        for peer in peers[count - 2 :]:
            peer.abort()
        eventually(lambda count=count: len(peers) == count + 2, "they are replaced")
    filled(pool, 2)
    eventually(lambda: gc.collect() is not None and Tracked.alive == 2, "the dead are gone")
