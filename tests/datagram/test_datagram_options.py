"""Options reach the UDP socket, and multicast groups are joined and left."""

import errno
import os
import socket
from pathlib import Path

import pytest

from datagram_support import V6, Peer, Udp, socket_of
from support import need_ipv6, on_poller, settle, text_of


def test_options_reach_the_socket(bind, events):
    handler = Udp(events)
    bind(
        handler,
        reuse_address=True,
        reuse_port=True,
        broadcast=True,
        receive_buffer_size=30_000,
        send_buffer_size=20_000,
        device="lo",
    )
    with socket_of(handler) as copy:
        for option in (socket.SO_REUSEADDR, socket.SO_REUSEPORT, socket.SO_BROADCAST):
            assert copy.getsockopt(socket.SOL_SOCKET, option) == 1
        assert copy.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) == 60_000  # the kernel doubles it
        assert copy.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) == 40_000
        assert copy.getsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, 16).rstrip(b"\0") == b"lo"
    assert not os.get_inheritable(handler.fileno())
    assert not os.get_blocking(handler.fileno())


def test_options_left_out_leave_the_socket_as_the_system_makes_it(bind, events, peer):
    handler, plain = Udp(events), peer()
    bind(handler)
    with socket_of(handler) as copy:
        for name in ("SO_REUSEADDR", "SO_REUSEPORT", "SO_BROADCAST", "SO_RCVBUF", "SO_SNDBUF"):
            option = getattr(socket, name)
            assert copy.getsockopt(socket.SOL_SOCKET, option) == plain.getsockopt(socket.SOL_SOCKET, option), name


def test_with_broadcast_a_broadcast_goes_out(bind, events, reactor):
    sender, receiver = Udp(events), Udp(events)
    own = bind(sender, broadcast=True)
    to = bind(receiver, "127.255.255.255:0")
    on_poller(reactor, sender.send_to, b"to all", to)
    assert events.until("datagram") == ("datagram", b"to all", own)


def test_reuse_port_spreads_the_peers_over_handlers_and_loses_nothing(bind, events, peer):
    class Named(Udp):
        def on_datagram(self, data, address):
            events("datagram", self, address)

    handlers = [Named(events) for _ in range(2)]
    address = bind(handlers[0], reuse_port=True)
    bind(handlers[1], text_of(address), reuse_port=True)
    clients = [peer() for _ in range(50)]
    for _ in range(3):
        for client in clients:
            client.sendto(b"x", address)
    events.times("datagram", 150)
    who = {(sender, id(handler)) for _, handler, sender in events.of("datagram")}
    assert len(who) == 50, "a peer stays with its socket"
    assert len({handler for _, handler in who}) == 2, "one of them got everything"


@pytest.fixture
def group(stack):
    """A group on the loopback interface: its address, and what sends to a port of it."""
    sender, name = stack.enter_context(Peer()), "239.192.77.3"
    sender.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton("127.0.0.1"))

    def send(data: bytes, port: int) -> None:
        sender.sendto(data, (name, port))

    try:
        send(b"to nobody", 9)
    except OSError as error:
        pytest.skip(f"this machine has no multicast route on lo: {error}")
    return name, send


def test_a_member_of_a_group_gets_what_is_sent_to_it_until_it_leaves(bind, events, reactor, group):
    name, send = group
    handler = Udp(events)
    port = bind(handler, f"{name}:0")[1]
    send(b"too early", port)
    on_poller(reactor, handler.join_group, name, "lo")
    send(b"hello group", port)
    assert events.until("datagram")[1] == b"hello group"
    with pytest.raises(OSError, match=f"cannot join {name}") as caught:
        on_poller(reactor, handler.join_group, name, "lo")
    assert caught.value.errno == errno.EADDRINUSE
    on_poller(reactor, handler.leave_group, name, "lo")
    send(b"too late", port)
    settle(reactor)
    assert [data for _, data, _ in events.of("datagram")] == [b"hello group"]


def test_with_reuse_address_every_member_on_a_port_gets_a_copy(bind, events, reactor, group):
    name, send = group
    handlers = [Udp(events) for _ in range(3)]
    port = bind(handlers[0], f"{name}:0", reuse_address=True)[1]
    for handler in handlers[1:]:
        bind(handler, f"{name}:{port}", reuse_address=True)
    for handler in handlers:
        on_poller(reactor, handler.join_group, name, "lo")
    for number in range(20):
        send(b"%d" % number, port)
    events.times("datagram", 60)
    settle(reactor)
    assert sorted(int(data) for _, data, _ in events.of("datagram")) == sorted(list(range(20)) * 3)


def test_an_ipv6_group_is_joined_on_the_interface_and_left(bind, events, reactor):
    """Looked up in the kernel's list, since loopback has no IPv6 multicast route as a rule."""
    need_ipv6()

    def is_member() -> bool:
        lines = [line.split() for line in Path("/proc/net/igmp6").read_text().splitlines()]
        return any(line[1:3] == ["lo", "ff020000000000000000000000007703"] for line in lines)

    handler = Udp(events)
    bind(handler, V6)
    on_poller(reactor, handler.join_group, "ff02::7703", "lo")
    assert is_member()
    on_poller(reactor, handler.leave_group, "ff02::7703", "lo")
    assert not is_member()
