"""Headers that connectors send: our own addresses or those of another connection, before everything else."""

import socket
import ssl

import pytest

import goev
import goev.websocket
from proxy_support import CLIENT, LINE, SERVER, TRUSTED, Asks, Tells, ipv4
from support import PATIENCE, Client, text_of


@pytest.fixture
def listener(stack):
    listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
    listener.settimeout(PATIENCE)
    return listener


def accepted(stack, listener):
    peer, _ = listener.accept()
    peer.settimeout(PATIENCE)
    return stack.enter_context(peer)


def exactly(peer, count):
    """The next bytes, as many as that."""
    data = b""
    while len(data) < count and (part := peer.recv(count - len(data))):
        data += part
    return data


def line_of(peer):
    """The line that names both ends of a socket's connection."""
    (source, port), (destination, to) = peer.getpeername(), peer.getsockname()
    return f"PROXY TCP4 {source} {destination} {port} {to}\r\n".encode()


def binary_of(peer):
    (source, port), (destination, to) = peer.getpeername(), peer.getsockname()
    ends = socket.inet_aton(source) + socket.inet_aton(destination) + port.to_bytes(2) + to.to_bytes(2)
    return ipv4()[:16] + ends


@pytest.mark.parametrize("version", [1, 2])
def test_the_header_names_the_ends_of_the_connection(reactor, stack, events, listener, version):
    goev.connect(reactor, text_of(listener.getsockname()), Asks(events), proxy_protocol=version)
    peer = accepted(stack, listener)
    wanted = (line_of if version == 1 else binary_of)(peer) + b"hello"
    assert exactly(peer, len(wanted)) == wanted


@pytest.mark.parametrize(("version", "header"), [(1, LINE), (2, ipv4())])
def test_the_header_names_a_pair_of_addresses(reactor, stack, events, listener, version, header):
    connector = goev.Connector(reactor, proxy_protocol=version)
    connector.connect(text_of(listener.getsockname()), Asks(events), proxy_for=(CLIENT, SERVER))
    peer = accepted(stack, listener)
    assert exactly(peer, len(header) + 5) == header + b"hello"


