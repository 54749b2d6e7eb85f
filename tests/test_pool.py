"""ConnectionPool: what is lent out is alive, counted and exclusive; what is lost is replaced, with patience."""

import gc
import socket
import threading
import time
from contextlib import suppress
from itertools import pairwise

import pytest

import goev
from goev.backoff import FIRST, LONGEST, Backoff
from support import PATIENCE, Client, Server, eventually, held, in_thread, on_poller, settle


class Peer(goev.Connection):
    """The server's end; the tests find all that were opened, and end some."""

    def __init__(self, peers: list) -> None:
        self.peers = peers

    def on_open(self):
        self.peers.append(self)

    def on_read(self):
        self.write(self.read())


@pytest.fixture
def peers():
    return []


@pytest.fixture
def server(start, peers):
    return start(lambda: Peer(peers))


@pytest.fixture
def make(stack, server, reactor):
    """``make(**options)``: a pool of connections to the server, closed after the test."""

    def make_pool(factory=goev.PooledConnection, *, address=None, on=reactor, **options):
        address = address or "{}:{}".format(*server.address)
        return stack.enter_context(goev.ConnectionPool(goev.Connector(on), address, factory, **options))

    return make_pool


@pytest.fixture
def nobody(stack):
    """A socket that is bound and does not listen: connecting to it is refused, and no one else gets its port."""
    unused = stack.enter_context(socket.socket())
    unused.bind(("127.0.0.1", 0))
    return unused


def address_of(listener):
    return "{}:{}".format(*listener.getsockname())


def filled(pool, count):
    eventually(lambda: pool.idle == count, f"{count} idle connections")
    return pool


# ---- lending -----------------------------------------------------------------------------------------------------


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
    with pytest.raises(goev.WrongThread, match=r"use acquire\(\) in callbacks"):
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


# ---- wrong releases ----------------------------------------------------------------------------------------------


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


# ---- the dead are replaced ---------------------------------------------------------------------------------------


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


# ---- a server that is down ---------------------------------------------------------------------------------------


class Counted(goev.PooledConnection):
    """When each was made."""

    def __init__(self, made: list) -> None:
        made.append(time.monotonic())


def least_pause(rounds: int) -> float:
    """Seconds that so many failures in a row take at least."""
    return sum(FIRST * 2**failure * 0.5 for failure in range(rounds))


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


# ---- connections that are not ready at once ----------------------------------------------------------------------


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


# ---- the end -----------------------------------------------------------------------------------------------------


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


# ---- arguments ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"max_live": 0}, "max_live must be from 1 to 65536, not 0"),
        ({"max_live": 65537}, "max_live must be from 1 to 65536, not 65537"),
        ({"min_idle": 0}, r"min_idle must be from 1 to 64 \(max_live\), not 0"),
        ({"min_idle": 5, "max_live": 4}, r"min_idle must be from 1 to 4 \(max_live\), not 5"),
        ({"grow_by": -1}, r"grow_by must be from 1 to 64 \(max_live\), not -1"),
        ({"grow_by": 10**30}, r"grow_by must be from 1 to 64 \(max_live\), not 1000"),
        ({"connect_timeout": 0}, r"connect_timeout must be more than 0, up to 315360000\.0 seconds, not 0"),
        ({"connect_timeout": float("nan")}, "connect_timeout must be .* not nan"),
        ({"check_interval": -0.5}, r"check_interval must be .* not -0\.5"),
        ({"check_interval": float("inf")}, "check_interval must be .* not inf"),
        ({"address": "127.0.0.1"}, "127.0.0.1"),
        ({"address": "127.0.0.1:99999"}, "99999"),
    ],
)
def test_arguments_out_of_range_are_refused_at_the_call(make, options, text):
    with pytest.raises(ValueError, match=text):
        make(**options)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"max_live": "64"}, "max_live must be an int, not str"),
        ({"min_idle": 1.0}, "min_idle must be an int, not float"),
        ({"check_interval": "1"}, "check_interval must be a number of seconds, not str"),
        ({"factory": None}, "factory must be callable, not NoneType"),
        ({"factory": goev.Connection}, "factory must return a goev.PooledConnection, not Connection"),
        ({"factory": object}, "factory must return a goev.PooledConnection, not object"),
        ({"address": 6379}, "address must be a str or a list of them, not int"),
    ],
)
def test_arguments_of_a_wrong_type_are_refused_at_the_call(make, options, text):
    with pytest.raises(TypeError, match=text):
        make(**options)


def test_a_connector_is_one(reactor):
    with pytest.raises(TypeError, match=r"connector must be a goev\.Connector, not Reactor"):
        goev.ConnectionPool(reactor, ":80", goev.PooledConnection)


@pytest.mark.parametrize("timeout", [-1, float("nan"), float("inf")])
def test_a_timeout_out_of_range_is_refused(make, timeout):
    with pytest.raises(ValueError, match=f"timeout must be from 0 to 315360000.0 seconds, not {timeout}"):
        make().acquire(timeout=timeout)


def test_a_factory_must_make_a_new_object_each_time(make, server):
    connection = goev.PooledConnection()
    with pytest.raises(ValueError, match="factory must return a new connection each time"):
        make(lambda: connection, min_idle=2)
    eventually(lambda: server.reactor.stats()[0]["closed"] == 1, "the first one is closed")


def test_a_factory_that_raises_raises_at_the_call(make):
    with pytest.raises(ZeroDivisionError):
        make(lambda: 1 / 0)


def test_a_factory_that_raises_later_is_logged_and_tried_again_with_patience(make, log):
    asked = []

    def factory():
        asked.append(time.monotonic())
        if 1 < len(asked) < 5:
            raise ZeroDivisionError
        return goev.PooledConnection()

    pool = make(factory, max_live=2)
    pool.acquire(timeout=PATIENCE)
    pool.acquire(timeout=PATIENCE)
    assert asked[4] - asked[1] >= least_pause(3)
    assert len(log.texts()) == 3
    assert all("ZeroDivisionError" in text and "the factory of the connection pool" in text for text in log.texts())


def test_a_pooled_connection_without_a_pool_is_a_connection(start, events):
    class Alone(goev.PooledConnection):
        def on_open(self):
            events("open", self)
            super().on_open()

        def on_close(self, error):
            super().on_close(error)
            events("close", error)

    server = start(Alone)
    with Client(server.address):
        connection = events.until("open")[1]
    assert events.until("close") == ("close", None)
    connection.close()


# ---- many threads ------------------------------------------------------------------------------------------------


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
