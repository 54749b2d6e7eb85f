"""Peers that are no trusted proxy, or send no header: closed, counted, and told of at most once a second."""

import logging
import socket
import struct

import pytest

import goev
from proxy_support import LINE, TRUSTED, Tells, binary, ipv4, refused, tlv
from support import Client, eventually, held, on_poller

WRONG = {
    "nothing like it": b"GET / HTTP/1.1\r\nhost: a\r\n\r\n",
    "TLS": b"\x16\x03\x01\x02\x00\x01",
    "lower case": b"proxy TCP4 1.2.3.4 1.2.3.4 1 2\r\n",
    "no protocol": b"PROXY \r\n",
    "other protocol": b"PROXY UDP4 1.2.3.4 1.2.3.4 1 2\r\n",
    "two spaces": b"PROXY TCP4  1.2.3.4 1.2.3.4 1 2\r\n",
    "too few words": b"PROXY TCP4 1.2.3.4 1.2.3.4 1\r\n",
    "too many words": b"PROXY TCP4 1.2.3.4 1.2.3.4 1 2 3\r\n",
    "address of the other family": b"PROXY TCP4 ::1 ::1 1 2\r\n",
    "leading zero": b"PROXY TCP4 01.2.3.4 1.2.3.4 1 2\r\n",
    "port with a sign": b"PROXY TCP4 1.2.3.4 1.2.3.4 +1 2\r\n",
    "port too large": b"PROXY TCP4 1.2.3.4 1.2.3.4 1 65536\r\n",
    "line feed only": b"PROXY TCP4 1.2.3.4 1.2.3.4 1 2\n",
    "carriage return only": b"PROXY TCP4 1.2.3.4 1.2.3.4 1 2\rx",
    "line too long": b"PROXY UNKNOWN " + b"x" * 92 + b"\r\n",
    "endless line": b"PROXY UNKNOWN " + b"x" * 93,
    "version 3": ipv4()[:12] + b"\x31",
    "other command": binary(0x22, 0x11),
    "other family": binary(0x21, 0x41),
    "other transport": binary(0x21, 0x13),
    "addresses too short": binary(0x21, 0x11, bytes(11)),
    "length over the limit": binary(0x21, 0x11)[:14] + struct.pack("!H", 4097),
    "field cut": ipv4(b"\x01\x00\x05h2"),
    "field without a length": ipv4(b"\x01"),
    "wrong checksum": ipv4(tlv(3, b"\x01\x02\x03\x04")),
    "TLS cut": ipv4(tlv(0x20, b"\1\0\0")),
}


@pytest.fixture
def tells(start, events):
    return start(lambda: Tells(events), **TRUSTED)


def ends(client: Client) -> bool:
    """Whether the peer ends the connection without a byte, by FIN or by reset."""
    try:
        return client.receive_all() == b""
    except ConnectionResetError:
        return True


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_header_ends_the_connection_at_once(tells, events, name):
    client = tells.connect()
    client.send(WRONG[name])
    assert ends(client)
    assert (events.names, refused(tells.reactor)) == ([], {"malformed": 1})
    assert tells.reactor.stats()[0]["accepted"] == 0
    eventually(lambda: tells.acceptor.stats()["open"] == 0, "its place is free")


@pytest.mark.parametrize("cut", [0, 3, 14, 40])
@pytest.mark.parametrize("how", ["finish", "reset"])
def test_an_end_within_the_header_is_counted(tells, events, cut, how):
    client = tells.connect()
    client.send(ipv4(tlv(4, bytes(20)))[:cut])
    with held(tells.reactor):
        pass
    getattr(client, how)()
    eventually(lambda: refused(tells.reactor) == {"cut": 1}, "counted")
    assert how == "reset" or ends(client)
    assert events.names == []


@pytest.mark.parametrize("first", [b"", b"PROXY TCP4"], ids=["nothing", "a part"])
def test_a_late_header_ends_the_connection(start, events, first):
    server = start(lambda: Tells(events), handshake_timeout=0.05, **TRUSTED)
    client = server.connect()
    client.send(first)
    assert ends(client)
    assert (events.names, refused(server.reactor)) == ([], {"timeout": 1})


def test_time_begins_with_the_connection_and_not_with_each_byte(start, events):
    server = start(lambda: Tells(events), handshake_timeout=0.1, **TRUSTED)
    client = server.connect()
    client.socket.settimeout(0.02)
    for byte in LINE:
        client.send(bytes([byte]))
        try:
            assert client.socket.recv(1) == b""
            break
        except TimeoutError:
            continue
        except ConnectionResetError:
            break
    assert refused(server.reactor) == {"timeout": 1}


def test_a_header_that_came_while_the_poller_was_busy_is_in_time(start, events):
    server = start(lambda: Tells(events), handshake_timeout=0.3, **TRUSTED)
    client = server.connect()
    eventually(lambda: server.acceptor.stats()["open"] == 1, "accepted")
    with held(server.reactor):
        client.send(LINE)
        assert not client.gets(b"", 0.4)  # longer than the limit
    assert events.next()[0] == "open"


