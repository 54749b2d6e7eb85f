"""``Reactor.stop(grace, drain=…)``: a client that has just sent a request, or is about to, gets its answer."""

import socket
import ssl
import time

import pytest

import goev
from certificates import Authority
from service_support import answer, request
from support import LOCAL, PATIENCE, Client, Events, eventually


class Site(goev.http.Connection):
    def on_request(self, request):
        request.respond(200, None, b"yes")


@pytest.fixture
def reactor():
    with goev.Reactor(pollers=2) as reactor:
        yield reactor
        reactor.stop(0)


def serving(reactor, factory=Site, **options):
    address = goev.Acceptor(reactor, LOCAL, factory, **options).address
    reactor.start()
    return address


def test_an_idle_connection_gets_one_more_answer_which_says_close(reactor):
    with Client(serving(reactor)) as client:
        assert request(client) == b"yes"
        reactor.stop(PATIENCE, drain=PATIENCE)
        client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        said = client.receive_all().lower()
        assert b"connection: close\r\n" in said
        assert said.endswith(b"yes")
    assert reactor.join(PATIENCE) == goev.StopReport(1, 0)


def test_a_connection_that_has_sent_nothing_yet_gets_an_answer(reactor):
    address = serving(reactor)
    with Client(address) as client:
        eventually(lambda: sum(each["accepted"] for each in reactor.stats()) == 1, "it was accepted")
        reactor.stop(PATIENCE, drain=PATIENCE)
        assert request(client) == b"yes"
    reactor.join(PATIENCE)


def test_half_a_request_at_the_end_of_the_drain_may_become_whole(reactor):
    with Client(serving(reactor)) as client:
        client.send(b"GET / HTTP/1.1\r\n")
        eventually(lambda: sum(each["bytes_in"] for each in reactor.stats()) > 0, "the half has come")
        reactor.stop(PATIENCE, drain=0.05)
        time.sleep(0.2)
        client.send(b"Host: a\r\n\r\n")
        assert answer(client) == b"yes"
    reactor.join(PATIENCE)


def test_an_idle_connection_is_closed_when_the_drain_is_over(reactor):
    with Client(serving(reactor)) as client:
        assert request(client) == b"yes"
        began = time.monotonic()
        reactor.stop(PATIENCE, drain=0.3)
        assert client.receive_all() == b""
        assert 0.25 < time.monotonic() - began < 5.0
    assert reactor.join(PATIENCE) == goev.StopReport(1, 0)


def test_a_second_stop_without_a_drain_ends_it(reactor):
    with Client(serving(reactor)) as client:
        assert request(client) == b"yes"
        reactor.stop(60.0, drain=60.0)
        reactor.stop(60.0)
        assert client.receive_all() == b""
    reactor.join(PATIENCE)


def test_without_a_drain_an_idle_connection_is_closed_at_once(reactor):
    with Client(serving(reactor)) as client:
        assert request(client) == b"yes"
        reactor.stop(60.0)
        assert client.receive_all() == b""
    reactor.join(PATIENCE)


def test_other_protocols_do_not_wait_for_the_drain(reactor):
    with Client(serving(reactor, goev.Connection)) as client:
        eventually(lambda: sum(each["accepted"] for each in reactor.stats()) == 1, "it was accepted")
        reactor.stop(60.0, drain=60.0)
        assert client.receive_all() == b""
    reactor.join(PATIENCE)


def test_a_handler_with_its_own_on_stopping_hears_of_it_at_once(reactor):
    events = Events()

    class Own(Site):
        def on_stopping(self):
            events("told")
            return False

    with Client(serving(reactor, Own)) as client:
        assert request(client) == b"yes"
        reactor.stop(60.0, drain=60.0)
        assert events.next() == ("told",)
        assert client.receive_all() == b""
    reactor.join(PATIENCE)


def test_a_request_to_which_the_answer_is_late_gets_it(reactor):
    class Late(goev.http.Connection):
        def on_request(self, request):
            self.schedule(0.3, lambda: request.respond(200, None, b"late"))

    with Client(serving(reactor, Late)) as client:
        client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        eventually(lambda: sum(each["bytes_in"] for each in reactor.stats()) > 0, "the request has come")
        reactor.stop(PATIENCE, drain=0.05)
        said = client.receive_all().lower()
        assert b"connection: close\r\n" in said
        assert said.endswith(b"late")
    reactor.join(PATIENCE)


def test_a_handshake_that_is_under_way_ends_and_gets_its_answer(reactor):
    authority = Authority()
    server = authority.issue("localhost")
    tls = goev.tls.ServerContext(server.chain, server.key)
    address = serving(reactor, tls=tls)
    with socket.create_connection(address, PATIENCE) as raw:
        context = ssl.create_default_context(cadata=authority.pem.decode())
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        secure = context.wrap_bio(incoming, outgoing, server_hostname="localhost")
        with pytest.raises(ssl.SSLWantReadError):
            secure.do_handshake()
        hello = outgoing.read()
        raw.sendall(hello[:50])
        time.sleep(0.1)  # goev reads the half of it, which no event reports
        reactor.stop(PATIENCE, drain=PATIENCE)
        raw.sendall(hello[50:])
        exchange(raw, secure.do_handshake, incoming, outgoing)
        secure.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        raw.sendall(outgoing.read())
        assert exchange(raw, lambda: secure.read(4096), incoming, outgoing).endswith(b"yes")
    reactor.join(PATIENCE)


def exchange(raw, step, incoming, outgoing):
    """Run a step of TLS to its end."""
    while True:
        try:
            result = step()
        except ssl.SSLWantReadError:
            raw.sendall(outgoing.read())
            incoming.write(raw.recv(65536))
            continue
        raw.sendall(outgoing.read())
        return result


def test_a_client_behind_a_proxy_that_sends_its_header_late_gets_its_answer(reactor):
    with Client(serving(reactor, proxy_protocol=True, proxy_from=["127.0.0.1"])) as client:
        client.send(b"PROXY TCP4 192.0.2.1")
        time.sleep(0.1)  # goev reads the half of it, which no event reports
        reactor.stop(PATIENCE, drain=PATIENCE)
        client.send(b" 192.0.2.2 1000 80\r\n")
        assert request(client) == b"yes"
    reactor.join(PATIENCE)


@pytest.mark.parametrize("drain", [-1, float("nan"), float("inf")])
def test_a_wrong_drain_is_refused(drain):
    with goev.Reactor(pollers=1) as reactor, pytest.raises(ValueError, match="drain"):
        reactor.stop(1.0, drain=drain)


def test_of_a_drain_longer_than_the_grace_only_the_grace_counts(reactor):
    with Client(serving(reactor)) as client:
        assert request(client) == b"yes"
        reactor.stop(0.2, drain=60.0)
        client.receive_all()
    reactor.join(PATIENCE)
