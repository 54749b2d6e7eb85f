"""Who may come in: `max_connections`, `max_connections_per_address`, `accept_rate`; the others wait or are refused."""

import socket
import time

import pytest

import goev
from support import Client, Echo, eventually, need_ipv6, settle


def asking(server, count: int) -> list[Client]:
    """Clients that have sent one byte."""
    clients = [server.connect() for _ in range(count)]
    for client in clients:
        client.send(b"x")
    return clients


@pytest.mark.parametrize(
    "options", [{}, {"pollers": 2}, {"pollers": 2, "reuse_port": True}], ids=["1", "2", "listeners"]
)
def test_when_it_is_full_peers_wait_and_come_in_one_for_one(start, options):
    server = start(Echo, max_connections=3, **options)
    clients = asking(server, 8)
    inside = [client for client in clients if client.gets(b"x", 0.3)]
    assert len(inside) == 3
    waiting = [client for client in clients if client not in inside]
    while waiting:
        inside.pop().close()
        came = eventually(lambda: [client for client in waiting if client.gets(b"x", 0.05)], "the next one comes in")
        assert len(came) == 1
        inside += came
        waiting.remove(came[0])
    stats = server.reactor.stats()
    assert sum(poller["accepted"] for poller in stats) == 8
    assert sum(poller["refused"] for poller in stats) == 0


def test_when_it_is_full_peers_may_be_refused_instead(start):
    server = start(Echo, max_connections=2, when_full="refuse")
    clients = asking(server, 2)
    assert all(client.gets(b"x", 5) for client in clients)
    assert server.connect().receive_all() == b"", "it is closed, and in order"
    clients[0].close()
    eventually(lambda: server.reactor.stats()[0]["open"] == 1, "one has left")
    assert asking(server, 1)[0].gets(b"x", 5)
    (stats,) = server.reactor.stats()
    assert (stats["accepted"], stats["refused"]) == (3, 1)


def test_a_connection_that_lingers_has_its_place_still(start):
    class Closes(goev.Connection):
        def on_open(self):
            self.write(b"x")
            return False

    server = start(Closes, max_connections=1, linger_timeout=0.5)
    first, second = server.connect(), server.connect()
    assert first.gets(b"x", 5)
    assert not second.gets(b"x", 0.2)
    first.close()
    assert second.gets(b"x", 5)


def test_each_address_has_its_share(start):
    server = start(Echo, address="0.0.0.0:0", max_connections_per_address=2)
    port = server.address[1]

    def connect(source: str) -> Client:
        client = Client.__new__(Client)
        client.socket = socket.create_connection(("127.0.0.1", port), 5, (source, 0))
        return client

    clients = [connect(f"127.0.0.{host}") for host in (2, 2, 3, 3)]
    for client in clients:
        client.send(b"x")
        assert client.gets(b"x", 5)
    with connect("127.0.0.2") as more:
        assert more.receive_all() == b""
    clients[0].close()
    eventually(lambda: server.reactor.stats()[0]["open"] == 3, "one has left")
    with connect("127.0.0.2") as more:
        more.send(b"x")
        assert more.gets(b"x", 5)
    for client in clients:
        client.close()
    assert server.reactor.stats()[0]["refused"] == 1


def test_a_host_of_ipv6_has_one_share(start):
    need_ipv6()
    server = start(Echo, address="[::1]:0", max_connections_per_address=1)
    (client,) = asking(server, 1)
    assert client.gets(b"x", 5)
    assert server.connect().receive_all() == b""


def test_unix_peers_have_no_address_to_be_counted_by(start, tmp_path):
    server = start(Echo, address=f"unix:{tmp_path}/socket", max_connections_per_address=1, max_connections=5)
    assert all(client.gets(b"x", 5) for client in asking(server, 3))


def test_faster_than_the_rate_peers_wait(start):
    server = start(Echo, accept_rate=10)
    began = time.monotonic()
    clients = asking(server, 16)
    assert sum(client.gets(b"x", 0.02) for client in clients[:10]) == 10, "those of one second come in at once"
    assert all(client.gets(b"x", 5) for client in clients[10:])
    # Ten came in at once, and the other six at ten a second.
    assert time.monotonic() - began >= 0.5
    settle(server.reactor)
    assert server.reactor.stats()[0]["accepted"] == 16


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"max_connections": 0}, ValueError, "max_connections must be from 1 to 4294967295, not 0"),
        ({"max_connections": -1}, ValueError, "max_connections must be 0 or more, not -1"),
        ({"max_connections": "5"}, TypeError, "argument 'max_connections': "),
        ({"max_connections_per_address": 0}, ValueError, "max_connections_per_address must be from 1"),
        ({"accept_rate": 0}, ValueError, "accept_rate must be from 0.001 to 1000000000 a second, not 0"),
        ({"accept_rate": float("nan")}, ValueError, "accept_rate must be from"),
        ({"when_full": "drop"}, ValueError, "when_full must be 'wait' or 'refuse', not \"drop\""),
        ({"max_connection": 1}, TypeError, r"Acceptor\(\) got an unexpected keyword argument 'max_connection'"),
    ],
)
def test_wrong_settings_are_refused_at_the_call(options, error, text):
    with goev.Reactor() as reactor, pytest.raises(error, match=text):
        goev.Acceptor(reactor, "127.0.0.1:0", Echo, **options)
