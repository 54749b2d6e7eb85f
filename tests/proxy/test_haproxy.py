"""The real HAProxy in front of goev and behind it, with TLS on each side."""

from contextlib import ExitStack

import pytest

import goev
import goev.http
from proxy_support import TRUSTED, Asks, Tells, free_place, haproxy, with_tls
from support import Client, text_of

pytestmark = pytest.mark.timeout(60)
OPTIONS = "proxy-v2-options ssl,cert-cn,cert-key,cert-sig,ssl-cipher,authority,unique-id,crc32c"
ANSWERS = '  http-request return status 200 content-type text/plain lf-string "%[src] %[src_port] %[dst] %[dst_port]"\n'


@pytest.fixture
def behind(stack, start, events, tmp_path):
    """``behind(bind, server)``: goev behind HAProxy; returns a client's connection to HAProxy, and goev."""

    def run(bind="", server="send-proxy-v2", lines="", **options):
        listening = start(lambda: Tells(events), **TRUSTED, **options)
        place = free_place()
        address = text_of(listening.address).replace("unix:", "unix@")
        sections = f"listen front\n  bind {text_of(place)} {bind}\n{lines}  server app {address} {server}\n"
        haproxy(stack, tmp_path, sections, place)
        return stack.enter_context(Client(place)), listening

    return run


@pytest.fixture(scope="module")
def pem(server, tmp_path_factory):
    """The server's certificate and key in one file, as HAProxy takes them."""
    path = tmp_path_factory.mktemp("pem") / "haproxy.pem"
    path.write_bytes(server.chain + server.key)
    return path


@pytest.mark.parametrize(("server", "version"), [("send-proxy", 1), ("send-proxy-v2", 2)])
def test_in_front(behind, events, server, version):
    client, _ = behind(server=server)
    assert client.ask(b"hello") == b"hello"
    _, remote, local, proxy = events.next()
    assert (remote, local) == (client.socket.getsockname(), client.socket.getpeername())
    assert (proxy.version, proxy.command, proxy.tls) == (version, "PROXY", None)
    assert proxy.address not in (remote, local)


@pytest.mark.parametrize("sends", ["send-proxy", "send-proxy-v2"])
def test_in_front_passing_tls_through(behind, events, root, server, tmp_path, sends):
    client, _ = behind(server=sends, tls=goev.tls.ServerContext(*server.files(tmp_path), alpn=["http/1.1"]))
    plain = client.socket
    name = plain.getsockname()
    with with_tls(plain, root) as secured:
        secured.sendall(b"hello")
        assert secured.recv(5) == b"hello"
    assert events.next()[1] == name


def test_in_front_with_tls_on_both_sides(behind, events, root, server, pem, tmp_path):
    (tmp_path / "root.pem").write_bytes(root.pem)
    options = f"send-proxy-v2-ssl ssl verify required ca-file {tmp_path}/root.pem verifyhost a.example"
    context = goev.tls.ServerContext(*server.files(tmp_path))
    client, _ = behind(bind=f"ssl crt {pem}", server=options, tls=context)
    with with_tls(client.socket, root) as secured:
        secured.sendall(b"hello")
        assert secured.recv(5) == b"hello"
    assert events.next()[3].tls.version == "TLSv1.3"


def test_in_front_ending_tls(behind, events, root, pem, tmp_path):
    """Everything that HAProxy says of the client's TLS."""
    (tmp_path / "root.pem").write_bytes(root.pem)
    identity = root.issue("joe", purpose="client").files(tmp_path, "client")
    bind = f"ssl crt {pem} alpn http/1.1 ca-file {tmp_path}/root.pem verify optional"
    unique = "  unique-id-format id-%[src_port]\n"
    client, _ = behind(bind=bind, server=f"send-proxy-v2-ssl-cn {OPTIONS}", lines=unique)
    name = client.socket.getsockname()
    with with_tls(client.socket, root, "a.example", *identity) as secured:
        secured.sendall(b"hello")
        assert secured.recv(5) == b"hello"
        version, cipher = secured.version(), secured.cipher()[0]
    _, remote, _, proxy = events.next()
    assert remote == name
    assert (proxy.alpn, proxy.authority, proxy.unique_id) == ("http/1.1", "a.example", b"id-%d" % name[1])
    assert (proxy.tls.version, proxy.tls.cipher, proxy.tls.common_name) == (version, cipher, "joe")
    assert (proxy.tls.has_certificate, proxy.tls.verified) == (True, True)
    assert "SHA256" in proxy.tls.signature_algorithm.upper()
    assert proxy.tls.key_algorithm.startswith("EC")
    assert 3 in dict(proxy.tlvs)  # the checksum, which was right


