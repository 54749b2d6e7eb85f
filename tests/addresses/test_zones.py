"""An IPv6 address may name its zone, the interface that a link-local address belongs to (RFC 4007, RFC 6874)."""

import errno
import socket

import pytest

import goev
from addresses_support import scoped, zone_of
from support import Client, Echo, Recorder, need_ipv6, on_poller


class Ends(Recorder):
    def on_open(self):
        self.events("open", self.local_address, self.remote_address)

    def on_connect_fail(self, error):
        self.events("fail", error)


@pytest.mark.parametrize("by", ["name", "index"])
def test_a_listener_with_a_zone_is_reached_by_an_address_with_a_zone(start, events, by):
    need_ipv6()
    host, name, index = scoped()
    zone = name if by == "name" else index
    server = start(lambda: Ends(events), address=f"[{host}%{zone}]:0")
    address = server.acceptor.address
    assert address[0] == host
    assert address[3] == zone_of(host, index)
    goev.connect(server.reactor, f"[{host}%{zone}]:{address[1]}", Ends(events))
    (_, *accepted), (_, *connected) = events.next(), events.next()
    assert accepted == connected[::-1]
    assert address in accepted


def test_an_address_of_the_socket_module_makes_the_text_that_goev_takes(start):
    """The fourth number of a tuple is the zone."""
    need_ipv6()
    host, name, _ = scoped()
    with start(Echo, address=f"[{host}%{name}]:0").connect() as client:
        assert client.ask(b"hello") == b"hello"
        own_host, port, _, zone = client.socket.getpeername()
        text = f"[{own_host}%{zone}]:{port}" if zone else f"[{own_host}]:{port}"
    with goev.Reactor(pollers=1) as reactor, pytest.raises(OSError, match=f"cannot listen on .*{name if zone else ''}"):
        goev.Acceptor(reactor, text, Echo)  # in use; the text names the interface again


def test_an_outgoing_connection_may_begin_at_an_address_with_a_zone(start, events):
    need_ipv6()
    host, name, _ = scoped()
    server = start(Echo, address=f"[{host}%{name}]:0")
    text = f"[{host}%{name}]"
    connector = goev.Connector(server.reactor, local_address=f"{text}:0")
    connector.connect(f"{text}:{server.acceptor.address[1]}", Ends(events))
    assert events.next()[1][0] == host


class Asks(goev.Datagram):
    def __init__(self, events):
        self.events = events

    def on_datagram(self, data, address):
        self.events("datagram", data, address)
        if data == b"question":
            self.send_to(b"answer", address)


@pytest.mark.parametrize("address_has", ["scope", "zone", "both"])
def test_datagrams_go_to_an_address_with_a_zone(reactor, events, address_has):
    need_ipv6()
    host, name, index = scoped()
    server, client = Asks(events), Asks(events)
    server.bind(reactor, f"[{host}%{name}]:0")
    client.bind(reactor, f"[{host}%{name}]:0")
    port = on_poller(reactor, lambda: server.local_address)[1]
    named = host if address_has == "scope" else f"{host}%{name}"
    target = (named, port) if address_has == "zone" else (named, port, 0, 0 if address_has == "zone" else index)
    on_poller(reactor, client.send_to, b"question", target)
    assert [events.next()[1], events.next()[1]] == [b"question", b"answer"]


def test_a_peer_of_datagrams_may_have_a_zone(reactor, events):
    need_ipv6()
    host, name, _ = scoped()
    server, client = Asks(events), Asks(events)
    server.bind(reactor, f"[{host}%{name}]:0")
    port = on_poller(reactor, lambda: server.local_address)[1]
    client.bind(reactor, f"[{host}%{name}]:0", peer=f"[{host}%{name}]:{port}")
    on_poller(reactor, lambda: client.send(b"question"))
    assert [events.next()[1], events.next()[1]] == [b"question", b"answer"]


UNKNOWN = "[fe80::1%no-such]:80"


@pytest.mark.parametrize(
    "use",
    [
        lambda reactor: goev.Acceptor(reactor, UNKNOWN, Echo),
        lambda reactor: goev.connect(reactor, UNKNOWN, Echo()),
        lambda reactor: goev.Connector(reactor, local_address=UNKNOWN),
        lambda reactor: goev.Datagram().bind(reactor, UNKNOWN),
        lambda reactor: goev.Datagram().bind(reactor, "[::1]:0", peer=UNKNOWN),
        lambda reactor: goev.websocket.connect(reactor, "ws://[fe80::1%25no-such]/", goev.websocket.Connection()),
    ],
    ids=["Acceptor", "connect", "local_address", "Datagram", "peer", "websocket"],
)
def test_an_unknown_zone_is_an_error_that_names_it(idle, use):
    with pytest.raises(OSError, match=r"fe80::1%no-such.*no network interface \"no-such\"") as raised:
        use(idle)
    assert raised.value.errno == errno.ENODEV


def test_an_unknown_zone_of_a_datagrams_destination_is_an_error(reactor, events):
    need_ipv6()
    client = Asks(events)
    client.bind(reactor, "[::1]:0")
    with pytest.raises(OSError, match="no-such") as raised:
        on_poller(reactor, client.send_to, b"x", ("fe80::1%no-such", 9))
    assert raised.value.errno == errno.ENODEV


@pytest.mark.parametrize("text", ["127.0.0.1%lo:80", "[127.0.0.1%lo]:80", "example.com%lo:80"])
def test_only_ipv6_addresses_have_zones(idle, text):
    with pytest.raises(ValueError, match="address"):
        goev.Acceptor(idle, text, Echo)


class Talks(goev.websocket.Connection):
    def __init__(self, events):
        self.events = events

    def on_open(self):
        self.events("open", self.request.host if self.request else None)

    def on_connect_fail(self, error):
        self.events("fail", error)


@pytest.mark.parametrize("escape", ["%25", "%"])
def test_the_url_of_a_websocket_may_name_a_zone_which_the_server_does_not_see(start, events, escape):
    """RFC 6874 section 4: the zone has no meaning for others. Many programs write it without the escape (section 3)."""
    need_ipv6()
    host, name, _ = scoped()
    server = start(lambda: Talks(events), address=f"[{host}%{name}]:0")
    port = server.acceptor.address[1]
    goev.websocket.connect(server.reactor, f"ws://[{host}{escape}{name}]:{port}/", Talks(events))
    hosts = {events.next()[1], events.next()[1]}
    assert hosts == {None, f"[{host}]:{port}"}


def test_a_client_of_the_system_reaches_it_too(start):
    need_ipv6()
    host, name, index = scoped()
    server = start(Echo, address=f"[{host}%{name}]:0")
    with Client((host, server.acceptor.address[1], 0, index)) as client:
        assert client.ask(b"hello") == b"hello"
        assert client.socket.family == socket.AF_INET6
