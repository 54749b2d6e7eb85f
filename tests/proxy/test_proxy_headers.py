"""Headers that acceptors receive: the client's addresses, the fields, and what follows the header."""

import socket

import pytest

import goev
import goev.http
from proxy_support import CLIENT, LINE, SERVER, TRUSTED, Tells, TlsClient, binary, ipv4, ipv6, refused, tlv, with_tls
from support import Client, held, on_poller

V6 = ("2001:db8::1", 40000, 0, 0), ("2001:db8::2", 443, 0, 0)
PATHS = b"/run/client".ljust(108, b"\0") + b"\0service".ljust(108, b"\0")

# A header, and the addresses that the handler sees; None: those of the socket.
HEADERS = {
    "line": (LINE, (CLIENT, SERVER)),
    "line IPv6": (b"PROXY TCP6 2001:db8::1 2001:db8::2 40000 443\r\n", V6),
    "line mapped": (b"PROXY TCP6 ::ffff:192.0.2.1 ::ffff:198.51.100.2 40000 443\r\n", (CLIENT, SERVER)),
    "line unknown": (b"PROXY UNKNOWN\r\n", None),
    "line unknown, long": (b"PROXY UNKNOWN ffff::1 ffff::2 1 2 and more\r\n", None),
    "IPv4": (ipv4(), (CLIENT, SERVER)),
    "IPv4 and fields": (ipv4(tlv(4, bytes(500)), tlv(0xEA, b"cloud")), (CLIENT, SERVER)),
    "IPv6": (ipv6(), V6),
    "Unix": (binary(0x21, 0x31, PATHS), ("/run/client", "@service")),
    "local": (binary(0x20, 0x00), None),
    "local with addresses": (binary(0x20, 0x11, ipv4()[16:]), None),
    "no family": (binary(0x21, 0x00, b"anything"), None),
}


@pytest.fixture
def tells(start, events):
    return start(lambda: Tells(events), **TRUSTED)


@pytest.mark.parametrize("name", HEADERS)
def test_the_addresses_are_those_of_the_header(tells, events, name):
    header, ends = HEADERS[name]
    client = tells.connect()
    client.send(header + b"hello")
    source, destination = ends or (None, None)
    own, server = client.socket.getsockname(), tells.address
    _, remote, local, proxy = events.next()
    assert (remote, local) == (ends or (own, server))
    assert (proxy.source, proxy.destination, proxy.address) == (source, destination, own)
    assert (proxy.version, proxy.command) == (
        1 if name.startswith("line") else 2,
        "LOCAL" if "local" in name else "PROXY",
    )
    assert client.receive(5) == b"hello"
    assert events.next() == ("read", b"hello")


@pytest.mark.parametrize("header", [LINE, ipv4(tlv(1, b"h2"))], ids=["version 1", "version 2"])
def test_a_header_cut_anywhere_is_whole(tells, events, header):
    clients = [tells.connect() for _ in header]
    for cut, client in enumerate(clients):
        client.send(header[:cut])
    with held(tells.reactor):
        pass  # the poller has read the first parts
    for cut, client in enumerate(clients):
        client.send(header[cut:] + b"%d" % cut)
    events.times("read", len(clients))
    assert {event[1] for event in events.of("open")} == {CLIENT}
    assert {event[1] for event in events.of("read")} == {b"%d" % cut for cut in range(len(header))}


def test_a_header_byte_by_byte_is_whole(tells, events):
    client = tells.connect()
    client.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for byte in ipv4(tlv(2, b"a.example")):
        client.send(bytes([byte]))
        on_poller(tells.reactor, int)
    assert events.next()[3].authority == "a.example"


def test_no_handler_is_made_before_the_header(tells, events):
    client = tells.connect()
    client.send(LINE[:-1])
    with held(tells.reactor):
        pass
    assert events.names == []
    client.send(LINE[-1:])
    assert events.next()[0] == "open"


def test_input_behind_the_header_is_kept_to_the_byte(start, events):
    whole = bytes(range(256)) * 4000
    seen = []

    class Counts(goev.Connection):
        def on_read(self):
            seen.append(self.read())

        def on_eof(self):
            events("all", b"".join(seen))
            self.close()

    client = start(Counts, **TRUSTED).connect()
    client.send(ipv4() + whole)
    client.finish()
    assert events.next() == ("all", whole)


def test_an_end_behind_the_header_is_an_eof(start, events):
    class Tells(goev.Connection):
        def on_eof(self):
            events("eof", self.remote_address)
            self.close()

    client = start(Tells, **TRUSTED).connect()
    client.send(LINE)
    client.finish()
    assert events.next() == ("eof", CLIENT)


def test_the_fields_are_those_of_the_proxy(tells, events):
    inner = tlv(0x21, b"TLSv1.3") + tlv(0x22, "jürgen".encode()) + tlv(0x23, b"C") + tlv(0x24, b"S") + tlv(0x25, b"K")
    fields = [
        tlv(1, b"h2"),
        tlv(2, b"a.example"),
        tlv(5, b"\0\xff"),
        tlv(0x30, b"space"),
        tlv(0x20, b"\x03\0\0\0\0" + inner),
    ]
    tells.connect().send(ipv4(*fields))
    proxy = events.next()[3]
    assert (proxy.alpn, proxy.authority, proxy.unique_id, proxy.namespace) == ("h2", "a.example", b"\0\xff", "space")
    assert proxy.tls == goev.ProxyTls("TLSv1.3", "C", "jürgen", "S", "K", has_certificate=True, verified=True)
    assert b"".join(tlv(*each) for each in proxy.tlvs) == b"".join(fields)
    with pytest.raises(AttributeError):
        proxy.alpn = "other"


