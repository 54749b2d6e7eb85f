"""The real nginx in front of goev and behind it, with TLS on each side."""

from contextlib import ExitStack

import pytest

import goev
import goev.http
from proxy_support import TRUSTED, Asks, Tells, free_place, nginx, with_tls
from support import Client, text_of

pytestmark = pytest.mark.timeout(60)
ENDS = (("192.0.2.1", 40000), ("198.51.100.2", 443))
REQUEST = b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n"


@pytest.fixture
def behind(stack, start, events, tmp_path):
    """``behind(lines)``: goev behind nginx; returns a client's connection to nginx."""

    def run(lines="", listen="", **options):
        listening = start(lambda: Tells(events), **TRUSTED, **options)
        place = free_place()
        target = f"proxy_pass {text_of(listening.address)}; proxy_protocol on;"
        server = f"listen {text_of(place)} {listen}; {target} {lines}"
        nginx(stack, tmp_path, f"stream {{ server {{ {server} }} }}\n", place)
        return stack.enter_context(Client(place))

    return run


def test_in_front(behind, events):
    client = behind()
    assert client.ask(b"hello") == b"hello"
    _, remote, local, proxy = events.next()
    assert (remote, local) == (client.socket.getsockname(), client.socket.getpeername())
    assert (proxy.version, proxy.command) == (1, "PROXY")


def test_in_front_passing_tls_through(behind, events, root, server, tmp_path):
    client = behind(tls=goev.tls.ServerContext(*server.files(tmp_path)))
    name = client.socket.getsockname()
    with with_tls(client.socket, root) as secured:
        secured.sendall(b"hello")
        assert secured.recv(5) == b"hello"
    assert events.next()[1] == name


def test_in_front_ending_tls_and_speaking_it_again(behind, events, root, server, tmp_path):
    certificate, key = server.files(tmp_path)
    lines = f"ssl_certificate {certificate}; ssl_certificate_key {key}; proxy_ssl on;"
    client = behind(lines, "ssl", tls=goev.tls.ServerContext(certificate, key))
    name = client.socket.getsockname()
    with with_tls(client.socket, root) as secured:
        secured.sendall(b"hello")
        assert secured.recv(5) == b"hello"
    assert events.next()[1] == name


# ---- behind goev -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def before(server, tmp_path_factory):
    """One nginx behind goev, which answers with the addresses of the header: where it takes plain bytes, and TLS."""
    plain, secure, folder = free_place(), free_place(), tmp_path_factory.mktemp("behind")
    certificate, key = server.files(folder)
    listen = f"listen {text_of(plain)} proxy_protocol; listen {text_of(secure)} proxy_protocol ssl;"
    identity = f"ssl_certificate {certificate}; ssl_certificate_key {key};"
    real = "set_real_ip_from 127.0.0.0/8; real_ip_header proxy_protocol;"
    known = '"$proxy_protocol_addr $proxy_protocol_port $proxy_protocol_server_addr $proxy_protocol_server_port"'
    temporary = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    folders = " ".join(f"{name}_temp_path {folder}/{name};" for name in temporary)
    site = f"server {{ {listen} {identity} {real} location / {{ return 200 {known}; }} }}"
    with ExitStack() as stack:
        nginx(stack, folder, f"http {{ access_log off; {folders} {site} }}\n", plain, secure)
        yield text_of(plain), text_of(secure)


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize(
    ("ends", "answer"),
    [
        (ENDS, b"192.0.2.1 40000 198.51.100.2 443"),
        ((("2001:db8::1", 40000), ("2001:db8::2", 443)), b"2001:db8::1 40000 2001:db8::2 443"),
    ],
    ids=["IPv4", "IPv6"],
)
def test_behind(before, reactor, events, version, ends, answer):
    goev.connect(reactor, before[0], Asks(events, REQUEST), proxy_protocol=version, proxy_for=ends)
    assert events.until("answer")[1].endswith(b"\r\n\r\n" + answer)


@pytest.mark.parametrize("version", [1, 2])
def test_behind_with_tls(before, reactor, events, root, version):
    context = goev.tls.ClientContext(ca=root.pem, server_name="a.example")
    handler = Asks(events, REQUEST)
    goev.connect(reactor, before[1], handler, tls=context, proxy_protocol=version, proxy_for=ENDS)
    assert events.until("answer")[1].endswith(b"192.0.2.1 40000 198.51.100.2 443")


class Relay(goev.Connection):
    """A proxy of TCP: each client gets a connection of its own to the server behind."""

    def __init__(self, address):
        self.upstream = Upstream(self)
        self.address = address

    def on_open(self):
        self.pause_reading()
        goev.connect(self.reactor, self.address, self.upstream, proxy_protocol=2, proxy_for=self)

    def on_read(self):
        self.upstream.write(self.read())


class Upstream(goev.Connection):
    def __init__(self, client):
        self.client = client

    def on_open(self):
        self.client.resume_reading()

    def on_read(self):
        self.client.write(self.read())

    def on_close(self, error):
        self.client.close()


def test_a_proxy_of_ours_shows_its_clients_to_nginx(before, start):
    relay = start(lambda: Relay(before[0]))
    client = relay.connect()
    client.send(REQUEST)
    (host, own), (server, to) = client.socket.getsockname(), client.socket.getpeername()
    assert client.receive_all().endswith(f"{host} {own} {server} {to}".encode())
