"""A socket for every address answers from the address that was asked (IP_PKTINFO, IPV6_RECVPKTINFO)."""

import pickle
import socket

import pytest

import goev
from datagram_support import Udp, UdpEcho
from support import need_ipv6, on_poller

HOSTS = [f"127.0.0.{number}" for number in range(1, 9)]


@pytest.fixture(params=[":0", "*:0"])
def every(request) -> str:
    """An address for every IPv4 address."""
    if request.param.startswith("*"):
        need_ipv6()
    return request.param


def asks(peer, host: str, port: int):
    """A raw socket that takes datagrams only from the address it asked."""
    client = peer()
    client.connect((host, port))
    return client


def test_each_peer_is_answered_from_the_address_it_asked(bind, events, peer, every):
    port = bind(UdpEcho(events), every)[1]
    for host in HOSTS:
        client = asks(peer, host, port)
        client.send(host.encode())
        assert client.recv(100) == host.encode()


def test_one_peer_that_asks_two_addresses_gets_each_answer_from_its_own(bind, events, peer, every):
    port, client = bind(UdpEcho(events), every)[1], peer()
    for host in HOSTS * 2:
        client.sendto(host.encode(), (host, port))
    came = [client.recvfrom(100) for _ in HOSTS * 2]
    assert sorted(came) == sorted((host.encode(), (host, port)) for host in HOSTS * 2)


def test_answers_of_a_whole_batch_leave_from_the_right_addresses(events, peer, every):
    """More datagrams than one system call takes, of peers and addresses that alternate."""
    with goev.Reactor(pollers=1) as reactor:
        handler = UdpEcho(events)
        handler.bind(reactor, every)
        with socket.socket(fileno=socket.dup(handler.fileno())) as copy:
            port = copy.getsockname()[1]
        clients = [asks(peer, host, port) for host in HOSTS]
        for number in range(10):
            for client in clients:
                client.send(b"%d" % number)
        reactor.start()
        for client in clients:
            assert sorted(int(client.recv(100)) for _ in range(10)) == list(range(10))


def test_a_late_answer_leaves_from_there_as_well(bind, events, reactor, peer, every):
    """The address object carries it, so it may be kept; meanwhile others ask other addresses."""
    handler = Udp(events)
    port = bind(handler, every)[1]
    clients = [asks(peer, host, port) for host in HOSTS]
    for client in clients:
        client.send(b"question")
    events.times("datagram", len(HOSTS))
    for _, _, address in reversed(events.of("datagram")):
        on_poller(reactor, handler.send_to, address.asked.encode(), address)
    assert [client.recv(100).decode() for client in clients] == HOSTS


def test_the_address_is_the_tuple_of_the_socket_module_with_asked(bind, events, peer, every):
    port, client = bind(Udp(events), every)[1], peer()
    client.sendto(b"x", ("127.0.0.3", port))
    address = events.until("datagram")[2]
    assert isinstance(address, goev.DatagramAddress)
    assert address == client.getsockname() == tuple(address)
    assert {address: 1}[client.getsockname()] == 1
    assert str(address) == str(client.getsockname())
    assert address.asked == "127.0.0.3"
    again = pickle.loads(pickle.dumps(address))  # for a queue between processes
    assert (again, again.asked) == (address, address.asked)


def test_a_plain_tuple_leaves_the_source_to_the_system(bind, events, reactor, peer, every):
    handler, client = Udp(events), peer()
    port = bind(handler, every)[1]
    client.sendto(b"x", ("127.0.0.3", port))
    address = events.until("datagram")[2]
    client.sendto(b"x", ("127.0.0.4", port))  # another, since that of the last datagram is known by its identity
    events.until("datagram")
    on_poller(reactor, handler.send_to, b"y", tuple(address))
    assert client.recvfrom(10) == (b"y", ("127.0.0.1", port))


def test_a_socket_for_one_address_gives_plain_tuples(bind, events, peer):
    port, client = bind(Udp(events), "127.0.0.2:0")[1], peer()
    client.sendto(b"x", ("127.0.0.2", port))
    assert type(events.until("datagram")[2]) is tuple


def test_a_connected_socket_gives_plain_tuples(bind, events, peer):
    client = peer()
    port = bind(Udp(events), ":0", peer=f"127.0.0.1:{client.getsockname()[1]}")[1]
    client.sendto(b"x", ("127.0.0.1", port))
    assert type(events.until("datagram")[2]) is tuple


@pytest.mark.parametrize("address", ["[::]:0", "*:0"])
def test_ipv6_is_answered_from_the_address_that_was_asked(bind, events, peer, address):
    """On most machines ``::1`` is the only address of the loopback interface, so ``asked`` is looked at."""
    need_ipv6()

    class Reports(UdpEcho):
        def on_datagram(self, data, address):
            events("asked", address.asked)
            super().on_datagram(data, address)

    port, client = bind(Reports(events), address)[1], peer(socket.AF_INET6)
    client.connect(("::1", port))
    client.send(b"x")
    assert client.recv(10) == b"x"
    assert events.until("asked")[1] == "::1"


@pytest.mark.parametrize(
    ("asked", "error", "why"),
    [
        ("nowhere", ValueError, "an IP address as asked"),
        ("fe80::1%no-such", OSError, "no such network interface"),
        (7, TypeError, "str"),
        (None, AttributeError, "asked"),
    ],
)
def test_an_address_made_wrong_is_refused(bind, events, reactor, asked, error, why):
    handler = Udp(events)
    bind(handler, ":0")
    address = goev.DatagramAddress(("127.0.0.1", 9))
    if asked is not None:
        address.asked = asked
    with pytest.raises(error, match=why):
        on_poller(reactor, handler.send_to, b"x", address)


def test_an_address_that_is_not_ours_any_more_is_an_error_of_that_datagram(bind, events, reactor, peer):
    handler, client = Udp(events), peer()
    bind(handler, ":0")
    gone = goev.DatagramAddress(client.getsockname())
    gone.asked = "192.0.2.77"  # of a documentation network (RFC 5737)
    on_poller(reactor, handler.send_to, b"lost", gone)
    error = events.until("error")[1]
    assert isinstance(error, OSError)
    assert error.errno  # which one is the routing table's affair
    on_poller(reactor, handler.send_to, b"next", client.getsockname())
    assert client.recv(10) == b"next"


def test_an_own_address_of_the_other_version_is_left_out(bind, events, reactor, peer):
    need_ipv6()
    handler, client = Udp(events), peer()
    bind(handler, "*:0")
    mixed = goev.DatagramAddress(client.getsockname())
    mixed.asked = "::1"
    on_poller(reactor, handler.send_to, b"x", mixed)
    assert client.recv(10) == b"x"