def test_a_client_without_tls_has_none(tells, events):
    tells.connect().send(ipv4(tlv(0x20, b"\0\0\0\0\1")))
    proxy = events.next()[3]
    assert proxy.tls is None
    assert proxy.tlvs == ((0x20, b"\0\0\0\0\1"),)


def test_bytes_that_are_no_text_do_no_harm(tells, events):
    tells.connect().send(ipv4(tlv(1, b"\xff"), tlv(2, b"\xff\0"), tlv(0x20, b"\1\0\0\0\0" + tlv(0x22, b"\xff"))))
    proxy = events.next()[3]
    assert (proxy.alpn, proxy.tls.common_name) == ("�", "�")


def test_a_connection_without_the_protocol_has_no_proxy(start, events):
    client = start(lambda: Tells(events)).connect()
    assert events.next() == ("open", client.socket.getsockname(), client.socket.getpeername(), None)


def test_the_addresses_are_known_after_the_end_and_elsewhere(start, events):
    made = []

    class Keeps(Tells):
        def on_open(self):
            made.append(self)
            self.close()

    server = start(lambda: Keeps(events), **TRUSTED)
    server.connect().send(LINE)
    events.until("close")
    assert (made[0].remote_address, made[0].proxy.destination) == (CLIENT, SERVER)


def test_a_handler_that_takes_over_has_the_same_proxy(start, events):
    class First(goev.Connection):
        def on_open(self):
            self.hand_over(Tells(events))

    start(First, **TRUSTED).connect().send(LINE)
    _, remote, local, proxy = events.next()
    assert (remote, local, proxy.version) == (CLIENT, SERVER, 1)


def test_log_lines_name_the_client(start, log):
    class Raises(goev.Connection):
        def on_read(self):
            raise ValueError("no")

    start(Raises, **TRUSTED).connect().send(LINE + b"x")
    assert log.next()[0].peer == "192.0.2.1:40000"


def test_other_pollers_get_connections_behind_headers(start, events):
    server = start(lambda: Tells(events), pollers=3, **TRUSTED)
    for number in range(12):
        server.connect().send(LINE + b"%d" % number)
    events.times("read", 12)
    assert sum(poller["accepted"] for poller in server.reactor.stats()) == 12
    assert all(poller["accepted"] == 4 for poller in server.reactor.stats())


def test_unix_sockets_and_ipv6_are_trusted_by_name(stack, start, events, tmp_path):
    server = start(lambda: Tells(events), address=f"unix:{tmp_path}/s", **TRUSTED)
    server.connect().send(LINE)
    assert events.next()[3].address == ""
    server = start(lambda: Tells(events), address="[::1]:0", **TRUSTED)
    client = server.connect()
    client.send(LINE)
    assert events.next()[3].address == client.socket.getsockname()


@pytest.mark.parametrize("header", [LINE, ipv4()], ids=["version 1", "version 2"])
@pytest.mark.parametrize("apart", [False, True], ids=["together", "apart"])
def test_a_tls_handshake_follows_the_header(start, events, root, server, tmp_path, header, apart):
    """In the same segment, or later."""
    context = goev.tls.ServerContext(*server.files(tmp_path))
    listening = start(lambda: Tells(events), tls=context, **TRUSTED)
    client = listening.connect()
    if apart:
        client.send(header)
        on_poller(listening.reactor, int)
    secured = TlsClient(client.socket, root, first=b"" if apart else header)
    secured.send(b"hello")
    assert secured.receive() == b"hello"
    _, remote, local, proxy = events.next()
    assert (remote, local) == (proxy.source, proxy.destination) == (CLIENT, SERVER)
    assert events.next() == ("read", b"hello")


def test_a_header_inside_of_tls_is_none(start, events, root, server, tmp_path):
    """It has to come before; a client of TLS is told by the end of the connection."""
    context = goev.tls.ServerContext(*server.files(tmp_path))
    listening = start(lambda: Tells(events), tls=context, **TRUSTED)
    with pytest.raises(OSError, match=r"(?i)eof|reset"):
        with_tls(listening.connect().socket, root)
    assert refused(listening.reactor) == {"malformed": 1}


def test_requests_of_http_follow_the_header(start):
    class Page(goev.http.Connection):
        def on_request(self, request):
            request.respond(200, {}, f"{self.remote_address[0]} {self.proxy.version}".encode())

    client = start(Page, **TRUSTED).connect()
    client.send(ipv4() + b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")
    assert client.receive_all().endswith(b"192.0.2.1 2")


@pytest.mark.parametrize(("header", "scheme"), [(ipv4(), b"http"), (ipv4(tlv(0x20, b"\1\0\0\0\0")), b"https")])
def test_the_scheme_is_that_of_the_client(start, header, scheme):
    class Page(goev.http.Connection):
        def on_request(self, request):
            request.respond(200, {}, request.scheme.encode())

    client = start(Page, **TRUSTED).connect()
    client.send(header + b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")
    assert client.receive_all().endswith(b"\r\n\r\n" + scheme)


def test_the_place_among_the_connections_is_taken_while_the_header_is_awaited(start, events):
    server = start(lambda: Tells(events), max_connections=1, **TRUSTED)
    first = server.connect()
    with held(server.reactor):
        pass
    with Client(server.address) as second:
        second.send(LINE)
        on_poller(server.reactor, int)
        assert (events.names, server.acceptor.stats()["open"]) == ([], 1)
        first.close()
        assert events.next()[0] == "open"
    assert refused(server.reactor) == {"cut": 1}


def test_limits_by_address_count_the_proxy(start, events):
    server = start(lambda: Tells(events), max_connections_per_address=1, **TRUSTED)
    server.connect().send(b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n")
    assert events.next()[0] == "open"
    second = server.connect()
    assert second.receive_all() == b""
    assert server.acceptor.stats()["refused"] == 1
