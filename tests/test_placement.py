"""``Acceptor(placement=)``: the poller on which a new connection lives."""

import os
import socket
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest

import goev
from goev._core import _current_poller
from support import PATIENCE, eventually

WAYS = ["auto", "round_robin", "least", "incoming_cpu", "source_address"]


class Where(goev.Connection):
    """Says the number of its poller."""

    def on_open(self):
        self.write(b"%d" % _current_poller())


class Placing:
    """A server of this placement, and the sockets of its clients with the numbers of their pollers."""

    def __init__(self, stack, way, pollers=2, address="127.0.0.1:0", **options):
        self.stack = stack
        reactor = stack.enter_context(goev.Reactor(pollers=pollers, **options))
        self.acceptor = goev.Acceptor(reactor, address, Where, placement=way)
        reactor.start()
        self.clients = []

    def connect(self, count=1, source=None):
        """The pollers of so many new connections, made one after the other."""
        numbers = []
        for _ in range(count):
            bound = source and (source, 0)
            client = self.stack.enter_context(socket.create_connection(self.acceptor.address, PATIENCE, bound))
            numbers.append(int(client.recv(1)))
            self.clients.append((client, numbers[-1]))
        return numbers

    def leave(self, poller):
        """Close the clients of one poller."""
        left = [client for client, number in self.clients if number == poller]
        for client in left:
            client.close()
        eventually(lambda: self.acceptor.stats()["closed"] == len(left), "they have ended")


@pytest.fixture
def placing(stack):
    return lambda *args, **options: Placing(stack, *args, **options)


@contextmanager
def on_cpu(cpu):
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {cpu})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@pytest.fixture
def cpus():
    found = sorted(os.sched_getaffinity(0))[:2]
    if len(found) < 2:
        pytest.skip("needs two CPUs")
    return found


@pytest.mark.parametrize("pollers", [2, 3])
def test_pollers_take_turns(placing, pollers):
    numbers = placing("round_robin", pollers).connect(2 * pollers)
    assert numbers == [number % pollers for number in range(2 * pollers)]


@pytest.mark.parametrize("way", ["least", "auto"])
def test_a_poller_whose_connections_have_left_gets_the_next_ones(placing, way):
    server = placing(way)
    assert Counter(server.connect(10)) == {0: 5, 1: 5} or way == "auto"
    left = Counter(number for _, number in server.clients)[1]
    server.leave(1)
    assert set(server.connect(left - 1)) == {1}


def test_two_connections_never_share_a_poller(placing):
    for _ in range(10):
        assert set(placing("auto").connect(2)) == {0, 1}


def test_connections_of_one_cpu_are_split_at_worst_sixty_to_forty(placing, cpus):
    with on_cpu(cpus[0]):
        counts = Counter(placing("auto").connect(100))
    assert max(counts.values()) <= 60


def test_a_connection_goes_to_the_poller_of_its_cpu(placing, cpus):
    server = placing("incoming_cpu", cpus=cpus)
    for number, cpu in enumerate(cpus):
        with on_cpu(cpu):
            assert set(server.connect(10)) == {number}


def test_connections_of_two_cpus_stay_on_them_while_the_numbers_are_even(placing, cpus):
    server = placing("auto", cpus=cpus)
    for _ in range(10):
        for number, cpu in enumerate(cpus):
            with on_cpu(cpu):
                assert server.connect() == [number]


def test_one_address_has_one_poller_and_many_have_all(placing):
    server = placing("source_address")
    pollers = {source: set(server.connect(3, f"127.0.0.{source}")) for source in range(2, 34)}
    assert all(len(numbers) == 1 for numbers in pollers.values())
    assert set.union(*pollers.values()) == {0, 1}


@pytest.mark.parametrize("way", WAYS)
def test_every_way_serves_unix_sockets_and_one_poller(stack, tmp_path, way):
    for pollers in (1, 2):
        path = tmp_path / f"{pollers}"
        reactor = stack.enter_context(goev.Reactor(pollers=pollers))
        goev.Acceptor(reactor, f"unix:{path}", Where, placement=way)
        reactor.start()
        numbers = Counter()
        for _ in range(10):
            client = stack.enter_context(socket.socket(socket.AF_UNIX))
            client.settimeout(PATIENCE)
            client.connect(str(path))
            numbers[int(client.recv(1))] += 1
        assert numbers == dict.fromkeys(range(pollers), 10 // pollers)


@pytest.mark.parametrize("way", WAYS)
def test_another_reactor_that_owns_the_connections_places_them(stack, way):
    accepting = stack.enter_context(goev.Reactor(pollers=1, name="accepting"))
    serving = stack.enter_context(goev.Reactor(pollers=2))
    acceptor = goev.Acceptor(accepting, "127.0.0.1:0", Where, placement=way, connection_reactor=serving)
    serving.start()
    accepting.start()
    for _ in range(4):
        client = stack.enter_context(socket.create_connection(acceptor.address, PATIENCE))
        assert client.recv(1) in (b"0", b"1")
    assert sum(poller["accepted"] for poller in serving.stats()) == 4


class Allowed(goev.Connection):
    """Says for each byte whether the thread may use every CPU of the process, and a thread that it starts, too."""

    cpus = frozenset(os.sched_getaffinity(0))

    def on_read(self):
        for _ in self.read():
            seen = []
            starter = threading.Thread(target=self.look, args=[seen])
            starter.start()
            starter.join()
            self.look(seen)
            self.write(b"y" if seen == [self.cpus] * 2 else b"n")

    def look(self, seen):
        seen.append(os.sched_getaffinity(0))


def test_a_poller_that_sleeps_bound_to_its_cpu_has_all_of_them_in_callbacks(stack, cpus):
    reactor = stack.enter_context(goev.Reactor(pollers=len(Allowed.cpus)))
    acceptor = goev.Acceptor(reactor, "127.0.0.1:0", Allowed)
    reactor.start()

    def ask():
        with socket.create_connection(acceptor.address, PATIENCE) as client:
            answers = []
            for _ in range(200):
                client.sendall(b"?")
                answers.append(client.recv(1))
        return set(answers)

    with ThreadPoolExecutor(4) as pool:
        answers = [pool.submit(ask) for _ in range(8)]
    assert {frozenset(answer.result()) for answer in answers} == {frozenset({b"y"})}


@pytest.mark.parametrize("value", ["", "AUTO", "random"])
def test_another_name_is_a_value_error(idle, value):
    with pytest.raises(ValueError, match=f"placement must be 'auto', .* or 'source_address', not \"{value}\""):
        goev.Acceptor(idle, "127.0.0.1:0", Where, placement=value)
