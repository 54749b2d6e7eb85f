"""Each acceptor counts its own connections, on whatever pollers they are: exactly, at every moment."""

import threading

import pytest

import goev
from support import Client, Echo, Recorder, eventually, settle


def balanced(stats: dict) -> bool:
    return stats["accepted"] == stats["open"] + stats["closed"]


def test_two_acceptors_of_one_reactor_count_apart(reactor, stack):
    first = goev.Acceptor(reactor, "127.0.0.1:0", Echo)
    second = goev.Acceptor(reactor, "127.0.0.1:0", Echo)
    nothing = {"accepted": 0, "open": 0, "closed": 0, "refused": 0, "rejected": 0, "errors": 0}
    assert first.stats() == second.stats() == nothing
    clients = [stack.enter_context(Client(first.address)) for _ in range(3)]
    assert [client.ask(b"x") for client in clients] == [b"x"] * 3
    assert first.stats() == {**nothing, "accepted": 3, "open": 3}
    clients[0].close()
    eventually(lambda: first.stats()["closed"] == 1, "one has left")
    assert first.stats() == {**nothing, "accepted": 3, "open": 2, "closed": 1}
    assert second.stats() == nothing


@pytest.mark.parametrize("options", [{"pollers": 2}, {"pollers": 2, "reuse_port": True}], ids=["turns", "listeners"])
def test_connections_of_all_pollers_count(start, options):
    server = start(Echo, **options)
    clients = [server.connect() for _ in range(8)]
    assert [client.ask(b"x") for client in clients] == [b"x"] * 8
    assert (server.acceptor.stats()["accepted"], server.acceptor.stats()["open"]) == (8, 8)
    assert sum(poller["accepted"] for poller in server.reactor.stats()) == 8


def test_refused_peers_are_not_accepted_ones(start):
    server = start(Echo, max_connections=1, when_full="refuse")
    assert server.connect().ask(b"x") == b"x"
    assert server.connect().receive_all() == b""
    stats = server.acceptor.stats()
    assert (stats["accepted"], stats["open"], stats["refused"]) == (1, 1, 1)


def test_too_many_of_one_address_are_refused(start):
    server = start(Echo, max_connections_per_address=1)
    assert server.connect().ask(b"x") == b"x"
    assert server.connect().receive_all() == b""
    assert server.acceptor.stats()["refused"] == 1


def test_a_factory_that_raises_is_counted(start, log):
    def factory():
        raise ValueError("no handler")

    server = start(factory)
    server.connect().receive_all()
    assert "no handler" in log.next()[1]
    eventually(lambda: server.acceptor.stats()["closed"] == 1, "it is closed")
    assert (server.acceptor.stats()["accepted"], server.acceptor.stats()["rejected"]) == (1, 1)


def test_a_connection_that_was_handed_over_is_still_open(start, events):
    class Hands(goev.Connection):
        def on_read(self):
            self.hand_over(Recorder(events))

    server = start(Hands)
    client = server.connect()
    client.send(b"x")
    events.until("read")
    assert server.acceptor.stats()["open"] == 1
    client.close()
    events.until("close")
    eventually(lambda: server.acceptor.stats()["closed"] == 1, "it has ended")


def test_at_every_moment_accepted_is_open_and_closed(start):
    """Read by another thread while connections come and go, with a limit that makes listeners ask for room."""
    server = start(Echo, pollers=2, max_connections=4)
    over, wrong = threading.Event(), []

    def look():
        while not over.is_set():
            stats = server.acceptor.stats()
            if not balanced(stats) or stats["open"] > 4:
                wrong.append(stats)

    looking = threading.Thread(target=look)
    looking.start()
    for _ in range(40):
        with Client(server.address) as client:
            assert client.ask(b"x") == b"x"
    over.set()
    looking.join()
    assert wrong == []
    eventually(lambda: server.acceptor.stats()["open"] == 0, "all have left")
    assert server.acceptor.stats()["closed"] == 40


def test_after_the_close_of_the_acceptor_it_counts_on(start):
    server = start(Echo)
    client = server.connect()
    assert client.ask(b"x") == b"x"
    server.acceptor.close()
    settle(server.reactor)
    assert server.acceptor.stats()["open"] == 1
    client.close()
    eventually(lambda: server.acceptor.stats()["closed"] == 1, "it has left")
