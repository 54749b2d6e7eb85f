"""A datagram of any size arrives whole, with the address of its sender, and is sent as it was given."""

import random
import socket

import pytest

from datagram_support import LARGEST, V4, V6, Udp, UdpEcho
from support import held, need_ipv6, on_poller, settle, text_of


@pytest.fixture(params=[V4, V6], ids=["v4", "v6"])
def family(request):
    """The address to bind to and the family of the peers, for both families."""
    if request.param == V6:
        need_ipv6()
    return request.param, socket.AF_INET6 if request.param == V6 else socket.AF_INET


def test_an_echo_answers_each_datagram(bind, events, peer, family):
    address = bind(UdpEcho(events), family[0])
    client = peer(family[1])
    for number in range(100):
        client.sendto(b"%d" % number, address)
        assert client.recvfrom(100) == (b"%d" % number, address)


def test_on_datagram_gets_bytes_and_the_address_of_the_sender(bind, events, peer, family):
    address = bind(Udp(events), family[0])
    clients = [peer(family[1]) for _ in range(3)]
    for client in clients:
        client.sendto(b"x", address)
        _, data, sender = events.until("datagram")
        assert (type(data), data, type(sender), sender) == (bytes, b"x", tuple, client.getsockname())


@pytest.mark.parametrize("size", [0, 1, 1_472, 1_473, 9_000, LARGEST])
def test_any_size_arrives_whole(bind, events, peer, family, size):
    address = bind(UdpEcho(events), family[0])
    data = random.Random(size).randbytes(size)
    assert peer(family[1]).ask(data, address) == data


def test_an_empty_datagram_is_one_like_any_other(bind, events, peer):
    address, client = bind(Udp(events)), peer()
    for data in (b"before", b"", b"", b"after"):
        client.sendto(data, address)
    assert [events.until("datagram")[1] for _ in range(4)] == [b"before", b"", b"", b"after"]


def test_the_datagrams_of_each_peer_come_in_order(bind, events, peer, reactor):
    address, clients = bind(Udp(events)), [peer() for _ in range(4)]
    for start in range(0, 400, 40):
        with held(reactor):
            for number in range(start, start + 40):
                for client in clients:
                    client.sendto(b"%d" % number, address)
        events.times("datagram", 4 * (start + 40))
    for client in clients:
        got = [int(data) for _, data, sender in events.of("datagram") if sender == client.getsockname()]
        assert got == list(range(400))


def test_of_10_000_datagrams_none_is_lost_or_changed_while_the_socket_buffer_has_room(bind, events, peer):
    address, client, window = bind(UdpEcho(events)), peer(), 100
    for start in range(0, 10_000, window):
        for number in range(start, start + window):
            client.sendto(b"%06d" % number, address)
        got = [client.recv(100) for _ in range(window)]
        assert got == [b"%06d" % number for number in range(start, start + window)]


def test_one_callback_may_send_to_many(bind, events, peer, reactor):
    handler, clients = Udp(events), [peer() for _ in range(40)]
    bind(handler)

    def send() -> None:
        for number in range(3):
            for client in clients:
                handler.send_to(b"%d to %d" % (number, client.fileno()), client.getsockname())

    on_poller(reactor, send)
    for client in clients:
        assert [client.recv(100) for _ in range(3)] == [b"%d to %d" % (number, client.fileno()) for number in range(3)]


def test_sizes_may_be_mixed_in_one_batch(bind, events, peer, reactor):
    handler, client = Udp(events), peer()
    bind(handler)
    data = [b"a" * size for size in (0, 1, 20_000, 0, 5, 1_500)]

    def send() -> None:
        for one in data:
            handler.send_to(one, client.getsockname())

    on_poller(reactor, send)
    assert [client.recv(70_000) for _ in data] == data


def test_data_may_be_any_bytes_like_object_and_is_copied(bind, events, peer, reactor):
    handler, client = Udp(events), peer()
    bind(handler)
    changing = bytearray(b"before")

    def send() -> None:
        handler.send_to(changing, client.getsockname())
        changing[:] = b"after!"
        handler.send_to(memoryview(b"-view-")[1:5], client.getsockname())

    on_poller(reactor, send)
    assert [client.recv(100) for _ in range(2)] == [b"before", b"view"]


def test_a_socket_with_a_peer_sends_without_address_and_hears_only_the_peer(bind, events, peer, reactor):
    handler, wanted, other = Udp(events), peer(), peer()
    address = bind(handler, peer=text_of(wanted.getsockname()))
    on_poller(reactor, handler.send, b"hello")
    assert wanted.recvfrom(100) == (b"hello", address)
    other.sendto(b"unwanted", address)
    wanted.sendto(b"wanted", address)
    assert events.until("datagram") == ("datagram", b"wanted", wanted.getsockname())
    settle(reactor)
    assert len(events.of("datagram")) == 1


def test_two_handlers_talk_to_each_other(bind, events, reactor):
    one = Udp(events)
    bind(one)
    address = bind(UdpEcho(events))
    on_poller(reactor, one.send_to, b"there and back", address)
    assert events.until("datagram") == ("datagram", b"there and back", address)


def test_a_timer_may_send(bind, events, peer, reactor):
    handler, client = Udp(events), peer()
    bind(handler)
    reactor.schedule(0.001, lambda: handler.send_to(b"tick", client.getsockname()))
    assert client.recv(100) == b"tick"
