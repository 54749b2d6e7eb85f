"""Arguments and factories that a pool cannot use are refused by name."""

import time

import pytest

import goev
from pool_support import least_pause
from support import PATIENCE, Client, eventually


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
