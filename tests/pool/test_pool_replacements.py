"""A pool replaces connections that end or are not ready in time, and asks a server that is down with patience."""

import time
from itertools import pairwise

import pytest

import goev
from goev.backoff import FIRST, LONGEST, Backoff
from pool_support import address_of, filled, least_pause
from support import PATIENCE, Server, eventually, in_thread


@pytest.mark.parametrize("end", [goev.Connection.close, goev.Connection.abort])
def test_an_idle_connection_that_ends_is_replaced_and_never_lent_out(make, peers, end):
    pool = filled(make(min_idle=3, max_live=3, check_interval=60), 3)
    dead = [pool.acquire() for _ in range(3)]
    for connection in dead:
        pool.release(connection)
    eventually(lambda: len(peers) == 3, "the server sees them")
    for peer in peers[:3]:
        end(peer)
    eventually(lambda: len(peers) == 6 and pool.idle == 3, "all are replaced")
    assert not set(dead) & {pool.acquire() for _ in range(3)}


def test_a_connection_that_ends_in_use_leaves_the_count_and_is_replaced(make, peers):
    pool = filled(make(max_live=1, check_interval=60), 1)
    dead = pool.acquire()
    eventually(lambda: peers, "the server sees it")
    peers[0].abort()
    assert pool.acquire(timeout=PATIENCE) is not dead
    assert pool.live == 1


def test_subclasses_hear_of_every_end_once(make, peers, events):
    class Tells(goev.PooledConnection):
        def on_open(self):
            events("open", self)
            super().on_open()

        def on_close(self, error):
            super().on_close(error)
            events("close", self)

    pool = filled(make(Tells), 1)
    eventually(lambda: peers, "the server sees it")
    peers[0].close()
    events.until("close")
    filled(pool, 1)
    pool.close()
    events.until("close")
    assert events.names.count("open") == events.names.count("close") == 2


# ---- a server that is down ----


class Counted(goev.PooledConnection):
    """When each was made."""

    def __init__(self, made: list) -> None:
        made.append(time.monotonic())


def test_a_server_that_is_down_is_tried_one_by_one_and_ever_more_rarely(make, nobody, log):
    made = []
    pool = make(lambda: Counted(made), address=address_of(nobody), min_idle=4, grow_by=4)
    rounds = 4
    while len(made) < 4 + rounds:
        assert pool.acquire() is None  # asking all the time does not make it hurry
        time.sleep(0.001)
    assert made[-1] - made[3] >= least_pause(rounds)
    assert all(later - earlier >= FIRST * 2**n * 0.5 for n, (earlier, later) in enumerate(pairwise(made[3:])))
    assert (pool.idle, pool.live) == (0, 0)
    assert len(log.texts()) == 1  # once for all of it
    assert "fail, trying again: [Errno 111]" in log.texts()[0]


def test_a_timeout_says_why_there_is_no_connection(make, nobody):
    with pytest.raises(TimeoutError, match=r"^no connection to 127\.0\.0\.1:\d+ in 0\.02 s") as caught:
        make(address=address_of(nobody)).acquire(timeout=0.02)
    assert isinstance(caught.value.__cause__, ConnectionRefusedError)


def test_a_server_that_comes_back_is_found_again(make, nobody, log):
    pool = make(address=address_of(nobody), min_idle=3)
    waiting = in_thread(lambda: pool.acquire(timeout=PATIENCE))
    log.next()
    assert not waiting.done()
    nobody.listen()
    pool.release(waiting.result(PATIENCE))
    eventually(lambda: pool.idle >= 3, "all are replaced, one more for the one that was taken meanwhile")
    assert pool.live <= 4
    nobody.close()  # else they linger until the peer has finished


def test_a_server_that_accepts_and_closes_is_not_hammered(stack, make, log):
    opened = []

    class Rejects(goev.Connection):
        def on_open(self):
            opened.append(time.monotonic())
            return False

    server = Server(stack, Rejects)
    make(address="{}:{}".format(*server.address))
    eventually(lambda: len(opened) >= 5, "it is tried again")
    assert opened[4] - opened[0] >= least_pause(4) - 0.01
    assert "the server closes" in log.texts()[0]


def test_pauses_double_up_to_the_longest_with_jitter():
    backoff, now, pauses = Backoff(memory=100), 1000.0, []
    for _ in range(5000):
        assert backoff.failed(now)
        pauses.append(backoff.until - now)
        now = backoff.until
    bounds = [min(FIRST * 2**n, LONGEST) for n in range(12)] + [LONGEST] * 4988
    assert all(bound * 0.499 <= pause <= bound * 1.001 for pause, bound in zip(pauses, bounds, strict=True))
    assert len({round(pause, 6) for pause in pauses[100:]}) > 1000


def test_failures_of_one_round_count_once():
    backoff = Backoff(memory=100)
    assert [backoff.failed(1000.0) for _ in range(64)] == [True] + [False] * 63
    assert backoff.failures == 1


def test_old_failures_are_forgotten_but_not_for_a_mere_success():
    backoff = Backoff(memory=100)
    backoff.failed(1000.0)
    backoff.succeeded()
    assert not backoff.failing
    backoff.failed(1050.0)
    assert backoff.failures == 2
    backoff.failed(backoff.until + 101)
    assert backoff.failures == 1


# ---- connections that are not ready at once ----


def test_a_connection_is_lent_out_only_after_its_login(make):
    class LogsIn(goev.PooledConnection):
        logged_in = False

        def on_open(self):
            self.write(b"user and password")

        def on_read(self):
            if self.read_exactly(17) is not None:
                self.logged_in = True
                super().on_open()

    assert make(LogsIn).acquire(timeout=PATIENCE).logged_in


def test_a_login_that_does_not_end_is_given_up(make, log, peers):
    class Forgets(goev.PooledConnection):
        def on_open(self):
            pass

    pool = make(Forgets, connect_timeout=0.05, check_interval=0.01)
    text = log.next()[1]
    assert text == (
        "Forgets was not ready in connect_timeout=0.05 s: on_open, or what comes after a login, "
        "has to call super().on_open()"
    )
    eventually(lambda: len(peers) >= 2, "it is tried again")
    assert (pool.idle, pool.live) == (0, 0)
