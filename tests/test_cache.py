"""The poller cache: a dict on every poller, read without a lock, updated from anywhere."""

import threading
import weakref

import pytest

import goev
from support import PATIENCE, Client, eventually, in_thread, on_poller


class Opens(goev.Connection):
    def __init__(self, events) -> None:
        self.events = events

    def on_open(self):
        self.events("open", self)


@pytest.fixture
def two(start, events):
    """A reactor and one connection on each of its two pollers."""
    server = start(lambda: Opens(events), pollers=2)
    for _ in range(2):
        server.connect()
    return server.reactor, events.until("open")[1], events.until("open")[1]


def cached(connection: goev.Connection, key):
    return on_poller(connection, lambda: connection.cache.get(key, "missing"))


def test_what_is_set_reaches_every_poller_before_later_calls_of_that_thread(two):
    reactor, *connections = two
    for number in range(100):
        reactor.cache_set("key", number)
        assert [cached(connection, "key") for connection in connections] == [number, number]


def test_keys_and_values_are_any_objects(two):
    reactor, one, other = two
    value = object()
    for key in ("text", 5, ("a", 1), None, b"bytes", frozenset({1})):
        reactor.cache_set(key, value)
        assert cached(one, key) is value
        assert cached(other, key) is value


def test_a_missing_key_is_a_key_error_as_in_a_dict(two):
    _, one, _ = two
    with pytest.raises(KeyError, match="nope"):
        on_poller(one, lambda: one.cache["nope"])
    assert on_poller(one, lambda: ("nope" in one.cache, one.cache.get("nope"))) == (False, None)


def test_it_reads_like_a_mapping(two):
    reactor, one, _ = two
    reactor.cache_set("a", 1)
    reactor.cache_set("b", 2)
    assert on_poller(one, lambda: (len(one.cache), sorted(one.cache), dict(one.cache))) == (
        2,
        ["a", "b"],
        {"a": 1, "b": 2},
    )


def test_what_is_set_before_the_start_is_there_in_on_open():
    class Reads(goev.Connection):
        def on_open(self):
            self.write(self.cache["greeting"])

    with goev.Reactor(pollers=2) as reactor:
        acceptor = goev.Acceptor(reactor, "127.0.0.1:0", Reads)
        reactor.cache_set("greeting", b"hello")
        reactor.start()
        for _ in range(2):
            with Client(acceptor.address) as client:
                assert client.receive(5) == b"hello"


def test_a_callback_may_set_it_for_all_pollers(two):
    reactor, one, other = two
    on_poller(one, reactor.cache_set, "key", "of one")
    eventually(lambda: cached(other, "key") == "of one", "the other poller has it")
    assert cached(one, "key") == "of one"


def test_many_threads_may_set_at_once_and_the_pollers_agree_in_the_end(two):
    reactor, one, other = two

    def set_many(who: int) -> None:
        for number in range(500):
            reactor.cache_set(f"of {who}", number)

    for future in [in_thread(set_many, who) for who in range(4)]:
        future.result(PATIENCE)
    for who in range(4):
        assert cached(one, f"of {who}") == cached(other, f"of {who}") == 499


def test_old_values_are_released(two):
    class Value:
        pass

    reactor, one, other = two
    value = Value()
    gone = weakref.ref(value)
    reactor.cache_set("key", value)
    assert cached(one, "key") is value
    del value
    reactor.cache_set("key", None)
    for connection in (one, other):
        cached(connection, "key")
    eventually(lambda: gone() is None, "the old value is released")


def test_keys_whose_comparison_calls_python_do_no_harm(two):
    class Key:
        def __init__(self, name: str) -> None:
            self.name = name

        def __hash__(self) -> int:
            return 1  # all collide

        def __eq__(self, other: object) -> bool:
            threading.Event().wait(0.0001)  # lets other threads run in the middle of an insertion
            return isinstance(other, Key) and other.name == self.name

    reactor, one, other = two
    for number in range(20):
        reactor.cache_set(Key(str(number)), number)
    assert [cached(connection, Key("7")) for connection in (one, other)] == [7, 7]
