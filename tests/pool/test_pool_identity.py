"""Connections of a class that compares its objects by value are told apart: no two are taken for one."""

from contextlib import suppress
from dataclasses import dataclass

import pytest

import goev
from pool_support import filled
from support import PATIENCE, eventually


@dataclass
class Unhashable(goev.PooledConnection):
    """As ``@dataclass`` makes it: all are equal, and none has a hash."""

    database: int = 0


@dataclass(unsafe_hash=True)
class Alike(goev.PooledConnection):
    """All are equal, with the same hash."""

    database: int = 0


class Rude(goev.PooledConnection):
    """Comparing it raises, and so does asking for its truth."""

    def __eq__(self, other):
        raise RuntimeError("not comparable")

    __hash__ = None

    def __bool__(self):
        raise RuntimeError("neither true nor false")


@pytest.mark.parametrize("kind", [Unhashable, Alike, Rude])
def test_a_pool_tells_connections_apart_by_identity(make, peers, kind):
    pool = filled(make(kind, min_idle=3, max_live=3, check_interval=0.01), 3)
    taken = [pool.acquire(timeout=PATIENCE) for _ in range(3)]
    assert len({id(connection) for connection in taken}) == 3
    assert (pool.acquire(), pool.idle, pool.live) == (None, 0, 3)
    pool.release(taken[0])
    with pytest.raises(ValueError, match="was released already"):
        pool.release(taken[0])
    with pytest.raises(ValueError, match="must be one that was acquired from this pool"):
        pool.release(kind())
    assert pool.acquire() is taken[0]
    taken[1].close()
    with pytest.raises(ValueError, match="has ended"):
        pool.release(taken[1])
    filled(pool, 1)
    eventually(lambda: len(peers) == 4, "one was closed, and one was made for it")
    eventually(lambda: pool.live == 3, "it is ready")


@pytest.mark.parametrize("kind", [Unhashable, Alike, Rude])
def test_a_pool_of_equals_opens_no_more_than_it_may(make, peers, kind):
    pool = make(kind, min_idle=2, grow_by=4, max_live=4, check_interval=0.01)
    taken = [pool.acquire(timeout=PATIENCE) for _ in range(4)]
    eventually(lambda: peers, "the first has come")
    peers[0].abort()
    eventually(lambda: len(peers) == 5, "it is replaced")
    eventually(lambda: pool.live == 4, "it is ready")
    for connection in taken:
        with suppress(ValueError):  # one of them has ended
            pool.release(connection)
    pool.close()
    eventually(lambda: pool.live <= 1, "the idle ones were closed")


def test_groups_tell_equal_connections_apart(start, events):
    @dataclass
    class Equal(goev.Connection):
        name: str = "same"

        def on_open(self):
            group.add(self)
            events("open", self)

    group = goev.Group()
    server = start(Equal)
    clients = [server.connect() for _ in range(3)]
    members = [events.next()[1] for _ in clients]
    group.discard(members[1])
    assert [member in group for member in members] == [True, False, True]
    group.send(b"x")
    members[1].write(b"y")
    assert sorted(client.receive(1) for client in clients) == [b"x", b"x", b"y"]