@pytest.mark.parametrize("allowed", [["10.0.0.0/8"], ["::1"], ["unix:"], ["127.0.0.2", "192.0.2.0/24"]])
def test_a_peer_that_is_not_trusted_is_closed_unread(start, events, allowed):
    server = start(lambda: Tells(events), proxy_protocol=True, proxy_from=allowed)
    client = server.connect()
    assert ends(client)
    assert (events.names, refused(server.reactor)) == ([], {"untrusted": 1})


def test_a_peer_of_a_unix_socket_is_not_trusted_by_itself(start, events, tmp_path):
    server = start(lambda: Tells(events), address=f"unix:{tmp_path}/s", proxy_protocol=True, proxy_from=["0.0.0.0/0"])
    assert ends(server.connect())
    assert refused(server.reactor) == {"untrusted": 1}


def test_an_ipv4_peer_of_a_socket_for_both_versions_has_its_ipv4_address(start, events):
    server = start(lambda: Tells(events), address="*:0", proxy_protocol=True, proxy_from=["127.0.0.1"])
    with Client(("127.0.0.1", server.address[1])) as client:
        client.send(LINE)
        assert events.next()[0] == "open"


def test_refusals_are_told_once_a_second_for_each_reason(tells, log, events):
    logger = logging.getLogger("goev")
    log.setLevel(logging.INFO)
    logger.setLevel(logging.INFO)
    try:
        names = []
        for text in (b"GET /", b"POST /", b"x"):
            client = tells.connect()
            names.append(client.name)
            client.send(text)
            assert ends(client)
        cut = tells.connect()
        cut.finish()
        assert ends(cut)
        record, text = log.next()
        assert text == f'refused {names[0]} as a proxy: it sent no PROXY header, but "GET /"'
        assert (record.levelno, record.peer) == (logging.INFO, names[0])
        assert log.next()[1].endswith("the connection ended before its PROXY header was whole")
        on_poller(tells.reactor, int)
        assert len(log.texts()) == 2
    finally:
        logger.setLevel(logging.NOTSET)
    assert refused(tells.reactor) == {"malformed": 3, "cut": 1}


@pytest.mark.parametrize("grace", [0, 5.0])
def test_a_stop_ends_the_wait_for_headers(tells, events, grace):
    clients = [tells.connect() for _ in range(3)]
    clients[1].send(LINE[:9])
    eventually(lambda: tells.acceptor.stats()["open"] == 3, "accepted")
    tells.reactor.stop(grace)
    tells.reactor.join(5)
    assert all(map(ends, clients))
    assert (events.names, refused(tells.reactor)) == ([], {})


def test_many_that_wait_and_go_leave_nothing_behind(tells, events):
    for _ in range(20):
        clients = [Client(tells.address) for _ in range(10)]
        for cut, client in enumerate(clients):
            client.send(LINE[: cut * 3])
        for client in clients:
            client.close()
    eventually(lambda: sum(refused(tells.reactor).values()) == 200, "counted")
    eventually(lambda: tells.acceptor.stats()["open"] == 0, "closed")
    eventually(lambda: tells.reactor.stats()[0]["timers"] == 0, "no timer is left")


def test_urgent_bytes_do_no_harm(tells, events):
    client = tells.connect()
    client.send(LINE[:10])
    client.socket.send(b"!", socket.MSG_OOB)
    client.send(LINE[10:])
    assert events.next()[0] == "open" or ends(client)


BAD_ACCEPTORS = [
    ({"proxy_protocol": True}, ValueError, "needs proxy_from"),
    ({"proxy_protocol": True, "proxy_from": None}, ValueError, "needs proxy_from"),
    ({"proxy_protocol": True, "proxy_from": []}, ValueError, "at least one"),
    (
        {"proxy_from": ["10.0.0.0/8"]},
        ValueError,
        r"\['10.0.0.0/8'\] needs proxy_protocol|\"10.0.0.0/8\".* needs proxy_protocol",
    ),
    ({"proxy_protocol": False, "proxy_from": ["::1"]}, ValueError, "needs proxy_protocol=True"),
    ({"proxy_protocol": True, "proxy_from": ["10.0.0.0/33"]}, ValueError, '"10.0.0.0/33".*0 to 32'),
    ({"proxy_protocol": True, "proxy_from": ["10.0.0.1/8"]}, ValueError, '"10.0.0.0/8"'),
    ({"proxy_protocol": True, "proxy_from": ["::1", "proxy.example"]}, ValueError, '"proxy.example".*not looked up'),
    ({"proxy_protocol": True, "proxy_from": ["127.0.0.1:80"]}, ValueError, '"127.0.0.1:80"'),
    ({"proxy_protocol": True, "proxy_from": ["::ffff:10.0.0.1"]}, ValueError, "IPv4"),
    ({"proxy_protocol": True, "proxy_from": "10.0.0.0/8"}, TypeError, "list or a tuple of str, not str"),
    ({"proxy_protocol": True, "proxy_from": [b"::1"]}, TypeError, "str, not bytes"),
    ({"proxy_protocol": 2, "proxy_from": ["::1"]}, TypeError, "proxy_protocol"),
    ({"proxy_protocol": None, "proxy_from": ["::1"]}, TypeError, "proxy_protocol"),
]


@pytest.mark.parametrize(("options", "kind", "text"), BAD_ACCEPTORS)
def test_a_wrong_option_is_named(idle, options, kind, text):
    with pytest.raises(kind, match=text):
        goev.Acceptor(idle, "127.0.0.1:0", goev.Connection, **options)