@pytest.mark.parametrize(
    ("pair", "header"),
    [
        ((("::1", 1, 0, 0), ("2001:db8::2", 2)), b"PROXY TCP6 ::1 2001:db8::2 1 2\r\n"),
        ((("192.0.2.1", 1), ("::1", 2, 0, 0)), b"PROXY TCP6 ::ffff:c000:201 ::1 1 2\r\n"),
        ((("::ffff:192.0.2.1", 1), ("192.0.2.2", 2)), b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n"),
        (("", ("192.0.2.2", 2)), b"PROXY UNKNOWN\r\n"),
        (("", "/run/service"), b"PROXY UNKNOWN\r\n"),
    ],
)
def test_families_are_brought_together(reactor, stack, events, listener, pair, header):
    goev.connect(reactor, text_of(listener.getsockname()), Asks(events), proxy_protocol=1, proxy_for=pair)
    peer = accepted(stack, listener)
    assert exactly(peer, len(header) + 5) == header + b"hello"


@pytest.mark.parametrize(("version", "header"), [(1, b"PROXY UNKNOWN\r\n"), (2, ipv4()[:12] + b"\x20\0\0\0")])
def test_a_unix_socket_has_no_addresses(reactor, stack, events, tmp_path, version, header):
    listener = stack.enter_context(socket.socket(socket.AF_UNIX))
    listener.bind(str(tmp_path / "s"))
    listener.listen()
    goev.connect(reactor, f"unix:{tmp_path}/s", Asks(events), proxy_protocol=version)
    peer = accepted(stack, listener)
    assert exactly(peer, len(header) + 5) == header + b"hello"


class Relay(goev.Connection):
    """Connects to another server for each of its clients."""

    def __init__(self, address, version, events):
        self.address, self.version, self.events = address, version, events

    def on_open(self):
        asks = Asks(self.events)
        goev.connect(self.reactor, self.address, asks, proxy_protocol=self.version, proxy_for=self)


@pytest.mark.parametrize("version", [1, 2])
def test_a_chain_of_proxies_passes_the_client_on(start, events, version):
    last = start(lambda: Tells(events), **TRUSTED)
    second = start(lambda: Relay(text_of(last.address), 2, events), **TRUSTED)
    first = start(lambda: Relay(text_of(second.address), version, events))
    client = first.connect()
    opened = events.until("open")
    assert opened[1:3] == (client.socket.getsockname(), first.address)


def test_a_client_that_a_header_names_is_passed_on(start, events):
    last = start(lambda: Tells(events), **TRUSTED)
    first = start(lambda: Relay(text_of(last.address), 2, events), **TRUSTED)
    first.connect().send(LINE)
    assert events.until("open")[1:3] == (CLIENT, SERVER)


def test_a_client_of_a_unix_socket_is_passed_on_without_addresses(start, events, tmp_path):
    last = start(lambda: Tells(events), **TRUSTED)
    start(lambda: Relay(text_of(last.address), 2, events), address=f"unix:{tmp_path}/s")
    with Client(str(tmp_path / "s")):
        _, remote, _, proxy = events.until("open")
    assert (proxy.command, proxy.source, remote) == ("LOCAL", None, proxy.address)


@pytest.mark.parametrize("version", [1, 2])
def test_the_header_comes_before_tls(reactor, stack, events, listener, root, server, tmp_path, version):
    certificate, key = server.files(tmp_path)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    trusting = goev.tls.ClientContext(ca=root.pem)
    goev.connect(reactor, text_of(listener.getsockname()), Asks(events), tls=trusting, proxy_protocol=version)
    peer = accepted(stack, listener)
    wanted = (line_of if version == 1 else binary_of)(peer)
    assert exactly(peer, len(wanted)) == wanted
    with context.wrap_socket(peer, server_side=True) as secured:
        assert secured.recv(5) == b"hello"


def test_a_websocket_passes_a_client_on(start, reactor, events):
    class Serves(goev.websocket.Connection):
        def on_open(self):
            events("open", self.remote_address, self.local_address)

    class Connects(goev.websocket.Connection):
        def on_open(self):
            events("connected")

    listening = start(Serves, **TRUSTED)
    url = f"ws://{text_of(listening.address)}/"
    goev.websocket.connect(reactor, url, Connects(), proxy_protocol=2, proxy_for=(CLIENT, SERVER))
    events.times("connected", 1)
    assert events.of("open") == [("open", CLIENT, SERVER)]


def test_goev_understands_goev(start, reactor, events, root, server, tmp_path):
    context = goev.tls.ServerContext(*server.files(tmp_path))
    listening = start(lambda: Tells(events), tls=context, **TRUSTED)
    trusting = goev.tls.ClientContext(ca=root.pem)
    goev.connect(reactor, text_of(listening.address), Asks(events), tls=trusting, proxy_protocol=2)
    assert events.until("answer") == ("answer", b"hello")
    (opened,), (connected,) = events.of("open"), events.of("connected")
    assert opened[1:3] == connected[1:]


def test_nothing_is_sent_without_the_option(reactor, stack, events, listener):
    goev.connect(reactor, text_of(listener.getsockname()), Asks(events))
    assert accepted(stack, listener).recv(100) == b"hello"


BAD_CONNECTORS = [
    ({"proxy_protocol": 3}, ValueError, "1 or 2, not 3"),
    ({"proxy_protocol": 0}, ValueError, "1 or 2, not 0"),
    ({"proxy_protocol": 2**70}, ValueError, "1 or 2"),
    ({"proxy_protocol": True}, TypeError, "not bool"),
    ({"proxy_protocol": "2"}, TypeError, "proxy_protocol"),
    ({"proxy_for": (CLIENT, SERVER)}, ValueError, "needs proxy_protocol"),
    ({"proxy_protocol": 2, "proxy_for": CLIENT}, ValueError, "destination of proxy_for.*40000|source of proxy_for"),
    ({"proxy_protocol": 2, "proxy_for": (CLIENT,)}, TypeError, "pair"),
    ({"proxy_protocol": 2, "proxy_for": [CLIENT, SERVER]}, TypeError, "pair"),
    ({"proxy_protocol": 2, "proxy_for": 5}, TypeError, "not 5"),
    ({"proxy_protocol": 2, "proxy_for": (("a.example", 1), SERVER)}, ValueError, "source of proxy_for.*a.example"),
    ({"proxy_protocol": 2, "proxy_for": (CLIENT, ("::1", 65536))}, ValueError, "destination of proxy_for.*65536"),
    ({"proxy_protocol": 2, "proxy_for": (CLIENT, None)}, ValueError, "destination of proxy_for.*None"),
]


@pytest.mark.parametrize(("options", "kind", "text"), BAD_CONNECTORS)
def test_a_wrong_argument_is_named(idle, events, options, kind, text):
    with pytest.raises(kind, match=text):
        goev.connect(idle, "127.0.0.1:1", Asks(events), **options)


def test_a_connection_that_is_not_open_has_no_addresses_to_pass_on(idle, events):
    with pytest.raises(goev.ConnectionClosed):
        goev.connect(idle, "127.0.0.1:1", Asks(events), proxy_protocol=2, proxy_for=goev.Connection())


def test_addresses_are_passed_on_by_callbacks_only(start, events):
    made = []

    class Keeps(Tells):
        def on_open(self):
            made.append(self)
            super().on_open()

    server = start(lambda: Keeps(events))
    server.connect()
    events.next()
    with pytest.raises(goev.WrongThread, match="proxy_for"):
        goev.connect(server.reactor, "127.0.0.1:1", Asks(events), proxy_protocol=2, proxy_for=made[0])