def test_a_client_without_a_certificate_is_not_verified(behind, events, root, pem, tmp_path):
    (tmp_path / "root.pem").write_bytes(root.pem)
    bind = f"ssl crt {pem} ca-file {tmp_path}/root.pem verify optional"
    client, _ = behind(bind=bind, server=f"send-proxy-v2-ssl-cn {OPTIONS}")
    with with_tls(client.socket, root) as secured:
        secured.sendall(b"hello")
        assert secured.recv(5) == b"hello"
    tls = events.next()[3].tls
    assert (tls.has_certificate, tls.verified, tls.common_name) == (False, False, None)


def test_a_client_of_plain_bytes_has_no_tls(behind, events):
    client, _ = behind(server=f"send-proxy-v2-ssl-cn {OPTIONS}")
    assert client.ask(b"hello") == b"hello"
    proxy = events.next()[3]
    assert proxy.tls is None
    assert 3 in dict(proxy.tlvs)


def test_in_front_by_a_unix_socket(behind, events, tmp_path):
    client, _ = behind(address=f"unix:{tmp_path}/goev")
    assert client.ask(b"hello") == b"hello"
    _, remote, _, proxy = events.next()
    assert (remote, proxy.address) == (client.socket.getsockname(), "")


def test_health_checks_are_local(behind, events):
    behind(server="send-proxy-v2 check inter 50ms")
    _, remote, _, proxy = events.next()
    assert (proxy.command, proxy.source, remote) == ("LOCAL", None, proxy.address)


# ---- behind goev -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def before(pem, tmp_path_factory):
    """One HAProxy behind goev, which answers with the addresses that it knows: where it takes plain bytes, and TLS."""
    plain, secure = free_place(), free_place()
    binds = f"  bind {text_of(plain)} accept-proxy\n  bind {text_of(secure)} accept-proxy ssl crt {pem}\n"
    with ExitStack() as stack:
        sections = f"frontend back\n  mode http\n{binds}{ANSWERS}"
        haproxy(stack, tmp_path_factory.mktemp("behind"), sections, plain, secure)
        yield text_of(plain), text_of(secure)


REQUEST = b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n"


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize(
    ("ends", "answer"),
    [
        ((("192.0.2.1", 40000), ("198.51.100.2", 443)), b"192.0.2.1 40000 198.51.100.2 443"),
        ((("2001:db8::1", 40000), ("2001:db8::2", 443)), b"2001:db8::1 40000 2001:db8::2 443"),
        ((("192.0.2.1", 40000), ("2001:db8::2", 443)), b"::ffff:192.0.2.1 40000 2001:db8::2 443"),
    ],
    ids=["IPv4", "IPv6", "mixed"],
)
def test_behind(before, reactor, events, version, ends, answer):
    goev.connect(reactor, before[0], Asks(events, REQUEST), proxy_protocol=version, proxy_for=ends)
    assert events.until("answer")[1].endswith(b"\r\n\r\n" + answer)


@pytest.mark.parametrize("version", [1, 2])
def test_behind_with_our_own_addresses(before, reactor, events, version):
    goev.connect(reactor, before[0], Asks(events, REQUEST), proxy_protocol=version)
    _, own, peer = events.next()
    answer = f"{own[0]} {own[1]} {peer[0]} {peer[1]}".encode()
    assert events.until("answer")[1].endswith(b"\r\n\r\n" + answer)


@pytest.mark.parametrize("version", [1, 2])
def test_behind_with_tls(before, reactor, events, root, version):
    ends = (("192.0.2.1", 40000), ("198.51.100.2", 443))
    context = goev.tls.ClientContext(ca=root.pem, server_name="a.example")
    handler = Asks(events, REQUEST)
    goev.connect(reactor, before[1], handler, tls=context, proxy_protocol=version, proxy_for=ends)
    assert events.until("answer")[1].endswith(b"192.0.2.1 40000 198.51.100.2 443")


def test_behind_for_a_client_without_an_address(before, reactor, events):
    """HAProxy uses the connection's own ends then."""
    goev.connect(reactor, before[0], Asks(events, REQUEST), proxy_protocol=2, proxy_for=("", ""))
    own = events.next()[1]
    assert f"{own[0]} {own[1]} ".encode() in events.until("answer")[1]
