"""Datagrams beyond one batch stay whole and in order, and sockets that read into the same memory never mix them."""

import random

import pytest

import goev
from datagram_support import LARGEST, V4, Udp, UdpEcho
from support import held, on_poller


@pytest.mark.parametrize("batch_calls", [1, 4, 31, 32, 33])
def test_more_datagrams_than_a_batch_takes_arrive_intact_and_in_order(events, peer, batch_calls):
    data = [b"%03d" % number + random.Random(number).randbytes(number) for number in range(100)]
    with goev.Reactor(pollers=1, batch_calls=batch_calls) as reactor:
        handler, client = Udp(events), peer()
        handler.bind(reactor, V4)
        reactor.start()
        address = on_poller(reactor, lambda: handler.local_address)
        with held(reactor):
            for one in data:
                client.sendto(one, address)
        assert [events.until("datagram")[1] for _ in data] == data


@pytest.mark.parametrize("batch_calls", [3, 256])
def test_sockets_of_one_poller_never_mix_their_datagrams(events, peer, batch_calls):
    """Three sockets are full at once, and what is left of one batch waits while the next is read."""
    with goev.Reactor(pollers=1, batch_calls=batch_calls) as reactor:
        handlers = [UdpEcho(events) for _ in range(3)]
        reactor.start()
        for handler in handlers:
            handler.bind(reactor, V4)
        addresses = [on_poller(reactor, lambda one=handler: one.local_address) for handler in handlers]
        clients = [peer() for _ in handlers]
        for round_ in range(5):
            with held(reactor):
                for number in range(50):
                    for tag, client in enumerate(clients):
                        client.sendto(b"%d %d %d " % (tag, round_, number) + b"x" * (number + tag), addresses[tag])
            for tag, client in enumerate(clients):
                for number in range(50):
                    expected = b"%d %d %d " % (tag, round_, number) + b"x" * (number + tag)
                    assert client.recvfrom(1000) == (expected, addresses[tag])


def test_large_datagrams_that_wait_for_the_next_batch_stay_whole(events, peer):
    data = [bytes([number]) * (LARGEST - number) for number in range(20)]
    with goev.Reactor(pollers=1, batch_calls=2) as reactor:
        handler, client = Udp(events), peer()
        handler.bind(reactor, V4, receive_buffer_size=4_000_000)
        reactor.start()
        address = on_poller(reactor, lambda: handler.local_address)
        with held(reactor):
            for one in data:
                client.sendto(one, address)
        assert [events.until("datagram")[1] == one for one in data] == [True] * 20
